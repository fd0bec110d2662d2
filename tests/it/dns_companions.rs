//! Ways to addresses beside the answer itself: none is forgotten, lent to another, or kept longer than it lives.

use std::sync::atomic::Ordering;

use hickory_proto::op::ResponseCode;
use icpgate::dns::settings::ZoneFile;
use icpgate::model::Day;
use icpgate::policy::{Fault, Outcome, Rules};

use super::harness::dns::{Ask, DnsGate};
use super::harness::fixture::{self, filed};
use super::harness::upstream::{Reply, records};

const OURS: &str = "203.0.113.1";
const ABROAD: &str = "192.0.2.1";

fn has_records(answer: &super::harness::dns::Answer) -> bool {
    !answer.message().answers.is_empty()
}

#[tokio::test]
async fn what_a_filed_name_did_not_need_is_looked_up_once_it_is_unfiled() {
    let gate = DnsGate::start().await;
    gate.publish(vec![filed("gone.cn", &["self"])]);
    gate.upstream.on("gone.cn", "HTTPS", records(&["gone.cn. 3600 IN HTTPS 0 far.net."])).addresses("far.net", &[OURS]);
    assert!(has_records(&gate.ask("gone.cn", "HTTPS").await));
    gate.publish(Vec::new());
    assert!(gate.ask("gone.cn", "HTTPS").await.is_blocked());
}

#[tokio::test]
async fn companions_end_with_their_own_lifetime() {
    let gate = DnsGate::start().await;
    gate.upstream.on("u.cn", "HTTPS", records(&["u.cn. 86400 IN HTTPS 0 v.here.cn."]));
    gate.upstream.on("v.here.cn", "A", records(&[&format!("v.here.cn. 1 IN A {ABROAD}")]));
    assert!(has_records(&gate.ask("u.cn", "HTTPS").await));
    gate.upstream.on("v.here.cn", "A", records(&[&format!("v.here.cn. 1 IN A {OURS}")]));
    let deadline = std::time::Instant::now() + super::harness::dns::PATIENCE;
    while !gate.ask("u.cn", "HTTPS").await.is_blocked() {
        assert!(std::time::Instant::now() < deadline, "the old address is still believed");
    }
}

#[tokio::test]
async fn aliases_of_services_are_followed_to_their_end() {
    let gate = DnsGate::start().await;
    gate.upstream
        .on("u.cn", "HTTPS", records(&["u.cn. 60 IN HTTPS 0 a.here.cn."]))
        .on("a.here.cn", "HTTPS", records(&["a.here.cn. 60 IN HTTPS 0 b.here.cn."]))
        .addresses("b.here.cn", &[OURS]);
    assert!(gate.ask("u.cn", "HTTPS").await.is_blocked());
    gate.upstream.on("h.cn", "HTTPS", records(&["h.cn. 60 IN HTTPS 0 hint.here.cn."])).on(
        "hint.here.cn",
        "HTTPS",
        records(&["hint.here.cn. 60 IN HTTPS 1 . ipv4hint=203.0.113.1"]),
    );
    assert!(gate.ask("h.cn", "HTTPS").await.is_blocked());
}

#[tokio::test]
async fn more_targets_than_are_looked_up_are_not_passed_on() {
    let gate = DnsGate::start().await;
    let mut lines: Vec<String> = (2..10).map(|n| format!("u.cn. 60 IN HTTPS {n} far{n}.net.")).collect();
    lines.push("u.cn. 60 IN HTTPS 1 m.here.cn.".to_owned());
    for n in 2..10 {
        gate.upstream.addresses(&format!("far{n}.net"), &[ABROAD]);
    }
    gate.upstream.addresses("m.here.cn", &[OURS]).addresses("u.cn", &[ABROAD]);
    gate.upstream.on("u.cn", "HTTPS", Reply { answers: lines, ..Reply::default() });
    let answer = gate.ask("u.cn", "HTTPS").await;
    assert_eq!(answer.code(), ResponseCode::ServFail);
    assert!(!has_records(&answer));
}

#[tokio::test]
async fn an_answer_with_more_addresses_than_are_judged_is_not_passed_on() {
    let gate = DnsGate::start().await;
    let hints: Vec<String> = std::iter::repeat_n(ABROAD.to_owned(), 4096).chain([OURS.to_owned()]).collect();
    let line = format!("u.cn. 60 IN HTTPS 1 . ipv4hint={}", hints.join(","));
    gate.upstream.on("u.cn", "HTTPS", Reply { truncated: true, ..records(&[&line]) });
    let answer = gate.ask_as(&Ask { tcp: true, ..Ask::new("u.cn", "HTTPS") }).await;
    assert_eq!(answer.code(), ResponseCode::ServFail);
}

#[tokio::test]
async fn a_target_that_fails_to_resolve_is_not_taken_for_harmless() {
    let gate = DnsGate::start().await;
    let failure = Reply { rcode: Some(ResponseCode::ServFail), ..Reply::default() };
    gate.upstream
        .on("u.cn", "HTTPS", records(&["u.cn. 3600 IN HTTPS 0 here.cn."]))
        .on("here.cn", "A", failure.clone())
        .on("here.cn", "AAAA", failure);
    assert_eq!(gate.ask("u.cn", "HTTPS").await.code(), ResponseCode::ServFail);
}

#[tokio::test]
async fn a_product_on_one_way_excuses_no_address_of_another() {
    let gate = DnsGate::start().await;
    gate.upstream.on("else.com", "A", records(&["else.com. 60 IN A 203.0.113.1"]));
    let chain =
        ["else.com. 60 IN CNAME x.cdn-global.self.example.", "x.cdn-global.self.example. 60 IN AAAA 2001:db8:2::1"];
    gate.upstream.on("else.com", "AAAA", records(&chain));
    assert!(gate.ask("else.com", "A").await.reason().starts_with("not_accessed"));
    let service = "www.else.com. 60 IN HTTPS 1 x.cdn-global.self.example. ipv4hint=203.0.113.1";
    gate.upstream.on("www.else.com", "HTTPS", records(&[service])).addresses("x.cdn-global.self.example", &[ABROAD]);
    gate.upstream.addresses("www.else.com", &[ABROAD]);
    assert!(gate.ask("www.else.com", "HTTPS").await.is_blocked());
}

#[tokio::test]
async fn services_in_an_answer_to_any_stay_only_where_they_do_no_harm() {
    let gate = DnsGate::start().await;
    gate.upstream.on("u.cn", "ANY", records(&["u.cn. 60 IN HTTPS 0 here.cn."]));
    let answer = gate.ask("u.cn", "ANY").await.message();
    assert!(answer.answers.iter().all(|record| u16::from(record.record_type()) != 65), "{answer:?}");
}

#[tokio::test]
async fn a_fault_that_comes_while_an_upstream_is_asked_holds() {
    let mut view = fixture::view(Rules::default());
    view.faults = Vec::new();
    let gate = DnsGate::with(view, |_| {}).await;
    let extra = Reply {
        additional: vec!["www.u.cn. 60 IN A 203.0.113.1".to_owned()],
        ..records(&["u.cn. 60 IN MX 5 www.u.cn."])
    };
    gate.upstream.on("u.cn", "MX", extra);
    gate.view.update(|view| view.faults = vec![(Fault::RegistryMissing, Outcome::Block)]);
    let answer = gate.ask("u.cn", "MX").await.message();
    assert_eq!((answer.answers.len(), answer.additionals.len()), (1, 0), "{answer:?}");
    gate.upstream.addresses("here.cn", &[OURS]);
    assert_eq!(gate.ask("here.cn", "A").await.code(), ResponseCode::ServFail);
}

#[tokio::test]
async fn an_entry_looked_up_for_another_counts_down_all_the_same() {
    let gate = DnsGate::start().await;
    gate.upstream.addresses("u.cn", &[ABROAD, "2001:db8:2::1"]);
    assert_eq!(gate.ask("u.cn", "A").await.ttls(), [600]);
    let deadline = std::time::Instant::now() + super::harness::dns::PATIENCE;
    while gate.ask("u.cn", "AAAA").await.ttls() == [600] {
        assert!(std::time::Instant::now() < deadline, "the TTL does not count down");
    }
    assert_eq!(gate.upstream.count("u.cn", "AAAA"), 1);
}

#[tokio::test]
async fn a_region_setting_caps_the_ttl_as_an_address_does() {
    let gate = DnsGate::start().await;
    let chain =
        ["here.cn. 86400 IN CNAME x.cdn-global.self.example.", "x.cdn-global.self.example. 86400 IN A 192.0.2.1"];
    gate.upstream.on("here.cn", "A", records(&chain));
    assert_eq!(gate.ask("here.cn", "A").await.ttls(), [300, 300]);
}

/// A gate with the zone `local.cn`, whose `www` is an alias out of it.
async fn with_zone(dir: &tempfile::TempDir) -> DnsGate {
    let file = dir.path().join("local.cn.zone");
    let zone = "@ 60 IN SOA ns host 1 2 3 4 60\n@ 60 IN NS ns\nns 60 IN A 192.0.2.9\nwww 60 IN CNAME ext.here.cn.\n";
    std::fs::write(&file, zone).expect("writes");
    let zone = ZoneFile { origin: fixture::name("local.cn"), file };
    DnsGate::with(fixture::view(Rules::default()), |settings| settings.zones = vec![zone]).await
}

#[tokio::test]
async fn an_alias_out_of_a_zone_is_judged_whether_or_not_it_is_followed() {
    let dir = tempfile::tempdir().expect("a directory");
    let gate = with_zone(&dir).await;
    gate.upstream.addresses("ext.here.cn", &[OURS]);
    assert!(gate.ask("www.local.cn", "A").await.is_blocked());
    let unfollowed = Ask { recursion_desired: false, ..Ask::new("www.local.cn", "A") };
    assert!(gate.ask_as(&unfollowed).await.is_blocked());
    gate.upstream.addresses("ext.here.cn", &[ABROAD]);
    assert_eq!(gate.ask("www.local.cn", "A").await.addresses(), [ABROAD]);
}

#[tokio::test]
async fn an_alias_that_ends_in_nothing_is_asked_for_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let gate = with_zone(&dir).await;
    gate.upstream.addresses("ext.here.cn", &[ABROAD]);
    assert_eq!(gate.ask("www.local.cn", "AAAA").await.code(), ResponseCode::NoError);
    assert_eq!(gate.upstream.count("ext.here.cn", "AAAA"), 1);
}

#[tokio::test]
async fn a_local_alias_whose_upstream_is_silent_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let gate = with_zone(&dir).await;
    gate.upstream.on("ext.here.cn", "A", Reply { silent: true, ..Reply::default() });
    let answer = gate.ask("www.local.cn", "A").await;
    assert_eq!(answer.code(), ResponseCode::ServFail);
    assert!(answer.errors().iter().any(|(code, _)| *code == 22), "{:?}", answer.errors());
}

#[tokio::test]
async fn an_answer_is_not_kept_past_the_moment_its_verdict_changes() {
    let gate = DnsGate::start().await;
    gate.upstream.on("prov.cn", "A", records(&["prov.cn. 86400 IN A 203.0.113.1"]));
    assert_eq!(gate.ask("prov.cn", "A").await.ttls(), [300]);
    // Provisional access holds to the end of the day after the fixture's.
    let last = Day::parse(fixture::TODAY).expect("a day").next();
    let end = fixture::seconds(last.next().begins_at());
    for (left, ttl) in [(200, 200), (100, 100), (1, 1)] {
        gate.publish(fixture::filings());
        gate.clock.store(end - left, Ordering::Relaxed);
        assert_eq!(gate.ask("prov.cn", "A").await.ttls(), [ttl]);
    }
    gate.clock.store(end, Ordering::Relaxed);
    assert!(gate.ask("prov.cn", "A").await.is_blocked());
}
