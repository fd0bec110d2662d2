//! Reads a chained journal and tells what in it is no longer as it was written.
//!
//! ```text
//! lines ─ read ─▶ pieces: runs of lines that rest on each other, and lines between that are of no chain
//!       ─ judge ─▶ findings: what was changed, removed, inserted, moved, cut off
//! ```
//!
//! A whole journal is one piece however many files it has, so that memory does not grow with it. Lines cut off behind the
//! last one that is there leave no trace within the files; a hash noted elsewhere shows them ([`Options::holds`]).

mod judge;

use std::io::{self, BufRead, Read};

use serde::Serialize;

use super::chain::{Hash, Link, Sealed, Torn};

/// Octets of a line that are looked at; the gate writes none that is longer.
const LINE_OCTETS_MAX: usize = 1 << 20;
/// Breaks that are followed; a journal with more is some other file, or nothing can be said of it in detail.
pub const ITEMS_MAX: usize = 2000;

/// Where a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, by its place in the order they were read.
    pub file: usize,
    /// The line, from 1.
    pub line: u64,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A line is not as it was written.
    Changed,
    /// The file ends within a line.
    CutOff,
    /// A line stands where none was written.
    Inserted,
    /// A noted hash is on no line.
    Missing,
    /// Lines are gone.
    Removed,
    /// Lines stand elsewhere than they were written.
    Reordered,
    /// A new chain begins, and nothing joins it to the one before.
    Restarted,
    /// More breaks than are followed.
    TooMany,
}

impl Kind {
    /// The word in texts and JSON.
    pub fn label(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::CutOff => "cut_off",
            Self::Inserted => "inserted",
            Self::Missing => "missing",
            Self::Removed => "removed",
            Self::Reordered => "reordered",
            Self::Restarted => "restarted",
            Self::TooMany => "too_many",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line it is about, or the one it was noticed at.
    pub at: Place,
    /// What it is.
    pub kind: Kind,
    /// The whole of it.
    pub message: String,
}

/// Something to know that is nothing wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The line.
    pub at: Place,
    /// The whole of it.
    pub message: String,
}

/// One file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Its name.
    pub file: String,
    /// Its lines.
    pub lines: u64,
    /// The number of its first line of a chain.
    pub first_seq: Option<u64>,
    /// The number of its last.
    pub last_seq: Option<u64>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The files, in the order of their lines.
    pub files: Vec<FileReport>,
    /// What is wrong, in the order of files and lines.
    pub findings: Vec<Finding>,
    /// What else there is to know.
    pub notes: Vec<Note>,
    /// The last line of the chain.
    pub last: Option<Link>,
}

/// What to look for besides.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A hash that a line must have.
    pub holds: Option<Hash>,
}

/// One file to read.
pub struct Source<'a> {
    /// Its name, for the report.
    pub name: String,
    /// Its octets.
    pub input: &'a mut dyn BufRead,
}

/// Lines that rest on each other, each on the one before.
#[derive(Clone, Debug)]
struct Piece {
    at: Place,
    lines: u64,
    first: u64,
    last: u64,
    /// The first line: whether it rests on some other piece is asked later.
    first_line: Vec<u8>,
    last_hash: Hash,
}

/// Lines that are of no chain.
#[derive(Clone, Debug)]
struct Foreign {
    at: Place,
    lines: u64,
    /// All its octets, with line feeds.
    length: u64,
    /// True where the file ends without a line feed.
    is_cut: bool,
    /// The first octets, with line feeds.
    octets: Vec<u8>,
    /// Set when a head behind it says what it is.
    is_noted: bool,
}

/// What a journal consists of, as it stands in the files.
#[derive(Clone, Debug)]
enum Item {
    Foreign(Foreign),
    Piece(Piece),
}

/// Reads the files, which are in the order of their lines, and judges them.
pub fn verify(sources: &mut [Source<'_>], options: &Options) -> io::Result<Report> {
    let mut reading = Reading::default();
    let mut res = Report::default();
    let mut has_hash = false;
    for (file, source) in sources.iter_mut().enumerate() {
        let mut report = FileReport { file: source.name.clone(), lines: 0, first_seq: None, last_seq: None };
        let mut line = Vec::new();
        loop {
            line.clear();
            let is_whole = read_line(source.input, &mut line)?;
            if line.is_empty() && !is_whole {
                break;
            }
            report.lines += 1;
            let at = Place { file, line: report.lines };
            if reading.items.len() > ITEMS_MAX {
                continue;
            }
            if let Some(link) = reading.take(at, &line, is_whole) {
                report.first_seq.get_or_insert(link.seq);
                report.last_seq = Some(link.seq);
                res.last = Some(link);
                has_hash |= options.holds == Some(link.hash);
            }
        }
        if report.lines == 0 {
            let message = "the file is empty: a gate begins each with a head".to_owned();
            res.findings.push(Finding { at: Place { file, line: 1 }, kind: Kind::Removed, message });
        }
        res.files.push(report);
    }
    let end = Place { file: res.files.len().saturating_sub(1), line: res.files.last().map_or(0, |file| file.lines) };
    if reading.items.len() > ITEMS_MAX {
        let message =
            format!("more than {ITEMS_MAX} breaks: the chain was written anew in part, or this is no journal");
        let at = reading.items.last().map_or(end, |item| match item {
            Item::Foreign(foreign) => foreign.at,
            Item::Piece(piece) => piece.at,
        });
        res.findings.push(Finding { at, kind: Kind::TooMany, message });
        return Ok(res);
    }
    judge::judge(&reading.items, &mut res);
    if let Some(hash) = options.holds.filter(|_| !has_hash) {
        let message = format!("no line has the hash {hash}: what was written up to it is cut off or was replaced");
        res.findings.push(Finding { at: end, kind: Kind::Missing, message });
    }
    res.findings.sort_by_key(|finding| finding.at);
    Ok(res)
}

/// Reads up to a line feed, which is left out; false where the file ends before it. Octets beyond a limit are dropped,
/// which leaves no line of a chain.
fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    let mut limited = Read::take(&mut *input, LINE_OCTETS_MAX as u64);
    limited.read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(true);
    }
    if line.len() < LINE_OCTETS_MAX {
        return Ok(false);
    }
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(false);
        }
        let end = buffer.iter().position(|&octet| octet == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// The items so far.
#[derive(Default)]
struct Reading {
    items: Vec<Item>,
}

impl Reading {
    /// Takes one line in; the link it claims, where it is one of a chain.
    fn take(&mut self, at: Place, line: &[u8], is_whole: bool) -> Option<Link> {
        let Some(sealed) = Sealed::read(line).filter(|_| is_whole) else {
            self.foreign(at, line, is_whole);
            return None;
        };
        let link = sealed.link;
        if let Some(Item::Piece(piece)) = self.items.last_mut()
            && piece.last.checked_add(1) == Some(link.seq)
            && sealed.follows(piece.last_hash)
        {
            (piece.lines, piece.last, piece.last_hash) = (piece.lines + 1, link.seq, link.hash);
            return Some(link);
        }
        if let Some(Item::Foreign(foreign)) = self.items.last_mut()
            && let Some(torn) = sealed.head().and_then(|head| head.torn)
        {
            let text = foreign.octets.strip_suffix(b"\n").unwrap_or(&foreign.octets);
            foreign.is_noted = torn == Torn::of(text) && !text.contains(&b'\n');
        }
        self.items.push(Item::Piece(Piece {
            at,
            lines: 1,
            first: link.seq,
            last: link.seq,
            first_line: line.to_vec(),
            last_hash: link.hash,
        }));
        Some(link)
    }

    fn foreign(&mut self, at: Place, line: &[u8], is_whole: bool) {
        let is_new = !matches!(self.items.last(), Some(Item::Foreign(foreign)) if foreign.at.file == at.file);
        if is_new {
            let octets = Vec::new();
            let (lines, length) = (0, 0);
            self.items.push(Item::Foreign(Foreign { at, lines, length, is_cut: false, octets, is_noted: false }));
        }
        let Some(Item::Foreign(foreign)) = self.items.last_mut() else { return };
        foreign.lines += 1;
        foreign.length += line.len() as u64 + u64::from(is_whole);
        foreign.is_cut |= !is_whole;
        if foreign.octets.len() < LINE_OCTETS_MAX {
            foreign.octets.extend_from_slice(line);
            if is_whole {
                foreign.octets.push(b'\n');
            }
        }
    }
}
