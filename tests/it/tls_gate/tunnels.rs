//! Connections that are passed on: ends, bulk, silence, changed verdicts, the drain.

use std::time::{Duration, Instant};

use icpgate::drain::Phase;
use icpgate::http::Settings;
use icpgate::http::tls::counters::EndedBy;
use icpgate::policy::Rules;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::harness::http::Client;
use super::super::harness::tls_origin::answer;
use super::{TlsGate, fixture, hello, until};

/// A client whose hello for F was answered.
async fn open(gate: &TlsGate) -> Client {
    let mut client = gate.connect().await;
    client.send(&hello("here.cn")).await;
    assert_eq!(client.octets(answer().len()).await, answer());
    assert_eq!(client.octets(hello("here.cn").len()).await, hello("here.cn"));
    client
}

async fn echoes(client: &mut Client, text: &[u8]) {
    client.send(text).await;
    assert_eq!(client.octets(text.len()).await, text);
}

async fn with(change: impl FnOnce(&mut Settings)) -> TlsGate {
    TlsGate::with(fixture::view(Rules::default()), change).await
}

/// The registry without `here.cn`.
fn unfile(gate: &TlsGate) {
    let rows = fixture::filings().into_iter().filter(|row| row.domain != fixture::name("here.cn"));
    gate.http.publish(rows.collect());
}

#[tokio::test]
async fn either_side_may_end_first() {
    let gate = TlsGate::start().await;
    let mut client = open(&gate).await;
    client.stream.shutdown().await.expect("ends");
    assert!(client.rest().await.is_empty(), "the origin ends in turn");
    until("the tunnel is gone", || gate.counters().tunnels.value() == 0).await;

    // An origin that ends at once, to a client that goes on sending.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let addr = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut got = vec![0; hello("here.cn").len()];
        stream.read_exact(&mut got).await.expect("a hello");
        stream.write_all(&answer()).await.expect("writes");
        stream.shutdown().await.expect("ends");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("reads on");
        rest
    });
    let gate = with(|settings| settings.fixed_tls = Some(addr)).await;
    let mut client = gate.connect().await;
    client.send(&hello("here.cn")).await;
    assert_eq!(client.rest().await, answer(), "the end comes through");
    client.send(&[3; 100_000]).await;
    client.stream.shutdown().await.expect("ends");
    assert_eq!(serving.await.expect("no panic inside"), [3; 100_000]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_both_ways_arrives_as_it_was_sent() {
    const OCTETS: usize = 24 << 20;
    let gate = TlsGate::start().await;
    let mut client = open(&gate).await;
    let all: Vec<u8> = (0..OCTETS).map(|i| u8::try_from((i * 7 + i / 255) % 251).expect("an octet")).collect();
    let (mut reader, mut writer) = client.stream.split();
    let sending = async {
        writer.write_all(&all).await.expect("writes");
        writer.shutdown().await.expect("ends");
    };
    let mut got = Vec::with_capacity(OCTETS);
    let (_, read) = tokio::join!(sending, reader.read_to_end(&mut got));
    read.expect("reads");
    assert!(got == all, "{} octets came back of {}", got.len(), all.len());
    // Then in drops over a new connection: pipes that others have used are empty.
    let mut client = open(&gate).await;
    for round in 0..20u8 {
        let size = if round % 5 == 0 { 1 << 20 } else { 10 };
        let sent = vec![round; size];
        let (mut reader, mut writer) = client.stream.split();
        let mut got = vec![0; size];
        let (written, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut got));
        written.expect("writes");
        read.expect("reads");
        assert!(got == sent, "round {round}");
    }
}

#[tokio::test]
async fn a_slow_reader_holds_the_other_side_and_loses_nothing() {
    const OCTETS: usize = 8 << 20;
    let gate = TlsGate::start().await;
    let mut client = open(&gate).await;
    let sent = vec![9; OCTETS];
    let (mut reader, mut writer) = client.stream.split();
    // Without a reader the echo fills every buffer on the way, and the writer with it.
    let stuck = tokio::time::timeout(Duration::from_millis(200), writer.write_all(&vec![1; 64 << 20])).await;
    assert!(stuck.is_err(), "nobody buffers without a bound");
    let mut got = vec![0; 1 << 20];
    reader.read_exact(&mut got).await.expect("reads");
    assert!(got.iter().all(|octet| *octet == 1));
    drop(sent);
}

#[tokio::test]
async fn silence_ends_a_tunnel_and_traffic_keeps_it() {
    let gate = with(|settings| settings.stream_timeout = Duration::from_millis(400)).await;
    let (mut silent, mut busy) = (open(&gate).await, open(&gate).await);
    let begun = Instant::now();
    let ended = tokio::spawn(async move { silent.rest().await });
    while !ended.is_finished() {
        echoes(&mut busy, b"still here").await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert!(ended.await.expect("no panic inside").is_empty());
    echoes(&mut busy, b"and on").await;
    assert_eq!(gate.counters().ends(EndedBy::Silence), 1);
}

#[tokio::test]
async fn a_tunnel_ends_after_the_grace_once_its_name_is_blocked() {
    let grace = Duration::from_millis(300);
    let gate = with(|settings| settings.blocked_tunnel_grace = Some(grace)).await;
    let mut client = open(&gate).await;
    let begun = Instant::now();
    unfile(&gate);
    assert!(client.rest().await.is_empty());
    assert!(begun.elapsed() >= grace);
    assert_eq!(gate.counters().ends(EndedBy::Verdict), 1);
    assert_eq!(gate.counters().tunnels.value(), 0);
}

#[tokio::test]
async fn a_tunnel_goes_on_where_its_name_is_filed_again_in_time() {
    let gate = with(|settings| settings.blocked_tunnel_grace = Some(Duration::from_secs(4))).await;
    let mut client = open(&gate).await;
    let mut news = gate.http.gate.changes().follow();
    unfile(&gate);
    news.changed().await.expect("the plane runs");
    gate.http.publish(fixture::filings());
    news.changed().await.expect("the plane runs");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        echoes(&mut client, b"still here").await;
    }
    assert_eq!(gate.counters().ends(EndedBy::Verdict), 0);
}

#[tokio::test]
async fn a_tunnel_is_kept_where_that_is_configured() {
    let gate = with(|settings| settings.blocked_tunnel_grace = None).await;
    let mut client = open(&gate).await;
    let mut news = gate.http.gate.changes().follow();
    unfile(&gate);
    news.changed().await.expect("the plane runs");
    echoes(&mut client, b"still here").await;
    assert_eq!(gate.http.status("here.cn").await, 451, "while new ones are blocked");
    echoes(&mut client, b"and on").await;
}

#[tokio::test]
async fn a_day_ends_provisional_access() {
    let gate = with(|settings| settings.blocked_tunnel_grace = Some(Duration::from_millis(100))).await;
    let mut client = gate.connect().await;
    client.send(&hello("prov.cn")).await;
    assert_eq!(client.octets(answer().len()).await, answer());
    gate.http.set_day("2026-11-26");
    client.rest().await;
    assert_eq!(gate.counters().ends(EndedBy::Verdict), 1);
}

#[tokio::test]
async fn a_drain_takes_no_new_connection_and_ends_tunnels_in_time() {
    let gate = TlsGate::start().await;
    let mut client = open(&gate).await;
    gate.http.drain.advance(Phase::Draining);
    echoes(&mut client, b"still here").await;
    let begun = Instant::now();
    assert!(client.rest().await.is_empty());
    assert!((Duration::from_secs(3)..Duration::from_secs(8)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(gate.counters().ends(EndedBy::Drain), 1);
    until("the plane ends", || gate.http.running.is_finished()).await;
}
