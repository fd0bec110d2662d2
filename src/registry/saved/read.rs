//! Reading: every count, place and name is checked before it is used.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::signature::{Signed, digest_of, verify};
use super::{
    Circumstances, HEAD, Kind, MAGIC, PublicKeys, SECTION_OCTETS_MAX, SECTIONS_MAX, SavedError, TABLE_LINE, VERSION,
    checksum,
};
use crate::model::DomainName;
use crate::registry::arena::{Arena, CHUNK_OCTETS_MAX, Chunk, Places, split};
use crate::registry::block::Findings;
use crate::registry::buckets::{Buckets, Rows};
use crate::registry::code::Codes;
use crate::registry::cores::on_all_cores;
use crate::registry::dictionary::{Dictionary, TEXTS_MAX};
use crate::registry::entry::{Entry, is_sound};
use crate::registry::files::{ChangesFile, Content, FileState, KnownBlock, TableFile};
use crate::registry::index::{NameKey, Slots};
use crate::registry::issue::{Issue, Severity, known_rule};
use crate::registry::memory::Memory;
use crate::registry::scan::BlockKey;
use crate::registry::source::Stamp;
use crate::registry::state::{Events, State};
use crate::registry::table::{Table, Tally};

/// One line of the section table.
#[derive(Clone, Copy)]
struct Section {
    kind: u32,
    number: usize,
    place: u64,
    length: u64,
    checksum: [u8; 16],
}

/// Reads the state that `path` holds, if it was written under the same circumstances.
pub fn read(path: &Path, circumstances: &Circumstances) -> Result<State, SavedError> {
    read_for(path, circumstances, None)
}

/// As [`read`], if one of `keys` signed it.
pub fn read_signed(path: &Path, circumstances: &Circumstances, keys: &PublicKeys) -> Result<State, SavedError> {
    read_for(path, circumstances, Some(keys))
}

fn read_for(path: &Path, circumstances: &Circumstances, keys: Option<&PublicKeys>) -> Result<State, SavedError> {
    let mut file = File::open(path)?;
    let sections = read_sections(&mut file)?;
    let contents = read_contents(path, &sections)?;
    if let Some(keys) = keys {
        check_signature(keys, &sections, &contents)?;
    }
    let of = |kind: Kind, number: usize| {
        let at = sections.iter().position(|section| section.kind == kind as u32 && section.number == number);
        at.ok_or(SavedError::Damaged("a section is missing"))
    };
    let mut contents: Vec<Option<Memory>> = contents.into_iter().map(Some).collect();
    let mut take = |kind: Kind, number: usize| -> Result<Memory, SavedError> {
        contents[of(kind, number)?].take().ok_or(SavedError::Damaged("a section is there twice"))
    };
    let named = take(Kind::Circumstances, 0)?;
    let mut codes = Codes::new(&named);
    for (what, expected) in circumstances.named() {
        let found = codes.text().to_owned();
        if found != expected {
            return Err(SavedError::Other { what, found, expected });
        }
    }
    let chunk_count = sections.iter().filter(|section| section.kind == Kind::Entries as u32).count();
    let mut chunks = Vec::with_capacity(chunk_count);
    for number in 0..chunk_count {
        let blocks = read_pairs(&take(Kind::Blocks, number)?);
        let (entries, cold) = (take(Kind::Entries, number)?, take(Kind::Cold, number)?);
        chunks.push(Arc::new(Chunk::new(entries, cold, blocks)));
    }
    let arena = Arena::from_chunks(chunks);
    let begins = entry_begins(&arena)?;
    let no_table = || SavedError::Damaged("a look-up table is none");
    let overlay = Slots::from_octets(take(Kind::Overlay, 0)?).ok_or_else(no_table)?;
    check(overlay.positions(), &begins)?;
    let base = Buckets::from_octets(take(Kind::Base, 0)?, &begins).ok_or_else(no_table)?;
    let mut state = State::default();
    let texts = take(Kind::Texts, 0)?;
    let mut codes = Codes::new(&texts);
    let dictionary = Dictionary::default();
    for number in 0..bounded(codes.number(), TEXTS_MAX)? {
        if dictionary.number(codes.text()) != u32::try_from(number).ok() {
            return Err(SavedError::Damaged("a shared text is there twice"));
        }
    }
    let places = read_places(&take(Kind::Places, 0)?)?;
    read_figures(&mut state, &take(Kind::Figures, 0)?)?;
    state.files = read_files(&take(Kind::Files, 0)?, &begins)?;
    read_rows_of(&mut state, &take(Kind::RowsOf, 0)?, &begins)?;
    state.events = read_events(&take(Kind::Events, 0)?)?;
    let (key, tally) = (state.table.key, state.table.tally);
    state.table = Table {
        base: Arc::new(base),
        overlay: Arc::new(overlay),
        arena,
        dictionary: Arc::new(dictionary),
        places: Arc::new(places),
        key,
        tally,
    };
    Ok(state)
}

fn read_sections(file: &mut File) -> Result<Vec<Section>, SavedError> {
    let octets = file.metadata()?.len();
    let mut head = [0; HEAD];
    file.read_exact(&mut head).map_err(|_| SavedError::NotASnapshot)?;
    let word = |octets: &[u8]| u32::from_le_bytes(octets.try_into().expect("four octets"));
    let long = |octets: &[u8]| u64::from_le_bytes(octets.try_into().expect("eight octets"));
    if head[..8] != MAGIC {
        return Err(SavedError::NotASnapshot);
    }
    let (version, count) = (word(&head[8..12]), word(&head[12..16]) as usize);
    if version != VERSION {
        let (found, expected) = (version.to_string(), VERSION.to_string());
        return Err(SavedError::Other { what: "format", found, expected });
    }
    if count > SECTIONS_MAX {
        return Err(SavedError::Damaged("too many sections"));
    }
    let mut rest = vec![0; count * TABLE_LINE + 16];
    file.read_exact(&mut rest).map_err(|_| SavedError::Damaged("the section table is cut"))?;
    let (table, sum) = rest.split_at(count * TABLE_LINE);
    let mut whole = head.to_vec();
    whole.extend_from_slice(table);
    if checksum(&whole) != *sum {
        return Err(SavedError::Damaged("the section table's checksum differs"));
    }
    let sections = table.chunks_exact(TABLE_LINE).map(|line| Section {
        kind: word(&line[..4]),
        number: word(&line[4..8]) as usize,
        place: long(&line[8..16]),
        length: long(&line[16..24]),
        checksum: line[24..].try_into().expect("sixteen octets"),
    });
    let sections: Vec<Section> = sections.collect();
    let fits = |section: &Section| {
        section.length <= SECTION_OCTETS_MAX
            && section.place.checked_add(section.length).is_some_and(|end| end <= octets)
    };
    if sections.iter().all(fits) { Ok(sections) } else { Err(SavedError::Damaged("it is shorter than its sections")) }
}

/// Reads and checks every section.
fn read_contents(path: &Path, sections: &[Section]) -> Result<Vec<Memory>, SavedError> {
    each_on_all_cores(sections, |section| {
        let length = usize::try_from(section.length).map_err(io::Error::other)?;
        let mut octets = Memory::zeroed(length);
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(section.place))?;
        file.read_exact(&mut octets)?;
        if checksum(&octets) == section.checksum {
            Ok(octets)
        } else {
            Err(SavedError::Damaged("a section's checksum differs"))
        }
    })
}

/// Checks that one of `keys` vouches for what was read.
fn check_signature(keys: &PublicKeys, sections: &[Section], contents: &[Memory]) -> Result<(), SavedError> {
    let is_signature = |section: &Section| section.kind == Kind::Signature as u32;
    let mut signatures = sections.iter().zip(contents).filter(|(section, _)| is_signature(section));
    let Some((_, signature)) = signatures.next() else { return Err(SavedError::Unsigned(keys.clone())) };
    if signatures.next().is_some() {
        return Err(SavedError::Damaged("it has two signatures"));
    }
    let others: Vec<_> = sections.iter().zip(contents).filter(|(section, _)| !is_signature(section)).collect();
    let signed = each_on_all_cores(&others, |(section, octets)| {
        let Section { kind, number, .. } = **section;
        Ok(Signed { kind, number, length: octets.len(), digest: digest_of(octets) })
    })?;
    verify(keys, signature, signed.into_iter())
}

/// What `work` makes of each item, in their order; the first error of any.
fn each_on_all_cores<I: Sync, T: Send>(
    items: &[I],
    work: impl Fn(&I) -> Result<T, SavedError> + Sync,
) -> Result<Vec<T>, SavedError> {
    on_all_cores(items, work).ok_or(SavedError::Damaged("a reader broke off"))?.into_iter().collect()
}

/// Which octets of each chunk begin an entry.
struct Begins {
    /// One bit an octet, in huge pages: they are asked in the order of the look-up table, which is none.
    bits: Memory,
    chunks: Vec<BeginsOfChunk>,
}

/// A chunk's part of the bits.
#[derive(Clone, Copy, Debug)]
struct BeginsOfChunk {
    /// Where its bits begin.
    at: usize,
    /// Its octets.
    length: usize,
}

impl Rows for Begins {
    fn contains(&self, position: u32) -> bool {
        let (chunk, offset) = split(position);
        let Some(chunk) = self.chunks.get(chunk) else { return false };
        offset < chunk.length && self.bits[chunk.at + offset / 8] >> (offset % 8) & 1 != 0
    }

    fn ask_for(&self, position: u32) {
        let (chunk, offset) = split(position);
        if let Some(chunk) = self.chunks.get(chunk) {
            self.bits.ask_for(chunk.at + offset / 8);
        }
    }
}

impl Begins {
    /// True when rows from `begin` to `end` are whole.
    fn hold(&self, begin: u32, end: u32) -> bool {
        let ((chunk, _), (same, end_offset)) = (split(begin), split(end));
        let ends_chunk = self.chunks.get(chunk).is_some_and(|chunk| chunk.length == end_offset);
        begin == end || (chunk == same && begin < end && self.contains(begin) && (ends_chunk || self.contains(end)))
    }
}

/// Walks every chunk from entry to entry.
fn entry_begins(arena: &Arena) -> Result<Begins, SavedError> {
    let found = each_on_all_cores(arena.chunks(), |chunk| begins_of(&chunk.entries))?;
    let mut bits = Memory::zeroed(found.iter().map(Vec::len).sum());
    let mut at = 0;
    let chunks = arena.chunks().iter().zip(&found).map(|(chunk, found)| {
        let begin = at;
        at += found.len();
        bits[begin..at].copy_from_slice(found);
        BeginsOfChunk { at: begin, length: chunk.entries.len() }
    });
    let chunks = chunks.collect();
    Ok(Begins { bits, chunks })
}

fn begins_of(entries: &[u8]) -> Result<Vec<u8>, SavedError> {
    if entries.len() > CHUNK_OCTETS_MAX {
        return Err(SavedError::Damaged("a chunk is too long"));
    }
    let mut res = vec![0; entries.len() / 8 + 1];
    let mut at = 1;
    while at < entries.len() {
        if !is_sound(entries, at) {
            return Err(SavedError::Damaged("an entry is cut"));
        }
        res[at / 8] |= 1 << (at % 8);
        at += Entry::at(entries, at).octets();
    }
    Ok(res)
}

fn check(mut positions: impl Iterator<Item = u32>, begins: &Begins) -> Result<(), SavedError> {
    if positions.all(|position| begins.contains(position)) {
        Ok(())
    } else {
        Err(SavedError::Damaged("a row is nowhere"))
    }
}

/// A count that says how much follows; what does not follow cannot be that much.
fn bounded(count: u64, most: usize) -> Result<usize, SavedError> {
    usize::try_from(count).ok().filter(|&count| count <= most).ok_or(SavedError::Damaged("a count is too large"))
}

fn read_pairs(octets: &[u8]) -> Vec<(u32, u32)> {
    let word = |octets: &[u8]| u32::from_le_bytes(octets.try_into().expect("four octets"));
    octets.chunks_exact(8).map(|pair| (word(&pair[..4]), word(&pair[4..]))).collect()
}

fn read_places(octets: &[u8]) -> Result<Places, SavedError> {
    let mut codes = Codes::new(octets);
    let count = bounded(codes.number(), octets.len())?;
    let files = (0..count).map(|_| codes.text().into()).collect();
    Ok(Places { files, blocks: read_pairs(codes.rest()) })
}

fn read_figures(state: &mut State, octets: &[u8]) -> Result<(), SavedError> {
    let mut codes = Codes::new(octets);
    state.table.key = NameKey::Secret(codes.number(), codes.number());
    state.key = BlockKey(codes.number(), codes.number());
    let digest = codes.number();
    let mut by_status = [0; 5];
    for count in &mut by_status {
        *count = bounded(codes.number(), u32::MAX as usize)?;
    }
    state.table.tally = Tally { by_status, digest };
    let count = bounded(codes.number(), octets.len())?;
    state.free = (0..count).map(|_| u32::try_from(codes.number()).unwrap_or(0)).collect();
    Ok(())
}

fn read_files(octets: &[u8], begins: &Begins) -> Result<BTreeMap<PathBuf, Arc<FileState>>, SavedError> {
    let mut codes = Codes::new(octets);
    let mut res = BTreeMap::new();
    for _ in 0..bounded(codes.number(), octets.len())? {
        let path = PathBuf::from(codes.text());
        let (octets, identity) = (codes.number(), (codes.number(), codes.number()));
        let changed = (codes.long(), codes.long());
        let stamp = Stamp { octets, identity, changed };
        let is_fresh = codes.octet() != 0;
        let content = match codes.octet() {
            0 => Content::Table(read_table(&mut codes, begins)?),
            _ => Content::Changes(read_changes(&mut codes)?),
        };
        res.insert(path, Arc::new(FileState { stamp, is_fresh, content }));
    }
    Ok(res)
}

fn read_table(codes: &mut Codes<'_>, begins: &Begins) -> Result<TableFile, SavedError> {
    /// Octets of a block.
    const BLOCK: usize = 40;
    let mut res = TableFile { header: codes.text().to_owned(), ..TableFile::default() };
    res.rows = bounded(codes.number(), u32::MAX as usize)?;
    let count = bounded(codes.number(), codes.rest().len() / BLOCK)?;
    res.blocks.reserve_exact(count);
    for _ in 0..count {
        let block = codes.take(BLOCK);
        let long = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight octets"));
        let word = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("four octets"));
        let hash = [long(0), long(8)];
        let [number, octets, lines, rows, begin, end] = [16, 20, 24, 28, 32, 36].map(word);
        let block = KnownBlock { hash, number, octets, lines, rows, begin, end };
        if !begins.hold(block.begin, block.end) {
            return Err(SavedError::Damaged("a block is nowhere"));
        }
        res.blocks.push(block);
    }
    for _ in 0..bounded(codes.number(), codes.rest().len())? {
        let number = u32::try_from(codes.number()).unwrap_or(0);
        let bad_rows = u32::try_from(codes.number()).unwrap_or(0);
        let issues = read_issues(codes)?;
        res.findings.insert(number, Arc::new(Findings { issues, bad_rows }));
    }
    Ok(res)
}

fn read_changes(codes: &mut Codes<'_>) -> Result<ChangesFile, SavedError> {
    let text = codes.text().to_owned();
    let whole_octets = bounded(codes.number(), text.len())?;
    if !text.is_char_boundary(whole_octets) {
        return Err(SavedError::Damaged("a line ends inside a character"));
    }
    Ok(ChangesFile {
        whole_octets,
        text: Arc::new(text),
        whole_lines: u32::try_from(codes.number()).unwrap_or(0),
        events: bounded(codes.number(), u32::MAX as usize)?,
        bad_lines: bounded(codes.number(), u32::MAX as usize)?,
        issues: Arc::new(read_issues(codes)?),
    })
}

fn read_issues(codes: &mut Codes<'_>) -> Result<Vec<Issue>, SavedError> {
    let count = bounded(codes.number(), codes.rest().len())?;
    let mut res = Vec::with_capacity(count);
    for _ in 0..count {
        let severity = match codes.octet() {
            0 => Severity::Info,
            1 => Severity::Warning,
            _ => Severity::Error,
        };
        let rule = known_rule(codes.text());
        let file: Arc<str> = codes.text().into();
        let mut text = || codes.text().to_owned();
        let (key, value, message) = (text(), text(), text());
        let (line, column) = (u32::try_from(codes.number()).unwrap_or(0), u32::try_from(codes.number()).unwrap_or(0));
        res.push(Issue { column, ..Issue::at(severity, rule, &file, line, message) }.in_cell(&key, column, &value));
    }
    Ok(res)
}

fn read_rows_of(state: &mut State, octets: &[u8], begins: &Begins) -> Result<(), SavedError> {
    let mut codes = Codes::new(octets);
    let rows_of = Arc::make_mut(&mut state.rows_of);
    for _ in 0..bounded(codes.number(), octets.len())? {
        let name = read_name(&mut codes)?;
        let count = bounded(codes.number(), octets.len())?;
        let rows: Vec<u32> = (0..count).map(|_| u32::try_from(codes.number()).unwrap_or(0)).collect();
        check(rows.iter().copied(), begins)?;
        rows_of.insert(name, rows);
    }
    let contested = Arc::make_mut(&mut state.contested);
    for _ in 0..bounded(codes.number(), octets.len())? {
        contested.insert(read_name(&mut codes)?);
    }
    Ok(())
}

fn read_events(octets: &[u8]) -> Result<Events, SavedError> {
    let mut codes = Codes::new(octets);
    let mut res = Events::default();
    for _ in 0..bounded(codes.number(), octets.len())? {
        res.names.insert(read_name(&mut codes)?);
    }
    res.issues = read_issues(&mut codes)?;
    for _ in 0..bounded(codes.number(), octets.len())? {
        res.last_seq.insert(PathBuf::from(codes.text()), codes.number());
    }
    for _ in 0..bounded(codes.number(), octets.len())? {
        let at = std::time::UNIX_EPOCH + Duration::from_secs(codes.number().min(u64::from(u32::MAX)));
        let length = bounded(codes.number(), crate::model::name::NAME_OCTETS_MAX)?;
        let name = codes.take(length);
        res.waiting.push((at, DomainName::from_wire(&name).ok().map(|(name, _)| name)));
    }
    for _ in 0..bounded(codes.number(), octets.len())? {
        res.blocks.insert(PathBuf::from(codes.text()), u32::try_from(codes.number()).unwrap_or(0));
    }
    Ok(res)
}

/// A name in wire form.
fn read_name(codes: &mut Codes<'_>) -> Result<Box<[u8]>, SavedError> {
    let length = bounded(codes.number(), crate::model::name::NAME_OCTETS_MAX)?;
    let octets = codes.take(length);
    match DomainName::from_wire(&octets) {
        Ok((name, used)) if used == octets.len() && *name.wire() == *octets => Ok(octets[..].into()),
        Ok(_) | Err(_) => Err(SavedError::Damaged("a name is none")),
    }
}
