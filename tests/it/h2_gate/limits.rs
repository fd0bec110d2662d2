//! Limits of a connection that floods nobody: streams at a time and in all, idleness, places, the drain.

use std::time::Duration;

use icpgate::drain::Phase;
use icpgate::policy::Rules;
use tokio::time::timeout;

use super::until;
use crate::harness::fixture;
use crate::harness::h2::{GOAWAY, H2, HEADERS, RST_STREAM, Raw, SETTINGS, get_fields, request};
use crate::harness::http::{HttpGate, PATIENCE, Reply};

#[tokio::test]
async fn d_h25_streams_at_a_time_are_limited() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.response_timeout = Duration::from_secs(60);
    })
    .await;
    gate.origin.on("/", Reply::Hang);
    let mut raw = Raw::connect(gate.addr).await;
    let settings = raw.first(&[SETTINGS]).await.expect("settings");
    let most = settings.payload.chunks(6).find(|one| one[..2] == [0, 3]).expect("a limit");
    assert_eq!(most[2..], 100u32.to_be_bytes());
    raw.first(&[SETTINGS]).await.expect("the acknowledgement");
    raw.send(&crate::harness::h2::frame(SETTINGS, 1, 0, &[])).await;
    let block = get_fields(&[(":authority", "here.cn")]);
    for n in 0..=100 {
        raw.ask(2 * n + 1, &block).await;
    }
    let reset = raw.first(&[RST_STREAM]).await.expect("a reset");
    assert_eq!((reset.stream, reset.code()), (201, 7), "REFUSED_STREAM");
    until("the origin sees the others", || gate.origin.connections() == 100).await;
}

#[tokio::test]
async fn d_h25_streams_to_the_origin_are_limited_for_each_client_and_all() {
    for (all, each) in [(2, 100), (100, 2)] {
        let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
            settings.connections_max = all;
            settings.connections_per_client_max = each;
            settings.response_timeout = Duration::from_secs(60);
        })
        .await;
        gate.origin.on("/hang", Reply::Hang);
        let client = H2::connect(gate.addr).await;
        let mut open = Vec::new();
        for _ in 0..2 {
            let mut send = client.send.clone().ready().await.expect("ready");
            open.push(send.send_request(request("GET", "here.cn", "/hang"), true).expect("sends"));
        }
        until("two are on their way", || gate.origin.connections() == 2).await;
        let third = client.ask(request("GET", "here.cn", "/"), b"").await.expect_err("a reset");
        assert_eq!(third.reason(), Some(h2::Reason::REFUSED_STREAM));
        // Pages take no place.
        assert_eq!(client.get("nofile.cn", "/").await.status, 451);
        drop(open);
        let passes = async { while client.ask(request("GET", "here.cn", "/"), b"").await.is_err() {} };
        timeout(PATIENCE, passes).await.expect("places come free");
    }
}

#[tokio::test]
async fn requests_on_a_connection_are_limited() {
    let gate =
        HttpGate::with(fixture::view(Rules::default()), |settings| settings.requests_per_connection_max = 3).await;
    let client = H2::connect(gate.addr).await;
    for _ in 0..3 {
        assert_eq!(client.get("here.cn", "/").await.status, 200);
    }
    let H2 { send, driving } = client;
    drop(send);
    timeout(PATIENCE, driving).await.expect("it ends").expect("no panic").expect("in good order");
    // A client that goes on regardless is stopped.
    let mut raw = Raw::connect(gate.addr).await;
    let block = get_fields(&[(":authority", "nofile.cn")]);
    let (mut answers, mut has_goaway) = (0, false);
    for n in 0..3 {
        raw.ask(2 * n + 1, &block).await;
    }
    while answers < 3 {
        let frame = raw.next().await.expect("answers");
        answers += usize::from(frame.kind == HEADERS);
        has_goaway |= frame.kind == GOAWAY;
    }
    for n in 3..2000 {
        raw.ask(2 * n + 1, &block).await;
    }
    while let Some(frame) = raw.next().await {
        answers += usize::from(frame.kind == HEADERS);
        has_goaway |= frame.kind == GOAWAY;
    }
    assert!(has_goaway && (3..=103).contains(&answers), "{answers}");
}

#[tokio::test]
async fn idle_connections_end() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.head_timeout = Duration::from_millis(200);
        settings.idle_timeout = Duration::from_millis(200);
    })
    .await;
    // One that asks for nothing, one that asked.
    let mut raw = Raw::connect(gate.addr).await;
    assert_eq!(raw.goaway().await, Some(0));
    let mut raw = Raw::connect(gate.addr).await;
    raw.ask(1, &get_fields(&[(":authority", "here.cn")])).await;
    raw.first(&[HEADERS]).await.expect("an answer");
    assert_eq!(raw.goaway().await, Some(0));
    // One that does not get beyond the preface.
    let mut client = gate.connect().await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM").await;
    client.rest().await;
    until("all are gone", || gate.counters.connections.value() == 0).await;
}

#[tokio::test]
async fn the_drain_finishes_streams_and_says_goodbye() {
    let gate = HttpGate::start().await;
    gate.origin.on("/slow", Reply::Early(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n".to_vec()));
    let client = H2::connect(gate.addr).await;
    assert_eq!(client.get("here.cn", "/").await.status, 200);
    let mut send = client.send.clone().ready().await.expect("ready");
    let post = request("POST", "here.cn", "/body");
    let (response, mut stream) = send.send_request(post, false).expect("sends");
    stream.send_data("part".into(), false).expect("sends");
    let mut idle = Raw::connect(gate.addr).await;
    idle.ask(1, &get_fields(&[(":authority", "nofile.cn")])).await;
    idle.first(&[HEADERS]).await.expect("an answer");
    until("the stream is on its way", || gate.origin.connections() == 1).await;
    gate.drain.advance(Phase::Draining);
    // The idle one ends though it answers nothing.
    assert_eq!(idle.goaway().await, Some(0));
    stream.send_data(" and rest".into(), true).expect("sends");
    let answer = timeout(PATIENCE, response).await.expect("in time").expect("an answer");
    assert_eq!(H2::whole(answer).await.expect("a whole answer").status, 200);
    let H2 { driving, .. } = client;
    timeout(PATIENCE, driving).await.expect("it ends").expect("no panic").expect("in good order");
    until("all are gone", || gate.counters.connections.value() == 0).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_ends() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.stream_timeout = Duration::from_millis(300);
    })
    .await;
    let body = "x".repeat(8 << 20);
    let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    gate.origin.on("/", Reply::Octets(reply.into_bytes()));
    let mut raw = Raw::connect(gate.addr).await;
    // All windows wide open, and nothing is read.
    raw.send(&crate::harness::h2::frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff])).await;
    raw.send(&crate::harness::h2::frame(8, 0, 0, &0x7fff_0000u32.to_be_bytes())).await;
    for n in 0..20 {
        raw.ask(2 * n + 1, &get_fields(&[(":authority", "here.cn")])).await;
    }
    until("the connection is gone", || {
        gate.counters.http2_connections.value() == 1 && gate.counters.connections.value() == 0
    })
    .await;
}
