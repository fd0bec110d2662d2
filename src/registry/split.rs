//! Text into records, records into blocks, files into pieces of whole blocks.
//!
//! A block ends after a record whose hash says so, so equal stretches of two versions of a file are cut alike wherever
//! they stand, and a change is felt in its own block only. Pieces are what workers take: many blocks, never half of one.
//! Line feeds inside quotes end no record of a CSV; the quoting is the one of the `csv` reader.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use memchr::memchr;

use super::parse::ROW_OCTETS_MAX;
use crate::priority::Turns;

/// One record in so many ends a block: some four kilobytes of a usual table, so that an edit costs a few dozen rows and ten
/// million rows are no more than a third of a million blocks to remember.
const RECORDS_PER_BLOCK: u64 = 32;
/// A block of records that all refuse to end one ends here.
const BLOCK_RECORDS_MAX: u32 = 512;
/// Octets a piece has before its end is looked for.
const PIECE_OCTETS: usize = 1 << 20;
/// Octets read at a time: some twenty microseconds in which nobody else has the processor.
const READ_OCTETS: usize = 128 << 10;
/// How far the end of a piece is looked for at first.
const PIECE_OVERHANG: usize = 16 << 10;
/// How far it is looked for at most; behind that any record will do.
const PIECE_OVERHANG_MAX: usize = 512 << 10;

/// How records of a text are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoting {
    /// By quotes, as in a CSV.
    Csv,
    /// Lines only.
    None,
}

/// A record: where it ends, its line feed included, and how many lines it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Octets, line feed included.
    pub octets: usize,
    /// Lines; more than one only inside quotes.
    pub lines: u32,
    /// Whether splitting at commas would be wrong.
    pub quotes: Quotes,
}

/// What quotes a record has. A lone carriage return counts as one: it makes a record several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotes {
    /// All are closed.
    Closed,
    /// None.
    None,
    /// One is open where the text ends.
    Open,
    /// One is not closed within [`ROW_OCTETS_MAX`] octets.
    Stray,
}

/// The record at the start of `text`; `None` at its end. A quote that is not closed within [`ROW_OCTETS_MAX`] octets
/// counts as none: one stray quote must not swallow the rest of a file.
pub fn next_record(text: &[u8], quoting: Quoting) -> Option<Record> {
    next_record_in(text, quoting, Reach::File)
}

/// How far a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To the end of the file, or of what is known of it.
    File,
    /// To the end of some whole records: who cut there saw more. A quote that is open then was told to be a stray one.
    Records,
}

/// As [`next_record`], for a text that goes so far.
pub fn next_record_in(text: &[u8], quoting: Quoting, reach: Reach) -> Option<Record> {
    if text.is_empty() {
        return None;
    }
    let line = memchr(b'\n', text).map_or(text.len(), |at| at + 1);
    if quoting == Quoting::None || text[0] == b'#' {
        return Some(Record { octets: line, lines: 1, quotes: Quotes::None });
    }
    let content = text[..line].strip_suffix(b"\n").unwrap_or(&text[..line]);
    let content = content.strip_suffix(b"\r").unwrap_or(content);
    if memchr::memchr2(b'"', b'\r', content).is_none() {
        return Some(Record { octets: line, lines: 1, quotes: Quotes::None });
    }
    let (octets, quotes) = match quoted_record(&text[..text.len().min(ROW_OCTETS_MAX)]) {
        Ok(octets) => (octets, Quotes::Closed),
        Err(is_open) if text.len() > ROW_OCTETS_MAX || (is_open && reach == Reach::Records) => (line, Quotes::Stray),
        Err(is_open) => (text.len(), if is_open { Quotes::Open } else { Quotes::Closed }),
    };
    let feeds = memchr::memchr_iter(b'\n', &text[..octets]).count();
    let lines = u32::try_from(feeds).unwrap_or(u32::MAX).max(1);
    Some(Record { octets, lines, quotes })
}

/// Where in a field a CSV reader stands.
enum Field {
    Begin,
    /// A `#` began the record: nothing counts up to the line feed.
    Comment,
    Plain,
    QuoteInQuoted,
    Quoted,
    /// Before the first field, where a comment may begin.
    RecordBegin,
}

/// The end of the record at the start of `text`, by the rules of the `csv` reader. When `text` ends before it, tells
/// whether that is inside quotes.
fn quoted_record(text: &[u8]) -> Result<usize, bool> {
    let mut field = Field::RecordBegin;
    for (at, &octet) in text.iter().enumerate() {
        field = match (field, octet) {
            (Field::Quoted, b'"') => Field::QuoteInQuoted,
            (Field::Quoted, _) | (Field::QuoteInQuoted | Field::Begin | Field::RecordBegin, b'"') => Field::Quoted,
            (_, b'\n') => return Ok(at + 1),
            (Field::Comment, _) | (Field::RecordBegin, b'#') => Field::Comment,
            // A lone carriage return ends a record too.
            (_, b'\r') => Field::RecordBegin,
            (_, b',') => Field::Begin,
            _ => Field::Plain,
        };
    }
    Err(matches!(field, Field::Quoted))
}

/// True when a record with these octets ends its block: a fixed function of its length and of what stands at its ends,
/// where names and dates usually are. It decides how much an edit costs, nothing else.
fn ends_block(record: &[u8]) -> bool {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let word = |at: usize| match record.get(at..at + 8) {
        Some(octets) => u64::from_le_bytes(octets.try_into().expect("eight octets")),
        None => record.get(at..).unwrap_or_default().iter().fold(0, |sum, &octet| sum << 8 | u64::from(octet)),
    };
    let last = record.len().saturating_sub(8);
    let words = [word(0), word(8), word(16), word(last.saturating_sub(24)), word(last)];
    let sum = words.iter().fold(record.len() as u64, |sum, word| (sum ^ word).wrapping_mul(MULTIPLIER).rotate_left(29));
    (sum.wrapping_mul(MULTIPLIER) >> 40).is_multiple_of(RECORDS_PER_BLOCK)
}

/// A run of whole records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Octets.
    pub octets: usize,
    /// Lines.
    pub lines: u32,
}

/// The block at the start of `text`, which goes so far; `None` at its end.
pub fn next_block(text: &[u8], quoting: Quoting, reach: Reach) -> Option<Block> {
    let (mut octets, mut lines, mut records) = (0, 0, 0);
    while let Some(record) = next_record_in(&text[octets..], quoting, reach) {
        let is_end = ends_block(&text[octets..octets + record.octets]);
        octets += record.octets;
        lines += record.lines;
        records += 1;
        if is_end || records == BLOCK_RECORDS_MAX {
            break;
        }
    }
    (octets > 0).then_some(Block { octets, lines })
}

/// Buffers of pieces that were read, for the next ones.
#[derive(Default)]
pub struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// Takes a buffer back.
    pub fn put(&self, buffer: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }

    fn get(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }
}

/// Cuts what a reader gives into pieces of whole blocks.
pub struct Cutter<'a, R> {
    reader: R,
    quoting: Quoting,
    /// Read and not yet given out: the first `filled` octets.
    rest: Vec<u8>,
    filled: usize,
    is_at_end: bool,
    buffers: &'a Buffers,
    turns: Turns,
}

/// Some blocks of a file.
#[derive(Debug)]
pub struct Piece {
    /// Holds their text at its beginning.
    pub buffer: Vec<u8>,
    /// Octets of text.
    pub octets: usize,
    /// True for the last one.
    pub is_last: bool,
}

impl Piece {
    /// The text.
    pub fn text(&self) -> &[u8] {
        &self.buffer[..self.octets]
    }
}

impl<'a, R: Read> Cutter<'a, R> {
    /// A cutter that gives out `begun` first.
    pub fn new(begun: Vec<u8>, reader: R, quoting: Quoting, buffers: &'a Buffers) -> Self {
        let filled = begun.len();
        Self { reader, quoting, rest: begun, filled, is_at_end: false, buffers, turns: Turns::new() }
    }

    /// The next piece; `None` after the last. There is always a last one, if only an empty one.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        if self.is_at_end && self.filled == 0 {
            return Ok(None);
        }
        let mut wanted = PIECE_OCTETS + PIECE_OVERHANG;
        loop {
            self.fill(wanted)?;
            let is_all = self.is_at_end && self.filled <= PIECE_OCTETS + PIECE_OVERHANG_MAX;
            let end =
                if is_all { Some(self.filled) } else { self.piece_end(wanted > PIECE_OCTETS + PIECE_OVERHANG_MAX) };
            if let Some(end) = end {
                return Ok(Some(self.give(end)));
            }
            wanted = self.filled + PIECE_OVERHANG;
            if self.is_at_end {
                return Ok(Some(self.give(self.filled)));
            }
        }
    }

    fn give(&mut self, end: usize) -> Piece {
        let mut next = self.buffers.get();
        let left = &self.rest[end..self.filled];
        if next.len() < left.len() {
            next.resize(left.len(), 0);
        }
        next[..left.len()].copy_from_slice(left);
        self.filled = left.len();
        let buffer = std::mem::replace(&mut self.rest, next);
        Piece { buffer, octets: end, is_last: self.is_at_end && self.filled == 0 }
    }

    fn fill(&mut self, octets: usize) -> io::Result<()> {
        if self.rest.len() < octets {
            self.rest.resize(octets, 0);
        }
        while !self.is_at_end && self.filled < octets {
            let end = octets.min(self.filled + READ_OCTETS);
            self.turns.offer();
            match self.reader.read(&mut self.rest[self.filled..end]) {
                Ok(count) => {
                    self.filled += count;
                    self.is_at_end = count == 0;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The end of the first block that ends behind [`PIECE_OCTETS`]; of the last record if `any` will do.
    fn piece_end(&self, any: bool) -> Option<usize> {
        let rest = &self.rest[..self.filled];
        let may_be_quoted = self.quoting == Quoting::Csv && memchr::memchr2(b'"', b'\r', rest).is_some();
        let mut at = match may_be_quoted {
            true => 0,
            false => PIECE_OCTETS + memchr(b'\n', rest.get(PIECE_OCTETS..)?)? + 1,
        };
        let mut last_record = None;
        while let Some(record) = next_record(&rest[at..], self.quoting) {
            let end = at + record.octets;
            // What stands at the end of the buffer may go on behind it.
            let is_whole =
                end + ROW_OCTETS_MAX <= rest.len() || (record.quotes == Quotes::None && rest[end - 1] == b'\n');
            if !is_whole {
                break;
            }
            if end > PIECE_OCTETS {
                if ends_block(&rest[at..end]) {
                    return Some(end);
                }
                last_record = Some(end);
            }
            at = end;
        }
        last_record.filter(|_| any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Octets of each record as the `csv` reader sees them.
    fn by_csv(text: &[u8]) -> Vec<Vec<String>> {
        let mut reader =
            csv::ReaderBuilder::new().flexible(true).has_headers(false).comment(Some(b'#')).from_reader(text);
        reader
            .byte_records()
            .map(|record| record.expect("in memory").iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect())
            .collect()
    }

    proptest! {
        #[test]
        fn records_are_those_of_the_csv_reader(text in "([ab,#\"]|\r?\n|\r|\"\"){0,60}") {
            let mut found = Vec::new();
            let mut rest = text.as_bytes();
            let mut lines = 0;
            while let Some(record) = next_record(rest, Quoting::Csv) {
                let (one, after) = rest.split_at(record.octets);
                found.extend(by_csv(one));
                lines += record.lines as usize;
                rest = after;
            }
            prop_assert_eq!(found, by_csv(text.as_bytes()));
            let feeds = text.matches('\n').count();
            prop_assert!(lines == feeds || lines == feeds + 1, "{} lines of {}", lines, feeds);
        }

    }

    proptest! {
        // Each case is some megabytes.
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn pieces_and_blocks_give_the_text_back(seed in any::<u64>(), quotes in any::<bool>()) {
            let mut text = Vec::new();
            let mut state = seed;
            for n in 0..60_000u64 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n);
                let long = "x".repeat((state >> 58) as usize);
                let quoted = quotes && state % 1000 == 0;
                text.extend_from_slice(format!("d{state},{long},{}\n", if quoted { "\"two\nlines\"" } else { "" }).as_bytes());
            }
            let blocks = |mut text: &[u8]| {
                let mut res = Vec::new();
                while let Some(block) = next_block(text, Quoting::Csv, Reach::File) {
                    res.push(text[..block.octets].to_vec());
                    text = &text[block.octets..];
                }
                res
            };
            let whole = blocks(&text);
            let buffers = Buffers::default();
            let mut cutter = Cutter::new(Vec::new(), &text[..], Quoting::Csv, &buffers);
            let mut cut = Vec::new();
            let mut last = false;
            while let Some(piece) = cutter.next_piece().expect("in memory") {
                prop_assert!(!last);
                cut.extend(blocks(piece.text()));
                last = piece.is_last;
                buffers.put(piece.buffer);
            }
            prop_assert!(last && cut == whole, "{} blocks, {} of the whole", cut.len(), whole.len());
        }
    }

    #[test]
    fn a_stray_quote_costs_its_own_line() {
        let text = format!("a,\"b\n{}", "c,d\n".repeat(50_000));
        let record = next_record(text.as_bytes(), Quoting::Csv).expect("a record");
        assert_eq!((record.octets, record.lines, record.quotes), (5, 1, Quotes::Stray));
        let pieces: usize = {
            let buffers = Buffers::default();
            let mut cutter = Cutter::new(Vec::new(), text.as_bytes(), Quoting::Csv, &buffers);
            std::iter::from_fn(|| cutter.next_piece().expect("in memory")).map(|piece| piece.octets).sum()
        };
        assert_eq!(pieces, text.len());
    }

    #[test]
    fn an_insertion_changes_its_own_block_only() {
        let text: String = (0..5000).map(|n| format!("domain{n}.cn,self\n")).collect();
        let blocks = |text: &str| {
            let mut rest = text.as_bytes();
            let mut res = Vec::new();
            while let Some(block) = next_block(rest, Quoting::None, Reach::File) {
                res.push(rest[..block.octets].to_vec());
                rest = &rest[block.octets..];
            }
            res
        };
        let before = blocks(&text);
        let after = blocks(&text.replace("domain2500.cn", "inserted.cn,self\ndomain2500.cn"));
        let new = after.iter().filter(|block| !before.contains(block)).count();
        assert!(before.len() > 100 && (1..=3).contains(&new), "{} blocks, {new} new", before.len());
    }
}
