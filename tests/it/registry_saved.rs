//! The registry's snapshot file: written whole or not at all, taken when it fits, refused with the reason when it does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use icpgate::model::Day;
use icpgate::registry::saved::{self, Circumstances};
use icpgate::registry::{Loaded, ReloadOutcome, Settings, Shrink, Store};
use tempfile::TempDir;

use super::harness::fixture::{TODAY, name};

const HEADER: &str = "domain,site_no,access,status,updated_on,site_name\n";
/// Where a child process is to write, over and over, until it is killed.
const WRITE_TO: &str = "ICPGATE_TEST_WRITE_TO";
/// How often a writer is killed.
const KILLS: u64 = 200;

fn now() -> SystemTime {
    Day::parse(TODAY).expect("a day").begins_at() + Duration::from_secs(3600)
}

fn settings(dir: &Path) -> Settings {
    let snapshot = Some(dir.join("state/registry.snap"));
    Settings { snapshot, max_shrink_percent: 100, ..Settings::new("self", vec![dir.join("tables")]) }
}

fn tables() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    fs::create_dir(dir.path().join("tables")).expect("a directory");
    fs::create_dir(dir.path().join("state")).expect("a directory");
    let rows: String = (0..3000).map(row).collect();
    fs::write(dir.path().join("tables/a.csv"), format!("{HEADER}{rows}bad domain,,self,active,,\n")).expect("writes");
    let toml = "[[filing]]\ndomain = \"d7.cn\"\nsite_no = \"京ICP备2021000001号-9\"\naccess = [\"other\"]\n";
    fs::write(dir.path().join("tables/b.toml"), toml).expect("writes");
    let event = r#"{"seq":3,"event":"cancel-access","domain":"d9.cn","provider":"self"}"#;
    fs::write(dir.path().join("tables/c.changes.jsonl"), format!("{event}\n{{\"half\":")).expect("writes");
    dir
}

fn row(n: u32) -> String {
    format!("d{n}.cn,京ICP备2021{n:06}号-1,self;other,active,2026-01-02,网站\n")
}

fn shown(loaded: &Loaded) -> (Vec<String>, Vec<String>, u64) {
    let mut rows: Vec<String> = loaded.snapshot.rows().map(|row| format!("{row:?}")).collect();
    rows.sort();
    (rows, loaded.issues.iter().map(ToString::to_string).collect(), loaded.digest)
}

fn loaded(store: &Store) -> std::sync::Arc<Loaded> {
    store.loaded().expect("a state")
}

fn saved_store(dir: &Path) -> Store {
    let store = Store::new(settings(dir));
    assert!(matches!(store.reload(now(), Shrink::Refuse), ReloadOutcome::Published(..)));
    assert!(store.save().expect("writes") && !store.save().expect("nothing new"));
    store
}

#[test]
fn a_start_from_the_file_says_what_the_tables_say() {
    let dir = tables();
    let before = saved_store(dir.path());
    let store = Store::new(settings(dir.path()));
    assert!(matches!(store.reload(now(), Shrink::Refuse), ReloadOutcome::Published(..)));
    assert!(store.is_unverified(), "the file was not used");
    assert_eq!(shown(&loaded(&store)), shown(&loaded(&before)));
    assert!(matches!(store.reload(now(), Shrink::Refuse), ReloadOutcome::Unchanged));
    assert!(!store.is_unverified());
}

#[test]
fn what_changed_since_is_seen_before_the_first_verdict() {
    let dir = tables();
    saved_store(dir.path());
    let table = dir.path().join("tables/a.csv");
    let text = fs::read_to_string(&table).expect("text").replace("d5.cn,", "new5.cn,");
    fs::write(&table, text).expect("writes");
    let line = r#"{"seq":4,"event":"deregister-site","domain":"d11.cn"}"#;
    fs::write(dir.path().join("tables/d.changes.jsonl"), format!("{line}\n")).expect("writes");
    let store = Store::new(settings(dir.path()));
    assert!(matches!(store.reload(now(), Shrink::Refuse), ReloadOutcome::Published(..)));
    assert!(store.is_unverified(), "the file was not used");
    let full = Store::new(Settings { snapshot: None, ..settings(dir.path()) });
    full.reload(now(), Shrink::Refuse);
    assert_eq!(shown(&loaded(&store)), shown(&loaded(&full)));
    let snapshot = loaded(&store).snapshot.clone();
    assert!(snapshot.find(name("d5.cn").as_ref()).is_none() && snapshot.find(name("new5.cn").as_ref()).is_some());
}

#[test]
fn a_file_that_does_not_fit_is_refused_and_the_tables_are_loaded() {
    let dir = tables();
    let before = saved_store(dir.path());
    let file = dir.path().join("state/registry.snap");
    let whole = fs::read(&file).expect("octets");
    let ours = Circumstances { provider: "self".to_owned(), encoding: "utf-8", suffix_hash: 0, year: 2026 };
    assert!(saved::read(&file, &ours).is_ok());
    for (octets, other, expected) in [
        (b"domain,access\n".to_vec(), ours.clone(), "is no registry snapshot"),
        (Vec::new(), ours.clone(), "is no registry snapshot"),
        (whole[..whole.len() - 1].to_vec(), ours.clone(), "shorter than its sections"),
        (whole[..100].to_vec(), ours.clone(), "cut"),
        (
            whole.clone(),
            Circumstances { provider: "other".to_owned(), ..ours.clone() },
            "for provider self; expected other",
        ),
        (whole.clone(), Circumstances { year: 2027, ..ours.clone() }, "for year 2026; expected 2027"),
    ] {
        fs::write(&file, octets).expect("writes");
        let error = saved::read(&file, &other).err().expect(expected).to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    fs::write(&file, &whole[..whole.len() / 2]).expect("writes");
    let store = Store::new(settings(dir.path()));
    store.reload(now(), Shrink::Refuse);
    assert!(!store.is_unverified());
    assert_eq!(shown(&loaded(&store)), shown(&loaded(&before)));
}

#[test]
fn no_damage_goes_unnoticed() {
    let dir = tables();
    saved_store(dir.path());
    let file = dir.path().join("state/registry.snap");
    let ours = Circumstances { provider: "self".to_owned(), encoding: "utf-8", suffix_hash: 0, year: 2026 };
    let mut octets = fs::read(&file).expect("octets");
    let step = octets.len() / 150;
    for at in (0..octets.len()).step_by(step) {
        octets[at] ^= 1 << (at % 8);
        fs::write(&file, &octets).expect("writes");
        assert!(saved::read(&file, &ours).is_err(), "octet {at} of {}", octets.len());
        octets[at] ^= 1 << (at % 8);
    }
}

//--- Kill -9 ---------------------------------------------------------------------------------------------------------

/// Runs in a child process of [`a_killed_writer_leaves_a_whole_file`]; by itself it has nothing to do.
#[test]
fn writes_until_killed() {
    let Some(dir) = std::env::var_os(WRITE_TO).map(PathBuf::from) else { return };
    let store = Store::new(Settings { snapshot: None, ..settings(&dir) });
    store.reload(now(), Shrink::Refuse);
    let file = dir.join("state/registry.snap");
    loop {
        // Another state each time, so that each is written.
        store.tidy_always().expect("a state");
        store.save_as(&file).expect("writes");
        fs::write(dir.join("state/ready"), b"").expect("writes");
    }
}

#[test]
fn a_killed_writer_leaves_a_whole_file() {
    let dir = tables();
    let program = std::env::current_exe().expect("a path");
    let full = Store::new(Settings { snapshot: None, ..settings(dir.path()) });
    full.reload(now(), Shrink::Refuse);
    let expected = shown(&loaded(&full));
    let ready = dir.path().join("state/ready");
    for n in 0..KILLS {
        let _ = fs::remove_file(&ready);
        let mut child = Command::new(&program)
            .args(["--exact", "registry_saved::writes_until_killed"])
            .env(WRITE_TO, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !ready.exists() {
            assert!(Instant::now() < deadline, "the writer writes");
            std::thread::yield_now();
        }
        // Somewhere in one of the next writes.
        let kill_at = Instant::now() + Duration::from_micros(n * 7919 % 30_000);
        while Instant::now() < kill_at {
            std::thread::yield_now();
        }
        child.kill().expect("kills");
        child.wait().expect("ends");
        if n % 10 == 0 {
            let store = Store::new(settings(dir.path()));
            store.reload(now(), Shrink::Refuse);
            assert!(store.is_unverified(), "the file was refused after kill {n}");
            assert_eq!(shown(&loaded(&store)), expected, "after kill {n}");
        } else {
            let ours = Circumstances { provider: "self".to_owned(), encoding: "utf-8", suffix_hash: 0, year: 2026 };
            saved::read(&dir.path().join("state/registry.snap"), &ours).expect("a whole file");
        }
    }
    let left = fs::read_dir(dir.path().join("state")).expect("a directory").count();
    assert!(left <= 4, "{left} files are left beside the snapshot");
}
