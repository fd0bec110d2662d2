//! What is remembered of each file, and how a changed one is read: only blocks that were not there before are parsed.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::Settings;
use super::arena::{Arena, ArenaFull, Places, Rows};
use super::block::{BlockReader, Findings, Reading};
use super::collect::{Collector, Matching, Unused};
use super::dictionary::Dictionary;
use super::draft::Draft;
use super::issue::{Issue, Severity};
use super::parse::{FileError, ISSUES_MAX, ParsedChanges, parse_changes, parse_toml};
use super::progress::{Phase, Progress};
use super::row::RowContext;
use super::scan::{BlockHash, BlockKey, Header, ScanError, Scanning, read_header, scan};
use super::source::{self, Format, Stamp};
use super::split::{Buffers, Cutter, Quoting};
use crate::model::SuffixTable;

/// A block whose rows are in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownBlock {
    /// Of its text.
    pub hash: BlockHash,
    /// Its number among the places.
    pub number: u32,
    /// Octets of its text; 0 where it is not compared block by block.
    pub octets: u32,
    /// Lines.
    pub lines: u32,
    /// Rows.
    pub rows: u32,
    /// Position of its first row.
    pub begin: u32,
    /// Position behind its last row, in the same chunk.
    pub end: u32,
}

/// What is remembered of a file.
#[derive(Clone, Debug)]
pub struct FileState {
    /// When it was last read.
    pub stamp: Stamp,
    /// True when it changed so shortly before it was read that the stamp alone may not show the next change.
    pub is_fresh: bool,
    /// What it says.
    pub content: Content,
}

/// What a file says.
#[derive(Clone, Debug)]
pub enum Content {
    /// Events.
    Changes(ChangesFile),
    /// Rows.
    Table(TableFile),
}

/// A table.
#[derive(Clone, Debug, Default)]
pub struct TableFile {
    /// The header as written; the hash of the text for formats read whole.
    pub header: String,
    /// In the order of the file.
    pub blocks: Vec<KnownBlock>,
    /// Rows that count; only new ones while the file is being read.
    pub rows: usize,
    /// Findings, by number of the block.
    pub findings: BTreeMap<u32, Arc<Findings>>,
}

/// A changes file.
#[derive(Clone, Debug, Default)]
pub struct ChangesFile {
    /// All of it: events are applied anew when the tables below them change.
    pub text: Arc<String>,
    /// Octets of whole lines.
    pub whole_octets: usize,
    /// Whole lines.
    pub whole_lines: u32,
    /// Events.
    pub events: usize,
    /// Lines that do not count.
    pub bad_lines: usize,
    /// Findings of reading, not of applying.
    pub issues: Arc<Vec<Issue>>,
}

impl FileState {
    /// Rows or events that count.
    pub fn rows(&self) -> usize {
        match &self.content {
            Content::Changes(changes) => changes.events,
            Content::Table(table) => table.rows,
        }
    }

    /// Rows or lines that do not.
    pub fn bad_rows(&self) -> usize {
        match &self.content {
            Content::Changes(changes) => changes.bad_lines,
            Content::Table(table) => table.findings.values().map(|found| found.bad_rows as usize).sum(),
        }
    }
}

/// How a file is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Read and compare all of it.
    Content,
    /// Believe a stamp that is as it was.
    Stamp,
}

/// What a changed file says now.
pub enum FileChange {
    /// Whole lines were appended to a changes file: the events that are new.
    Appended(FileState, ParsedChanges),
    /// Nothing that matters; another stamp, if anything.
    None(Option<FileState>),
    /// Anything else.
    Replaced(FileState),
}

/// What files are read with.
#[derive(Clone, Copy)]
pub struct FileReader<'a> {
    /// Encoding, provider, limits.
    pub settings: &'a Settings,
    /// Public suffixes.
    pub suffixes: &'a SuffixTable,
    /// Shared texts.
    pub dictionary: &'a Dictionary,
    /// Of block hashes.
    pub key: BlockKey,
    /// The current year.
    pub year: i32,
    /// The time of reading.
    pub now: SystemTime,
    /// The arena that known blocks stand in.
    pub arena: &'a Arena,
    /// Where rows and times are counted.
    pub progress: &'a Arc<Progress>,
}

/// A text that is read: from a file or from memory.
pub struct Text<'a> {
    /// The name that findings show.
    pub name: Arc<str>,
    /// Where it comes from.
    pub reader: Box<dyn Read + Send + 'a>,
    /// Of the file.
    pub stamp: Stamp,
}

impl FileReader<'_> {
    /// Reads the file at `path`, of which `old` is remembered.
    pub fn read(
        &self,
        path: &Path,
        old: Option<&FileState>,
        look: Look,
        draft: &mut Draft,
    ) -> Result<FileChange, String> {
        if let Some(old) = old.filter(|old| look == Look::Stamp && !old.is_fresh)
            && Stamp::at(path).is_ok_and(|stamp| stamp == old.stamp)
        {
            return Ok(FileChange::None(None));
        }
        let name: Arc<str> = path.to_string_lossy().into();
        let format = format_of(&name)?;
        if let Some(old) = old.filter(|_| look == Look::Stamp && format == Format::Changes)
            && let Some(change) = self.appended(path, &name, old)
        {
            return Ok(change);
        }
        let opened = source::open(path, format, self.settings.encoding, self.now, self.progress)
            .map_err(|error| error.to_string())?;
        let text = Text { name, reader: opened.reader, stamp: opened.stamp };
        self.read_text(format, text, old, draft).map_err(|error| error.to_string())
    }

    /// Reads a text, of which `old` is remembered.
    pub fn read_text(
        &self,
        format: Format,
        text: Text<'_>,
        old: Option<&FileState>,
        draft: &mut Draft,
    ) -> Result<FileChange, ReadError> {
        if format == Format::Changes {
            return self.changes(text, old);
        }
        let old_table = match old.map(|old| &old.content) {
            Some(Content::Table(table)) => Some(table),
            _ => None,
        };
        let stamp = text.stamp;
        let table = match format {
            Format::Toml => self.toml(text, old_table, draft)?,
            Format::Changes | Format::Csv | Format::JsonLines => self.table(format, text, old_table, draft)?,
        };
        let (table, differs) = table;
        let bad_rows: usize = table.findings.values().map(|found| found.bad_rows as usize).sum();
        if bad_rows > self.settings.max_bad_rows {
            return Err(too_many_bad_rows(&table, &draft.places, bad_rows, self.settings.max_bad_rows).into());
        }
        let state = FileState { stamp, is_fresh: stamp.is_fresh(self.now), content: Content::Table(table) };
        Ok(if differs { FileChange::Replaced(state) } else { FileChange::None(Some(state)) })
    }

    //--- Tables ------------------------------------------------------------------------------------------------------

    fn table(
        &self,
        format: Format,
        text: Text<'_>,
        old: Option<&TableFile>,
        draft: &mut Draft,
    ) -> Result<(TableFile, bool), ReadError> {
        let mut reader = text.reader;
        let header = match format {
            Format::Csv => read_header(&mut reader).map_err(ReadError::Scan)?,
            _ => Header { columns: Vec::new(), text: String::new(), next_line: 1, rest: Vec::new() },
        };
        // Under another header every row reads differently.
        let comparable = old.filter(|old| old.header == header.text);
        let known = Matching::new(comparable.map_or(&[], |old| &old.blocks));
        let file = draft.file_number(&text.name);
        let context = RowContext { suffixes: self.suffixes, year: self.year, file: &text.name };
        let reading = Reading {
            format,
            context,
            dictionary: self.dictionary,
            provider: &self.settings.provider,
            columns: &header.columns,
        };
        let quoting = if format == Format::Csv { Quoting::Csv } else { Quoting::None };
        let buffers = Buffers::default();
        let cutter = Cutter::new(header.rest, reader, quoting, &buffers);
        let mut collector = Collector {
            draft,
            arena: self.arena,
            old: comparable,
            unused: Unused::new(&known),
            known: &known,
            file,
            line: header.next_line,
            next_known: 0,
            issues: 0,
            table: TableFile { header: header.text, ..TableFile::default() },
            differs: old.is_none(),
            full: None,
        };
        let scanning =
            Scanning { hasher: &self.key.hasher(), known: &known, buffers: &buffers, progress: self.progress };
        let scanned = scan(cutter, reading, scanning, header.next_line, |piece| collector.collect(piece));
        if let Some(full) = collector.full {
            return Err(full.into());
        }
        scanned.map_err(ReadError::Scan)?;
        let Collector { mut table, mut differs, unused, .. } = collector;
        table.blocks.shrink_to_fit();
        let gone: Vec<KnownBlock> = match comparable {
            Some(old) => unused.blocks(&old.blocks).collect(),
            None => old.map_or_else(Vec::new, |old| old.blocks.clone()),
        };
        differs |= !gone.is_empty();
        if let Some(old) = comparable {
            let gone_rows: usize = gone.iter().map(|block| block.rows as usize).sum();
            table.rows += old.rows - gone_rows;
        }
        draft.free.extend(gone.iter().map(|block| block.number));
        draft.removed.extend(gone);
        Ok((table, differs))
    }

    /// TOML is read whole: its tables have no ends that a line shows.
    fn toml(&self, text: Text<'_>, old: Option<&TableFile>, draft: &mut Draft) -> Result<(TableFile, bool), ReadError> {
        let content = self.whole(text.reader)?;
        let hash = self.key.hasher().hash(content.as_bytes());
        let header = format!("{:016x}{:016x}", hash[0], hash[1]);
        if let Some(old) = old.filter(|old| old.header == header) {
            return Ok((old.clone(), false));
        }
        let file = draft.file_number(&text.name);
        let context = RowContext { suffixes: self.suffixes, year: self.year, file: &text.name };
        let provider = &self.settings.provider;
        let reading = Reading { format: Format::Toml, context, dictionary: self.dictionary, provider, columns: &[] };
        let mut table = TableFile { header, ..TableFile::default() };
        let mut runs = Vec::new();
        let parse = || parse_toml(&mut BlockReader::new(reading), &content, &mut runs);
        let found = self.progress.spend(Phase::Parse, parse)?;
        self.progress.count(runs.iter().map(Rows::len).sum(), found.issues.len());
        draft.parsed_octets += content.len();
        let mut found = Some(found);
        for mut rows in runs {
            table.rows += rows.len();
            let count = u32::try_from(rows.len()).expect("a run is below a chunk");
            // Lines count from the file's first.
            let number = draft.number(file, 1);
            let begin = draft.builder.append(&mut rows, &[(0, number)])?;
            let end = begin + u32::try_from(rows.entries.len()).expect("a run is below a chunk");
            let block = KnownBlock { hash, number, octets: 0, lines: 0, rows: count, begin, end };
            table.blocks.push(block);
            draft.added.push(block);
            if let Some(found) = found.take().filter(|found| !found.issues.is_empty()) {
                table.findings.insert(number, Arc::new(found));
            }
        }
        let gone = old.map_or(&[][..], |old| &old.blocks);
        draft.free.extend(gone.iter().map(|block| block.number));
        draft.removed.extend_from_slice(gone);
        Ok((table, true))
    }

    fn whole(&self, reader: impl Read) -> Result<String, ReadError> {
        self.progress.spend(Phase::Read, || source::read_text(reader)).map_err(|error| ReadError::Scan(error.into()))
    }

    //--- Changes files -----------------------------------------------------------------------------------------------

    /// The quick look at a changes file: same file, longer, and what stood before its old end still stands there.
    fn appended(&self, path: &Path, name: &Arc<str>, old: &FileState) -> Option<FileChange> {
        /// Octets before the old end that are compared; the slow look compares all.
        const COMPARED_OCTETS: usize = 64 << 10;
        let Content::Changes(changes) = &old.content else { return None };
        let mut file = std::fs::File::open(path).ok()?;
        let stamp = Stamp::of(&file).ok()?;
        let old_octets = changes.text.len();
        // A file that is packed or has a mark or another encoding is longer or shorter than its text.
        let is_plain = old.stamp.octets == old_octets as u64 && !name.ends_with(".gz") && !name.ends_with(".zst");
        let is_longer = stamp.identity == old.stamp.identity && stamp.octets > old.stamp.octets;
        if !is_plain || !is_longer || self.settings.encoding != super::settings::Encoding::Utf8 {
            return None;
        }
        let compared = old_octets.min(COMPARED_OCTETS);
        file.seek(SeekFrom::Start((old_octets - compared) as u64)).ok()?;
        let mut tail = Vec::new();
        file.take(stamp.octets - (old_octets - compared) as u64).read_to_end(&mut tail).ok()?;
        if tail.get(..compared)? != &changes.text.as_bytes()[old_octets - compared..] || tail.len() <= compared {
            return None;
        }
        let new = std::str::from_utf8(&tail[compared..]).ok()?;
        let mut text = String::clone(&changes.text);
        text.push_str(new);
        self.extended(changes, text, name, stamp)
    }

    fn changes(&self, text: Text<'_>, old: Option<&FileState>) -> Result<FileChange, ReadError> {
        let (name, stamp) = (text.name, text.stamp);
        let content = self.whole(text.reader)?;
        let old_changes = match old.map(|old| &old.content) {
            Some(Content::Changes(changes)) => Some(changes),
            _ => None,
        };
        if let Some(changes) = old_changes {
            if *changes.text == content {
                let state =
                    FileState { stamp, is_fresh: stamp.is_fresh(self.now), content: Content::Changes(changes.clone()) };
                return Ok(FileChange::None(Some(state)));
            }
            if content.starts_with(&changes.text[..changes.whole_octets])
                && let Some(change) = self.extended(changes, content.clone(), &name, stamp)
            {
                return Ok(change);
            }
        }
        let empty = ChangesFile::default();
        let parsed = self.parse_changes(&empty, &content, &name);
        let changes = following(&empty, content, &parsed);
        if changes.bad_lines > self.settings.max_bad_rows {
            return Err(ReadError::Scan(too_many_bad_lines(&changes, self.settings.max_bad_rows).into()));
        }
        let state = FileState { stamp, is_fresh: stamp.is_fresh(self.now), content: Content::Changes(changes) };
        Ok(FileChange::Replaced(state))
    }

    /// Old events and the new ones behind them; `None` when there are too many bad lines, which the slow look reports.
    fn extended(&self, old: &ChangesFile, text: String, name: &Arc<str>, stamp: Stamp) -> Option<FileChange> {
        let parsed = self.parse_changes(old, &text, name);
        let changes = following(old, text, &parsed);
        if changes.bad_lines > self.settings.max_bad_rows {
            return None;
        }
        let state = FileState { stamp, is_fresh: stamp.is_fresh(self.now), content: Content::Changes(changes) };
        Some(FileChange::Appended(state, parsed))
    }

    fn parse_changes(&self, old: &ChangesFile, text: &str, name: &Arc<str>) -> ParsedChanges {
        let context = RowContext { suffixes: self.suffixes, year: self.year, file: name };
        parse_changes(context, &text[old.whole_octets..], old.whole_lines + 1)
    }

    /// The events of a whole changes file, to apply them anew.
    pub fn events(&self, changes: &ChangesFile, name: &Arc<str>) -> Vec<super::event::Event> {
        let context = RowContext { suffixes: self.suffixes, year: self.year, file: name };
        parse_changes(context, &changes.text, 1).events
    }
}

/// What is remembered once `parsed` came behind `old`.
fn following(old: &ChangesFile, text: String, parsed: &ParsedChanges) -> ChangesFile {
    // What was said of an unfinished line is said again if it still is one.
    let of_whole_lines = old.issues.iter().filter(|issue| issue.line <= old.whole_lines);
    let issues = of_whole_lines.chain(&parsed.issues).take(ISSUES_MAX).cloned().collect();
    ChangesFile {
        text: Arc::new(text),
        whole_octets: old.whole_octets + parsed.whole_octets,
        whole_lines: old.whole_lines + parsed.whole_lines,
        events: old.events + parsed.events.len(),
        bad_lines: old.bad_lines + parsed.bad_lines,
        issues: Arc::new(issues),
    }
}

/// The format a name tells.
pub fn format_of(name: &str) -> Result<Format, String> {
    Format::of(name)
        .ok_or_else(|| "unknown extension; expected .csv, .jsonl, .toml or .changes.jsonl, also .gz or .zst".to_owned())
}

/// Why a file cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The registry is full.
    #[error(transparent)]
    Full(#[from] ArenaFull),
    /// The file is unfit.
    #[error(transparent)]
    Scan(ScanError),
}

impl From<FileError> for ReadError {
    fn from(error: FileError) -> Self {
        Self::Scan(error.into())
    }
}

fn too_many_bad_rows(table: &TableFile, places: &Places, found: usize, allowed: usize) -> FileError {
    let first = table.blocks.iter().find_map(|block| {
        let findings = table.findings.get(&block.number)?;
        let issue = findings.issues.iter().find(|issue| issue.severity == Severity::Error)?;
        Some(issue.below(places.of(block.number).1).to_string())
    });
    FileError::TooManyBadRows { found, allowed, first: first.unwrap_or_default() }
}

fn too_many_bad_lines(changes: &ChangesFile, allowed: usize) -> FileError {
    let first = changes.issues.iter().find(|issue| issue.severity == Severity::Error).map(ToString::to_string);
    FileError::TooManyBadRows { found: changes.bad_lines, allowed, first: first.unwrap_or_default() }
}
