//! Refusals that keep the last good state, and reloads by watch and by hand.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use icpgate::count::{Observe, Sample};
use icpgate::drain::{DrainSignal, Phase};
use icpgate::ranges::{Ranges, ReloadOutcome, Settings, Shrink, Store, reload};
use icpgate::registry::reload::ReloadRequest;
use tempfile::TempDir;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn write(dir: &TempDir, file: &str, text: &str) {
    fs::write(dir.path().join(file), text).expect("a writable directory");
}

/// Lists are `*.txt`, tags `*.csv` of one directory.
fn settings(dir: &Path) -> Settings {
    let mut res = Settings::new("self");
    res.mainland.push(dir.to_owned());
    res.tags.push(dir.to_owned());
    res.poll = Duration::from_secs(3600);
    res
}

fn published(outcome: ReloadOutcome) -> Arc<Ranges> {
    match outcome {
        ReloadOutcome::Published(ranges, _) => ranges,
        ReloadOutcome::Refused(error) => panic!("refused: {error}"),
        ReloadOutcome::Unchanged => panic!("unchanged"),
    }
}

fn refused(outcome: ReloadOutcome) -> String {
    match outcome {
        ReloadOutcome::Refused(error) => error.to_string(),
        ReloadOutcome::Published(..) | ReloadOutcome::Unchanged => panic!("expected a refusal"),
    }
}

fn knows(ranges: &Ranges, addr: &str) -> bool {
    ranges.lookup(addr.parse::<IpAddr>().expect(addr)).is_some()
}

//--- Admission -------------------------------------------------------------------------------------------------------

#[test]
fn a_worse_state_is_refused_and_the_last_good_one_stays() {
    let dir = TempDir::new().expect("a directory");
    let tags = "prefix,region,provider\n1.0.0.0/24,mainland,self\n2.0.0.0/24,mainland,self\n";
    write(&dir, "m4.txt", "1.0.0.0/16\n1.1.0.0/16\n");
    write(&dir, "m6.txt", "2400::/32\n2401::/32\n");
    write(&dir, "t.csv", tags);
    let store = Store::new(settings(dir.path()));
    assert_eq!(published(store.reload(now(), Shrink::Refuse)).generation(), 1);
    assert!(matches!(store.reload(now(), Shrink::Refuse), ReloadOutcome::Unchanged));
    let digest = store.loaded().expect("a state").digest;

    for (file, text, expected) in [
        ("m4.txt", "1.0.0.0/16\n", "65536 of 131328 mainland ipv4 addresses would go (49 %, at most 10 %"),
        ("m6.txt", "2400::/32\n", "mainland ipv6 addresses would go (50 %"),
        (
            "t.csv",
            "prefix,region,provider\n1.0.0.0/24,mainland,self\n",
            "256 of 512 our own ipv4 addresses would go (50 %",
        ),
        ("m4.txt", "1.0.0.0/16\n1.1.0.0/1", "ends in the middle of a row"),
        ("t.csv", "prefix,region,provider\n\"1.0.0.0/24", "ends in the middle of a row"),
    ] {
        let good = fs::read_to_string(dir.path().join(file)).expect("reads");
        write(&dir, file, text);
        let reason = refused(store.reload(now(), Shrink::Refuse));
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(store.health(), [reason]);
        let kept = store.loaded().expect("the old state");
        assert_eq!((kept.ranges.generation(), kept.digest), (1, digest));
        write(&dir, file, &good);
        assert!(matches!(store.reload(now(), Shrink::Refuse), ReloadOutcome::Unchanged));
        assert!(store.health().is_empty(), "{:?}", store.health());
    }

    fs::remove_file(dir.path().join("m6.txt")).expect("removes");
    let reason = refused(store.reload(now(), Shrink::Refuse));
    assert!(reason.contains("m6.txt: was loaded and is gone; reload with accept-shrink"), "{reason}");
    let smaller = published(store.reload(now(), Shrink::Accept));
    assert_eq!(smaller.generation(), 2);
    assert!(!knows(&smaller, "2401::1") && knows(&smaller, "1.1.0.1"));
    assert!(store.health().is_empty());
}

#[test]
fn the_counters_say_what_was_loaded() {
    let dir = TempDir::new().expect("a directory");
    write(&dir, "m.txt", "1.0.0.0/16\n2400::/32\n10.0.0.0/8\n");
    let store = Store::new(settings(dir.path()));
    let empty = Store::new(Settings::new("self"));
    published(store.reload(now(), Shrink::Refuse));
    assert!(matches!(store.reload(now(), Shrink::Refuse), ReloadOutcome::Unchanged));
    assert!(empty.loaded().is_none());
    refused(empty.reload(now(), Shrink::Refuse));
    assert_eq!(empty.counters().refused.value(), 1);
    let mut seen = Vec::new();
    store.counters().observe(&mut |name, labels, sample| {
        let labels: Vec<_> = labels.iter().map(|(_, value)| *value).collect();
        match sample {
            Sample::Count(count) => seen.push(format!("{name} {} {count}", labels.join(","))),
            Sample::Value(value) => seen.push(format!("{name} {} {value}", labels.join(","))),
            Sample::Sizes(_) | Sample::Times(_) => {}
        }
    });
    for expected in [
        "ranges_reloads_total published 1",
        "ranges_reloads_total unchanged 1",
        "ranges_generation  1",
        "ranges_loaded_timestamp_seconds  1700000000",
        "ranges_ipv4_addresses mainland 65536",
        "ranges_ipv6_sites mainland 65536",
        "ranges_issues special-purpose 1",
    ] {
        assert!(seen.iter().any(|line| line == expected), "{expected}: {seen:#?}");
    }
}

//--- Watching --------------------------------------------------------------------------------------------------------

/// A running reload task over a directory, with the tables it publishes.
struct Running {
    tables: tokio::sync::mpsc::UnboundedReceiver<Arc<Ranges>>,
    drain: DrainSignal,
    requests: tokio::sync::mpsc::Sender<ReloadRequest>,
}

impl Running {
    fn start(dir: &Path) -> Self {
        let store = Arc::new(Store::new(settings(dir)));
        published(store.reload(now(), Shrink::Refuse));
        let (sender, tables) = tokio::sync::mpsc::unbounded_channel();
        let (drain, watch) = DrainSignal::new();
        let (requests, asked) = tokio::sync::mpsc::channel(1);
        tokio::spawn(reload::run(store, move |ranges| drop(sender.send(ranges)), asked, watch));
        Self { tables, drain, requests }
    }

    async fn until_known(&mut self, what: &str, addr: &str) {
        let seen = async { while !knows(&self.tables.recv().await.expect("the task runs"), addr) {} };
        tokio::time::timeout(Duration::from_secs(20), seen).await.expect(what);
    }

    async fn ask(&self, shrink: Shrink) -> Result<String, String> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.requests.send(ReloadRequest { shrink, answer }).await.expect("the task runs");
        answered.await.expect("an answer")
    }
}

#[tokio::test]
async fn edits_are_seen() {
    let dir = TempDir::new().expect("a directory");
    write(&dir, "m.txt", "1.0.0.0/16\n");
    let mut running = Running::start(dir.path());
    // The first answer comes after the watch is set up.
    assert_eq!(running.ask(Shrink::Refuse).await, Ok("ranges: unchanged".to_owned()));

    write(&dir, "m.txt.tmp", "1.0.0.0/16\n1.1.0.0/16\n");
    fs::rename(dir.path().join("m.txt.tmp"), dir.path().join("m.txt")).expect("renames");
    running.until_known("rename over", "1.1.0.1").await;
    write(&dir, "t.csv", "prefix,region,provider\n1.2.0.0/16,mainland,self\n");
    running.until_known("a new file", "1.2.0.1").await;
    write(&dir, "m.txt", "1.0.0.0/16\n1.1.0.0/16\n1.3.0.0/16\n");
    running.until_known("a file written in place", "1.3.0.1").await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_configmap_swap_is_seen() {
    let dir = TempDir::new().expect("a directory");
    for (version, text) in [("v1", "1.0.0.0/16\n"), ("v2", "1.0.0.0/16\n1.1.0.0/16\n")] {
        fs::create_dir(dir.path().join(version)).expect("a directory");
        fs::write(dir.path().join(version).join("m.txt"), text).expect("writes");
    }
    let at = TempDir::new().expect("a directory");
    let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, at.path().join(name)).expect("links");
    link(&dir.path().join("v1"), "..data");
    link(Path::new("..data/m.txt"), "m.txt");
    let mut running = Running::start(at.path());
    assert!(running.ask(Shrink::Refuse).await.is_ok());
    link(&dir.path().join("v2"), "..data_tmp");
    fs::rename(at.path().join("..data_tmp"), at.path().join("..data")).expect("swaps");
    running.until_known("a symlink swap", "1.1.0.1").await;
}

#[tokio::test]
async fn a_reload_by_hand_answers_what_it_did() {
    let dir = TempDir::new().expect("a directory");
    write(&dir, "m.txt", "1.0.0.0/16\n1.1.0.0/16\n");
    let mut running = Running::start(dir.path());
    assert_eq!(running.ask(Shrink::Refuse).await, Ok("ranges: unchanged".to_owned()));
    write(&dir, "m.txt", "1.0.0.0/16\n");
    let refusal = running.ask(Shrink::Refuse).await.expect_err("a refusal");
    assert!(refusal.starts_with("ranges: refused: 65536 of 131072 mainland ipv4"), "{refusal}");
    let answer = running.ask(Shrink::Accept).await.expect("accepted");
    assert_eq!(answer, "ranges: generation 2, 0 spans became mainland, 1 ceased to be, 0 changed otherwise");
    assert_eq!(running.tables.recv().await.expect("published").generation(), 2);
    running.drain.advance(Phase::Stopped);
    assert!(running.tables.recv().await.is_none(), "the task ends with the drain");
}
