//! What a reload is admitted by, what takes effect at its own time, and what goes out again.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use icpgate::drain::DrainSignal;
use icpgate::model::{Day, Status};
use icpgate::registry::diff::{Change, Standing};
use icpgate::registry::export::{PolicyZone, csv, json_lines, policy_zone};
use icpgate::registry::search::{beginning_with, below};
use icpgate::registry::{Loaded, ReloadOutcome, Settings, Shrink, Snapshot, Store, load_text, reload};
use tempfile::TempDir;

use super::harness::fixture::{TODAY, filed, filings, name, snapshot, suffixes};

const HEADER: &str = "domain,site_no,access,status,provisional_access_until,expires_on\n";

fn today() -> Day {
    Day::parse(TODAY).expect("a day")
}

fn now() -> SystemTime {
    today().begins_at() + Duration::from_secs(3600)
}

fn row(n: usize, access: &str, status: &str) -> String {
    format!("d{n}.cn,京ICP备2021{n:06}号-1,{access},{status},,\n")
}

fn table(rows: impl Iterator<Item = String>) -> String {
    format!("{HEADER}{}", rows.collect::<String>())
}

fn started(dir: &Path, text: &str) -> Store {
    fs::write(dir.join("a.csv"), text).expect("writes");
    let store = Store::new(Settings::new("self", vec![dir.to_owned()]));
    assert!(matches!(store.reload(now(), Shrink::Refuse), ReloadOutcome::Published(..)));
    store
}

fn loaded(store: &Store) -> Arc<Loaded> {
    store.loaded().expect("a state")
}

fn here(snapshot: &Snapshot, domain: &str) -> bool {
    snapshot.find(name(domain).as_ref()).is_some_and(|id| {
        let facts = snapshot.facts(id);
        facts.status == Status::Active && facts.accessed_here
    })
}

//--- Admission -------------------------------------------------------------------------------------------------------

#[test]
fn names_are_counted_by_verdict_and_not_by_rows() {
    let dir = TempDir::new().expect("a directory");
    let mixed = |n: usize| row(n, "self", if n < 10 { "active" } else { "cancelled" });
    let store = started(dir.path(), &table((0..40).map(mixed)));
    // Thirty rows go, and nobody is blocked by it.
    fs::write(dir.path().join("a.csv"), table((0..10).map(mixed))).expect("writes");
    assert!(matches!(store.reload(now(), Shrink::Refuse), ReloadOutcome::Published(..)));
    // No row goes, and everybody is.
    fs::write(dir.path().join("a.csv"), table((0..10).map(|n| row(n, "other", "active")))).expect("writes");
    let ReloadOutcome::Refused(error) = store.reload(now(), Shrink::Refuse) else { panic!("expected a refusal") };
    assert!(error.to_string().contains("10 of 10 filed names would be blocked (100 %"), "{error}");
    assert!(here(&loaded(&store).snapshot, "d1.cn"));
    assert!(matches!(store.reload(now(), Shrink::Accept), ReloadOutcome::Published(..)));
    assert!(!here(&loaded(&store).snapshot, "d1.cn"));
}

#[test]
fn a_preview_tells_who_is_blocked_and_changes_nothing() {
    let dir = TempDir::new().expect("a directory");
    let store = started(dir.path(), &table((0..40).map(|n| row(n, "self", "active"))));
    let preview = store.preview(now()).expect("reads");
    assert!(preview.diff.is_empty() && preview.refusal.is_none() && preview.rows == 40);
    let edited = |n: usize| row(n, if n < 11 { "other" } else { "self" }, "active");
    fs::write(dir.path().join("a.csv"), table((1..41).map(edited))).expect("writes");
    let preview = store.preview(now()).expect("reads");
    let diff = &preview.diff;
    assert_eq!((diff.added, diff.changed, diff.removed), (1, 10, 1));
    assert_eq!((diff.blocked, diff.lost, diff.released), (11, 1, 1));
    assert!(matches!(&diff.changes[0], Change::Removed(domain) if domain.to_string() == "d0.cn"));
    assert!(preview.refusal.expect("a quarter is blocked").to_string().contains("11 of 40 filed names"));
    assert_eq!(loaded(&store).snapshot.generation(), 1);
    assert!(here(&loaded(&store).snapshot, "d0.cn") && here(&loaded(&store).snapshot, "d1.cn"));
}

//--- Dated effects ---------------------------------------------------------------------------------------------------

#[test]
fn an_event_waits_for_its_time() {
    let dir = TempDir::new().expect("a directory");
    let store = started(dir.path(), &table((0..20).map(|n| row(n, "self", "active"))));
    let later = today().next();
    let lines = [
        format!(r#"{{"seq":1,"at":"{later}","event":"cancel-access","domain":"d1.cn","provider":"self"}}"#),
        r#"{"seq":2,"at":"2026-11-24T00:00:00+08:00","event":"cancel-access","domain":"d2.cn","provider":"self"}"#
            .to_owned(),
        r#"{"seq":3,"at":"some day","event":"cancel-access","domain":"d3.cn","provider":"self"}"#.to_owned(),
    ];
    fs::write(dir.path().join("b.changes.jsonl"), lines.map(|line| line + "\n").concat()).expect("writes");
    assert!(matches!(store.reload(now(), Shrink::Refuse), ReloadOutcome::Published(..)));
    let state = loaded(&store);
    assert_eq!(["d1.cn", "d2.cn", "d3.cn"].map(|domain| here(&state.snapshot, domain)), [true, false, true]);
    assert!(state.issues[0].message.contains("at: expected a time"), "{:?}", state.issues);
    assert_eq!(store.next_due(), Some(later.begins_at()));
    assert_eq!(state.snapshot.next_change(name("d1.cn").as_ref(), now(), false), Some(later.begins_at()));
    assert_eq!(state.snapshot.next_change(name("d4.cn").as_ref(), now(), false), None);
    assert!(matches!(store.reload_changed(now()), ReloadOutcome::Unchanged));
    let tidied = store.tidy_always().expect("a state");
    assert_eq!(tidied.next_change(name("d1.cn").as_ref(), now(), false), Some(later.begins_at()));

    assert!(matches!(store.reload_changed(later.begins_at()), ReloadOutcome::Published(..)));
    assert!(!here(&loaded(&store).snapshot, "d1.cn"));
    assert_eq!(store.next_due(), None);
}

#[test]
fn dates_of_a_row_tell_when_its_verdict_may_turn() {
    let text = format!("{HEADER}a.cn,京ICP备2021000001号-1,other,active,{TODAY},2026-12-01\n");
    let settings = Settings::new("self", Vec::new());
    let state = load_text(&settings, suffixes(), "t.csv", text.into_bytes(), now()).expect("loads");
    let next = |now, ended_counts| state.snapshot.next_change(name("a.cn").as_ref(), now, ended_counts);
    let ended = Day::parse("2026-12-02").expect("a day").begins_at();
    assert_eq!(next(now(), false), Some(today().next().begins_at()));
    assert_eq!(next(today().next().begins_at(), false), None);
    assert_eq!(next(today().next().begins_at(), true), Some(ended));
}

#[tokio::test]
async fn a_due_event_is_applied_by_itself() {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("a.csv"), table((0..20).map(|n| row(n, "self", "active")))).expect("writes");
    let at = SystemTime::now() + Duration::from_secs(2);
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let text = time::OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).expect("seconds")).expect("a time");
    let text = text.format(&time::format_description::well_known::Rfc3339).expect("formats");
    let line = format!(r#"{{"at":"{text}","event":"cancel-access","domain":"d1.cn","provider":"self"}}"#);
    fs::write(dir.path().join("b.changes.jsonl"), line + "\n").expect("writes");
    let store = Arc::new(Store::new(Settings {
        poll: Duration::from_secs(3600),
        ..Settings::new("self", vec![dir.path().to_owned()])
    }));
    store.reload(SystemTime::now(), Shrink::Refuse);
    assert!(here(&loaded(&store).snapshot, "d1.cn"));
    let (sender, mut snapshots) = tokio::sync::mpsc::unbounded_channel();
    let (_drain, watch) = DrainSignal::new();
    let (_requests, asked) = tokio::sync::mpsc::channel(1);
    tokio::spawn(reload::run(store, move |snapshot| drop(sender.send(snapshot)), asked, watch));
    let seen = async { while here(&snapshots.recv().await.expect("the task runs"), "d1.cn") {} };
    tokio::time::timeout(Duration::from_secs(20), seen).await.expect("the event is applied");
}

//--- Search and export -----------------------------------------------------------------------------------------------

#[test]
fn rows_are_found_by_the_ends_of_their_names() {
    let snapshot = snapshot(1, filings());
    let names = |ids: Vec<_>| ids.into_iter().map(|id| snapshot.name(id).to_string()).collect::<Vec<_>>();
    assert_eq!(names(below(&snapshot, name("com.cn").as_ref(), 10)), ["here.com.cn"]);
    assert_eq!(names(beginning_with(&snapshot, "OLD-", 10)), ["old-a.com", "old-b.com"]);
    assert_eq!(beginning_with(&snapshot, "old-", 1).len(), 1);
    assert!(below(&snapshot, name("nobody.cn").as_ref(), 10).is_empty());
}

#[test]
fn what_is_exported_reads_as_it_was() {
    let snapshot = snapshot(1, filings());
    let shown = |snapshot: &Snapshot| {
        let mut rows: Vec<String> = snapshot
            .rows()
            .map(|row| format!("{:?}", icpgate::registry::Filing { file: "".into(), line: 0, ..row }))
            .collect();
        rows.sort();
        rows
    };
    let mut as_csv = Vec::new();
    csv(&snapshot, &mut as_csv).expect("writes");
    let mut as_json = Vec::new();
    json_lines(&snapshot, &mut as_json).expect("writes");
    for (file, octets) in [("t.csv", as_csv), ("t.jsonl", as_json)] {
        let state = load_text(&Settings::new("self", Vec::new()), suffixes(), file, octets, now()).expect(file);
        assert_eq!(shown(&state.snapshot), shown(&snapshot), "{file}: {:?}", state.issues);
    }
}

#[test]
fn a_policy_zone_lets_filed_names_pass() {
    let snapshot = snapshot(1, vec![filed("here.cn", &["self"]), filed("else.cn", &["other"])]);
    let prefixes = ["203.0.113.0/24".parse().expect("a prefix")];
    let block = ["127.0.0.1".parse().expect("an address")];
    let (origin, serial, today) = ("rpz.example", 7, today());
    let zone = PolicyZone { origin, serial, prefixes: &prefixes, block: &block, passes: Standing::Here, today };
    let mut out = Vec::new();
    policy_zone(&snapshot, &zone, &mut out).expect("writes");
    let text = String::from_utf8(out).expect("text");
    let records: Vec<&str> = text.lines().skip(4).collect();
    assert_eq!(
        records,
        ["here.cn CNAME rpz-passthru.", "*.here.cn CNAME rpz-passthru.", "24.0.113.0.203.rpz-ip A 127.0.0.1"]
    );
}

//--- Endurance -------------------------------------------------------------------------------------------------------

/// A figure of this process in KiB, threads or handles; `None` where the system does not tell.
fn figure(key: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Runs in a process of its own, so that other tests' memory is not measured.
#[test]
fn a_thousand_reloads_leave_memory_as_it_was() {
    const ALONE: &str = "ICPGATE_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let program = std::env::current_exe().expect("a path");
        let test = "registry_admission::a_thousand_reloads_leave_memory_as_it_was";
        let status = std::process::Command::new(program).args(["--exact", test]).env(ALONE, "1").status();
        assert!(status.expect("starts").success());
        return;
    }
    let dir = TempDir::new().expect("a directory");
    let edited = |round: usize| {
        table((0..3000).map(|n| row(n, if n == round * 37 % 3000 { "other" } else { "self" }, "active")))
    };
    let store = started(dir.path(), &edited(0));
    let events = dir.path().join("b.changes.jsonl");
    let handles = || fs::read_dir("/proc/self/fd").map(|entries| entries.count()).ok();
    let mut before = None;
    for round in 1..=1000 {
        if round % 2 == 0 {
            fs::write(dir.path().join("a.csv"), edited(round)).expect("writes");
        } else {
            // The same events again and again: a changes file that grows is memory that grows.
            let kind = if round % 4 == 1 { "cancel-access" } else { "add-access" };
            let line = format!("{{\"event\":\"{kind}\",\"domain\":\"d{}.cn\",\"provider\":\"late\"}}\n", round % 100);
            fs::write(&events, line).expect("writes");
        }
        store.reload_changed(now());
        store.tidy();
        if round == 300 {
            before = Some((figure("VmRSS"), figure("Threads"), handles()));
        }
    }
    let (Some(resident), threads, open) = before.expect("the rounds are more") else { return };
    let grown = figure("VmRSS").unwrap_or(0).saturating_sub(resident);
    assert!(grown < 4096, "{grown} KiB more after seven hundred reloads, {resident} before");
    assert_eq!((figure("Threads"), handles()), (threads, open));
    assert_eq!(loaded(&store).snapshot.len(), 3000);
}
