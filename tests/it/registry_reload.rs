//! Incremental reloads say what a full load says, whatever was edited.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use icpgate::model::Day;
use icpgate::registry::diff::{Diff, diff_on};
use icpgate::registry::{Loaded, ReloadOutcome, Settings, Shrink, Store, load_paths};
use proptest::prelude::*;
use tempfile::TempDir;

use super::harness::fixture::TODAY;

const HEADER: &str = "domain,site_no,subject_no,access,status,updated_on,expires_on,site_name\n";

fn now() -> SystemTime {
    Day::parse(TODAY).expect("a day").begins_at() + Duration::from_secs(3600)
}

fn settings(dir: &Path) -> Settings {
    Settings { max_bad_rows: 10_000, max_shrink_percent: 100, ..Settings::new("self", vec![dir.to_owned()]) }
}

/// Everything that a loaded state shows, in one order.
fn shown(loaded: &Loaded) -> (Vec<String>, Vec<String>, Vec<String>, String) {
    let mut rows: Vec<String> = loaded.snapshot.rows().map(|row| format!("{row:?}")).collect();
    rows.sort();
    let found = loaded.snapshot.rows().map(|row| {
        let id = loaded.snapshot.find(row.domain.as_ref()).expect("a row that is listed is found");
        format!("{} {:?}", row.domain, loaded.snapshot.facts(id))
    });
    let mut found: Vec<String> = found.collect();
    found.sort();
    let issues = loaded.issues.iter().map(ToString::to_string).collect();
    let figures = format!(
        "{:?} {} {:?}",
        loaded.snapshot.rows_by_status(),
        loaded.digest,
        loaded.files.iter().map(|file| (file.rows, file.bad_rows)).collect::<Vec<_>>()
    );
    (rows, found, issues, figures)
}

/// One edit of one file.
#[derive(Clone, Debug)]
enum Edit {
    Append(usize, String),
    Delete(usize, usize),
    Event(usize),
    Insert(usize, usize, String),
    Move(usize, usize),
    Remove(usize),
    Repeat(usize, usize),
    RewriteEvents,
}

fn line() -> impl Strategy<Value = String> {
    (0..60u32, 0..12u32, 0..5usize, 0..6usize, 0..3usize, 0..10usize).prop_map(
        |(domain, site, access, status, day, odd)| {
            let access = ["self", "other", "self;other", "", "third"][access];
            let status = ["active", "", "pending", "cancelled", "expired", "nonsense"][status];
            let day = ["", "2026-01-01", "2026-02-01"][day];
            let subject = site / 3 + 1;
            let name = match odd {
                0 => "\"quoted, and\nof two lines\"",
                1 => "文字",
                _ => "",
            };
            let number = if odd == 2 {
                "川ICP备10000001号-1".to_owned()
            } else {
                format!("京ICP备202100000{subject}号-{}", site + 1)
            };
            let main = if odd == 3 { String::new() } else { number.split('-').next().unwrap_or("").to_owned() };
            format!("d{domain}.cn,{number},{main},{access},{status},{day},2030-01-01,{name}\n")
        },
    )
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (0..2usize, line()).prop_map(|(file, line)| Edit::Append(file, line)),
        (0..2usize, any::<usize>()).prop_map(|(file, at)| Edit::Delete(file, at)),
        any::<usize>().prop_map(Edit::Event),
        any::<usize>().prop_map(Edit::Event),
        (0..2usize, any::<usize>(), line()).prop_map(|(file, at, line)| Edit::Insert(file, at, line)),
        (0..2usize, any::<usize>()).prop_map(|(file, at)| Edit::Move(file, at)),
        (0..2usize).prop_map(Edit::Remove),
        (0..2usize, any::<usize>()).prop_map(|(file, at)| Edit::Repeat(file, at)),
        Just(Edit::RewriteEvents),
    ]
}

/// The n-th of some events over the domains that rows use.
fn event(n: usize, seq: usize) -> String {
    let (domain, subject) = (n / 8 % 70, n / 8 % 5 + 1);
    match n % 8 {
        0 => format!(r#"{{"event":"cancel-access","domain":"d{domain}.cn","provider":"self"}}"#),
        1 => format!(r#"{{"event":"add-access","domain":"d{domain}.cn","provider":"self"}}"#),
        2 => format!(r#"{{"event":"deregister-site","domain":"d{domain}.cn"}}"#),
        3 => format!(r#"{{"event":"deregister-subject","subject_no":"京ICP备202100000{subject}号"}}"#),
        4 => format!(
            r#"{{"event":"first-filing","domain":"d{domain}.cn","site_no":"沪ICP备202600000{subject}号-1","access":["self"]}}"#
        ),
        5 => format!(
            r#"{{"event":"add-site","domain":"d{domain}.cn","site_no":"京ICP备202100000{subject}号-{n}","access":["self"]}}"#
        ),
        6 => format!(r#"{{"event":"change","domain":"d{domain}.cn","site_name":"n{n}"}}"#),
        _ => format!(r#"{{"seq":{seq},"event":"claim","domain":"d{domain}.cn","account":"a{n}"}}"#),
    }
}

/// The files as lines, so that edits are easy.
struct Files {
    tables: [Vec<String>; 2],
    events: Vec<String>,
    /// Lines with quotes are left out, so that every line is a record.
    is_plain: bool,
}

impl Files {
    fn apply(&mut self, edit: &Edit) {
        let place = |lines: &Vec<String>, at: usize| at % (lines.len() + 1);
        match edit {
            Edit::Append(file, line) => self.tables[*file].push(line.clone()),
            Edit::Delete(file, at) => {
                let at = place(&self.tables[*file], *at);
                self.tables[*file].drain(at..(at + 1).min(self.tables[*file].len()));
            }
            Edit::Event(n) => self.events.push(event(*n, self.events.len() + 1) + "\n"),
            Edit::Insert(file, at, line) => {
                let at = place(&self.tables[*file], *at);
                self.tables[*file].insert(at, line.clone());
            }
            Edit::Move(file, at) => {
                let at = place(&self.tables[*file], *at);
                self.tables[*file].rotate_left(at);
            }
            Edit::Remove(file) => self.tables[*file].clear(),
            Edit::Repeat(file, at) => {
                let lines = &mut self.tables[*file];
                let from = place(lines, *at);
                let again = lines[from..(from + 20).min(lines.len())].to_vec();
                lines.extend(again);
            }
            Edit::RewriteEvents => self.events.reverse(),
        }
    }

    fn write(&self, dir: &Path) {
        let text = |lines: &[String]| {
            let kept = lines.iter().filter(|line| !self.is_plain || !line.contains('"'));
            kept.fold(HEADER.to_owned(), |text, line| text + line)
        };
        fs::write(dir.join("a.csv"), text(&self.tables[0])).expect("writes");
        fs::write(dir.join("b.csv"), text(&self.tables[1])).expect("writes");
        let path = dir.join("c.changes.jsonl");
        let events = self.events.concat();
        match fs::read_to_string(&path) {
            // Growth is appended, as writers of events do.
            Ok(old) if events.starts_with(&old) => {
                use std::io::Write;
                let mut file = fs::OpenOptions::new().append(true).open(&path).expect("opens");
                file.write_all(&events.as_bytes()[old.len()..]).expect("appends");
            }
            _ => fs::write(&path, events).expect("writes"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn an_incremental_reload_says_what_a_full_load_says(
        tables in [proptest::collection::vec(line(), 0..120), proptest::collection::vec(line(), 0..30)],
        edits in proptest::collection::vec((edit(), any::<bool>(), 0..3u8), 1..14),
        moves_out in any::<bool>(),
        is_plain in any::<bool>(),
    ) {
        let dir = TempDir::new().expect("a directory");
        let mut files = Files { tables, events: Vec::new(), is_plain };
        files.write(dir.path());
        let settings = settings(dir.path());
        let moved_out_from = if moves_out { 0 } else { usize::MAX };
        let store = Store::new(Settings { moved_out_from, ..settings.clone() });
        store.reload(now(), Shrink::Accept);
        for (edit, by_stamp, tidies) in edits {
            files.apply(&edit);
            files.write(dir.path());
            let outcome = if by_stamp { store.reload_changed(now()) } else { store.reload(now(), Shrink::Accept) };
            prop_assert!(!matches!(outcome, ReloadOutcome::Refused(_)), "{edit:?}: {outcome:?}");
            if tidies == 0 {
                store.tidy_always().expect("a state to tidy");
            }
            let full = load_paths(&settings, now()).expect("loads");
            let (incremental, full) = (shown(&store.loaded().expect("a state")), shown(&full));
            prop_assert_eq!(&incremental.0, &full.0, "rows after {:?}", edit);
            prop_assert_eq!(&incremental.1, &full.1, "look-ups after {:?}", edit);
            prop_assert_eq!(&incremental.2, &full.2, "findings after {:?}", edit);
            prop_assert_eq!(&incremental.3, &full.3, "figures after {:?}", edit);
        }
    }
}

/// A table of `rows` domains; `change` gives what stands behind domain `n`, or nothing to leave it out.
fn write_large(dir: &Path, rows: usize, change: impl Fn(usize) -> Option<&'static str>) {
    let lines = (0..rows).filter_map(|n| Some(format!("large{n}.cn,京ICP备2021{n:06}号-1,,{}\n", change(n)?)));
    fs::write(dir.join("a.csv"), format!("domain,site_no,subject_no,access,site_name\n{}", lines.collect::<String>()))
        .expect("writes");
}

#[test]
fn a_whole_table_replaced_says_what_a_full_load_says() {
    const ROWS: usize = 9000;
    let dir = TempDir::new().expect("a directory");
    let rest = "large7.cn,京ICP备2021000007号-1,,other,behind the others\nlarge8.cn,京ICP备2021000008号-1,,self,kept\n";
    fs::write(dir.path().join("b.csv"), format!("domain,site_no,subject_no,access,site_name\n{rest}")).expect("writes");
    write_large(dir.path(), ROWS, |_| Some("self,old"));
    let settings = settings(dir.path());
    let store = Store::new(Settings { moved_out_from: 0, ..settings.clone() });
    assert!(matches!(store.reload(now(), Shrink::Accept), ReloadOutcome::Published(..)));
    let rounds: [fn(usize) -> Option<&'static str>; 4] = [
        |n| (n % 10 != 0).then_some(if n % 2 == 0 { "self,new" } else { "other,new" }),
        |n| (n % 3 != 0).then_some("self,third"),
        |_| Some("self,old"),
        |n| Some(if n < ROWS / 2 { "self,old" } else { "other,half" }),
    ];
    for round in rounds {
        let before = store.loaded().expect("a state");
        write_large(dir.path(), ROWS, round);
        let ReloadOutcome::Published(snapshot, found) = store.reload(now(), Shrink::Accept) else {
            panic!("it is published")
        };
        let full = load_paths(&settings, now()).expect("loads");
        assert_eq!(shown(&store.loaded().expect("a state")), shown(&full));
        let expected = diff_on(&before.snapshot, &full.snapshot, Day::at(now()));
        let figures = |diff: &Diff| {
            let Diff { changes, added, changed, removed, blocked, lost, released } = diff;
            let changes: Vec<String> = changes.iter().map(|change| format!("{change:?}")).collect();
            (changes, [*added, *changed, *removed, *blocked, *lost, *released])
        };
        assert_eq!(figures(&found), figures(&expected));
        assert!(store.is_untidy(), "some rows are in a file");
        let tidied = store.tidy().expect("something to tidy");
        assert!(tidied.generation() > snapshot.generation() && !store.is_untidy());
        assert_eq!(shown(&store.loaded().expect("a state")), shown(&full));
    }
}

#[test]
fn a_replacement_that_is_refused_leaves_every_row_readable() {
    let dir = TempDir::new().expect("a directory");
    write_large(dir.path(), 9000, |_| Some("self,old"));
    let settings = Settings { max_shrink_percent: 10, ..settings(dir.path()) };
    let store = Store::new(Settings { moved_out_from: 0, ..settings.clone() });
    assert!(matches!(store.reload(now(), Shrink::Refuse), ReloadOutcome::Published(..)));
    let good = shown(&store.loaded().expect("a state"));
    write_large(dir.path(), 9000, |n| (n % 2 == 0).then_some("self,new"));
    assert!(matches!(store.reload(now(), Shrink::Refuse), ReloadOutcome::Refused(_)));
    assert_eq!(shown(&store.loaded().expect("a state")), good);
    store.tidy().expect("rows to bring back into memory");
    assert_eq!(shown(&store.loaded().expect("a state")), good);
    assert!(!store.is_untidy());
}
