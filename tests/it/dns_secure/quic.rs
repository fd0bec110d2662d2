//! DNS over QUIC: streams, and what ends a connection.

use std::time::Duration;

use icpgate::count::{Observe, Sample};
use icpgate::dns::counters::Handshake;
use icpgate::dns::send::Transport;
use icpgate::drain::Phase;
use quinn::VarInt;
use tokio::time::timeout;

use super::{Quic, gate_with};
use crate::harness::dns::{Answer, Ask, DnsGate, PATIENCE};
use crate::harness::upstream::Reply;

const PROTOCOL_ERROR: u64 = 2;

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).expect("a message").to_be_bytes()[..], message].concat()
}

fn unnumbered(ask: &Ask) -> Vec<u8> {
    let mut res = ask.octets();
    res[..2].fill(0);
    res
}

#[tokio::test]
async fn each_query_has_its_stream() {
    let gate = gate_with(|_| {}).await;
    gate.upstream.on("slow.far.net", "A", Reply { silent: true, ..Reply::default() });
    gate.upstream.addresses("www.far.net", &["192.0.2.1"]);
    let quic = Quic::connect(&gate).await;
    let slow = Ask::new("slow.far.net", "A").octets();
    let quick = Ask::new("www.far.net", "A").octets();
    let mut order = Vec::new();
    let (mut first, mut second) = (std::pin::pin!(quic.ask(&slow)), std::pin::pin!(quic.ask(&quick)));
    tokio::select! {
        _ = first.as_mut() => order.push("slow"),
        answer = second.as_mut() => {
            order.push("quick");
            let answer = Answer(answer.expect("an answer"));
            assert_eq!((answer.addresses(), answer.message().metadata.id), (vec!["192.0.2.1".to_owned()], 0));
        }
    }
    assert_eq!(order, ["quick"]);
    assert!(first.await.is_ok());
    for _ in 0..250 {
        assert!(quic.ask(&quick).await.is_ok(), "streams are given back");
    }
}

#[tokio::test]
async fn broken_rules_end_the_connection() {
    let gate = gate_with(|_| {}).await;
    gate.upstream.addresses("www.far.net", &["192.0.2.1"]);
    let good = unnumbered(&Ask::new("www.far.net", "A"));
    let numbered = Ask::new("www.far.net", "A").octets();
    let keepalive = unnumbered(&Ask { options: vec![(11, Vec::new())], ..Ask::new("www.far.net", "A") });
    let table = [
        ("an ID", framed(&numbered)),
        ("two queries", [framed(&good), framed(&good)].concat()),
        ("an end inside the message", framed(&good)[..good.len() - 3].to_vec()),
        ("an end inside the length", vec![0]),
        ("nothing", Vec::new()),
        ("keepalive", framed(&keepalive)),
        ("too many octets", vec![0xff; 70_000]),
    ];
    let count = table.len() as u64;
    for (what, octets) in table {
        let quic = Quic::connect(&gate).await;
        assert!(quic.ask(&good).await.is_ok(), "{what}");
        assert!(quic.exchange(&octets).await.is_err(), "{what}");
        assert_eq!(quic.closed().await, PROTOCOL_ERROR, "{what}");
    }
    assert_eq!(gate.counters.quic_protocol_errors.value(), count);
}

#[tokio::test]
async fn a_message_that_is_malformed_is_an_error_of_dns() {
    let gate = gate_with(|_| {}).await;
    let mut malformed = unnumbered(&Ask::new("www.far.net", "A"));
    malformed[5] = 2;
    let quic = Quic::connect(&gate).await;
    let answer = quic.ask(&malformed).await.expect("an answer");
    assert_eq!(answer[3] & 15, 1);
    // No query at all gets no answer, and harms no other.
    let mut response = unnumbered(&Ask::new("www.far.net", "A"));
    response[2] |= 0x80;
    assert!(quic.ask(&response).await.is_err());
    assert!(quic.ask(&malformed).await.is_ok());
}

#[tokio::test]
async fn the_protocol_is_doq() {
    let gate = gate_with(|_| {}).await;
    let addr = gate.secure[2].expect("it listens");
    assert!(Quic::try_connect(addr, "here", &["h3"]).await.is_err());
    assert!(Quic::try_connect(addr, "here", &[]).await.is_err());
    assert!(Quic::try_connect(addr, "other", &["doq"]).await.is_err());
    assert!(Quic::try_connect(addr, "here", &["doq"]).await.is_ok());
    // The client knows before the gate does.
    let counted = async {
        let count = |outcome| gate.counters.handshakes(Transport::Quic, outcome);
        while count(Handshake::Failed) < 2 || count(Handshake::Done) < 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, counted).await.expect("all are counted");
}

/// True when queries are as many as responses and what was dropped.
fn sums_close(gate: &DnsGate) -> bool {
    let (mut queries, mut ends) = (0, gate.counters.dropped.value());
    gate.counters.observe(&mut |name, _, sample| {
        let Sample::Count(count) = sample else { return };
        match name {
            "dns_queries_total" => queries += count,
            "dns_responses_total" => ends += count,
            _ => {}
        }
    });
    queries == ends && queries > 1
}

#[tokio::test]
async fn queries_that_are_given_up_harm_no_other() {
    let gate = gate_with(|_| {}).await;
    gate.upstream.on("slow.far.net", "A", Reply { silent: true, ..Reply::default() });
    gate.upstream.addresses("www.far.net", &["192.0.2.1"]);
    let quic = Quic::connect(&gate).await;
    for _ in 0..150 {
        let (mut send, mut receive) = quic.connection.open_bi().await.expect("a stream");
        send.write_all(&framed(&unnumbered(&Ask::new("slow.far.net", "A")))).await.expect("writes");
        send.finish().expect("ends");
        // DOQ_REQUEST_CANCELLED.
        receive.stop(VarInt::from_u32(3)).expect("stops");
    }
    assert!(quic.ask(&Ask::new("www.far.net", "A").octets()).await.is_ok());
    // Each is counted once, as answered or as dropped.
    let counted = async {
        while !sums_close(&gate) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, counted).await.expect("the sums close");
}

#[tokio::test]
async fn idle_and_drained_connections_end() {
    let gate = gate_with(|settings| {
        settings.tcp_idle = Duration::from_millis(300);
        settings.resolve_timeout = Duration::from_millis(300);
        settings.upstream_timeout = Duration::from_millis(200);
    })
    .await;
    let quic = Quic::connect(&gate).await;
    timeout(PATIENCE, quic.connection.closed()).await.expect("an end in time");

    let gate = gate_with(|_| {}).await;
    gate.upstream.on("slow.far.net", "A", Reply { silent: true, ..Reply::default() });
    let quic = Quic::connect(&gate).await;
    let slow = Ask::new("slow.far.net", "A").octets();
    let asking = quic.ask(&slow);
    let draining = async {
        while gate.upstream.log().is_empty() {
            tokio::task::yield_now().await;
        }
        gate.advance(Phase::Draining);
    };
    let (answer, ()) = tokio::join!(asking, draining);
    assert!(answer.is_ok(), "the answer in work: {answer:?}");
    assert_eq!(quic.closed().await, 0);
}
