//! What the answer cache owes to its clients: hot answers are renewed in time, and every way to an answer judges alike.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use icpgate::count::{Observe, Sample};
use icpgate::dns::settings::JudgeFamilies;
use icpgate::model::Via;
use icpgate::policy::explain::{OwnedHost, Question};
use icpgate::policy::{Action, Rules, judge};
use icpgate::registry::Filing;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};

use super::harness::dns::DnsGate;
use super::harness::fixture::{self, TODAY, filed, name};
use super::harness::until;
use super::harness::upstream::records;

const ABROAD: &str = "192.0.2.10";
const NAME: &str = "host.example.org";

/// A sample's count by its labels' values.
fn counts(gate: &DnsGate, metric: &str) -> BTreeMap<String, u64> {
    let mut res = BTreeMap::new();
    gate.counters.observe(&mut |name, labels, sample| {
        if let (true, Sample::Count(count @ 1..)) = (name == metric, sample) {
            res.insert(labels.iter().map(|label| label.1).collect::<Vec<_>>().join(" "), count);
        }
    });
    res
}

//--- Renewing --------------------------------------------------------------------------------------------------------

/// A gate to which every hit is one near the end.
async fn eager() -> DnsGate {
    DnsGate::with(fixture::view(Rules::default()), |settings| settings.prefetch_tenths = 10).await
}

#[tokio::test]
async fn a_hot_answer_is_renewed_before_it_ends_and_nobody_waits() {
    let gate = eager().await;
    gate.upstream.on(NAME, "A", records(&[&format!("{NAME}. 60 IN A {ABROAD}")]));
    gate.ask(NAME, "A").await;
    assert_eq!(gate.upstream.count(NAME, "A"), 1, "a miss renews nothing");
    gate.upstream.on(NAME, "A", records(&[&format!("{NAME}. 60 IN A 192.0.2.11")]));
    assert_eq!(gate.ask(NAME, "A").await.addresses(), [ABROAD], "what is there is the answer");
    until("a renewed answer", || counts(&gate, "dns_prefetches_total").get("done") == Some(&1)).await;
    assert_eq!(gate.upstream.count(NAME, "A"), 2);
    assert_eq!(gate.ask(NAME, "A").await.addresses(), ["192.0.2.11"]);
    let outcomes = counts(&gate, "dns_cache_total");
    assert_eq!(outcomes, BTreeMap::from([("hit".to_owned(), 2), ("miss".to_owned(), 1)]), "it was judged beforehand");
}

#[tokio::test]
async fn an_upstream_that_fails_meanwhile_leaves_the_answer_and_is_not_asked_again() {
    let gate = eager().await;
    gate.upstream.on(NAME, "A", records(&[&format!("{NAME}. 60 IN A {ABROAD}")]));
    gate.ask(NAME, "A").await;
    gate.upstream.set_down(true);
    for _ in 0..3 {
        assert_eq!(gate.ask(NAME, "A").await.addresses(), [ABROAD]);
    }
    until("an attempt", || counts(&gate, "dns_prefetches_total").get("failed") == Some(&1)).await;
    assert_eq!(gate.ask(NAME, "A").await.addresses(), [ABROAD]);
    assert_eq!(counts(&gate, "dns_prefetches_total"), BTreeMap::from([("failed".to_owned(), 1)]));
}

#[tokio::test]
async fn short_lives_and_a_switch_that_is_off_renew_nothing() {
    for (tenths, ttl) in [(10, 9), (0, 60)] {
        let gate = DnsGate::with(fixture::view(Rules::default()), |settings| settings.prefetch_tenths = tenths).await;
        gate.upstream.on(NAME, "A", records(&[&format!("{NAME}. {ttl} IN A {ABROAD}")]));
        for _ in 0..4 {
            gate.ask(NAME, "A").await;
        }
        assert_eq!(gate.upstream.count(NAME, "A"), 1);
    }
}

#[tokio::test]
async fn a_renewed_answer_is_judged_like_the_first() {
    let gate = eager().await;
    gate.upstream.addresses("nofile.cn", &[ABROAD]);
    gate.ask("nofile.cn", "A").await;
    gate.upstream.on("nofile.cn", "A", records(&["nofile.cn. 60 IN A 203.0.113.1"]));
    gate.ask("nofile.cn", "A").await;
    until("a renewed answer", || counts(&gate, "dns_prefetches_total").contains_key("done")).await;
    assert_eq!(gate.ask("nofile.cn", "A").await.addresses(), ["192.0.2.200"], "the page");
}

//--- Cold, cached, judged again, stale, explained --------------------------------------------------------------------

const ASKED: [&str; 6] = ["nofile.cn", "www.nofile.cn", "here.cn", "www.else.com", "prov.cn", "far.net"];
/// Of one family: what the other one adds to the judgement of an answer depends on the filing (`judge-families`).
const ADDRESSES: [&str; 7] =
    ["203.0.113.1", "203.0.113.200", "198.51.100.1", "198.51.100.65", "198.51.100.200", ABROAD, "192.0.2.129"];

/// Each waits for an upstream that is down.
const CASES: u32 = 20;
const STALE_AFTER: Duration = Duration::from_millis(1200);

#[derive(Clone, Debug)]
struct Case {
    name: &'static str,
    addresses: Vec<&'static str>,
    /// Rows beside those of the fixture.
    more: Vec<Filing>,
}

fn case() -> impl Strategy<Value = Case> {
    let more = [filed("nofile.cn", &["self"]), filed("far.net", &["other"])];
    let addresses = subsequence(ADDRESSES.to_vec(), 1..4);
    (select(ASKED.to_vec()), addresses, subsequence(more.to_vec(), 0..=2)).prop_map(|(name, addresses, more)| Case {
        name,
        addresses,
        more,
    })
}

/// The verdicts that one more question counted.
async fn asked(gate: &DnsGate, case: &Case) -> (Vec<String>, Vec<String>) {
    let before = counts(gate, "verdicts_total");
    let answer = gate.ask(case.name, "A").await;
    let after = counts(gate, "verdicts_total");
    let new = after.into_iter().filter(|(labels, count)| before.get(labels) != Some(count));
    let mut addresses: Vec<String> = answer.addresses().iter().map(ToString::to_string).collect();
    addresses.sort();
    (new.map(|(labels, _)| labels).collect(), addresses)
}

/// What `explain` says of the same name and addresses, by the labels of the metric.
fn explained(gate: &DnsGate, case: &Case, now: SystemTime) -> String {
    let question = Question {
        text: case.name.to_owned(),
        host: OwnedHost::Name(name(case.name)),
        addresses: case.addresses.iter().map(|addr| addr.parse::<IpAddr>().expect("an address")).collect(),
        chain: Vec::new(),
        via: Via::Dns,
        is_in_line: false,
    };
    let view = gate.view.load_full();
    let verdict = judge::judge(&view.rules, &view.registry, &view.ranges, &question.subject(), now);
    let action = if verdict.action == Action::Block { "block" } else { "allow" };
    format!("dns {action} {}", verdict.reason.label())
}

#[test]
fn cold_cached_rejudged_and_stale_answers_are_judged_as_explained() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (gate, old) = runtime.block_on(async {
        let gate = DnsGate::with(fixture::view(Rules::default()), |settings| {
            settings.judge_families = JudgeFamilies::Both;
        });
        // Every answer is past its lifetime as soon as it is there.
        let old = DnsGate::with(fixture::view(Rules::default()), |settings| {
            (settings.cache_ttl_max, settings.negative_ttl_max) = (Duration::from_nanos(1), Duration::from_nanos(1));
            // How long each stale answer takes here, and what an upstream may take on a loaded machine.
            (settings.upstream_timeout, settings.resolve_timeout) = (STALE_AFTER, 2 * STALE_AFTER);
        });
        (gate.await, old.await)
    });
    let now = fixture::noon(TODAY);
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let held = runner.run(&case(), |case| {
        runtime.block_on(async {
            gate.gate.forget();
            old.gate.forget();
            let rows = || fixture::filings().into_iter().chain(case.more.iter().cloned()).collect();
            for gate in [&gate, &old] {
                gate.publish(rows());
                gate.upstream.addresses(case.name, &case.addresses);
            }
            let cold = asked(&gate, &case).await;
            let cached = asked(&gate, &case).await;
            gate.publish(rows());
            let again = asked(&gate, &case).await;
            let first = asked(&old, &case).await;
            old.upstream.set_down(true);
            let stale = asked(&old, &case).await;
            old.upstream.set_down(false);
            let all = [&cold, &cached, &again, &first, &stale];
            prop_assert!(all.iter().all(|one| *one == &cold), "{all:?}");
            prop_assert_eq!(&cold.0, &vec![explained(&gate, &case, now)]);
            Ok(())
        })
    });
    held.unwrap_or_else(|error| panic!("{error}"));
    let outcomes = (counts(&gate, "dns_cache_total"), counts(&old, "dns_cache_total"));
    for (gate, outcome) in [(&outcomes.0, "hit"), (&outcomes.0, "rejudged"), (&outcomes.1, "stale")] {
        assert!(gate.get(outcome).is_some_and(|&count| count >= u64::from(CASES)), "{outcome}: {outcomes:?}");
    }
}
