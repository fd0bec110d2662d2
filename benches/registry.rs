//! The registry at scale: build, look-ups of names that are there and that are not, batches, the overlay; at 100 k, 1 M
//! and 10 M names.
//!
//! `cargo bench --bench registry` times the look-ups with criterion over tables made up here; a number after `--` picks
//! sizes by name. `registry load FILE…` loads real tables once and tells time by phase, processor time and memory;
//! `registry edit FILE` also changes one row of a copy, and appends a line to a changes file, and tells how long each took;
//! `registry replace FILE` replaces all of a copy and tells the peak of memory; `registry start FILE` writes the snapshot
//! file and starts from it.

use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use criterion::{BenchmarkId, Criterion, Throughput};
use icpgate::model::{DomainName, NameRef};
use icpgate::ops::process::processor_time;
use icpgate::registry::memory::Memory;
use icpgate::registry::{ReloadOutcome, Settings, Shrink, Snapshot, Store};

/// Names of a table.
const SIZES: [usize; 3] = [100_000, 1_000_000, 10_000_000];
/// Names asked in turn, so that a large table does not answer from the processor's cache alone.
const ASKED: usize = 1 << 16;

fn main() {
    // Cargo adds a flag of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    match words.first().map(String::as_str) {
        Some("load") => load(&words[1..]),
        Some("edit") => edit(Path::new(&words[1])),
        Some("replace") => replace(Path::new(&words[1])),
        Some("start") => start(Path::new(&words[1])),
        _ => criterion_benches(),
    }
}

//--- Look-ups --------------------------------------------------------------------------------------------------------

fn criterion_benches() {
    let mut criterion = Criterion::default().configure_from_args();
    let wanted: Option<usize> = std::env::args().filter_map(|word| word.parse().ok()).next();
    for names in SIZES.into_iter().filter(|&names| wanted.is_none_or(|wanted| wanted == names)) {
        memory_wait(&mut criterion, names);
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::new(Settings::new("self", vec![dir.path().to_owned()]));
        write_table(&dir.path().join("table.csv"), names);
        let begun = Instant::now();
        let base = published(store.reload(SystemTime::now(), Shrink::Accept));
        eprintln!("{names} names: built in {:?}, {}", begun.elapsed(), octets_a_name(&base));
        look_ups(&mut criterion, "base", names, &base);
        let gone: String = (0..200).map(|n| format!("{},,pending\n", domain(n * 7))).collect();
        std::fs::write(dir.path().join("more.csv"), format!("domain,access,status\n{gone}")).expect("writes");
        let overlaid = published(store.reload(SystemTime::now(), Shrink::Accept));
        look_ups(&mut criterion, "overlay", names, &overlaid);
    }
    criterion.final_summary();
}

/// What one wait for memory costs on this machine now: reads, each of which needs the one before, over about as much memory
/// as the look-up table of so many names takes.
fn memory_wait(criterion: &mut Criterion, names: usize) {
    const LINE: usize = 64;
    let lines = names * 32 / LINE;
    let mut memory = Memory::zeroed(lines * LINE);
    // Each line leads to the next one of a shuffled order.
    let mixed = |n: usize| (n.wrapping_mul(0x9e37_79b9) ^ (n.wrapping_mul(0x85eb_ca6b) >> 7)) % lines;
    let mut order: Vec<u32> = (0..u32::try_from(lines).expect("few lines")).collect();
    (1..lines).rev().for_each(|n| order.swap(n, mixed(n) % (n + 1)));
    for pair in order.windows(2) {
        memory[pair[0] as usize * LINE..][..4].copy_from_slice(&pair[1].to_le_bytes());
    }
    memory[order[lines - 1] as usize * LINE..][..4].copy_from_slice(&order[0].to_le_bytes());
    let mut at = 0;
    criterion.bench_function(&format!("memory_wait/{names}"), |b| {
        b.iter(|| {
            let octets = &memory[at * LINE..][..4];
            at = u32::from_le_bytes([octets[0], octets[1], octets[2], octets[3]]) as usize;
            black_box(at)
        });
    });
}

fn look_ups(criterion: &mut Criterion, which: &str, names: usize, snapshot: &Snapshot) {
    // Far apart in the table, in an order that no prefetcher guesses.
    let spread = |i: usize| (i * 7_368_787) % names;
    let there: Vec<DomainName> = (0..ASKED).map(|i| name(&domain(spread(i)))).collect();
    let missing: Vec<DomainName> = (0..ASKED).map(|i| name(&format!("no-{}", domain(spread(i))))).collect();
    for (kind, asked) in [("hit", &there), ("miss", &missing)] {
        // Close together, as in a packet: what is measured is the registry's memory, not the asker's.
        let octets: Vec<u8> = asked.iter().flat_map(|name| name.wire().to_vec()).collect();
        let ends = asked.iter().scan(0, |end, name| {
            *end += name.wire().len();
            Some(*end)
        });
        let refs: Vec<NameRef<'_>> = ends
            .zip(asked)
            .map(|(end, name)| NameRef::from_canonical_wire(&octets[end - name.wire().len()..end]))
            .collect();
        let mut group = criterion.benchmark_group(format!("{which}_{kind}"));
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("single", names), |b| {
            let mut i = 0;
            b.iter(|| {
                i = (i + 1) % ASKED;
                black_box(snapshot.find(refs[i]).map(|id| snapshot.facts(id)))
            });
        });
        group.throughput(Throughput::Elements(32));
        group.bench_function(BenchmarkId::new("batch_of_32", names), |b| {
            let mut i = 0;
            let mut found = Vec::with_capacity(32);
            b.iter(|| {
                i = (i + 32) % ASKED;
                snapshot.find_batch(&refs[i..i + 32], &mut found);
                black_box(found.iter().flatten().map(|&id| snapshot.facts(id).status as usize).sum::<usize>())
            });
        });
        group.finish();
    }
}

fn name(text: &str) -> DomainName {
    DomainName::from_text(text).expect("a name")
}

/// A name some fifteen octets long, unlike its neighbours.
fn domain(n: usize) -> String {
    const ENDINGS: [&str; 4] = ["com", "cn", "com.cn", "net"];
    let mixed = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
    format!("{mixed:x}.{}", ENDINGS[n % 4])
}

fn write_table(path: &Path, names: usize) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).expect("a file"));
    writeln!(file, "domain,subject_no,site_no,subject_type,province,access,filed_on,updated_on,expires_on")
        .expect("writes");
    for n in 0..names {
        let (domain, serial) = (domain(n), n % 999_999 + 1);
        let access = ["self", "p001", "p002;self", "p003"][n % 4];
        writeln!(
            file,
            "{domain},京ICP备2021{serial:06}号,京ICP备2021{serial:06}号-1,企业,京,{access},2021-03-04,2024-05-06,2029-07-08"
        )
        .expect("writes");
    }
    file.flush().expect("writes");
}

//--- Real tables -----------------------------------------------------------------------------------------------------

fn load(files: &[String]) {
    let store = Store::new(Settings::new("self", files.iter().map(PathBuf::from).collect()));
    let (begun, cpu) = (Instant::now(), processor_seconds());
    let snapshot = published(store.reload(SystemTime::now(), Shrink::Accept));
    let rows = snapshot.len();
    println!("{rows} rows in {:?}, {:.2} s of processor time", begun.elapsed(), processor_seconds() - cpu);
    println!("{}", octets_a_name(&snapshot));
    println!("{:?}", snapshot.octets());
    println!("resident {} MiB, at most {} MiB", status_mib("VmRSS"), status_mib("VmHWM"));
}

fn start(file: &Path) {
    let dir = tempfile::tempdir_in(file.parent().unwrap_or(Path::new("."))).expect("a directory");
    let snapshot = Some(dir.path().join("registry.snap"));
    let settings = Settings { snapshot, ..Settings::new("self", vec![file.to_owned()]) };
    let store = Store::new(settings.clone());
    published(store.reload(SystemTime::now(), Shrink::Accept));
    let begun = Instant::now();
    assert!(store.save().expect("writes"));
    println!("snapshot file written in {:?}", begun.elapsed());
    drop(store);
    for _ in 0..5 {
        let store = Store::new(settings.clone());
        let (begun, cpu) = (Instant::now(), processor_seconds());
        let rows = published(store.reload(SystemTime::now(), Shrink::Accept)).len();
        assert!(store.is_unverified(), "the file was used");
        println!("{rows} rows in {:?}, {:.2} s of processor time", begun.elapsed(), processor_seconds() - cpu);
    }
}

fn edit(file: &Path) {
    let dir = tempfile::tempdir_in(file.parent().unwrap_or(Path::new("."))).expect("a directory");
    let table = dir.path().join("table.csv");
    std::fs::copy(file, &table).expect("copies");
    let changes = dir.path().join("z.changes.jsonl");
    std::fs::write(&changes, "").expect("writes");
    let store = Store::new(Settings::new("self", vec![dir.path().to_owned()]));
    let begun = Instant::now();
    let mut snapshot = published(store.reload(SystemTime::now(), Shrink::Accept));
    println!(
        "{} rows in {:?}, resident {} MiB, at most {}",
        snapshot.len(),
        begun.elapsed(),
        status_mib("VmRSS"),
        status_mib("VmHWM")
    );
    let text = std::fs::read_to_string(&table).expect("text");
    let middle = text.len() / 2;
    let begin = (middle..).find(|&at| text.as_bytes()[at] == b'\n').expect("a line feed") + 1;
    let domain = text[begin..].split(',').next().expect("a domain").to_owned();
    for round in 0..5 {
        // In place, as an editor that keeps the length would, and elsewhere each time.
        let at = begin + text[begin..].find("active").expect("a row in force");
        let mut file = std::fs::OpenOptions::new().write(true).open(&table).expect("opens");
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(at as u64)).expect("seeks");
        file.write_all(if round % 2 == 0 { b"\xe6\xb3\xa8\xe9\x94\x80" } else { b"active" }).expect("writes");
        drop(file);
        let (begun, cpu) = (Instant::now(), processor_seconds());
        snapshot = published(store.reload_changed(SystemTime::now()));
        println!("one row ({domain}): {:?}, {:.2} s of processor time", begun.elapsed(), processor_seconds() - cpu);
    }
    for n in 0..5 {
        let line = format!(
            "{{\"event\":\"first-filing\",\"domain\":\"new{n}-of-bench.cn\",\"site_no\":\"藏ICP备202600{n:04}号-1\",\"access\":[\"self\"]}}\n"
        );
        std::fs::OpenOptions::new()
            .append(true)
            .open(&changes)
            .expect("opens")
            .write_all(line.as_bytes())
            .expect("writes");
        let begun = Instant::now();
        snapshot = published(store.reload_changed(SystemTime::now()));
        println!("one event: {:?}", begun.elapsed());
    }
    println!("{} rows, resident {} MiB, at most {} MiB", snapshot.len(), status_mib("VmRSS"), status_mib("VmHWM"));
}

/// Replaces the whole table several times, by one in which every line differs and by the first one again.
fn replace(file: &Path) {
    let dir = tempfile::tempdir_in(file.parent().unwrap_or(Path::new("."))).expect("a directory");
    let table = dir.path().join("table.csv");
    std::fs::copy(file, &table).expect("copies");
    let settings = Settings::new("self", vec![table.clone()]);
    let store = Arc::new(Store::new(Settings { snapshot: Some(dir.path().join("registry.snap")), ..settings }));
    let mut snapshot = published(store.reload(SystemTime::now(), Shrink::Accept));
    let steady = status_mib("VmRSS");
    println!("{} rows, resident {steady} MiB", snapshot.len());
    for round in 0..4 {
        let new = dir.path().join("new");
        copy_lines(file, &new, if round % 2 == 0 { " " } else { "" });
        std::fs::rename(&new, &table).expect("renames");
        // The peak is counted anew from here on; where the system does not know how, it is that of all rounds.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let begun = Instant::now();
        // Whoever serves publishes the moved rows at once; here nobody does, and the old snapshot must go for that.
        drop(snapshot);
        snapshot = published(store.reload(SystemTime::now(), Shrink::Accept));
        println!(
            "{} rows replaced in {:?}, at most {} MiB, {:.2} times the steady {steady} MiB",
            snapshot.len(),
            begun.elapsed(),
            status_mib("VmHWM"),
            status_mib("VmHWM") as f64 / steady as f64
        );
        let begun = Instant::now();
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        drop(snapshot);
        snapshot = store.tidy().unwrap_or_else(|| store.loaded().expect("a state").snapshot.clone());
        let (now, peak) = (status_mib("VmRSS"), status_mib("VmHWM"));
        println!("tidied in {:?}, at most {peak} MiB, resident {now} MiB", begun.elapsed());
    }
}

fn copy_lines(from: &Path, to: &Path, end: &str) {
    use std::io::BufRead;
    let mut to = std::io::BufWriter::new(std::fs::File::create(to).expect("a file"));
    let lines = std::io::BufReader::new(std::fs::File::open(from).expect("opens")).lines();
    for (n, line) in lines.enumerate() {
        let end = if n == 0 { "" } else { end };
        writeln!(to, "{}{end}", line.expect("a line")).expect("writes");
    }
    to.flush().expect("writes");
}

fn published(outcome: ReloadOutcome) -> Arc<Snapshot> {
    match outcome {
        ReloadOutcome::Published(snapshot, _) => snapshot,
        ReloadOutcome::Refused(error) => panic!("refused: {error}"),
        ReloadOutcome::Unchanged => panic!("unchanged"),
    }
}

fn octets_a_name(snapshot: &Snapshot) -> String {
    let octets = snapshot.octets();
    let a_name = |octets: usize| octets as f64 / snapshot.len().max(1) as f64;
    format!("{:.1} octets a name for verdicts, {:.1} in all", a_name(octets.of_verdicts()), a_name(octets.total()))
}

/// Processor time of this process so far; 0 where the system does not tell.
fn processor_seconds() -> f64 {
    processor_time().unwrap_or_default().as_secs_f64()
}

/// A figure of `/proc/self/status` in MiB; 0 where the system does not tell.
fn status_mib(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|text| text.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
