//! Answers that a client has not taken yet: how much of them waits here, for how long, and what is held meanwhile.

use std::time::{Duration, Instant};

use icpgate::drain::Phase;
use icpgate::http::Settings;
use icpgate::http::counters::RequestOutcome;
use icpgate::policy::Rules;

use super::until;
use crate::harness::fixture;
use crate::harness::h2::{DATA, END_STREAM, GOAWAY, H2, Raw, SETTINGS, WINDOW_UPDATE, fields, frame, request};
use crate::harness::http::{HttpGate, Reply};

/// Octets of a short answer: they fit into what the library would queue for one stream.
const SHORT: usize = 60_000;
/// Octets of a long one: more than the system holds between two sockets.
const LONG: usize = 16 << 20;

/// A gate before an origin with a short and a long answer.
async fn gate(change: impl FnOnce(&mut Settings)) -> HttpGate {
    let gate = HttpGate::with(fixture::view(Rules::default()), change).await;
    for (path, octets) in [("/short", SHORT), ("/long", LONG)] {
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {octets}\r\n\r\n{}", "x".repeat(octets));
        gate.origin.on(path, Reply::Octets(reply.into_bytes()));
    }
    gate
}

/// A client whose windows hold back nothing.
async fn greedy(gate: &HttpGate) -> Raw {
    let mut raw = Raw::connect(gate.addr).await;
    raw.send(&frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff])).await;
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000u32.to_be_bytes())).await;
    raw
}

async fn ask(raw: &mut Raw, stream: u32, path: &str) {
    let block = fields(&[(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "here.cn")]);
    raw.ask(stream, &block).await;
}

/// A stream that has filled whatever holds octets between gate and client: no more of them come.
async fn clog(raw: &mut Raw) {
    ask(raw, 1, "/long").await;
    let mut room = vec![0; LONG];
    let (mut arrived, mut since) = (0, Instant::now());
    while arrived == 0 || since.elapsed() < Duration::from_millis(300) {
        let now = raw.stream.peek(&mut room).await.expect("an open connection");
        if now > arrived {
            (arrived, since) = (now, Instant::now());
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn d_h25_what_waits_for_a_client_that_does_not_read_is_limited() {
    let gate = gate(|settings| settings.stream_timeout = Duration::from_secs(2)).await;
    let mut raw = greedy(&gate).await;
    clog(&mut raw).await;
    for n in 1..60 {
        ask(&mut raw, 2 * n + 1, "/short").await;
    }
    until("the connection is given up", || {
        gate.counters.http2_connections.value() == 1 && gate.counters.connections.value() == 0
    })
    .await;
    let handed_over = gate.counters.requests(RequestOutcome::Proxied);
    assert!(handed_over <= 8, "{handed_over} answers of {SHORT} octets were queued");
}

#[tokio::test]
async fn d_h25_a_stream_has_its_place_until_its_answer_has_left() {
    let gate = gate(|settings| settings.connections_per_client_max = 2).await;
    let mut raw = greedy(&gate).await;
    clog(&mut raw).await;
    ask(&mut raw, 3, "/short").await;
    until("the short answer is queued", || gate.counters.requests(RequestOutcome::Proxied) == 1).await;
    let other = H2::connect(gate.addr).await;
    let third = other.ask(request("GET", "here.cn", "/short"), b"").await.map(|answer| answer.status);
    assert_eq!(third.expect_err("both places are held").reason(), Some(h2::Reason::REFUSED_STREAM));
    let mut left = 2;
    while left > 0 {
        let frame = raw.next().await.expect("the answers");
        left -= usize::from(frame.kind == DATA && frame.flags & END_STREAM != 0);
    }
    until("both are free", || gate.counters.requests(RequestOutcome::Proxied) == 2).await;
    assert_eq!(other.get("here.cn", "/short").await.status, 200);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Drain,
    Idle,
    Turns,
}

#[tokio::test]
async fn answers_that_still_wait_are_not_cut_when_the_connection_ends() {
    /// Enough that some of them wait here whatever the system holds.
    const ASKED: u32 = 99;
    for ending in [Ending::Drain, Ending::Idle, Ending::Turns] {
        let gate = gate(|settings| match ending {
            Ending::Drain => {}
            Ending::Idle => settings.idle_timeout = Duration::from_millis(400),
            Ending::Turns => settings.requests_per_connection_max = ASKED,
        })
        .await;
        let mut raw = greedy(&gate).await;
        for n in 0..ASKED {
            ask(&mut raw, 2 * n + 1, "/short").await;
        }
        // Read until all that is left waits between the streams, which are over, and the client.
        let (mut octets, mut has_goaway) = (0, false);
        until("the origin was asked", || gate.origin.seen().len() == ASKED as usize).await;
        while gate.counters.requests(RequestOutcome::Proxied) < u64::from(ASKED) {
            let frame = raw.next().await.expect("frames");
            octets += if frame.kind == DATA { frame.payload.len() } else { 0 };
            has_goaway |= frame.kind == GOAWAY;
        }
        if ending == Ending::Drain {
            gate.drain.advance(Phase::Draining);
        }
        let paused = Instant::now();
        until("a farewell would be over", || paused.elapsed() > Duration::from_millis(1500)).await;
        while let Some(frame) = raw.next().await {
            octets += if frame.kind == DATA { frame.payload.len() } else { 0 };
            has_goaway |= frame.kind == GOAWAY;
        }
        assert_eq!((octets, has_goaway), (SHORT * ASKED as usize, true), "{ending:?}");
    }
}
