//! Limits on connections, which all transports share.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Quic, gate_with, receive, send, tls};
use crate::harness::dns::{Ask, PATIENCE};

#[tokio::test]
async fn connections_of_a_client_count_together() {
    let gate = gate_with(|settings| settings.tcp_connections_per_client_max = 3).await;
    gate.upstream.addresses("www.far.net", &["192.0.2.1"]);
    let packet = Ask::new("www.far.net", "A").octets();
    let mut plain = TcpStream::connect(gate.addr).await.expect("connects");
    send(&mut plain, &[&packet]).await;
    assert!(receive(&mut plain).await.is_some());
    let mut secure = tls(&gate).connect("here.cn", &["dot"]).await.expect("TLS");
    let quic = Quic::connect(&gate).await;
    assert!(quic.ask(&packet).await.is_ok());
    assert!(tls(&gate).connect("here.cn", &["dot"]).await.is_err());
    let addr = gate.secure[2].expect("it listens");
    assert!(Quic::try_connect(addr, "here", &["doq"]).await.is_err());
    assert_eq!(gate.counters.connections_refused.value(), 2);
    // Those that are open go on, and a place that is left is free.
    send(&mut secure, &[&packet]).await;
    assert!(receive(&mut secure).await.is_some());
    drop(plain);
    let again = async {
        while tls(&gate).connect("here.cn", &["dot"]).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("the place is free");
}

#[tokio::test]
async fn a_client_of_quic_waits_for_a_place_among_all_others() {
    let gate = gate_with(|settings| settings.tcp_connections_max = 2).await;
    gate.upstream.addresses("www.far.net", &["192.0.2.1"]);
    let packet = Ask::new("www.far.net", "A").octets();
    let mut first = tls(&gate).connect("here.cn", &["dot"]).await.expect("TLS");
    let mut second = TcpStream::connect(gate.addr).await.expect("connects");
    for stream in [0, 1] {
        // Both are counted once they are answered.
        if stream == 0 {
            send(&mut first, &[&packet]).await;
            assert!(receive(&mut first).await.is_some());
        } else {
            send(&mut second, &[&packet]).await;
            assert!(receive(&mut second).await.is_some());
        }
    }
    let addr = gate.secure[2].expect("it listens");
    assert!(Quic::try_connect(addr, "here", &["doq"]).await.is_err(), "all places are taken");
    drop(first);
    let served = async {
        loop {
            // None is free until the end of the first is seen.
            if let Ok(quic) = Quic::try_connect(addr, "here", &["doq"]).await {
                return quic.ask(&packet).await;
            }
        }
    };
    assert!(timeout(PATIENCE, served).await.expect("a place in time").is_ok());
}

#[tokio::test]
async fn who_does_not_read_is_gone_after_the_idle_time() {
    let gate = gate_with(|settings| settings.tcp_idle = Duration::from_millis(300)).await;
    let addresses: Vec<String> = (0..250).map(|n| format!("192.0.2.{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    gate.upstream.addresses("www.far.net", &addresses);
    let mut stream = tls(&gate).connect("here.cn", &["dot"]).await.expect("TLS");
    let packet = Ask::new("www.far.net", "A").octets();
    let many: Vec<&[u8]> = vec![&packet; 4000];
    // Answers of 16 MB, of which none is read.
    let writing = async {
        loop {
            let mut octets = Vec::new();
            for packet in &many {
                octets.extend_from_slice(&u16::try_from(packet.len()).expect("a message").to_be_bytes());
                octets.extend_from_slice(packet);
            }
            if tokio::io::AsyncWriteExt::write_all(&mut stream, &octets).await.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE, writing).await.expect("the gate ends the connection");
    let mut rest = [0; 1];
    let _ = stream.read(&mut rest).await;
    let gone = async {
        while gate.counters.connections.value() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("its place is free");
}
