//! What the DNS plane makes of upstreams that fail, or answer with unusual codes.

use std::net::SocketAddr;

use icpgate::dns::settings::{UpstreamPolicy, UpstreamServer, UpstreamTransport};
use icpgate::policy::Rules;
use tokio::net::TcpListener;

use super::harness::binary::free_addr;
use super::harness::dns::{DnsGate, PATIENCE, group};
use super::harness::fixture;
use super::harness::upstream::records;

const ABROAD: &str = "192.0.2.10";

/// A gate whose first upstream is `first`, and whose timeouts are longer than a test waits.
async fn gate_behind(first: SocketAddr, transport: UpstreamTransport) -> DnsGate {
    let gate = DnsGate::with(fixture::view(Rules::default()), |settings| {
        let mut both = group("", &[first, settings.upstreams[0].servers[0].addr]);
        both.servers[0] = UpstreamServer { text: "first".to_owned(), addr: first, transport };
        both.policy = UpstreamPolicy::Ordered;
        settings.upstreams = vec![both];
        settings.upstream_timeout = 3 * PATIENCE;
        settings.resolve_timeout = 6 * PATIENCE;
    })
    .await;
    for i in 0..4 {
        let name = format!("host{i}.example.org");
        gate.upstream.on(&name, "A", records(&[&format!("{name}. 60 IN A {ABROAD}")]));
    }
    gate
}

/// Each question is answered by the second upstream in less time than the first one's timeout, and the first one rests after
/// its failures.
async fn fails_over_at_once(gate: &DnsGate) {
    assert!(gate.gate.upstreams().health()[0].is_up);
    for i in 0..4 {
        assert_eq!(gate.ask(&format!("host{i}.example.org"), "A").await.addresses(), [ABROAD]);
    }
    assert!(!gate.gate.upstreams().health()[0].is_up);
}

#[tokio::test]
async fn a_closed_port_fails_over_at_once() {
    let name = "dns.example".to_owned();
    let transports = [
        UpstreamTransport::Udp,
        UpstreamTransport::Tcp,
        UpstreamTransport::Tls { server_name: name.clone() },
        UpstreamTransport::Https { path: "/dns-query".to_owned(), server_name: name },
    ];
    for transport in transports {
        fails_over_at_once(&gate_behind(free_addr(), transport).await).await;
    }
}

#[tokio::test]
async fn a_connection_reset_fails_over_at_once() {
    let name = "dns.example".to_owned();
    for transport in [UpstreamTransport::Tcp, UpstreamTransport::Tls { server_name: name }] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_zero_linger().expect("a socket");
            }
        });
        fails_over_at_once(&gate_behind(addr, transport).await).await;
    }
}
