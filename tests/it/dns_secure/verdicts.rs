//! The same question gets the same answer by every transport.

use hickory_proto::op::ResponseCode;
use http::Request;
use icpgate::dns::settings::BlockAction;

use super::{Quic, base64url, gate_with, https, over_tls};
use crate::harness::dns::PATIENCE;
use crate::harness::dns::{Answer, Ask, DnsGate, over_tcp, over_udp};

/// Answers to one question by each transport, named.
async fn by_all(gate: &DnsGate, ask: &Ask) -> Vec<(&'static str, Answer)> {
    let packet = ask.octets();
    let udp = over_udp(gate.addr, &packet, PATIENCE).await.expect("an answer over UDP");
    let tcp = over_tcp(gate.addr, &packet).await.expect("an answer over TCP");
    let tls = over_tls(gate, &packet).await.expect("an answer over TLS");
    let quic = Quic::connect(gate).await.ask(&packet).await.expect("an answer over QUIC");
    let client = https(gate).h2("here.cn").await;
    let uri = format!("https://here.cn/dns-query?dns={}", base64url(&packet));
    let get = Request::get(uri).body(()).expect("a request");
    let get = client.ask(get, b"").await.expect("an answer to GET");
    let post = Request::post("https://here.cn/dns-query").header("content-type", "application/dns-message");
    let post = client.ask(post.body(()).expect("a request"), &packet).await.expect("an answer to POST");
    assert_eq!((get.status, post.status), (200, 200));
    [("udp", udp), ("tcp", tcp), ("tls", tls), ("quic", quic), ("get", get.body), ("post", post.body)]
        .map(|(name, octets)| (name, Answer(octets)))
        .into()
}

#[tokio::test]
async fn a_question_gets_one_answer_by_every_transport() {
    let gate = gate_with(|_| {}).await;
    gate.upstream.addresses("www.nofile.cn", &["203.0.113.1"]).addresses("www.here.cn", &["203.0.113.2"]);
    for (name, qtype, is_blocked) in [
        ("www.nofile.cn", "A", true),
        ("WWW.NoFile.cn", "A", true),
        ("www.here.cn", "A", false),
        ("nowhere.onion", "A", false),
    ] {
        let answers = by_all(&gate, &Ask::new(name, qtype)).await;
        for (transport, answer) in &answers {
            assert_eq!(answer.is_blocked(), is_blocked, "{name} {transport}");
            assert_eq!(answer.without_ttls(), answers[0].1.without_ttls(), "{name} {transport}");
        }
    }
    assert_eq!(gate.ask("www.here.cn", "A").await.addresses(), ["203.0.113.2"]);
}

#[tokio::test]
async fn who_may_not_ask_may_not_by_any_transport() {
    let gate = gate_with(|settings| settings.allow_from = vec!["192.0.2.0/24".parse().expect("a prefix")]).await;
    for (transport, answer) in by_all(&gate, &Ask::new("www.here.cn", "A")).await {
        let error = answer.errors().first().map(|(code, _)| *code);
        assert_eq!((answer.code(), error), (ResponseCode::Refused, Some(18)), "{transport}");
    }
    assert!(gate.upstream.log().is_empty());
}

#[tokio::test]
async fn a_block_by_silence_is_silence() {
    let gate = gate_with(|settings| settings.block.action = BlockAction::Drop).await;
    gate.upstream.addresses("www.nofile.cn", &["203.0.113.1"]).addresses("www.here.cn", &["203.0.113.2"]);
    let packet = Ask::new("www.nofile.cn", "A").octets();
    let good = Ask::new("www.here.cn", "A").octets();
    let client = https(&gate).h2("here.cn").await;
    for _ in 0..2 {
        let request = |packet: &[u8]| {
            Request::get(format!("https://here.cn/dns-query?dns={}", base64url(packet))).body(()).expect("a request")
        };
        let error = client.ask(request(&packet), b"").await.expect_err("the stream is reset");
        assert!(error.is_reset(), "{error}");
        assert_eq!(client.ask(request(&good), b"").await.expect("an answer").status, 200);
    }
    let quic = Quic::connect(&gate).await;
    for _ in 0..2 {
        let error = quic.ask(&packet).await.expect_err("the stream is reset");
        assert!(error.contains("reset"), "{error}");
        assert!(!quic.ask(&good).await.expect("an answer").is_empty());
    }
}
