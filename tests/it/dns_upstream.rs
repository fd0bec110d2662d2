//! What the DNS plane makes of upstreams that fail, or answer with unusual codes.

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use icpgate::count::{Observe, Sample};
use icpgate::dns::settings::{UpstreamPolicy, UpstreamServer, UpstreamTransport};
use icpgate::policy::Rules;
use tokio::net::TcpListener;

use super::harness::binary::free_addr;
use super::harness::dns::{Ask, DnsGate, PATIENCE, group};
use super::harness::fixture;
use super::harness::upstream::{Reply, Upstream, records};

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

const NAME: &str = "host.example.org";

fn bad_cookie() -> Reply {
    Reply { rcode: Some(ResponseCode::BADCOOKIE), ..Reply::default() }
}

#[tokio::test]
async fn an_extended_code_reaches_clients_with_edns_whole_and_others_as_a_failure() {
    let gate = DnsGate::start().await;
    gate.upstream.on(NAME, "A", bad_cookie());
    for tcp in [false, true] {
        let ask = Ask { tcp, ..Ask::new(NAME, "A") };
        assert_eq!(gate.ask_as(&ask).await.code(), ResponseCode::BADCOOKIE);
        let answer = gate.ask_as(&Ask { edns: false, ..ask }).await;
        assert_eq!(answer.code(), ResponseCode::ServFail);
        assert!(answer.message().edns.is_none());
    }
    let mut counted = Vec::new();
    gate.counters.observe(&mut |name, labels, sample| {
        if let (true, Sample::Count(count @ 1..)) = (name == "dns_responses_total", sample) {
            counted.push((labels[0].1.to_owned(), count));
        }
    });
    assert_eq!(counted, [("SERVFAIL".to_owned(), 2), ("other".to_owned(), 2)]);
}

#[tokio::test]
async fn an_extended_code_stays_when_the_answer_is_truncated() {
    let gate = DnsGate::start().await;
    let many = (0..60).map(|i| format!("{NAME}. 60 IN A 192.0.2.{i}")).collect();
    gate.upstream.on(NAME, "A", Reply { answers: many, ..bad_cookie() });
    let answer = gate.ask_as(&Ask { udp_octets: 512, ..Ask::new(NAME, "A") }).await;
    assert!(answer.message().metadata.truncation);
    assert_eq!(answer.code(), ResponseCode::BADCOOKIE);
}

#[tokio::test]
async fn a_server_with_an_extended_code_is_passed_over() {
    let first = Upstream::start().await;
    first.on("host0.example.org", "A", bad_cookie());
    let gate = gate_behind(first.addr, UpstreamTransport::Udp).await;
    assert_eq!(gate.ask("host0.example.org", "A").await.addresses(), [ABROAD]);
}

//--- Hedging ---------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_second_server_answers_for_one_that_is_late_and_for_no_more_than_allowed() {
    let late = Upstream::start().await;
    late.set_down(true);
    let gate = DnsGate::with(fixture::view(Rules::default()), |settings| {
        // Written first, so asked first while nobody's times are known.
        settings.upstreams = vec![group("", &[late.addr, settings.upstreams[0].servers[0].addr])];
        settings.upstream_timeout = 3 * PATIENCE;
        settings.resolve_timeout = 6 * PATIENCE;
    })
    .await;
    gate.upstream.on(NAME, "TXT", records(&[&format!("{NAME}. 60 IN TXT there")]));
    assert_eq!(gate.ask(NAME, "TXT").await.code(), ResponseCode::NoError);
    // A question over UDP that is not answered is sent again.
    assert!(late.count(NAME, "TXT") >= 1);
    let mut counted = Vec::new();
    gate.gate.upstreams().observe(&mut |name, labels, sample| {
        if let (true, Sample::Count(count @ 1..)) = (name == "upstream_hedges_total", sample) {
            counted.push((labels[0].1.to_owned(), labels[1].1.to_owned(), count));
        }
    });
    let [first, second] = [0, 1].map(|i| gate.gate.upstreams().health()[i].server.clone());
    assert_eq!(counted, [(first, "overtaken".to_owned(), 1), (second, "overtook".to_owned(), 1)]);
    assert!(gate.gate.upstreams().health()[0].is_up, "late is not down");
}

#[tokio::test]
async fn a_failure_of_one_that_is_late_does_not_end_the_other() {
    let first = Upstream::start().await;
    first.set_down(true);
    let gate = DnsGate::with(fixture::view(Rules::default()), |settings| {
        settings.upstreams = vec![group("", &[first.addr, settings.upstreams[0].servers[0].addr])];
        settings.upstream_timeout = PATIENCE / 20;
        settings.resolve_timeout = PATIENCE;
    })
    .await;
    gate.upstream.on(NAME, "TXT", Reply { rcode: Some(ResponseCode::ServFail), ..Reply::default() });
    assert_eq!(gate.ask(NAME, "TXT").await.code(), ResponseCode::ServFail, "what one said, after both");
    let mut answered = Vec::new();
    gate.gate.upstreams().observe(&mut |name, labels, sample| {
        if let (true, Sample::Count(count @ 1..)) = (name == "upstream_queries_total", sample) {
            answered.push((labels[1].1.to_owned(), count));
        }
    });
    let expected = [("failed".to_owned(), 1), ("answered".to_owned(), 1)];
    assert_eq!(answered, expected, "the second is not asked again in its turn");
}
