//! `icpgate registry stat`: rows of what, how long loading them took, how much memory they take.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use crate::cli::text::Text;
use crate::cli::{Status, data};
use crate::count::plural;
use crate::ops::process::processor_time;
use crate::ops::status::ListStatus;
use crate::registry::lint::Lists;
use crate::registry::{FileSummary, Loaded, Settings, Snapshot};

/// Values of a list that are printed.
const TOP_SHOWN: usize = 10;

/// What `stat` takes.
#[derive(Args)]
pub struct StatArguments {
    /// Files or directories instead of the configured ones
    pub paths: Vec<std::path::PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Loads and tells.
pub fn run(settings: &Settings, arguments: &StatArguments, now: SystemTime) -> anyhow::Result<Status> {
    let before = processor_time();
    let loaded = data::load_registry(settings, now).context("registry")?;
    let processor = before.zip(processor_time()).map(|(before, after)| after.saturating_sub(before));
    let lists = Lists::load(&settings.lint).context("registry.lint")?;
    let report = Report::new(&loaded, &lists, &settings.provider, processor);
    let mut text = Text::new();
    if arguments.json {
        text.json(&report)?;
    } else {
        report.print(&mut text);
    }
    text.print()?;
    Ok(Status::Good)
}

/// All that is told.
#[derive(Serialize)]
struct Report {
    rows: usize,
    digest: String,
    files: Vec<File>,
    lists: Vec<ListStatus>,
    status: BTreeMap<&'static str, usize>,
    active: Active,
    access: BTreeMap<String, usize>,
    province: BTreeMap<String, usize>,
    suffix: BTreeMap<String, usize>,
    seconds: Seconds,
    octets: BTreeMap<&'static str, usize>,
    octets_per_name: BTreeMap<&'static str, f64>,
}

#[derive(Serialize)]
struct File {
    path: String,
    rows: usize,
    bad_rows: usize,
    octets: u64,
}

/// Rows in force.
#[derive(Default, Serialize)]
struct Active {
    here: usize,
    elsewhere: usize,
    shell: usize,
}

/// How long loading took. `read` and `parse` are parts of `files`, side by side; `parse` adds up all cores.
#[derive(Serialize)]
struct Seconds {
    restore: f64,
    files: f64,
    read: f64,
    parse: f64,
    index: f64,
    events: f64,
    total: f64,
    /// Of the process while it loaded, in hundredths; none where the system does not tell.
    processor: Option<f64>,
}

impl Report {
    fn new(loaded: &Loaded, lists: &Lists, provider: &str, processor: Option<Duration>) -> Self {
        let Loaded { snapshot, files, times, digest, .. } = loaded;
        let octets = octets_of(snapshot);
        let names = snapshot.len().max(1) as f64;
        let mut res = Self {
            rows: snapshot.len(),
            digest: format!("{digest:016x}"),
            files: files.iter().map(File::of).collect(),
            lists: lists.dates.iter().map(ListStatus::from).collect(),
            status: snapshot.rows_by_status().map(|(status, count)| (status.label(), count)).into(),
            active: Active::default(),
            access: BTreeMap::new(),
            province: BTreeMap::new(),
            suffix: BTreeMap::new(),
            seconds: Seconds {
                restore: times.restore.as_secs_f64(),
                files: times.files.as_secs_f64(),
                read: times.read.as_secs_f64(),
                parse: times.parse.as_secs_f64(),
                index: times.index.as_secs_f64(),
                events: times.events.as_secs_f64(),
                total: times.total.as_secs_f64(),
                processor: processor.map(|time| time.as_secs_f64()),
            },
            octets_per_name: octets.iter().map(|&(section, octets)| (section, octets as f64 / names)).collect(),
            octets: octets.into_iter().collect(),
        };
        res.count(snapshot, provider);
        res
    }

    /// One pass over the rows.
    fn count(&mut self, snapshot: &Snapshot, provider: &str) {
        for row in snapshot.rows() {
            if let Some(suffix) = row.domain.as_ref().parent() {
                *self.suffix.entry(suffix.to_unicode()).or_default() += 1;
            }
            if row.status != crate::model::Status::Active {
                continue;
            }
            let active = &mut self.active;
            *match row.access.iter().any(|id| id == provider) {
                true => &mut active.here,
                false if row.access.is_empty() => &mut active.shell,
                false => &mut active.elsewhere,
            } += 1;
            for id in row.access {
                *self.access.entry(id).or_default() += 1;
            }
            if let Some(province) = row.province {
                *self.province.entry(province).or_default() += 1;
            }
        }
    }

    fn print(&self, text: &mut Text) {
        text.line(format_args!("{}, digest {}", plural(self.rows, "row"), self.digest));
        for File { path, rows, bad_rows, octets } in &self.files {
            let bad = if *bad_rows > 0 { format!(", {bad_rows} bad") } else { String::new() };
            text.line(format_args!("  {path}  {}{bad}, {octets} octets", plural(*rows, "row")));
        }
        text.line(text.strong("status"));
        for (status, count) in
            crate::model::Status::ALL.map(|(status, _, _)| (status.label(), self.status[status.label()]))
        {
            text.line(format_args!("  {status:<12} {count}"));
        }
        text.line(text.strong("active rows"));
        text.line(format_args!("  {:<12} {}", "here", self.active.here));
        text.line(format_args!("  {:<12} {}", "elsewhere", self.active.elsewhere));
        text.line(format_args!("  {:<12} {}", "shell (空壳)", self.active.shell));
        top("access provider", &self.access, text);
        top("province", &self.province, text);
        top("suffix", &self.suffix, text);
        text.line(text.strong("lists of the linter"));
        for ListStatus { key, file, date, entries } in &self.lists {
            let file = if file.is_empty() { "compiled in" } else { file };
            text.line(format_args!("  {key:<28} {date}  {}, {file}", plural(*entries, "line")));
        }
        self.print_times(text);
        text.line(text.strong("octets a name"));
        for (section, octets) in &self.octets {
            text.line(format_args!("  {section:<12} {:<8.1} {octets} in all", self.octets_per_name[section]));
        }
    }

    fn print_times(&self, text: &mut Text) {
        let Seconds { restore, files, read, parse, index, events, total, processor } = self.seconds;
        text.line(text.strong("seconds to load"));
        if restore > 0.0 {
            text.line(format_args!("  {:<12} {restore:.3}", "snapshot"));
        }
        text.line(format_args!("  {:<12} {files:<8.3} reading {read:.3}, parsing {parse:.3} on all cores", "files"));
        text.line(format_args!("  {:<12} {index:.3}", "index"));
        text.line(format_args!("  {:<12} {events:.3}", "events"));
        let of_processor = processor.map(|seconds| format!("{seconds:.2} of processor time")).unwrap_or_default();
        text.line(format_args!("  {:<12} {total:<8.3} {of_processor}", "total"));
    }
}

impl File {
    fn of(file: &FileSummary) -> Self {
        let &FileSummary { rows, bad_rows, octets, .. } = file;
        Self { path: file.path.display().to_string(), rows, bad_rows, octets }
    }
}

/// Memory by section.
fn octets_of(snapshot: &Snapshot) -> [(&'static str, usize); 6] {
    let octets = snapshot.octets();
    [
        ("blocks", octets.blocks),
        ("entries", octets.entries),
        ("records", octets.records),
        ("tables", octets.tables),
        ("texts", octets.texts),
        ("total", octets.total()),
    ]
}

/// The most frequent values with their counts.
fn top(heading: &str, counts: &BTreeMap<String, usize>, text: &mut Text) {
    if counts.is_empty() {
        return;
    }
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|&(value, count)| (std::cmp::Reverse(count), value));
    text.line(text.strong(heading));
    for (value, count) in sorted.iter().take(TOP_SHOWN) {
        text.line(format_args!("  {value:<12} {count}"));
    }
    if sorted.len() > TOP_SHOWN {
        text.line(format_args!("  … {} more", sorted.len() - TOP_SHOWN));
    }
}
