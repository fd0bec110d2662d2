//! Queries over UDP: batches, and the address that answers leave from.

use std::net::SocketAddr;

use icpgate::policy::Rules;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::harness::dns::{Answer, Ask, DnsGate, PATIENCE};
use super::harness::fixture;

#[tokio::test]
async fn answers_leave_from_the_address_that_was_asked() {
    for (listen, asked, from) in [
        ("0.0.0.0:0", "127.0.0.1", "127.0.0.1:0"),
        ("0.0.0.0:0", "127.0.0.2", "127.0.0.1:0"),
        ("[::]:0", "::1", "[::1]:0"),
    ] {
        let gate = DnsGate::with(fixture::view(Rules::default()), |settings| {
            settings.listen = vec![listen.parse().expect("an address")];
        })
        .await;
        gate.upstream.addresses("www.here.cn", &["203.0.113.1"]);
        let client = UdpSocket::bind(from).await.expect("a socket");
        // A connected socket takes nothing from another address.
        let asked: SocketAddr = SocketAddr::new(asked.parse().expect("an address"), gate.addr.port());
        client.connect(asked).await.expect("connects");
        // The second time from the cache, in the batch; the first after waiting.
        for _ in 0..2 {
            client.send(&Ask::new("www.here.cn", "A").octets()).await.expect("sends");
            let mut octets = [0; 2000];
            let length =
                timeout(PATIENCE, client.recv(&mut octets)).await.expect("an answer from there").expect("reads");
            assert_eq!(Answer(octets[..length].to_vec()).addresses(), ["203.0.113.1"], "{asked}");
        }
    }
}

#[tokio::test]
async fn queries_that_come_together_are_all_answered() {
    // Their answers fit into the socket buffer that systems grant by default.
    const QUERIES: u16 = 100;
    let gate = DnsGate::start().await;
    gate.upstream.addresses("www.here.cn", &["203.0.113.1"]);
    gate.ask("www.here.cn", "A").await;
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    client.connect(gate.addr).await.expect("connects");
    let mut seen = std::collections::HashSet::new();
    for id in 0..QUERIES {
        let mut octets = Ask::new("www.here.cn", "A").octets();
        octets[..2].copy_from_slice(&id.to_be_bytes());
        client.send(&octets).await.expect("sends");
    }
    while seen.len() < usize::from(QUERIES) {
        let mut octets = [0; 2000];
        let length = timeout(PATIENCE, client.recv(&mut octets)).await.expect("every answer comes").expect("reads");
        assert!(seen.insert(u16::from_be_bytes([octets[0], octets[1]])), "each once");
        assert_eq!(Answer(octets[..length].to_vec()).addresses(), ["203.0.113.1"]);
    }
}
