//! Extended errors (RFC 8914): which of an upstream's are passed on, and the gate's own.

use hickory_proto::op::ResponseCode;
use icpgate::dns::Settings;
use icpgate::dns::settings::{Structured, UpstreamGroup, UpstreamPolicy, UpstreamServer, UpstreamTransport};
use icpgate::model::DomainName;
use icpgate::policy::{Mode, Rules};

use crate::harness::binary::free_addr;
use crate::harness::dns::{Ask, DnsGate};
use crate::harness::fixture;
use crate::harness::upstream::{Reply, records};

const SOA: &str = "far.net. 1 IN SOA ns. host. 1 2 3 4 1";

async fn gate(change: impl FnOnce(&mut Settings)) -> DnsGate {
    DnsGate::with(fixture::view(Rules::default()), change).await
}

fn failing(code: u16) -> Reply {
    Reply {
        rcode: Some(ResponseCode::ServFail),
        ede: Some((code, "words of a stranger".to_owned())),
        ..Reply::default()
    }
}

fn codes(answer: &crate::harness::dns::Answer) -> Vec<u16> {
    answer.errors().iter().map(|(code, _)| *code).collect()
}

#[tokio::test]
async fn codes_about_validation_and_reaching_servers_pass_without_their_texts() {
    let gate = gate(|_| {}).await;
    for (code, passes) in [
        (0, false),
        (3, true),
        (4, false),
        (6, true),
        (9, true),
        (15, false),
        (16, false),
        (17, false),
        (18, false),
        (22, true),
        (23, true),
        (27, true),
        (49_152, false),
    ] {
        let name = format!("e{code}.far.net");
        gate.upstream.on(&name, "A", failing(code));
        let expected = if passes { vec![(code, String::new())] } else { Vec::new() };
        // From the upstream, then from the cache.
        for _ in 0..2 {
            let answer = gate.ask(&name, "A").await;
            assert_eq!((answer.code(), answer.errors()), (ResponseCode::ServFail, expected.clone()), "{code}");
        }
        let plain = gate.ask_as(&Ask { edns: false, ..Ask::new(&name, "A") }).await;
        assert!(plain.message().edns.is_none(), "{code}");
    }
}

#[tokio::test]
async fn the_list_is_the_operators() {
    let gate = gate(|settings| settings.ede_pass = vec![29]).await;
    gate.upstream.on("a.far.net", "A", failing(22)).on(
        "b.far.net",
        "A",
        Reply { ede: Some((29, "synthesised".to_owned())), ..records(&["b.far.net. 60 IN A 192.0.2.1"]) },
    );
    assert_eq!(gate.ask("a.far.net", "A").await.errors(), []);
    assert_eq!(gate.ask("b.far.net", "A").await.errors(), [(29, String::new())]);
}

#[tokio::test]
async fn a_block_has_its_own_error_alone() {
    let gate = gate(|_| {}).await;
    let reply = Reply { ede: Some((22, "lame".to_owned())), ..records(&["www.nofile.cn. 60 IN A 203.0.113.1"]) };
    gate.upstream.on("www.nofile.cn", "A", reply);
    for _ in 0..2 {
        assert_eq!(codes(&gate.ask("www.nofile.cn", "A").await), [16]);
    }
}

#[tokio::test]
async fn with_policy_off_all_pass_as_they_are() {
    let gate = DnsGate::with(fixture::view(Rules { mode: Mode::Off, ..Rules::default() }), |_| {}).await;
    gate.upstream.on("a.far.net", "A", failing(18));
    assert_eq!(gate.ask("a.far.net", "A").await.errors(), [(18, "words of a stranger".to_owned())]);
}

#[tokio::test]
async fn stale_answers_say_what_they_are() {
    let gate = gate(|_| {}).await;
    let zero = Reply { ede: Some((3, "old here".to_owned())), ..records(&["www.far.net. 1 IN A 192.0.2.1"]) };
    let gone = Reply { rcode: Some(ResponseCode::NXDomain), authority: vec![SOA.to_owned()], ..Reply::default() };
    gate.upstream.on("www.far.net", "A", zero).on("gone.far.net", "A", gone);
    assert_eq!(codes(&gate.ask("www.far.net", "A").await), [3]);
    assert_eq!(gate.ask("gone.far.net", "A").await.code(), ResponseCode::NXDomain);
    gate.upstream.set_down(true);
    for (name, code, expected) in
        [("www.far.net", ResponseCode::NoError, 3), ("gone.far.net", ResponseCode::NXDomain, 19)]
    {
        let deadline = std::time::Instant::now() + crate::harness::dns::PATIENCE;
        // Its second in the cache has to pass.
        loop {
            let answer = gate.ask(name, "A").await;
            assert_eq!(answer.code(), code, "{name}");
            if answer.errors() == [(expected, "no upstream answered".to_owned())] {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{name}: {:?}", answer.errors());
        }
    }
}

#[tokio::test]
async fn silence_and_broken_exchanges_are_told_apart() {
    let gate = gate(|settings| {
        let addr = free_addr();
        let tcp = UpstreamServer { text: format!("tcp://{addr}"), addr, transport: UpstreamTransport::Tcp };
        let suffix = DomainName::from_text("broken.net").expect("a name");
        settings.upstreams.push(UpstreamGroup {
            suffix,
            servers: vec![tcp],
            policy: UpstreamPolicy::Ordered,
            hedges: false,
        });
    })
    .await;
    gate.upstream.on("www.far.net", "A", Reply { silent: true, ..Reply::default() });
    assert_eq!(codes(&gate.ask("www.far.net", "A").await), [22]);
    let answer = gate.ask("www.broken.net", "A").await;
    assert_eq!((answer.code(), codes(&answer)), (ResponseCode::ServFail, vec![22, 23]));
}

#[tokio::test]
async fn who_asks_for_structure_has_it_and_nobody_else() {
    let gate = gate(|settings| {
        let contacts = vec!["https://beian.example/".to_owned()];
        settings.structured_errors = Some(Structured { contacts, organization: "某接入商".to_owned() });
    })
    .await;
    gate.upstream.addresses("www.nofile.cn", &["203.0.113.1"]).addresses("www.far.net", &["192.0.2.1"]);
    let plain = gate.ask("www.nofile.cn", "A").await.reason();
    assert!(plain.starts_with("not_filed; domain=nofile.cn; id="), "{plain}");
    let asking = |name: &str, data: &[u8]| Ask { options: vec![(15, data.to_vec())], ..Ask::new(name, "A") };
    for tcp in [false, true] {
        for signal in [&[0, 0][..], &[]] {
            let answer = gate.ask_as(&Ask { tcp, ..asking("www.nofile.cn", signal) }).await;
            assert_eq!(codes(&answer), [16]);
            let json: serde_json::Value = serde_json::from_str(&answer.reason()).expect("JSON");
            let expected = serde_json::json!({
                "c": ["https://beian.example/"], "j": format!("请先完成备案; {plain}"), "o": "某接入商",
            });
            assert_eq!(json, expected);
            // The cache keeps nothing of it, and other errors in a query ask for nothing.
            assert_eq!(gate.ask("www.nofile.cn", "A").await.reason(), plain);
            assert_eq!(gate.ask_as(&asking("www.nofile.cn", &[0, 16])).await.reason(), plain);
            assert_eq!(gate.ask_as(&asking("www.far.net", signal)).await.errors(), []);
        }
    }
}

#[tokio::test]
async fn structure_that_has_no_room_is_left_out() {
    let gate = gate(|settings| {
        let contacts = vec![format!("https://beian.example/{}", "x".repeat(500))];
        settings.structured_errors = Some(Structured { contacts, organization: String::new() });
    })
    .await;
    gate.upstream.addresses("www.nofile.cn", &["203.0.113.1"]);
    let ask = Ask { options: vec![(15, vec![0, 0])], udp_octets: 512, ..Ask::new("www.nofile.cn", "A") };
    let answer = gate.ask_as(&ask).await;
    assert!(answer.is_blocked() && answer.reason().starts_with("not_filed"), "{}", answer.reason());
    let answer = gate.ask_as(&Ask { udp_octets: 1232, ..ask }).await;
    assert!(answer.is_blocked() && answer.reason().starts_with("{\"c\":["), "{}", answer.reason());
}

#[test]
fn structure_needs_somebody_to_ask() {
    let parse = |provider: &str| {
        let text = format!("version = 1\n[provider]\n{provider}\n[dns]\nstructured-errors = true\n");
        icpgate::config::parse("t.toml", &text, &[]).map_err(|error| error.to_string())
    };
    let found = parse("").err().unwrap_or_default();
    assert!(found.contains("t.toml:5:21: dns.structured-errors = \"true\": needs somebody to ask"), "{found}");
    assert!(parse("contact = \"the desk\"").is_err());
    for (contact, expected) in [
        ("help@here.cn", "mailto:help@here.cn"),
        ("+86 10 1234-5678", "tel:+86101234-5678"),
        ("https://here.cn/help", "https://here.cn/help"),
        ("tel:+861012345678", "tel:+861012345678"),
    ] {
        let config = parse(&format!("contact = \"{contact}\"")).expect(contact);
        let contacts = config.config.dns.structured_errors.map(|structured| structured.contacts);
        assert_eq!(contacts, Some(vec![expected.to_owned()]));
    }
}

#[test]
fn wrong_lists_are_told_with_what_is_right() {
    let problems = |text: &str| {
        let text = format!("version = 1\n[dns]\n{text}\n");
        icpgate::config::parse("t.toml", &text, &[]).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let many: Vec<String> = (100..133).map(|code: u16| code.to_string()).collect();
    for (text, expected) in [
        ("ede-pass = [6, 6]", "t.toml:3:16: dns.ede-pass[1] = \"6\": is there twice"),
        ("ede-pass = [18]", "t.toml:3:13: dns.ede-pass[0] = \"18\": is about who asks the upstream"),
        (&format!("ede-pass = [{}]", many.join(", ")), "dns.ede-pass = \"33\": too many codes; expected at most 32"),
        ("ede-pass = [70000]", "t.toml:3:13: dns.ede-pass[0]"),
    ] {
        let found = problems(text);
        assert!(found.contains(expected), "{text}:\n{found}");
    }
    assert_eq!(problems("ede-pass = []"), "");
}
