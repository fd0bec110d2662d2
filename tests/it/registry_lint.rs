//! The linter against its corpus: files of rows with faults, and beside each what exactly is found in it.
//!
//! A line of an `.expected` file: line, severity, check, key and proposed value, `-` for none. Lines that are not there
//! must have no finding.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use icpgate::count::{Observe, Sample};
use icpgate::model::Day;
use icpgate::registry::lint::against::against;
use icpgate::registry::lint::{CHECKS, Findings, ListSettings, Lists, Options, Reads, lint_loaded};
use icpgate::registry::store::OurAddresses;
use icpgate::registry::{Issue, Loaded, Settings, Shrink, Store, load_paths};
use ipnet::IpNet;

use crate::harness::app::{App, FILINGS};

/// The day that dates in the corpus are held against.
const TODAY: &str = "2026-11-24";

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/lint").join(name)
}

fn settings(files: &[&str]) -> Settings {
    Settings {
        max_bad_rows: usize::MAX,
        lint: ListSettings {
            provinces: Some(corpus("lists/provinces.csv")),
            registrars: Some(corpus("lists/registrars.txt")),
            codes_per_server: 2,
            ..ListSettings::default()
        },
        ..Settings::new("self", files.iter().map(|file| corpus(file)).collect())
    }
}

/// The documentation network of the fixture is ours.
fn is_ours(net: &IpNet) -> bool {
    let ours: IpNet = "203.0.113.0/24".parse().expect("a prefix");
    ours.contains(net)
}

fn loaded(settings: &Settings) -> Arc<Loaded> {
    let noon = Day::parse(TODAY).expect("a day").begins_at() + std::time::Duration::from_secs(12 * 3600);
    load_paths(settings, noon).expect("a corpus that loads")
}

/// Everything that is found in `files`, held against `old` where there is one.
fn found(files: &[&str], old: Option<&str>) -> Vec<Issue> {
    let settings = settings(files);
    let lists = Lists::load(&settings.lint).expect("sound lists");
    let today = Day::parse(TODAY).expect("a day");
    let options = Options { ours: Some(("self", &is_ours)), ..Options::new(today, &lists) };
    let state = loaded(&settings);
    let (mut res, reasons) = lint_loaded(&settings, &state, &options, today.begins_at()).expect("not stopped");
    assert_eq!(reasons, Vec::<String>::new());
    let mut read = Findings::at_most(usize::MAX);
    state.issues.iter().cloned().for_each(|issue| read.push(issue));
    res.merge(read);
    if let Some(old) = old {
        let old = loaded(&Settings { paths: vec![corpus(old)], ..settings.clone() });
        res.merge(against(&old.snapshot, &state.snapshot, &options).expect("not stopped"));
    }
    res.sort();
    res.issues
}

/// A finding as a line of an `.expected` file.
fn line(issue: &Issue) -> String {
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let (severity, key, fix) = (issue.severity.label(), or_none(&issue.key), or_none(&issue.fix));
    format!("{} {severity} {} {key} {fix}", issue.line, issue.rule)
}

/// Fails unless what is found in `file` is what `expected` says, each as often.
fn holds(file: &str, issues: &[Issue], expected: &str) -> usize {
    let text = fs::read_to_string(corpus(expected)).expect(expected);
    let mut expected: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let here: Vec<&Issue> = issues.iter().filter(|issue| issue.file.ends_with(file)).collect();
    let mut lines: Vec<String> = here.iter().map(|issue| line(issue)).collect();
    lines.sort();
    expected.sort_unstable();
    let missing: Vec<&&str> = expected.iter().filter(|line| !lines.iter().any(|found| found == *line)).collect();
    let surplus: Vec<String> =
        here.iter().filter(|issue| !expected.contains(&line(issue).as_str())).map(ToString::to_string).collect();
    assert_eq!(lines, expected, "\n{file}\nmissing: {missing:#?}\nsurplus: {surplus:#?}");
    here.iter().map(|issue| issue.line).collect::<BTreeSet<_>>().len()
}

#[test]
fn each_faulty_row_has_its_findings_and_no_other() {
    let mut rows = 0;
    for file in [
        "numbers.csv",
        "domains.csv",
        "rows.csv",
        "groups.csv",
        "facts.csv",
        "facts-lines.jsonl",
        "addresses.csv",
        "cells.csv",
    ] {
        let (stem, _) = file.split_once('.').expect("an extension");
        rows += holds(file, &found(&[file], None), &format!("{stem}.expected"));
    }
    let of_events = found(&["events.csv", "events.changes.jsonl"], None);
    rows += holds("events.changes.jsonl", &of_events, "events.expected");
    assert!(of_events.iter().all(|issue| issue.file.ends_with("events.changes.jsonl")), "{of_events:?}");
    rows += holds("against-new.csv", &found(&["against-new.csv"], Some("against-old.csv")), "against-new.expected");
    assert!(rows >= 150, "{rows}");
}

#[test]
fn clean_rows_have_none() {
    assert_eq!(holds("clean.csv", &found(&["clean.csv"], None), "clean.expected"), 0);
}

#[test]
fn findings_say_it_in_both_languages() {
    for file in ["rows.csv", "groups.csv", "facts.csv", "addresses.csv"] {
        for issue in found(&[file], None) {
            let is_of_lint = icpgate::registry::lint::check(issue.rule).expect("a check");
            let has_words = !issue.message_zh.is_empty() && issue.message_zh != issue.message;
            assert!(has_words || issue.rule == "R21" || issue.rule == "R20", "{issue}");
            assert!(!is_of_lint.fix_zh.is_empty(), "{issue}");
        }
    }
}

#[test]
fn order_and_parts_change_nothing() {
    let settings = settings(&["groups.csv"]);
    let lists = Lists::load(&settings.lint).expect("sound lists");
    let state = loaded(&settings);
    let whole = Options::new(Day::parse(TODAY).expect("a day"), &lists);
    let all = |options: &Options<'_>| {
        let found = icpgate::registry::lint::lint_with(&state.snapshot, options).expect("not stopped");
        found.issues.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let expected = all(&whole);
    for keys_max in [1, 7, 64] {
        assert_eq!(all(&Options { keys_max, ..whole }), expected);
    }
    let few = icpgate::registry::lint::lint_with(&state.snapshot, &Options { findings_max: 3, ..whole });
    let few = few.expect("not stopped");
    assert_eq!((few.issues.len(), few.len()), (3, expected.len() as u64));
    let stop = std::sync::atomic::AtomicBool::new(true);
    assert!(icpgate::registry::lint::lint_with(&state.snapshot, &Options { stop: Some(&stop), ..whole }).is_none());
}

#[tokio::test]
async fn a_gate_counts_what_is_found_behind_its_reloads() {
    let app = App::start().await;
    let series = |rule: &str| format!("icpgate_registry_issues{{rule=\"{rule}\"}}");
    let text = app.get("/metrics").await.body;
    for check in CHECKS {
        assert_eq!(text.contains(&series(check.id)), check.reads != Reads::World, "{}", check.id);
    }
    let counts = async |rule: &str, expected: f64| {
        app.until(rule, async |app| ((app.metric(&series(rule)).await - expected).abs() < f64::EPSILON).then_some(()))
            .await;
    };
    const NUMBER: &str = "京ICP备2021000777号-1";
    app.write("registry/filings.csv", &format!("{FILINGS}shell.example,{NUMBER},,active\n"));
    counts("R23", 1.0).await;
    assert!((app.metric(&series("R6c")).await).abs() < f64::EPSILON);
    // The number goes on to another domain.
    let moved = format!("{FILINGS}shell.example,{NUMBER},,cancelled\nother.example,{NUMBER},self,active\n");
    app.write("registry/filings.csv", &moved);
    counts("R6c", 1.0).await;
    counts("R23", 0.0).await;
    let status = app.get("/v1/status").await.json();
    assert_eq!(status["lists"][0]["key"], "registry.lint.suffixes");
}

/// What the linter of a gate counts of a check now.
fn counted(store: &Store, rule: &str) -> u64 {
    let mut res = None;
    store.counters().observe(&mut |name, labels, sample| {
        if let ("registry_issues", Sample::Count(count)) = (name, sample)
            && labels == [("rule", rule)]
        {
            res = Some(count);
        }
    });
    res.expect("a series")
}

/// A store over one table and a list of provinces, with what writes either.
fn store(dir: &tempfile::TempDir) -> (Store, impl Fn(&str, &str)) {
    let path = dir.path().to_owned();
    let write = move |name: &str, text: &str| fs::write(path.join(name), text).expect("writes");
    write("provinces.csv", &fs::read_to_string(corpus("lists/provinces.csv")).expect("a list"));
    let lint = ListSettings { provinces: Some(dir.path().join("provinces.csv")), ..ListSettings::default() };
    let settings = Settings { lint, ..Settings::new("self", vec![dir.path().join("rows.csv")]) };
    (Store::new(settings), write)
}

/// Takes a table, and looks at it as a gate does.
fn take(store: &Store, write: &impl Fn(&str, &str), rows: &str) {
    let now = Day::parse(TODAY).expect("a day").begins_at();
    write("rows.csv", &format!("domain,site_no,access,addresses\n{rows}"));
    store.reload(now, Shrink::Accept);
    store.lint_beside(now);
}

#[test]
fn what_a_reload_moved_is_not_lost_over_a_list_that_cannot_be_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, write) = store(&dir);
    let now = Day::parse(TODAY).expect("a day").begins_at();
    let row = |domain: &str| format!("{domain},京ICP备2021000001号-1,self,\n");
    take(&store, &write, &row("a.cn"));
    let list = fs::read_to_string(dir.path().join("provinces.csv")).expect("a list");
    write("provinces.csv", "no list\n");
    take(&store, &write, &row("b.cn"));
    assert_eq!(counted(&store, "R6c"), 0, "not looked at");
    write("provinces.csv", &list);
    assert!(store.lint_due(now).is_some());
    store.lint_beside(now);
    assert_eq!(counted(&store, "R6c"), 1);
}

#[test]
fn a_cut_export_that_is_restored_has_moved_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, write) = store(&dir);
    let sites = |count: usize| -> String {
        (0..count).map(|n| format!("n{n}.cn,京ICP备2016{:06}号-1,self,\n", n / 2)).collect()
    };
    // More than a reload names, of two domains each; then fewer. Of one site half is left each time.
    for count in [30_000, 3, 30_000, 25_001, 30_000, 25_001, 30_000] {
        take(&store, &write, &sites(count));
        for rule in ["R6c", "R6d", "R20"] {
            assert_eq!(counted(&store, rule), 0, "{rule} at {count}");
        }
    }
}

#[test]
fn addresses_are_held_against_ranges_that_changed() {
    struct Ours(AtomicBool, AtomicU64);
    impl OurAddresses for Ours {
        fn is_ours(&self, _: &IpNet) -> bool {
            self.0.load(Ordering::Relaxed)
        }
        fn generation(&self) -> u64 {
            self.1.load(Ordering::Relaxed)
        }
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (store, write) = store(&dir);
    let now = Day::parse(TODAY).expect("a day").begins_at();
    let ours = Arc::new(Ours(AtomicBool::new(true), AtomicU64::new(1)));
    store.lint_with_addresses(ours.clone());
    take(&store, &write, "a.cn,京ICP备2021000001号-1,self,203.0.113.9\n");
    assert_eq!((counted(&store, "R16"), store.lint_due(now)), (0, None));
    ours.0.store(false, Ordering::Relaxed);
    ours.1.store(2, Ordering::Relaxed);
    assert!(store.lint_due(now).is_some());
    store.lint_beside(now);
    assert_eq!(counted(&store, "R16"), 1);
}
