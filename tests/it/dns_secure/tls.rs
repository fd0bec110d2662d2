//! DNS over TLS: handshakes, pipelines, ends.

use std::time::Duration;

use icpgate::dns::counters::Handshake;
use icpgate::dns::secure::Servers;
use icpgate::dns::send::Transport;
use icpgate::drain::Phase;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{gate_with, receive, send, tls};
use crate::harness::dns::{Answer, Ask, PATIENCE};
use crate::harness::h2::{TlsClient, certificate};
use crate::harness::upstream::Reply;

#[tokio::test]
async fn the_protocol_is_dot_or_unsaid() {
    let gate = gate_with(|_| {}).await;
    assert!(tls(&gate).connect("here.cn", &["dot"]).await.is_ok());
    assert!(tls(&gate).connect("here.cn", &[]).await.is_ok());
    assert!(tls(&gate).connect("here.cn", &["h2"]).await.is_err());
    // A resolver is found by its address: the certificate does not depend on the name asked for.
    assert!(tls(&gate).connect("www.here.cn", &[]).await.is_ok());
    // The client knows before the gate does.
    let counted = async {
        let count = |outcome| gate.counters.handshakes(Transport::Tls, outcome);
        while (count(Handshake::Done), count(Handshake::Failed)) != (3, 1) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, counted).await.expect("all are counted");
}

#[tokio::test]
async fn answers_leave_in_the_order_they_are_ready() {
    let gate = gate_with(|_| {}).await;
    gate.upstream.on("slow.far.net", "A", Reply { silent: true, ..Reply::default() });
    gate.upstream.addresses("www.far.net", &["192.0.2.1"]);
    let mut stream = tls(&gate).connect("here.cn", &["dot"]).await.expect("TLS");
    let slow = Ask::new("slow.far.net", "A").octets();
    let mut quick = Ask::new("www.far.net", "A").octets();
    quick[..2].copy_from_slice(&[0, 7]);
    send(&mut stream, &[&slow, &quick]).await;
    let first = receive(&mut stream).await.expect("an answer");
    assert_eq!(first[..2], [0, 7]);
    let second = receive(&mut stream).await.expect("an answer");
    assert_eq!(second[..2], slow[..2]);
}

#[tokio::test]
async fn a_long_pipeline_is_answered_whole() {
    let gate = gate_with(|_| {}).await;
    gate.upstream.addresses("www.far.net", &["192.0.2.1"]);
    let mut stream = tls(&gate).connect("here.cn", &["dot"]).await.expect("TLS");
    let packets: Vec<Vec<u8>> = (0..300u16)
        .map(|n| {
            let mut packet = Ask::new("www.far.net", "A").octets();
            packet[..2].copy_from_slice(&n.to_be_bytes());
            packet
        })
        .collect();
    let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    send(&mut stream, &packets).await;
    let mut seen = [false; 300];
    for _ in 0..300 {
        let answer = receive(&mut stream).await.expect("an answer");
        seen[usize::from(u16::from_be_bytes([answer[0], answer[1]]))] = true;
        assert_eq!(Answer(answer).addresses(), ["192.0.2.1"]);
    }
    assert!(seen.iter().all(|seen| *seen), "each has its own answer");
}

#[tokio::test]
async fn idle_connections_end_with_a_close_notify() {
    let gate = gate_with(|settings| settings.tcp_idle = Duration::from_millis(200)).await;
    let mut stream = tls(&gate).connect("here.cn", &["dot"]).await.expect("TLS");
    assert_eq!(receive(&mut stream).await, None);
}

#[tokio::test]
async fn a_drain_lets_answers_in_work_leave() {
    let gate = gate_with(|_| {}).await;
    gate.upstream.on("slow.far.net", "A", Reply { silent: true, ..Reply::default() });
    let mut stream = tls(&gate).connect("here.cn", &["dot"]).await.expect("TLS");
    send(&mut stream, &[&Ask::new("slow.far.net", "A").octets()]).await;
    while gate.upstream.log().is_empty() {
        tokio::task::yield_now().await;
    }
    gate.advance(Phase::Draining);
    assert!(receive(&mut stream).await.is_some(), "the answer in work");
    assert_eq!(receive(&mut stream).await, None);
    assert!(TcpStream::connect(tls(&gate).addr).await.is_err(), "nobody new");
}

#[tokio::test]
async fn a_handshake_has_its_time() {
    let gate = gate_with(|_| {}).await;
    let mut silent = TcpStream::connect(tls(&gate).addr).await.expect("connects");
    // Others are not kept waiting.
    assert!(tls(&gate).connect("here.cn", &["dot"]).await.is_ok());
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, silent.read_to_end(&mut rest)).await.expect("an end in time");
    assert!(rest.is_empty());
    assert_eq!(gate.counters.handshakes(Transport::Tls, Handshake::Slow), 1);
    let mut lost = TcpStream::connect(tls(&gate).addr).await.expect("connects");
    tokio::io::AsyncWriteExt::write_all(&mut lost, b"GET / HTTP/1.1\r\n\r\n").await.expect("writes");
    let _ = timeout(PATIENCE, lost.read_to_end(&mut rest)).await.expect("an end in time");
    assert_eq!(gate.counters.handshakes(Transport::Tls, Handshake::Failed), 1);
}

#[tokio::test]
async fn a_certificate_is_exchanged_between_two_handshakes() {
    let gate = gate_with(|_| {}).await;
    gate.upstream.addresses("www.far.net", &["192.0.2.1"]);
    let mut before = tls(&gate).connect("here.cn", &["dot"]).await.expect("TLS");
    let quic = super::Quic::connect(&gate).await;
    let mut settings = gate.gate.settings().clone();
    settings.tls.certificate = Some(certificate("other"));
    settings.quic.certificate = Some(certificate("other"));
    gate.gate.replace_servers(Servers::load(&settings).expect("certificates"));
    assert!(tls(&gate).connect("here.cn", &["dot"]).await.is_err(), "the old one is shown no more");
    let other = TlsClient::trusting(tls(&gate).addr, "other");
    let mut after = other.connect("other.cn", &["dot"]).await.expect("TLS");
    let packet = Ask::new("www.far.net", "A").octets();
    for stream in [&mut before, &mut after] {
        send(stream, &[&packet]).await;
        assert!(receive(stream).await.is_some());
    }
    let addr = gate.secure[2].expect("it listens");
    assert!(super::Quic::try_connect(addr, "here", &["doq"]).await.is_err());
    let newer = super::Quic::try_connect(addr, "other", &["doq"]).await.expect("a connection");
    for quic in [quic, newer] {
        assert!(quic.ask(&packet).await.is_ok());
    }
}
