//! `icpgate journal verify`: whether a chained journal is as the gate wrote it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::text::Text;
use super::{Common, Status, data};
use crate::count::plural;
use crate::ops::Rotation;
use crate::ops::journal::chain::{Hash, Sealed};
use crate::ops::journal::file::{length_settled, numbered};
use crate::ops::journal::verify::{self, FileReport, Options, Place, Report, Source};

const EXAMPLES: &str = "\
Examples:
  icpgate journal verify --config /etc/icpgate/icpgate.toml        the configured journal with its rotated files
  icpgate journal verify /var/log/icpgate/journal.jsonl*
  icpgate journal verify --format json journal.jsonl | jq .findings
  icpgate journal verify --holds 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 journal.jsonl

Lines that were cut off the end leave no trace in the files: keep the last hash elsewhere (the gate logs it when it
starts and ends, and this command prints it), and give it with --holds later. Compressed files are to be unpacked first.

Exit status: 0 whole, 1 findings, 2 unreadable.";

/// Lines at the beginning of a file in which its first number is looked for.
const FIRST_LINES_MAX: usize = 1000;
/// Octets of them.
const FIRST_OCTETS_MAX: u64 = 4 << 20;

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Find what was changed, removed, inserted, moved or cut off in a journal written with journal.chain
    #[command(after_help = EXAMPLES)]
    Verify(VerifyArguments),
}

/// What `verify` takes.
#[derive(Args)]
pub struct VerifyArguments {
    /// The journal and its rotated files, in any order [default: journal.path and its rotated files]
    files: Vec<PathBuf>,
    /// Form of the findings
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
    /// A hash that was noted elsewhere: a finding unless a line has it
    #[arg(long, value_name = "HASH")]
    holds: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One JSON object
    Json,
    /// For people
    Text,
}

/// The JSON form.
#[derive(Serialize)]
struct Output<'a> {
    status: &'static str,
    files: &'a [FileReport],
    last_seq: Option<u64>,
    last_hash: Option<String>,
    findings: Vec<Row<'a>>,
    notes: Vec<Row<'a>>,
}

/// A finding or a note.
#[derive(Serialize)]
struct Row<'a> {
    file: &'a str,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    message: &'a str,
}

/// Runs one of the commands.
pub fn run(common: &Common, command: &Command) -> anyhow::Result<Status> {
    match command {
        Command::Verify(arguments) => verify(common, arguments),
    }
}

fn verify(common: &Common, arguments: &VerifyArguments) -> anyhow::Result<Status> {
    let holds = arguments.holds.as_deref().map(hash).transpose()?;
    let paths = if arguments.files.is_empty() { configured(common)? } else { arguments.files.clone() };
    let mut files: Vec<Opened<'_>> = Vec::new();
    for path in &paths {
        let file = Opened::open(path)?;
        // Rotated meanwhile, it has another name; or it was given twice.
        if files.iter().all(|other| other.identity != file.identity) {
            files.push(file);
        }
    }
    order(&mut files);
    let mut sources: Vec<Source<'_>> = files
        .iter_mut()
        .map(|file| Source { name: file.path.display().to_string(), input: &mut *file.input })
        .collect();
    let report = verify::verify(&mut sources, &Options { holds }).context("the journal cannot be read")?;
    let mut text = Text::new();
    match arguments.format {
        Form::Json => text.json(&output(&report))?,
        Form::Text => print_text(&report, &mut text),
    }
    text.print()?;
    Ok(if report.findings.is_empty() { Status::Good } else { Status::Findings })
}

fn hash(text: &str) -> anyhow::Result<Hash> {
    let read = Hash::read(text.to_ascii_lowercase().as_bytes());
    read.with_context(|| format!("--holds {text:?}: expected the 64 hexadecimal digits of a line's \"hash\""))
}

/// The configured journal, with the files that were rotated away.
fn configured(common: &Common) -> anyhow::Result<Vec<PathBuf>> {
    let Some(path) = data::configuration(common)?.config.journal.path else {
        bail!("no file was given, and journal.path is empty: expected a file, or --config with a journal");
    };
    let rotated = (1..=Rotation::KEEP_MAX).map(|number| numbered(&path, number)).take_while(|path| path.exists());
    // The way files go when they are rotated: one that goes while these are opened is met twice, and none is missed.
    Ok([path.clone()].into_iter().chain(rotated).collect())
}

/// A file to read.
struct Opened<'a> {
    path: &'a Path,
    input: Box<dyn BufRead>,
    /// Device and number of the file.
    identity: (u64, u64),
    /// The number of its first line of a chain, and when that was written; `None` without any.
    first: Option<(u64, String)>,
}

impl<'a> Opened<'a> {
    fn open(path: &'a Path) -> anyhow::Result<Self> {
        let open = || {
            let mut file = File::open(path)?;
            // What a gate is just writing is no torn line, and a file that it has just begun has a first line then.
            let octets = length_settled(&file)?;
            let first = first_line(BufReader::new(&file))?;
            file.rewind()?;
            let identity = file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))?;
            let input = Box::new(BufReader::new(file.take(octets)));
            Ok::<_, std::io::Error>(Self { path, input, identity, first })
        };
        open().with_context(|| format!("{}: cannot be read", path.display()))
    }
}

fn first_line(input: impl BufRead) -> std::io::Result<Option<(u64, String)>> {
    for line in input.take(FIRST_OCTETS_MAX).split(b'\n').take(FIRST_LINES_MAX) {
        let line = line?;
        if let Some(sealed) = Sealed::read(&line) {
            let time = sealed.head().map(|head| head.time).unwrap_or_default();
            return Ok(Some((sealed.link.seq, time)));
        }
    }
    Ok(None)
}

/// Puts files in the order of their lines: by number, and by time where several chains begin.
fn order(files: &mut [Opened<'_>]) {
    let chains = files.iter().filter(|file| file.first.as_ref().is_some_and(|(seq, _)| *seq == 1)).count();
    if chains > 1 {
        files.sort_by_key(|file| file.first.as_ref().map(|(_, time)| time.clone()));
    } else {
        files.sort_by_key(|file| file.first.as_ref().map(|(seq, _)| *seq));
    }
}

fn output(report: &Report) -> Output<'_> {
    let row = |at: Place, kind, message| {
        let file = report.files.get(at.file).map_or("", |file| file.file.as_str());
        Row { file, line: at.line, kind, message }
    };
    let findings = &report.findings;
    Output {
        status: if findings.is_empty() { "whole" } else { "findings" },
        files: &report.files,
        last_seq: report.last.map(|link| link.seq),
        last_hash: report.last.map(|link| link.hash.to_string()),
        findings: findings.iter().map(|found| row(found.at, Some(found.kind.label()), &*found.message)).collect(),
        notes: report.notes.iter().map(|note| row(note.at, None, &*note.message)).collect(),
    }
}

fn print_text(report: &Report, text: &mut Text) {
    let output = output(report);
    for (number, file) in output.files.iter().enumerate() {
        let is_whole = report.findings.iter().all(|found| found.at.file != number);
        let word = if is_whole { text.good("whole") } else { text.bad("findings") };
        let numbers = match (file.first_seq, file.last_seq) {
            (Some(first), Some(last)) => format!("numbers {first} to {last}"),
            _ => "no chain".to_owned(),
        };
        let lines = plural(usize::try_from(file.lines).unwrap_or(usize::MAX), "line");
        text.line(format_args!("{}: {lines}, {numbers}: {word}", file.file));
    }
    for row in &output.notes {
        text.line(format_args!("{}:{}: note: {}", row.file, row.line, row.message));
    }
    for row in &output.findings {
        let kind = text.bad(row.kind.unwrap_or_default());
        text.line(format_args!("{}:{}: {kind}: {}", row.file, row.line, row.message));
    }
    if let (Some(seq), Some(hash)) = (output.last_seq, &output.last_hash) {
        text.line(format_args!("last line: number {seq}, hash {hash}"));
    }
    let count = plural(output.findings.len(), "finding");
    text.line(if output.findings.is_empty() { text.good(count) } else { text.bad(count) });
}
