//! The journal that rotates itself and carries a hash chain: every edit of it is found, and nothing else is.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use icpgate::ops::journal::chain::{Hash, Head, Link};
use icpgate::ops::journal::verify::{Options, Report, Source, verify};
use icpgate::ops::{JournalWhat, Rotation};
use proptest::prelude::*;
use tempfile::TempDir;

use super::harness::app::App;
use super::harness::program::icpgate;

const UNFILED: &str = "www.unfiled.example";

//--- Verification ----------------------------------------------------------------------------------------------------

/// A chain over files of so many verdicts each, every file with its head.
fn written(files: &[usize]) -> (Vec<Vec<u8>>, Hash) {
    let mut link = Link::START;
    let mut res = Vec::new();
    for (number, &lines) in files.iter().enumerate() {
        let head = Head::new(format!("2026-11-2{number}T00:00:00.000Z"), link, None).json();
        let verdicts =
            (0..lines).map(|line| format!(r#"{{"name":"d{line}.example","addresses":["203.0.113.{number}"]}}"#));
        let mut file = String::new();
        for mut line in std::iter::once(head).chain(verdicts) {
            link.seal(&mut line);
            file.push_str(&line);
            file.push('\n');
        }
        res.push(file.into_bytes());
    }
    (res, link.hash)
}

fn check(files: &[Vec<u8>], holds: Option<Hash>) -> Report {
    let mut inputs: Vec<BufReader<&[u8]>> = files.iter().map(|file| BufReader::new(file.as_slice())).collect();
    let mut sources: Vec<Source<'_>> =
        inputs.iter_mut().enumerate().map(|(at, input)| Source { name: at.to_string(), input }).collect();
    verify(&mut sources, &Options { holds }).expect("memory can be read")
}

/// Findings as `file:line kind`.
fn told(report: &Report) -> Vec<String> {
    let told = report.findings.iter();
    told.map(|found| format!("{}:{} {}", found.at.file, found.at.line, found.kind.label())).collect()
}

fn lines(file: &[u8]) -> Vec<Vec<u8>> {
    file.split_inclusive(|&octet| octet == b'\n').map(<[u8]>::to_vec).collect()
}

/// What a table row does to the lines of the second of three files.
type Edit = fn(&mut Vec<Vec<u8>>);

#[test]
fn edits_are_told_by_kind_and_line() {
    let table: [(&str, Edit, &[&str]); 16] = [
        ("nothing", |_| {}, &[]),
        ("a byte of a name", |lines| lines[4][12] ^= 1, &["1:5 changed"]),
        ("a byte of a head", |lines| lines[0][12] ^= 1, &["1:1 changed"]),
        ("a digit of a hash", |lines| flip_hash(&mut lines[4]), &["1:5 changed"]),
        ("a hash that is none", |lines| *lines[4].iter_mut().nth_back(5).expect("long") = b'x', &["1:5 changed"]),
        ("a number", |lines| lines[4] = renumbered(&lines[4], "99"), &["1:5 changed"]),
        ("a line removed", |lines| drop(lines.remove(4)), &["1:5 removed"]),
        ("a head removed", |lines| drop(lines.remove(0)), &["1:1 removed"]),
        ("the last of a file removed", |lines| drop(lines.pop()), &["2:1 removed"]),
        ("three removed", |lines| drop(lines.drain(4..7)), &["1:5 removed"]),
        ("a line inserted", |lines| lines.insert(4, b"{\"name\":\"x\"}\n".to_vec()), &["1:5 inserted"]),
        ("a line doubled", |lines| lines.insert(4, lines[2].clone()), &["1:5 inserted"]),
        ("neighbours swapped", |lines| lines.swap(4, 5), &["1:5 reordered"]),
        (
            "a line moved down",
            |lines| {
                let line = lines.remove(2);
                lines.insert(7, line);
            },
            &["1:8 reordered"],
        ),
        ("a line feed gone", |lines| lines[4].retain(|octet| *octet != b'\n'), &["1:5 removed"]),
        (
            "cut off within a line",
            |lines| {
                lines.truncate(8);
                lines[7].truncate(20);
            },
            &["1:8 changed", "1:8 removed", "1:8 cut_off"],
        ),
    ];
    for (what, edit, expected) in table {
        let (mut files, last) = written(&[9, 9, 9]);
        let mut edited = lines(&files[1]);
        edit(&mut edited);
        files[1] = edited.concat();
        let report = check(&files, Some(last));
        assert_eq!(told(&report), expected, "{what}: {:?}", report.findings);
    }
}

fn flip_hash(line: &mut [u8]) {
    let at = line.len() - 10;
    line[at] = if line[at] == b'0' { b'1' } else { b'0' };
}

fn renumbered(line: &[u8], number: &str) -> Vec<u8> {
    let text = String::from_utf8(line.to_vec()).expect("text");
    let (before, after) = text.split_once("\"seq\":").expect("a number");
    let (_, hash) = after.split_once(',').expect("a hash");
    format!("{before}\"seq\":{number},{hash}").into_bytes()
}

#[test]
fn what_is_cut_off_the_end_is_found_by_a_hash_noted_elsewhere() {
    let (mut files, last) = written(&[5, 5]);
    assert!(told(&check(&files, Some(last))).is_empty());
    let mut kept = lines(&files[1]);
    kept.truncate(3);
    files[1] = kept.concat();
    assert_eq!(told(&check(&files, None)), Vec::<String>::new(), "nothing in the files tells it");
    assert_eq!(told(&check(&files, Some(last))), ["1:3 missing"]);
}

#[test]
fn files_that_were_dropped_by_rotation_are_not_missed() {
    let (files, last) = written(&[5, 5, 5]);
    let report = check(&files[1..], Some(last));
    assert!(report.findings.is_empty() && report.files[0].first_seq == Some(7), "{:?}", report.findings);
    assert_eq!(told(&check(&[files[0].clone(), files[2].clone()], None)), ["1:1 removed"], "but one in between is");
}

#[test]
fn another_chain_and_no_chain_are_told() {
    let ((mut files, _), (other, _)) = (written(&[4]), written(&[4]));
    files.push([&other[0][..200], b"\n"].concat());
    assert_eq!(told(&check(&files, None)), ["1:1 changed"]);
    files[1].clone_from(&other[0]);
    assert_eq!(told(&check(&files, None)), ["1:1 restarted"]);
    assert_eq!(told(&check(&[b"{\"a\":1}\n{\"b\":1}\n".to_vec()], None)), ["0:1 changed"]);
    assert_eq!(told(&check(&[Vec::new()], None)), ["0:1 removed"]);
}

/// One edit, by positions that are taken modulo what there is.
#[derive(Clone, Debug)]
enum Change {
    Byte(usize, u8),
    Insert(usize, Insertion),
    Remove(usize),
    Swap(usize, usize),
    Truncate(usize),
}

#[derive(Clone, Debug)]
enum Insertion {
    Copy(usize),
    Octets(Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let insertion = prop_oneof![
        any::<usize>().prop_map(Insertion::Copy),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Insertion::Octets)
    ];
    prop_oneof![
        4 => (any::<usize>(), 1..=255_u8).prop_map(|(at, bits)| Change::Byte(at, bits)),
        2 => (any::<usize>(), insertion).prop_map(|(at, what)| Change::Insert(at, what)),
        1 => any::<usize>().prop_map(Change::Remove),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Change::Swap(a, b)),
        1 => any::<usize>().prop_map(Change::Truncate),
    ]
}

/// Applies `change` to one file.
fn apply(file: &[u8], change: &Change) -> Vec<u8> {
    let (mut octets, mut lines) = (file.to_vec(), lines(file));
    let count = lines.len();
    match change {
        Change::Byte(at, bits) => octets[at % file.len()] ^= bits,
        Change::Truncate(at) => octets.truncate(at % file.len()),
        Change::Insert(at, what) => {
            let line = match what {
                Insertion::Copy(from) => lines[from % count].clone(),
                Insertion::Octets(octets) => [octets, b"\n".as_slice()].concat(),
            };
            lines.insert(at % (count + 1), line);
            octets = lines.concat();
        }
        Change::Remove(at) => {
            lines.remove(at % count);
            octets = lines.concat();
        }
        Change::Swap(a, b) => {
            lines.swap(a % count, b % count);
            octets = lines.concat();
        }
    }
    octets
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_single_edit_is_found(sizes in prop::collection::vec(0..12_usize, 1..4), at in any::<usize>(), change in change()) {
        let (mut files, last) = written(&sizes);
        prop_assert!(told(&check(&files, Some(last))).is_empty());
        let at = at % files.len();
        let edited = apply(&files[at], &change);
        prop_assume!(edited != files[at]);
        files[at] = edited;
        prop_assert!(!told(&check(&files, Some(last))).is_empty());
    }
}

//--- Written by a gate -----------------------------------------------------------------------------------------------

/// A gate with a chained journal at `path`.
async fn gate(path: &Path, rotation: Option<Rotation>) -> App {
    App::with(|config, _| {
        config.journal.path = Some(path.to_owned());
        config.journal.what = JournalWhat::All;
        config.journal.is_chained = true;
        config.journal.rotation = rotation;
    })
    .await
}

/// Asks so often, each time as another verdict of the journal.
async fn ask(app: &App, times: usize) {
    for _ in 0..times {
        app.ask(UNFILED, "A").await;
    }
}

fn read(paths: &[PathBuf]) -> Vec<Vec<u8>> {
    paths.iter().map(|path| fs::read(path).expect("a journal")).collect()
}

fn verdicts(files: &[Vec<u8>]) -> usize {
    files.iter().map(|file| String::from_utf8_lossy(file).matches("\"action\":").count()).sum()
}

#[tokio::test]
async fn a_chain_goes_on_after_a_restart_and_a_rename() {
    let dir = TempDir::new().expect("a directory");
    let (path, renamed) = (dir.path().join("journal.jsonl"), dir.path().join("journal.jsonl.1"));
    let app = gate(&path, None).await;
    ask(&app, 3).await;
    app.drain().await;
    let app = gate(&path, None).await;
    ask(&app, 2).await;
    app.until("five lines", async |_| (verdicts(&read(std::slice::from_ref(&path))) == 5).then_some(())).await;
    fs::rename(&path, &renamed).expect("a rename");
    app.post("/v1/reload").await;
    app.until("the new file", async |_| path.exists().then_some(())).await;
    ask(&app, 2).await;
    assert!(app.metric("icpgate_journal_sequence").await >= 6.0);
    app.drain().await;
    // Gone for good: it goes on from the one before.
    let files = read(&[renamed.clone(), path.clone()]);
    let report = check(&files, None);
    assert!(report.findings.is_empty() && report.notes.is_empty(), "{:?}", report.findings);
    assert_eq!((verdicts(&files), report.last.expect("a chain").seq), (7, 9));
    fs::remove_file(&path).expect("removes");
    gate(&path, None).await.drain().await;
    assert!(check(&read(&[renamed, path]), None).findings.is_empty());
}

#[tokio::test]
async fn a_torn_last_line_is_noted_and_not_hidden() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("journal.jsonl");
    let app = gate(&path, None).await;
    ask(&app, 3).await;
    app.drain().await;
    let whole = fs::read(&path).expect("a journal");
    // As a process leaves it that was killed within a write.
    let torn = [&whole[..], br#"{"time":"2026-11-24T04:00"#].concat();
    assert_eq!(told(&check(std::slice::from_ref(&torn), None)), ["0:5 cut_off"], "before the next start");
    fs::write(&path, &torn).expect("writes");
    let app = gate(&path, None).await;
    ask(&app, 1).await;
    app.drain().await;
    let files = read(std::slice::from_ref(&path));
    let report = check(&files, None);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.notes.len(), report.notes[0].at.line), (1, 5));
    let mut edited = files[0].clone();
    edited[whole.len() + 3] ^= 1;
    assert!(!check(&[edited], None).findings.is_empty(), "what is torn cannot be edited either");
    // A line that lacks its line feed alone is whole.
    fs::write(&path, &whole[..whole.len() - 1]).expect("writes");
    gate(&path, None).await.drain().await;
    assert_eq!(fs::read(&path).expect("a journal"), whole);
}

#[tokio::test]
async fn a_journal_without_a_chain_may_get_one() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("journal.jsonl");
    fs::write(&path, "{\"action\":\"block\"}\n{\"action\":\"blo").expect("writes");
    let app = gate(&path, None).await;
    ask(&app, 2).await;
    app.drain().await;
    let file = fs::read(&path).expect("a journal");
    let report = check(std::slice::from_ref(&file), None);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.notes.len(), report.files[0].first_seq), (1, Some(1)));
    assert_eq!(told(&check(&[[b"\n", &file[..]].concat()], None)), ["0:1 inserted"]);
}

#[tokio::test]
async fn a_journal_is_rotated_by_its_size() {
    for is_chained in [false, true] {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("journal.jsonl");
        let rotation = Some(Rotation { octets: 4096, keep: 2 });
        let app = App::with(|config, _| {
            config.journal.path = Some(path.clone());
            config.journal.rotation = rotation;
            config.journal.is_chained = is_chained;
        })
        .await;
        ask(&app, 60).await;
        app.until("rotations", async |app| (app.metric("icpgate_journal_rotations_total").await >= 3.0).then_some(()))
            .await;
        app.drain().await;
        let mut names: Vec<String> = fs::read_dir(&dir)
            .expect("lists")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        assert_eq!(names, ["journal.jsonl", "journal.jsonl.1", "journal.jsonl.2"]);
        let files = read(&[2, 1].map(|number| dir.path().join(format!("journal.jsonl.{number}"))));
        assert!(files.iter().all(|file| file.len() <= 4096 && file.ends_with(b"\n")));
        if is_chained {
            let report = check(&[files, read(&[path])].concat(), None);
            assert!(report.findings.is_empty(), "{:?}", report.findings);
        }
    }
}

#[tokio::test]
async fn two_gates_write_one_chain() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("journal.jsonl");
    let rotation = Some(Rotation { octets: 16 << 10, keep: 100 });
    let (one, other) = tokio::join!(gate(&path, rotation), gate(&path, rotation));
    tokio::join!(ask(&one, 60), ask(&other, 60));
    tokio::join!(one.drain(), other.drain());
    let numbers =
        (1..).map(|number| dir.path().join(format!("journal.jsonl.{number}"))).take_while(|path| path.exists());
    let mut paths: Vec<PathBuf> = numbers.collect();
    paths.reverse();
    paths.push(path);
    let files = read(&paths);
    let report = check(&files, None);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(verdicts(&files), 120);
}

#[tokio::test]
async fn a_rotation_that_fails_loses_no_line() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("journal.jsonl");
    // A directory that is not empty stands where the file is to go.
    fs::create_dir_all(dir.path().join("journal.jsonl.1/x")).expect("a directory");
    let app = gate(&path, Some(Rotation { octets: 4096, keep: 1 })).await;
    ask(&app, 30).await;
    app.until("an error counted", async |app| (app.metric("icpgate_journal_errors_total").await >= 1.0).then_some(()))
        .await;
    app.drain().await;
    let files = read(&[path]);
    assert_eq!(verdicts(&files), 30);
    assert!(check(&files, None).findings.is_empty());
}

//--- The command -----------------------------------------------------------------------------------------------------

#[test]
fn verify_tells_by_its_exit_status() {
    let dir = TempDir::new().expect("a directory");
    let (files, last) = written(&[4, 4]);
    let [old, new] = ["j.jsonl.1", "j.jsonl"].map(|name| dir.path().join(name).display().to_string());
    fs::write(&old, &files[0]).expect("writes");
    fs::write(&new, &files[1]).expect("writes");
    // In the order a shell lists them.
    let whole = icpgate(&["journal", "verify", &new, &old]);
    whole.expect(0, &["numbers 1 to 5: whole", "numbers 6 to 10: whole", "last line: number 10", "0 findings"]);
    icpgate(&["journal", "verify", "--holds", &last.to_string(), &new, &old, &new]).expect(0, &["0 findings"]);
    icpgate(&["journal", "verify", "--holds", "12", &new]).expect(2, &["64 hexadecimal digits"]);
    icpgate(&["journal", "verify", "--holds", &"0".repeat(64), &new]).expect(1, &["missing"]);
    icpgate(&["journal", "verify", &format!("{new}.none")]).expect(2, &["j.jsonl.none: cannot be read"]);
    icpgate(&["journal", "verify"]).expect(2, &["journal.path is empty"]);
    let mut edited = lines(&files[1]);
    edited.remove(2);
    fs::write(&new, edited.concat()).expect("writes");
    icpgate(&["journal", "verify", &old, &new]).expect(1, &[&format!("{new}:3: removed: number 8"), "1 finding"]);
    let json = icpgate(&["journal", "verify", "--format", "json", &old, &new]).json();
    assert_eq!(
        (json["findings"][0]["kind"].as_str(), json["findings"][0]["line"].as_u64()),
        (Some("removed"), Some(3))
    );
    assert_eq!((json["status"].as_str(), json["last_seq"].as_u64()), (Some("findings"), Some(10)));
    let config = dir.path().join("icpgate.toml");
    fs::write(&config, format!("version = 1\n[journal]\npath = {new:?}\nchain = true\n")).expect("writes");
    icpgate(&["journal", "verify", "--config", &config.display().to_string()]).expect(1, &["j.jsonl.1: 5 lines"]);
}
