//! With policy off the gate is a forwarder that changes nothing: the same questions, asked of an upstream directly and
//! through the gate, differ in nothing but ID and TTL.

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use icpgate::dns::wire;
use icpgate::policy::{Mode, Rules};

use super::harness::dns::{Answer, Ask, DnsGate, exchange};
use super::harness::fixture;
use super::harness::upstream::{Reply, Upstream, records};

/// Every way to ask that changes an answer or its size.
pub fn ways(name: &str, qtype: &str) -> Vec<Ask> {
    let base = Ask::new(name, qtype);
    vec![
        base.clone(),
        Ask { edns: false, ..base.clone() },
        Ask { dnssec_ok: true, ..base.clone() },
        Ask { authentic_data: true, ..base.clone() },
        Ask { checking_disabled: true, ..base.clone() },
        Ask { dnssec_ok: true, checking_disabled: true, authentic_data: true, ..base.clone() },
        Ask { recursion_desired: false, ..base.clone() },
        Ask { udp_octets: 512, ..base.clone() },
        Ask { tcp: true, ..base.clone() },
        Ask { tcp: true, edns: false, ..base.clone() },
        Ask { tcp: true, dnssec_ok: true, ..base.clone() },
        Ask { edns: false, recursion_desired: false, checking_disabled: true, ..base },
    ]
}

/// Asks both, and describes every difference.
pub async fn differences(direct: SocketAddr, gate: SocketAddr, asks: &[Ask]) -> Vec<String> {
    let mut res = Vec::new();
    for ask in asks {
        let (a, b) = (exchange(direct, ask).await, exchange(gate, ask).await);
        let (Some(a), Some(b)) = (a, b) else {
            res.push(format!("{ask:?}: no answer"));
            continue;
        };
        let (a, b) = (Answer(a), Answer(b));
        if normal(&a) != normal(&b) {
            let (a, b) = (a.without_ttls(), b.without_ttls());
            res.push(format!("{ask:?}\n  directly {}\n  the gate {}", a.escape_ascii(), b.escape_ascii()));
        }
    }
    res
}

/// A message with ID and TTLs zero, and with names compressed in one way: which suffix a pointer leads to is the writer's
/// choice, and with it the letter case an owner shares with the question.
fn normal(answer: &Answer) -> Vec<u8> {
    let octets = answer.without_ttls();
    let end = wire::skip_name(&octets, wire::HEADER_OCTETS).expect("a question") + 4;
    let flags = u16::from_be_bytes([octets[2], octets[3]]);
    let mut writer = wire::Writer::new(0, flags, &octets[wire::HEADER_OCTETS..end]);
    for record in wire::records(&octets).expect("a well-formed answer") {
        let (owner, _) = wire::read_name(&octets, record.owner_at).expect("a name");
        writer.copy_as(&octets, &record, Some(owner.wire())).expect("a well-formed record");
    }
    writer.finish()
}

/// A gate with policy off before `upstream`.
pub async fn transparent_gate(upstream: SocketAddr) -> DnsGate {
    let view = fixture::view(Rules { mode: Mode::Off, ..Rules::default() });
    DnsGate::with(view, |settings| {
        settings.upstreams = vec![super::harness::dns::group("", &[upstream])];
    })
    .await
}

fn script(upstream: &Upstream) -> Vec<(&'static str, &'static str)> {
    let soa = "nofile.cn. 60 IN SOA ns.nofile.cn. host.nofile.cn. 1 2 3 4 60";
    let failure =
        |code, ede: u16| Reply { rcode: Some(code), ede: Some((ede, "reason".to_owned())), ..Reply::default() };
    let many: Vec<String> = (1..60).map(|n| format!("many.nofile.cn. 60 IN A 203.0.113.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    upstream
        .on("nofile.cn", "A", Reply { authentic: true, ..records(&["nofile.cn. 60 IN A 203.0.113.1"]) })
        .on("nofile.cn", "AAAA", records(&["nofile.cn. 60 IN AAAA 2001:db8:1::1"]))
        .on(
            "www.nofile.cn",
            "A",
            records(&[
                "www.nofile.cn. 60 IN CNAME a.cdn.example.",
                "a.cdn.example. 60 IN CNAME b.cdn.example.",
                "b.cdn.example. 60 IN A 203.0.113.1",
            ]),
        )
        .on("nofile.cn", "HTTPS", records(&["nofile.cn. 60 IN HTTPS 1 . alpn=h2,h3 ipv4hint=203.0.113.1"]))
        .on(
            "nofile.cn",
            "MX",
            Reply {
                additional: vec!["mail.nofile.cn. 60 IN A 203.0.113.1".to_owned()],
                ..records(&["nofile.cn. 60 IN MX 5 mail.nofile.cn."])
            },
        )
        .on("nofile.cn", "TXT", records(&["nofile.cn. 60 IN TXT \"v=spf1 -all\" \"second\""]))
        .on("nofile.cn", "SOA", records(&[soa]))
        .on("a.nofile.cn", "CNAME", records(&["a.nofile.cn. 60 IN CNAME b.far.example."]))
        .on("_sip._tcp.nofile.cn", "SRV", records(&["_sip._tcp.nofile.cn. 60 IN SRV 1 2 5060 sip.nofile.cn."]))
        .on("nofile.cn", "CAA", records(&["nofile.cn. 60 IN CAA 0 issue \"ca.example\""]))
        .on("empty.nofile.cn", "A", Reply { authority: vec![soa.to_owned()], ..Reply::default() })
        .on("lame.nofile.cn", "A", failure(ResponseCode::ServFail, 22))
        .on("bogus.nofile.cn", "A", failure(ResponseCode::ServFail, 6))
        .on("no.nofile.cn", "A", failure(ResponseCode::Refused, 18))
        .on("many.nofile.cn", "A", records(&many))
        .on(
            "odd.nofile.cn",
            "TYPE65400",
            Reply { data: vec![(65_400, b"\x01\x02any octets\xff".to_vec())], ..Reply::default() },
        );
    vec![
        ("nofile.cn", "A"),
        ("NoFile.CN", "A"),
        ("nofile.cn", "AAAA"),
        ("www.nofile.cn", "A"),
        ("nofile.cn", "HTTPS"),
        ("nofile.cn", "MX"),
        ("nofile.cn", "TXT"),
        ("nofile.cn", "SOA"),
        ("_sip._tcp.nofile.cn", "SRV"),
        ("nofile.cn", "CAA"),
        ("nothere.nofile.cn", "A"),
        ("empty.nofile.cn", "A"),
        ("lame.nofile.cn", "A"),
        ("bogus.nofile.cn", "A"),
        ("no.nofile.cn", "A"),
        ("many.nofile.cn", "A"),
        ("a.nofile.cn", "CNAME"),
        ("odd.nofile.cn", "TYPE65400"),
    ]
}

#[tokio::test]
async fn with_policy_off_answers_differ_in_id_and_ttl_only() {
    let upstream = Upstream::start().await;
    let asks: Vec<Ask> = script(&upstream).into_iter().flat_map(|(name, qtype)| ways(name, qtype)).collect();
    assert!(asks.len() >= 200, "only {} questions", asks.len());
    let gate = transparent_gate(upstream.addr).await;
    let found = differences(upstream.addr, gate.addr, &asks).await;
    assert!(found.is_empty(), "{} of {} differ:\n{}", found.len(), asks.len(), found.join("\n"));
}
