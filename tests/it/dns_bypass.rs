//! Every DNS bypass of the catalogue (D-D1 to D-D29), from a client's socket to a scripted upstream's.
//!
//! U is an unfiled name, F a filed one that is accessed here; addresses are those of the fixture.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use icpgate::dns::settings::JudgeFamilies;
use icpgate::policy::{MixedAnswer, Rules};

use super::harness::dns::{Ask, DnsGate, PATIENCE, over_udp, packet};
use super::harness::fixture::{self, filed};
use super::harness::upstream::{Reply, records};

const OURS: &str = "203.0.113.1";
const ABROAD: &str = "192.0.2.1";

async fn ask_raw(gate: &DnsGate, packet: &[u8]) -> super::harness::dns::Answer {
    super::harness::dns::Answer(over_udp(gate.addr, packet, PATIENCE).await.expect("an answer"))
}

#[tokio::test]
async fn d_d01_unfiled_alias_of_a_filed_name_is_blocked() {
    let gate = DnsGate::start().await;
    gate.upstream.on("nofile.cn", "A", records(&["nofile.cn. 60 IN CNAME here.cn.", "here.cn. 60 IN A 203.0.113.1"]));
    let answer = gate.ask("nofile.cn", "A").await;
    assert!(answer.is_blocked(), "{:?}", answer.message());
    assert_eq!(answer.addresses(), ["192.0.2.200"]);
    assert!(answer.reason().starts_with("not_filed; domain=nofile.cn; id="), "{}", answer.reason());
}

#[tokio::test]
async fn d_d02_filed_alias_of_an_unfiled_name_passes() {
    let gate = DnsGate::start().await;
    gate.upstream.on(
        "www.here.cn",
        "A",
        records(&["www.here.cn. 60 IN CNAME u.cdn.net.", "u.cdn.net. 60 IN A 203.0.113.1"]),
    );
    let answer = gate.ask("www.here.cn", "A").await;
    assert_eq!(answer.addresses(), [OURS]);
    assert_eq!(answer.message().answers.len(), 2, "the chain stays");
}

#[tokio::test]
async fn d_d03_a_verdict_is_never_cached_on_the_target() {
    let gate = DnsGate::start().await;
    gate.upstream
        .on("here.cn", "A", records(&["here.cn. 60 IN CNAME nofile.cn.", "nofile.cn. 60 IN A 203.0.113.1"]))
        .addresses("nofile.cn", &[OURS]);
    assert_eq!(gate.ask("here.cn", "A").await.addresses(), [OURS]);
    assert!(gate.ask("nofile.cn", "A").await.is_blocked());
    assert_eq!(gate.ask("here.cn", "A").await.addresses(), [OURS]);
}

#[tokio::test]
async fn d_d04_dname_does_not_lend_a_filing() {
    let gate = DnsGate::start().await;
    // A DNAME is octets to the message parser of the tests: type 39, target here.cn.
    let answers = ["www.nofile.cn. 60 IN CNAME www.here.cn.", "www.here.cn. 60 IN A 203.0.113.1"];
    gate.upstream.on("www.nofile.cn", "A", records(&answers));
    assert!(gate.ask("www.nofile.cn", "A").await.is_blocked());
    let raw = [
        &[0, 2, 0, 0, 0, 0][..],
        b"\xc0\x10\0\x27\0\x01\0\0\0\x3c\0\x09\x04here\x02cn\0",
        b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xcb\0\x71\x01",
    ];
    gate.upstream.on("ftp.nofile.cn", "A", Reply { raw: Some(raw.concat()), ..Reply::default() });
    assert!(gate.ask("ftp.nofile.cn", "A").await.is_blocked());
}

#[tokio::test]
async fn d_d05_https_hints_count_as_addresses() {
    let gate = DnsGate::start().await;
    gate.upstream.on("nofile.cn", "HTTPS", records(&["nofile.cn. 60 IN HTTPS 1 . alpn=h2 ipv4hint=203.0.113.1"]));
    let answer = gate.ask("nofile.cn", "HTTPS").await;
    assert!(answer.is_blocked());
    assert_eq!((answer.code(), answer.message().answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(answer.message().authorities[0].record_type(), RecordType::SOA);
    // The same record without hints, its owner on the mainland; and with an IPv6 hint.
    gate.upstream
        .on("b.nofile.cn", "HTTPS", records(&["b.nofile.cn. 60 IN HTTPS 1 . alpn=h2"]))
        .addresses("b.nofile.cn", &[OURS]);
    assert!(gate.ask("b.nofile.cn", "HTTPS").await.is_blocked());
    gate.upstream.on("c.nofile.cn", "SVCB", records(&["c.nofile.cn. 60 IN SVCB 1 . ipv6hint=2001:db8:1::1"]));
    assert!(gate.ask("c.nofile.cn", "SVCB").await.is_blocked());
}

#[tokio::test]
async fn d_d06_https_alias_mode_is_followed() {
    let gate = DnsGate::start().await;
    gate.upstream
        .on("nofile.cn", "HTTPS", records(&["nofile.cn. 60 IN HTTPS 0 here.cn."]))
        .addresses("here.cn", &[OURS]);
    assert!(gate.ask("nofile.cn", "HTTPS").await.is_blocked());
    gate.upstream.on("far.cn", "HTTPS", records(&["far.cn. 60 IN HTTPS 0 cdn.net."])).addresses("cdn.net", &[ABROAD]);
    assert_eq!(gate.ask("far.cn", "HTTPS").await.message().answers.len(), 1);
}

#[tokio::test]
async fn d_d07_other_ports_and_protocols_are_blocked_alike() {
    let gate = DnsGate::start().await;
    gate.upstream.on(
        "nofile.cn",
        "HTTPS",
        records(&["nofile.cn. 60 IN HTTPS 1 . alpn=h3 port=8443 ipv4hint=203.0.113.1"]),
    );
    assert!(gate.ask("nofile.cn", "HTTPS").await.is_blocked());
}

#[tokio::test]
async fn d_d08_ech_is_stripped_before_mainland_servers() {
    let gate = DnsGate::start().await;
    let ech = "AEX+DQBBFAAgACCbXLdmkDfwLRKXPwQF6h6SwrhGkrsd2OLIPW4iTlJbZwAEAAEAAQASY2xvdWRmbGFyZS1lY2guY29tAAA=";
    gate.upstream
        .on("here.cn", "HTTPS", records(&[&format!("here.cn. 60 IN HTTPS 1 . alpn=h2 ech={ech}")]))
        .addresses("here.cn", &[OURS])
        .on("far.cn", "HTTPS", records(&[&format!("far.cn. 60 IN HTTPS 1 . alpn=h2 ech={ech}")]))
        .addresses("far.cn", &[ABROAD]);
    let keys = |answer: &super::harness::dns::Answer| {
        let message = answer.message();
        let RData::HTTPS(https) = &message.answers[0].data else { panic!("an HTTPS record") };
        https.0.svc_params.iter().map(|(key, _)| u16::from(*key)).collect::<Vec<_>>()
    };
    assert_eq!(keys(&gate.ask("here.cn", "HTTPS").await), [1]);
    assert_eq!(keys(&gate.ask("far.cn", "HTTPS").await), [1, 5]);
}

#[tokio::test]
async fn d_d09_wrapped_mainland_addresses_are_seen_through() {
    let gate = DnsGate::start().await;
    for (i, addr) in [
        "::ffff:203.0.113.1",
        "::203.0.113.1",
        "64:ff9b::cb00:7101",
        "64:ff9b:1::cb00:7101",
        "2002:cb00:7101::1",
        "2001:0:4136:e378:8000:63bf:34ff:8efe",
        "2001:db8::200:5efe:203.0.113.1",
    ]
    .iter()
    .enumerate()
    {
        let name = format!("n{i}.nofile.cn");
        gate.upstream.addresses(&name, &[addr]);
        assert!(gate.ask(&name, "AAAA").await.is_blocked(), "{addr}");
    }
    gate.upstream.addresses("plain.nofile.cn", &["2001:db8:2::1"]);
    assert_eq!(gate.ask("plain.nofile.cn", "AAAA").await.addresses(), ["2001:db8:2::1"]);
}

#[tokio::test]
async fn d_d10_synthesised_addresses_are_judged_like_any() {
    // The gate synthesises none itself; what a DNS64 upstream made of a mainland address is judged on that address.
    let gate = DnsGate::start().await;
    gate.upstream.on("nofile.cn", "AAAA", records(&["nofile.cn. 60 IN AAAA 64:ff9b::cb00:7101"]));
    gate.upstream.on("nofile.cn", "A", records(&["nofile.cn. 60 IN A 203.0.113.1"]));
    assert!(gate.ask("nofile.cn", "AAAA").await.is_blocked());
    gate.upstream.on("here.cn", "AAAA", records(&["here.cn. 60 IN AAAA 64:ff9b::cb00:7101"]));
    assert_eq!(gate.ask("here.cn", "AAAA").await.addresses(), ["64:ff9b::cb00:7101"]);
}

#[tokio::test]
async fn d_d11_one_mainland_address_among_many_blocks() {
    let gate = DnsGate::start().await;
    let far: Vec<String> = (1..20).map(|n| format!("192.0.2.{n}")).collect();
    for position in [0, 10, 19] {
        let mut all: Vec<&str> = far.iter().map(String::as_str).collect();
        all.insert(position, OURS);
        let name = format!("p{position}.nofile.cn");
        gate.upstream.addresses(&name, &all);
        assert!(gate.ask(&name, "A").await.is_blocked(), "position {position}");
    }
    // Split over the families: neither query may leave the other's address unseen.
    gate.upstream.addresses("split.nofile.cn", &[ABROAD, "2001:db8:1::1"]);
    assert!(gate.ask("split.nofile.cn", "A").await.is_blocked());
    assert!(gate.ask("split.nofile.cn", "AAAA").await.is_blocked());

    let strip = Rules { mixed_answer: MixedAnswer::Strip, ..Rules::default() };
    let gate = DnsGate::with(fixture::view(strip), |settings| settings.judge_families = JudgeFamilies::Asked).await;
    gate.upstream.addresses("nofile.cn", &[ABROAD, OURS]);
    assert_eq!(gate.ask("nofile.cn", "A").await.addresses(), [ABROAD]);
    gate.upstream.addresses("all.nofile.cn", &[OURS]);
    assert!(gate.ask("all.nofile.cn", "A").await.is_blocked());
}

#[tokio::test]
async fn d_d12_each_answer_is_judged_on_its_own_addresses() {
    let gate = DnsGate::start().await;
    gate.upstream.on("geo.nofile.cn", "A", records(&["geo.nofile.cn. 0 IN A 192.0.2.1"]));
    assert_eq!(gate.ask("geo.nofile.cn", "A").await.addresses(), [ABROAD]);
    gate.upstream.on("geo.nofile.cn", "A", records(&["geo.nofile.cn. 0 IN A 203.0.113.1"]));
    assert!(gate.ask("geo.nofile.cn", "A").await.is_blocked());
    // A product with a region setting is judged by the setting (AMB-8), and no client subnet goes upstream.
    let chain =
        ["cdn.nofile.cn. 60 IN CNAME x.cdn-global.self.example.", "x.cdn-global.self.example. 60 IN A 192.0.2.1"];
    gate.upstream.on("cdn.nofile.cn", "A", records(&chain));
    let ecs = Ask { options: vec![(8, vec![0, 1, 24, 0, 203, 0, 113])], ..Ask::new("cdn.nofile.cn", "A") };
    assert!(gate.ask_as(&ecs).await.is_blocked());
    assert!(gate.upstream.log().iter().all(|asked| !asked.has_ecs));
}

#[tokio::test]
async fn d_d13_any_leaks_no_address() {
    let gate = DnsGate::start().await;
    let all = ["nofile.cn. 60 IN A 203.0.113.1", "nofile.cn. 60 IN MX 5 mail.nofile.cn."];
    gate.upstream.on("nofile.cn", "ANY", records(&all));
    let answer = gate.ask("nofile.cn", "ANY").await;
    assert!(answer.is_blocked());
    let kinds: Vec<RecordType> = answer.message().answers.iter().map(|record| record.record_type()).collect();
    assert_eq!(kinds, [RecordType::HINFO]);
    gate.upstream.on("here.cn", "ANY", records(&["here.cn. 60 IN A 203.0.113.1"]));
    assert_eq!(gate.ask("here.cn", "ANY").await.addresses(), [OURS]);
}

#[tokio::test]
async fn d_d14_addresses_of_blocked_owners_leave_the_additional_section() {
    let gate = DnsGate::start().await;
    let reply = Reply {
        additional: [
            "mail.nofile.cn. 60 IN A 203.0.113.1",
            "mx.here.cn. 60 IN A 203.0.113.2",
            "far.nofile.cn. 60 IN A 192.0.2.1",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..records(&["nofile.cn. 60 IN MX 5 mail.nofile.cn.", "nofile.cn. 60 IN MX 9 mx.here.cn."])
    };
    gate.upstream.on("nofile.cn", "MX", reply);
    let answer = gate.ask("nofile.cn", "MX").await.message();
    assert_eq!(answer.answers.len(), 2);
    let left: Vec<String> = answer.additionals.iter().map(|record| record.name.to_ascii()).collect();
    assert_eq!(left, ["mx.here.cn.", "far.nofile.cn."]);
}

#[tokio::test]
async fn d_d15_letter_case_changes_nothing_and_is_echoed() {
    let gate = DnsGate::start().await;
    gate.upstream.addresses("nofile.cn", &[OURS]).addresses("here.cn", &[OURS]);
    let answer = gate.ask("NoFiLe.cN", "A").await;
    assert!(answer.is_blocked());
    assert_eq!(&answer.0[12..23], b"\x06NoFiLe\x02cN\0");
    assert_eq!(gate.ask("HERE.cn", "A").await.addresses(), [OURS]);
}

#[tokio::test]
async fn d_d16_names_with_empty_labels_are_malformed() {
    let gate = DnsGate::start().await;
    gate.upstream.addresses("nofile.cn", &[OURS]);
    assert!(gate.ask("nofile.cn.", "A").await.is_blocked());
    // A name that ends early leaves octets behind it: FORMERR.
    let mut broken = packet(&[b"nofile", b"cn"], 1);
    broken[12] = 0;
    assert_eq!(ask_raw(&gate, &broken).await.0[3] & 0xf, 1);
}

#[tokio::test]
async fn d_d17_a_label_may_hold_a_dot_and_is_no_other_name() {
    let gate = DnsGate::start().await;
    let raw = [&[0, 1, 0, 0, 0, 0][..], b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xcb\0\x71\x01"].concat();
    for name in ["evil\\.here.cn", "nul\\000.here"] {
        gate.upstream.on(name, "A", Reply { raw: Some(raw.clone()), ..Reply::default() });
    }
    // The scripted upstream speaks presentation form; the gate must judge on labels, whatever comes back.
    let answer = ask_raw(&gate, &packet(&[b"evil.here", b"cn"], 1)).await;
    assert_ne!(answer.0[3] & 0xf, 1, "a dot inside a label is well formed");
    assert!(!answer.addresses().contains(&OURS.to_owned()));
}

#[tokio::test]
async fn d_d18_u_labels_on_the_wire_are_their_a_labels() {
    let gate = DnsGate::start().await;
    gate.upstream.addresses("xn--fsqu00a.xn--fiqs8s", &[OURS]);
    let answer = ask_raw(&gate, &packet(&["例子".as_bytes(), "中国".as_bytes()], 1)).await;
    assert_eq!(answer.0[3] & 0xf, 0);
    assert_eq!(&answer.0[12..19], b"\x06\xe4\xbe\x8b\xe5\xad\x90", "the question is echoed as sent");
    assert_eq!(answer.addresses(), [OURS]);
    assert_eq!(answer.message().answers[0].name, *answer.message().queries[0].name(), "the owner follows the question");
    assert_eq!(gate.ask("xn--fsqu00a.xn--fiqs8s", "A").await.addresses(), [OURS]);
    // Latin-1 octets are no A-label of anything.
    let latin = ask_raw(&gate, &packet(&[b"fa\xdf", b"de"], 1)).await;
    assert_eq!(latin.0[3] & 0xf, 3);
}

#[tokio::test]
async fn d_d19_a_look_alike_is_another_name() {
    let gate = DnsGate::start().await;
    // Cyrillic е in place of Latin e.
    let name = fixture::name("hеre.cn").to_string();
    gate.upstream.addresses(&name, &[OURS]);
    assert!(gate.ask(&name, "A").await.is_blocked());
}

#[tokio::test]
async fn d_d20_an_ideographic_stop_in_the_registry_is_a_dot() {
    let gate = DnsGate::start().await;
    gate.publish(vec![filed("店。中国", &["self"])]);
    let name = fixture::name("店.中国").to_string();
    gate.upstream.addresses(&name, &[OURS]);
    assert_eq!(gate.ask(&name, "A").await.addresses(), [OURS]);
}

#[tokio::test]
async fn d_d21_private_suffixes_are_one_registrant() {
    let gate = DnsGate::start().await;
    gate.publish(vec![filed("myshopify.com", &["self"])]);
    gate.upstream.addresses("user.myshopify.com", &[OURS]).addresses("x.github.io", &[OURS]);
    assert_eq!(gate.ask("user.myshopify.com", "A").await.addresses(), [OURS]);
    assert!(gate.ask("x.github.io", "A").await.reason().starts_with("not_filed; domain=github.io;"));
}

#[tokio::test]
async fn d_d22_a_suffix_lends_no_filing() {
    let gate = DnsGate::start().await;
    for name in ["nofile.com.cn", "com.cn", "a.b.ck", "www.ck", "host.unknowntld"] {
        gate.upstream.addresses(name, &[OURS]);
        assert!(gate.ask(name, "A").await.is_blocked(), "{name}");
    }
    gate.upstream.addresses("www.here.com.cn", &[OURS]);
    assert_eq!(gate.ask("www.here.com.cn", "A").await.addresses(), [OURS]);
}

#[tokio::test]
async fn d_d23_names_that_look_like_addresses_are_names() {
    let gate = DnsGate::start().await;
    for name in ["203-0-113-1.sslip.io", "x.203.0.113.1.nip.io"] {
        gate.upstream.addresses(name, &[OURS]);
        assert!(gate.ask(name, "A").await.is_blocked(), "{name}");
    }
}

#[tokio::test]
async fn d_d24_names_at_and_over_the_limits_do_no_harm() {
    let gate = DnsGate::start().await;
    let longest: Vec<&[u8]> = vec![b"a"; 127];
    assert_eq!(ask_raw(&gate, &packet(&longest, 1)).await.0[3] & 0xf, 3);
    let too_long: Vec<&[u8]> = vec![b"a"; 128];
    assert_eq!(ask_raw(&gate, &packet(&too_long, 1)).await.0[3] & 0xf, 1);
    let label = [b'x'; 63];
    assert_eq!(ask_raw(&gate, &packet(&[&label, &label, &label, b"cn"], 1)).await.0[3] & 0xf, 3);
    // A pointer to itself in the question, and one in an upstream's answer.
    let mut looped = packet(&[b"ab"], 1);
    looped.splice(12..16, [0xc0, 12]);
    assert_eq!(ask_raw(&gate, &looped).await.0[3] & 0xf, 1);
    let raw = [&[0, 1, 0, 0, 0, 0][..], b"\xc0\x20\0\x05\0\x01\0\0\0\x3c\0\x02\xc0\x2c"].concat();
    gate.upstream.on("loop.here.cn", "A", Reply { raw: Some(raw), ..Reply::default() });
    assert_eq!(gate.ask("loop.here.cn", "A").await.code(), ResponseCode::ServFail);
}

#[tokio::test]
async fn d_d25_delegations_pass_so_the_http_gate_is_the_enforcement() {
    let gate = DnsGate::start().await;
    gate.upstream.on("nofile.cn", "NS", records(&["nofile.cn. 60 IN NS ns1.nofile.cn."]));
    let answer = gate.ask("nofile.cn", "NS").await.message();
    assert_eq!(answer.answers[0].record_type(), RecordType::NS);
}

#[tokio::test]
async fn d_d26_answers_before_mainland_servers_are_short_lived_and_judged_again() {
    let gate = DnsGate::start().await;
    gate.upstream.on("here.cn", "A", records(&["here.cn. 86400 IN A 203.0.113.1"]));
    gate.upstream.on("far.cn", "A", records(&["far.cn. 86400 IN A 192.0.2.1"]));
    assert_eq!(gate.ask("here.cn", "A").await.ttls(), [300]);
    assert_eq!(gate.ask("far.cn", "A").await.ttls(), [86_400]);
    gate.publish(Vec::new());
    let answer = gate.ask("here.cn", "A").await;
    assert!(answer.is_blocked(), "the cached answer is judged again");
    assert_eq!(answer.ttls(), [30]);
    assert_eq!(gate.upstream.count("here.cn", "A"), 1, "without asking upstream");
}

#[tokio::test]
async fn d_d27_an_asterisk_is_an_ordinary_label() {
    let gate = DnsGate::start().await;
    gate.upstream.addresses("*.nofile.cn", &[OURS]).addresses("*.here.cn", &[OURS]);
    assert!(gate.ask("*.nofile.cn", "A").await.is_blocked());
    assert_eq!(gate.ask("*.here.cn", "A").await.addresses(), [OURS]);
}

#[tokio::test]
async fn d_d28_a_validating_client_is_blocked_with_the_reason() {
    let gate = DnsGate::start().await;
    gate.upstream.on("nofile.cn", "A", Reply { authentic: true, ..records(&["nofile.cn. 60 IN A 203.0.113.1"]) });
    let ask = Ask { dnssec_ok: true, authentic_data: true, checking_disabled: true, ..Ask::new("nofile.cn", "A") };
    let answer = gate.ask_as(&ask).await;
    assert!(answer.is_blocked());
    assert!(!answer.message().metadata.authentic_data);
    assert!(answer.message().edns.expect("an OPT").flags().dnssec_ok);
}

#[tokio::test]
async fn d_d29_every_way_to_ask_gets_the_same_verdict() {
    let gate = DnsGate::start().await;
    gate.upstream.addresses("nofile.cn", &[OURS]);
    for tcp in [false, true] {
        for edns in [false, true] {
            for options in [vec![], vec![(12, vec![0; 64])], vec![(65_001, b"?".to_vec())], vec![(10, vec![7; 8])]] {
                let ask = Ask { tcp, edns, options, ..Ask::new("nofile.cn", "A") };
                assert_eq!(gate.ask_as(&ask).await.addresses(), ["192.0.2.200"], "tcp {tcp}, edns {edns}");
            }
        }
    }
}
