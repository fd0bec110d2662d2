//! The registry through real files: formats, refusals, reloads, and the real tables.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use icpgate::drain::{DrainSignal, Phase};
use icpgate::model::{Day, Status};
use icpgate::registry::diff::diff;
use icpgate::registry::{
    FilingId, Loaded, ReloadOutcome, Settings, Severity, Shrink, Snapshot, Store, load_paths, load_text, reload,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::allocations;
use super::harness::fixture::{TODAY, filings, name, snapshot, suffixes};
use super::harness::shared;

const HEADER: &str = "domain,site_no,access,status\n";

fn now() -> SystemTime {
    Day::parse(TODAY).expect("a day").begins_at() + Duration::from_secs(3600)
}

fn load(file: &str, octets: impl Into<Vec<u8>>) -> Loaded {
    load_text(&Settings::new("self", Vec::new()), suffixes(), file, octets.into(), now()).expect("a sound file")
}

fn refusal(file: &str, octets: impl Into<Vec<u8>>) -> String {
    let loaded = load_text(&Settings::new("self", Vec::new()), suffixes(), file, octets.into(), now());
    loaded.err().expect("a refusal").to_string()
}

fn find(snapshot: &Snapshot, domain: &str) -> Option<FilingId> {
    snapshot.find(name(domain).as_ref())
}

fn row(domain: &str, access: &str) -> String {
    format!("{domain},京ICP备2021000001号-1,{access},active\n")
}

fn store(dir: &TempDir) -> Store {
    Store::new(Settings::new("self", vec![dir.path().to_owned()]))
}

fn write(dir: &TempDir, file: &str, text: &str) {
    fs::write(dir.path().join(file), text).expect("a writable directory");
}

fn published(outcome: ReloadOutcome) -> Arc<Snapshot> {
    match outcome {
        ReloadOutcome::Published(snapshot, _) => snapshot,
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

//--- Formats ---------------------------------------------------------------------------------------------------------

#[test]
fn every_format_says_the_same() {
    let csv = "域名,备案号,接入商,x_note\n# a comment\nHere.CN,京ICP备2021000001号-1,self;other,free text\n";
    let json = r#"{"domain":"here.cn","site_no":"京ICP备2021000001号-1","access":["self","other"]}"#;
    let toml =
        "[[filing]]\ndomain = \"here.cn\"\nsite_no = \"京ICP备2021000001号-1\"\naccess = [\"self\", \"other\"]\n";
    let gb = encoding_rs::GB18030.encode(csv).0.into_owned();
    let zst = zstd::encode_all(csv.as_bytes(), 1).expect("encodes");
    let mut settings = Settings::new("self", Vec::new());
    for (file, octets, line) in [
        ("a.csv", csv.as_bytes().to_vec(), 3),
        ("a.csv", format!("\u{feff}{csv}").into_bytes(), 3),
        ("a.csv.zst", zst, 3),
        ("a.jsonl", format!("{json}\n").into_bytes(), 1),
        ("a.jsonl", json.as_bytes().to_vec(), 1),
        ("a.toml", format!("\n{toml}").into_bytes(), 2),
        ("gb.csv", gb, 3),
    ] {
        settings.encoding =
            if file == "gb.csv" { icpgate::registry::settings::Encoding::Gb18030 } else { Default::default() };
        let loaded = load_text(&settings, suffixes(), file, octets, now()).expect(file);
        let id = find(&loaded.snapshot, "here.cn").expect(file);
        let filing = loaded.snapshot.filing(id);
        assert_eq!(filing.access, ["other", "self"], "{file}");
        assert_eq!(filing.site_no.as_deref(), Some("京ICP备2021000001号-1"), "{file}");
        assert_eq!((&*filing.file, filing.line), (file, line), "{file}");
        assert!(loaded.snapshot.facts(id).accessed_here);
    }
}

#[test]
fn a_bad_row_names_its_place_and_never_stops_the_rest() {
    let text = format!("{HEADER}{}bad domain,x,self,active\n{}", row("a.cn", "self"), row("b.cn", "self"));
    let loaded = load("t.csv", text);
    assert_eq!(loaded.snapshot.len(), 2);
    let text = loaded.issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(text.starts_with("t.csv:3:1: error[format]: domain = \"bad domain\": "), "{text}");
    let text = format!("{HEADER}a.cn,粤公网安备44030502008569号,self,active\nb.cn,,self,actve\n");
    let issues = load("t.csv", text).issues.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(issues[0].contains("t.csv:2:2: error[R20]: site_no = ") && issues[0].contains("公安备案号"), "{issues:?}");
    assert!(issues[1].contains("t.csv:3:4: error[format]: status = \"actve\": unknown status"), "{issues:?}");
}

#[test]
fn what_ends_a_table_without_a_line_feed_and_is_no_row_is_none() {
    for end in ["# a comment", "  ", "\r\n", "b.cn,,self,pending\r"] {
        let loaded = load("t.csv", format!("{HEADER}{}{end}", row("a.cn", "self")));
        assert!(find(&loaded.snapshot, "a.cn").is_some() && loaded.issues.is_empty(), "{end:?}: {:?}", loaded.issues);
    }
}

#[test]
fn unfit_files_are_refused_whole() {
    for (file, text, expected) in [
        ("t.csv", "domain,acces\na.cn,self\n".to_owned(), "unknown column \"acces\"; did you mean access?"),
        ("t.csv", "domain,site_no\n".to_owned(), "column access is missing"),
        ("t.csv", format!("{HEADER}a.cn,京ICP"), "line 2: the file ends in the middle of a record"),
        // Each could be the beginning of a longer row.
        (
            "t.csv",
            format!("{HEADER}{}cut.cn,京ICP备2021000004号-1,self,", row("a.cn", "self")),
            "line 3: the file ends",
        ),
        (
            "t.csv",
            "domain,site_no,access\ncut.cn,京ICP备2021000004号-1,sel".to_owned(),
            "expected a line feed at the end",
        ),
        ("t.csv", "domain,access\ncut.cn,\"self\"".to_owned(), "expected a line feed at the end"),
        ("t.jsonl", "{\"domain\":\"a.cn\",\"acc".to_owned(), "ends in the middle of a record"),
        ("t.toml", "[[filing]]\ndomain = \n".to_owned(), "line 2"),
        ("t.toml", "[[filling]]\n".to_owned(), "unknown field"),
        ("t.csv", format!("{HEADER}{}", "x,,self,active\n".repeat(101)), "101 bad rows; at most 100"),
        ("t.txt", String::new(), "unknown extension"),
    ] {
        let reason = refusal(file, text);
        assert!(reason.contains(expected), "{file}: {reason}");
    }
    assert!(refusal("t.csv", b"\xff\xfea\0".to_vec()).contains("UTF-16"));
    assert!(refusal("t.csv", b"domain,access\n\xb2\xe2.cn,self\n".to_vec()).contains("line 2 is not UTF-8"));
    assert!(refusal("t.csv.gz", b"\x1f\x8b\x08\0\0".to_vec()).contains("damaged or cut"));
}

proptest! {
    #[test]
    fn any_octets_parse_or_fail_without_harm(octets in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..5) {
        let file = ["t.csv", "t.jsonl", "t.toml", "t.changes.jsonl", "t.csv.gz"][at];
        let _ = load_text(&Settings::new("self", Vec::new()), suffixes(), file, octets, now());
    }

    #[test]
    fn order_of_rows_is_irrelevant(
        rows in proptest::collection::vec((0..6u8, 0..4usize, 0..3usize, 0..3usize), 1..12),
        seed in any::<u64>(),
    ) {
        let lines: Vec<String> = rows.iter().map(|(n, access, status, updated)| {
            let access = ["self", "other", "self;other", ""][*access];
            let status = ["active", "pending", "cancelled"][*status];
            let updated = ["", "2026-01-01", "2026-02-01"][*updated];
            format!("d{n}.cn,京ICP备2021000001号-1,{access},{status},{updated}\n")
        }).collect();
        let mut shuffled = lines.clone();
        let mut state = seed;
        for i in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(i, (state >> 33) as usize % (i + 1));
        }
        let header = "domain,site_no,access,status,updated_on\n";
        let one = load("t.csv", format!("{header}{}", lines.concat()));
        let two = load("t.csv", format!("{header}{}", shuffled.concat()));
        prop_assert!(diff(&one.snapshot, &two.snapshot).changes.is_empty());
    }
}

//--- Look-ups --------------------------------------------------------------------------------------------------------

#[test]
fn look_ups_allocate_nothing() {
    let snapshot = snapshot(1, filings());
    let names = ["here.cn", "else.com", "nobody.cn", "prov.cn"].map(name);
    let names = names.each_ref().map(|name| name.as_ref());
    let mut found = Vec::with_capacity(names.len());
    let allocations = allocations::count(|| {
        for name in names {
            std::hint::black_box(snapshot.find(name).map(|id| snapshot.facts(id)));
        }
        snapshot.find_batch(&names, &mut found);
    });
    assert_eq!(found.iter().flatten().count(), 3);
    assert_eq!(allocations, 0, "a look-up allocates");
}

//--- Life cycle ------------------------------------------------------------------------------------------------------

/// Loads `table` rows and then `events`; gives the snapshot and the issues' texts.
fn after(table: &str, events: &[&str]) -> (Arc<Snapshot>, Vec<String>) {
    let dir = TempDir::new().expect("a directory");
    write(&dir, "a.csv", &format!("{HEADER}{table}"));
    write(&dir, "b.changes.jsonl", &events.iter().map(|line| format!("{line}\n")).collect::<String>());
    let loaded = load_paths(&Settings::new("self", vec![dir.path().to_owned()]), now()).expect("loads");
    (loaded.snapshot.clone(), loaded.issues.iter().map(|issue| issue.message.clone()).collect())
}

#[test]
fn life_cycle_events_change_what_they_say() {
    let table = "here.cn,京ICP备2021000001号-1,self,active\nold-a.com,京ICP备10000002号-1,self,active\n\
                 old-b.com,京ICP备10000002号-1,self,active\nelse.com,粤ICP备2020000003号-1,other,active\n";
    let status = |snapshot: &Snapshot, domain: &str| find(snapshot, domain).map(|id| snapshot.facts(id).status);
    let here =
        |snapshot: &Snapshot, domain: &str| find(snapshot, domain).is_some_and(|id| snapshot.facts(id).accessed_here);

    let (s, i) = after(table, &[r#"{"seq":1,"event":"cancel-access","domain":"here.cn","provider":"self"}"#]);
    assert!(i.is_empty() && !here(&s, "here.cn") && status(&s, "here.cn") == Some(Status::Active), "{i:?}");
    let (s, i) = after(table, &[r#"{"event":"add-access","domain":"else.com","provider":"self"}"#]);
    assert!(i.is_empty() && here(&s, "else.com"), "{i:?}");
    let (s, _) = after(table, &[r#"{"event":"deregister-site","domain":"here.cn"}"#]);
    assert_eq!(status(&s, "here.cn"), Some(Status::Cancelled));
    let (s, _) = after(table, &[r#"{"event":"deregister-subject","subject_no":"京ICP备10000002号"}"#]);
    assert_eq!([status(&s, "old-a.com"), status(&s, "old-b.com")], [Some(Status::Cancelled); 2]);
    let (s, i) = after(table, &[r#"{"event":"change","domain":"old-a.com","domains":["old-a.com"],"site_name":"新"}"#]);
    assert!(i.is_empty(), "{i:?}");
    assert_eq!([status(&s, "old-a.com"), status(&s, "old-b.com")], [Some(Status::Active), Some(Status::Cancelled)]);
    let first = r#"{"event":"首次备案","domain":"new.cn","site_no":"沪ICP备2026000001号-1","access":["self"]}"#;
    let next = r#"{"event":"add-site","domain":"new2.cn","site_no":"沪ICP备2026000001号-2","access":["self"]}"#;
    let (s, i) = after(table, &[first, next]);
    assert!(i.is_empty() && here(&s, "new.cn") && here(&s, "new2.cn"), "{i:?}");
    let (s, i) = after(table, &[r#"{"event":"claim","domain":"here.cn","account":"a-1"}"#]);
    assert!(i.is_empty() && here(&s, "here.cn"), "{i:?}");
}

#[test]
fn events_that_break_the_rules_are_refused_and_later_ones_apply() {
    let table = "here.cn,京ICP备2021000001号-1,self,active\n";
    for (event, expected) in [
        (r#"{"event":"cancel-access","domain":"here.cn","provider":"nobody"}"#, "nobody gives no access"),
        (r#"{"event":"add-access","domain":"new.cn","provider":"self"}"#, "new.cn has no filing"),
        (
            r#"{"event":"first-filing","domain":"here.cn","site_no":"京ICP备2021000009号-1","access":["self"]}"#,
            "filed already",
        ),
        (
            r#"{"event":"first-filing","domain":"n.cn","site_no":"京ICP备2021000001号-2","access":["self"]}"#,
            "expected add-site",
        ),
        (
            r#"{"event":"add-site","domain":"n.cn","site_no":"京ICP备2021000009号-2","access":["self"]}"#,
            "expected first-filing",
        ),
        (r#"{"event":"change","domain":"here.cn","domains":["here.cn","n.cn"]}"#, "rule R6d"),
        (r#"{"event":"change","domain":"here.cn","access":["other"]}"#, "does not touch access"),
        (r#"{"event":"deregister-subject","subject_no":"京ICP备2021000007号"}"#, "no filed site"),
        (r#"{"event":"explode","domain":"here.cn"}"#, "unknown event"),
        ("not json", "expected one JSON object"),
    ] {
        let last = r#"{"event":"add-access","domain":"here.cn","provider":"late"}"#;
        let (snapshot, issues) = after(table, &[event, last]);
        assert!(issues.iter().any(|issue| issue.contains(expected)), "{event}: {issues:?}");
        let id = find(&snapshot, "here.cn").expect("the row stays");
        assert!(snapshot.filing(id).access.contains(&"late".to_owned()), "{event}");
    }
}

#[test]
fn an_event_applies_once_and_only_when_its_line_is_whole() {
    let table = "here.cn,京ICP备2021000001号-1,self,active\n";
    let twice = [
        r#"{"seq":1,"event":"cancel-access","domain":"here.cn","provider":"self"}"#,
        r#"{"seq":1,"event":"add-access","domain":"here.cn","provider":"self"}"#,
    ];
    let (snapshot, issues) = after(table, &twice);
    assert!(issues[0].contains("applied already"), "{issues:?}");
    assert!(!snapshot.facts(find(&snapshot, "here.cn").expect("a row")).accessed_here);
    let loaded = load(
        "a.changes.jsonl",
        r#"{"event":"first-filing","domain":"n.cn","site_no":"京ICP备2021000001号-1","access":["self"]}"#,
    );
    assert!(loaded.snapshot.is_empty());
    assert_eq!(loaded.issues[0].severity, Severity::Info);
}

//--- Admission -------------------------------------------------------------------------------------------------------

#[test]
fn a_worse_state_is_refused_and_the_last_good_one_stays() {
    let dir = TempDir::new().expect("a directory");
    let rows: String = (0..20).map(|n| row(&format!("d{n}.cn"), "self")).collect();
    write(&dir, "a.csv", &format!("{HEADER}{rows}"));
    let store = store(&dir);
    assert_eq!(published(store.reload(now(), Shrink::Refuse)).generation(), 1);
    assert!(matches!(store.reload(now(), Shrink::Refuse), ReloadOutcome::Unchanged));

    write(&dir, "a.csv", &format!("{HEADER}{}", row("d1.cn", "self")));
    let reason = refused(store.reload(now(), Shrink::Refuse));
    assert!(reason.contains("19 of 20 filed names would be blocked (95 %"), "{reason}");
    assert_eq!(store.health(), [reason]);
    assert_eq!(store.loaded().expect("the old state").snapshot.len(), 20);
    assert_eq!(published(store.reload(now(), Shrink::Accept)).generation(), 2);
    assert!(store.health().is_empty());

    write(&dir, "a.csv", "domain,access\n\"d1.cn");
    assert!(refused(store.reload(now(), Shrink::Refuse)).contains("middle of a record"));
    fs::remove_file(dir.path().join("a.csv")).expect("removes");
    let reason = refused(store.reload(now(), Shrink::Refuse));
    assert!(reason.contains("no registry file"), "{reason}");
    let reason = refused(Store::new(Settings::new("self", Vec::new())).reload(now(), Shrink::Refuse));
    assert_eq!(reason, "registry.paths is empty; expected files or directories");
    write(&dir, "b.csv", &format!("{HEADER}{}", row("d1.cn", "self")));
    assert!(refused(store.reload(now(), Shrink::Refuse)).contains("a.csv: was loaded and is gone"));
    assert_eq!(store.loaded().expect("the old state").snapshot.generation(), 2);
}

//--- Watching --------------------------------------------------------------------------------------------------------

/// A running reload task over `dir`, with the snapshots it publishes.
struct Running {
    snapshots: tokio::sync::mpsc::UnboundedReceiver<Arc<Snapshot>>,
    _drain: DrainSignal,
    _requests: tokio::sync::mpsc::Sender<reload::ReloadRequest>,
}

impl Running {
    fn start(dir: &Path) -> Self {
        let mut settings = Settings::new("self", vec![dir.to_owned()]);
        settings.poll = Duration::from_secs(3600);
        let store = Arc::new(Store::new(settings));
        assert!(matches!(store.reload(now(), Shrink::Refuse), ReloadOutcome::Published(..)));
        let (sender, snapshots) = tokio::sync::mpsc::unbounded_channel();
        let (drain, watch) = DrainSignal::new();
        let (requests, asked) = tokio::sync::mpsc::channel(1);
        tokio::spawn(reload::run(store, move |snapshot| drop(sender.send(snapshot)), asked, watch));
        Self { snapshots, _drain: drain, _requests: requests }
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Snapshot) -> bool) {
        let seen = async { while !holds(&self.snapshots.recv().await.expect("the task runs")) {} };
        tokio::time::timeout(Duration::from_secs(20), seen).await.expect(what);
    }
}

#[tokio::test]
async fn edits_of_every_kind_are_seen() {
    let dir = TempDir::new().expect("a directory");
    write(&dir, "a.csv", &format!("{HEADER}{}", row("a.cn", "self")));
    let mut running = Running::start(dir.path());
    // The watch is set up by the task: a first edit may come before it, so it is repeated until seen.
    tokio::task::yield_now().await;

    write(&dir, "b.csv.tmp", &format!("{HEADER}{}", row("b.cn", "self")));
    fs::rename(dir.path().join("b.csv.tmp"), dir.path().join("b.csv")).expect("renames");
    running.until("a new file by rename", |s| find(s, "b.cn").is_some()).await;

    write(&dir, "a.csv.tmp", &format!("{HEADER}{}", row("a.cn", "other")));
    fs::rename(dir.path().join("a.csv.tmp"), dir.path().join("a.csv")).expect("renames");
    running.until("rename over", |s| find(s, "a.cn").is_some_and(|id| !s.facts(id).accessed_here)).await;

    write(&dir, "c.changes.jsonl", "");
    let mut changes = fs::OpenOptions::new().append(true).open(dir.path().join("c.changes.jsonl")).expect("opens");
    for (line, expected) in [("self", true), ("x", true)] {
        use std::io::Write;
        writeln!(changes, "{{\"event\":\"add-access\",\"domain\":\"a.cn\",\"provider\":\"{line}\"}}").expect("appends");
        running
            .until("two writes in one second", |s| {
                find(s, "a.cn").is_some_and(|id| s.filing(id).access.iter().any(|id| id == line) == expected)
            })
            .await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_configmap_swap_is_seen() {
    let dir = TempDir::new().expect("a directory");
    for (version, access) in [("v1", "other"), ("v2", "self")] {
        fs::create_dir(dir.path().join(version)).expect("a directory");
        fs::write(dir.path().join(version).join("a.csv"), format!("{HEADER}{}", row("a.cn", access))).expect("writes");
    }
    let at = TempDir::new().expect("a directory");
    let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, at.path().join(name)).expect("links");
    link(&dir.path().join("v1"), "..data");
    link(Path::new("..data/a.csv"), "a.csv");
    let mut running = Running::start(at.path());
    tokio::task::yield_now().await;
    link(&dir.path().join("v2"), "..data_tmp");
    fs::rename(at.path().join("..data_tmp"), at.path().join("..data")).expect("swaps");
    running.until("a symlink swap", |s| find(s, "a.cn").is_some_and(|id| s.facts(id).accessed_here)).await;
}

#[tokio::test]
async fn a_reload_by_hand_answers_what_it_did() {
    let dir = TempDir::new().expect("a directory");
    write(&dir, "a.csv", &format!("{HEADER}{}", row("a.cn", "self")));
    let running = Running::start(dir.path());
    let (answer, answered) = tokio::sync::oneshot::channel();
    let request = reload::ReloadRequest { shrink: Shrink::Refuse, answer };
    running._requests.send(request).await.expect("the task runs");
    assert_eq!(answered.await.expect("an answer"), Ok("registry: unchanged".to_owned()));
    drop(running.snapshots);
    running._drain.advance(Phase::Stopped);
}

//--- Real tables -----------------------------------------------------------------------------------------------------

#[test]
fn the_real_table_has_the_expected_standing_for_every_domain() {
    for (table, expected) in [
        ("registry/registry-100k.csv.zst", "registry/expect-100k.csv.zst"),
        ("registry/registry-100k.jsonl.zst", "registry/expect-100k.csv.zst"),
        ("registry/registry-100k-next.csv.zst", "registry/expect-100k-next.csv.zst"),
    ] {
        let (Some(path), Some(expected)) = (shared::data_path(table), shared::text(expected)) else { return };
        let loaded = load_paths(&Settings::new("self", vec![path]), now()).expect("loads");
        let mut rows = 0;
        for line in expected.lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            let facts = find(&loaded.snapshot, cells[0]).map(|id| loaded.snapshot.facts(id));
            let found = match facts {
                Some(f) if f.status == Status::Active && f.accessed_here => "FILED_HERE",
                Some(f) if f.status == Status::Active && f.access_is_empty => "SHELL",
                Some(f) if f.status == Status::Active => "FILED_ELSEWHERE",
                _ => "UNFILED",
            };
            assert_eq!(found, cells[2], "{table}: {line}");
            rows += 1;
        }
        assert!(rows > 90_000, "{table}: {rows} rows");
    }
}

#[test]
fn a_stray_quote_costs_its_own_row_wherever_it_stands() {
    // More than the longest row stands behind it, so that it is no record that goes on; the last row is whole.
    const ROWS: usize = 30_000;
    for at in [1, 7, ROWS / 3, ROWS / 2, ROWS - 2000] {
        let rows: String = (0..ROWS)
            .map(|n| {
                if n == at {
                    "stray.cn,\"京ICP备2021000001号-1,self,active\n".to_owned()
                } else {
                    row(&format!("d{n}.cn"), "self")
                }
            })
            .collect();
        let loaded = load("a.csv", format!("{HEADER}{rows}"));
        assert_eq!(loaded.snapshot.len(), ROWS - 1, "row {at}");
        assert!(find(&loaded.snapshot, "stray.cn").is_none() && find(&loaded.snapshot, "d0.cn").is_some());
        let said: Vec<String> = loaded.issues.iter().map(|issue| issue.to_string()).collect();
        assert!(
            said.iter().any(|text| text.contains(&format!("{}", at + 2)) && text.contains("a quote opens here")),
            "{said:?}"
        );
    }
    // At the end of the file it may go on: the file is still being written.
    let rows: String = (0..100).map(|n| row(&format!("d{n}.cn"), "self")).collect();
    let said = refusal("a.csv", format!("{HEADER}stray.cn,\"京ICP备2021000001号-1,self,active\n{rows}"));
    assert!(said.contains("middle of a record"), "{said}");
}
