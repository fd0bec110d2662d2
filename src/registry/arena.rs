//! The rows of a registry in memory: chunks of arena entries with their cold records, never moved and never changed.
//!
//! A position is the chunk's number and the octet at which an entry begins. Snapshots of several generations share the
//! chunks that did not change. Rows that stand together in a file stand together in a chunk, as blocks; which file and
//! line a block begins on is kept apart ([`Places`]), because that moves when lines are inserted above.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::Filing;
use super::cores::on_all_cores;
use super::dictionary::{Dictionary, Remembered};
use super::entry::{Entry, shift_cold, write_entry, write_tombstone};
use super::memory::{Memory, NamelessFile};
use super::record::{main_number_hashes, read_record, record_octets, split_line, write_record};
use crate::model::{Facts, NameRef};

/// Bits of a position within its chunk.
const OFFSET_BITS: u32 = 24;
/// Octets of entries in one chunk.
pub const CHUNK_OCTETS_MAX: usize = 1 << OFFSET_BITS;
/// Octets of cold records in one chunk.
const COLD_OCTETS_MAX: usize = 64 << 20;
/// Chunks of one registry: what a position can name; some two hundred million rows.
pub const CHUNKS_MAX: usize = 1 << (32 - OFFSET_BITS);

/// More rows than positions can name.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the registry takes more than {CHUNKS_MAX} chunks of {CHUNK_OCTETS_MAX} octets; expected fewer or shorter rows"
)]
pub struct ArenaFull;

/// Entries, their records, and the blocks they stand in.
#[derive(Default)]
pub struct Chunk {
    /// Arena entries; the first octet is unused, so that no position is 0.
    pub entries: Memory,
    /// Cold records.
    pub cold: Memory,
    /// Where each block begins, ascending, with its number.
    pub blocks: Vec<(u32, u32)>,
    /// Where the rows under a main number are: hash and offset, ascending; made when it is first asked for.
    subjects: OnceLock<Vec<(u32, u32)>>,
}

impl Chunk {
    /// Of parts read back.
    pub fn new(entries: Memory, cold: Memory, blocks: Vec<(u32, u32)>) -> Self {
        Self { entries, cold, blocks, subjects: OnceLock::new() }
    }

    fn subjects(&self) -> &[(u32, u32)] {
        self.subjects.get_or_init(|| {
            let mut res = Vec::new();
            let mut at = 1;
            while at < self.entries.len() {
                let entry = Entry::at(&self.entries, at);
                let record = self.cold.get(entry.cold()..).unwrap_or_default();
                let hashes = if entry.is_tombstone() { [None; 2] } else { main_number_hashes(record) };
                let offset = u32::try_from(at).expect("a chunk is below CHUNK_OCTETS_MAX");
                res.extend(hashes.into_iter().flatten().map(|hash| (hash, offset)));
                at += entry.octets();
            }
            res.sort_unstable();
            res.shrink_to_fit();
            res
        })
    }

    fn let_go(&self) {
        self.entries.let_go();
        self.cold.let_go();
    }

    /// Octets of entries and cold records.
    pub fn octets(&self) -> usize {
        self.entries.len() + self.cold.len()
    }
}

/// Chunks under their numbers.
#[derive(Clone, Default)]
pub struct Arena {
    chunks: Vec<Arc<Chunk>>,
}

impl Arena {
    /// The chunks in order.
    pub fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    /// Of chunks read back.
    pub fn from_chunks(chunks: Vec<Arc<Chunk>>) -> Self {
        Self { chunks }
    }

    /// The same chunks without those of these numbers, which are free again.
    pub fn without(&self, numbers: &[usize]) -> Self {
        let mut chunks = self.chunks.clone();
        for &number in numbers {
            chunks[number] = Arc::new(Chunk::default());
        }
        Self { chunks }
    }

    /// The same chunks without those that none of `spans` stands in, which are free again.
    pub fn with_only(&self, spans: &[(u32, u32)]) -> Self {
        let mut stays = vec![false; self.chunks.len()];
        for &(begin, end) in spans {
            // An empty span may stand where no chunk is.
            if let Some(stays) = stays.get_mut(split(begin).0) {
                *stays |= begin < end;
            }
        }
        let gone: Vec<usize> = (0..self.chunks.len()).filter(|&number| !stays[number]).collect();
        self.without(&gone)
    }

    /// The same rows, kept in a file in `directory` that has no name: memory has them only while they are read. Chunks that
    /// `positions` stand in stay where they are.
    pub fn moved_out(&self, directory: &Path, positions: impl Iterator<Item = u32>) -> io::Result<Self> {
        let stay: HashSet<usize> = positions.map(|position| split(position).0).collect();
        let mut file = NamelessFile::create_in(directory)?;
        let mut chunks = Vec::with_capacity(self.chunks.len());
        for (number, chunk) in self.chunks.iter().enumerate() {
            if stay.contains(&number) {
                chunks.push(chunk.clone());
                continue;
            }
            let (entries, cold) = (file.append(&chunk.entries)?, file.append(&chunk.cold)?);
            let (blocks, subjects) = (chunk.blocks.clone(), chunk.subjects.clone());
            chunks.push(Arc::new(Chunk { entries, cold, blocks, subjects }));
        }
        Ok(Self { chunks })
    }

    /// The same rows in memory.
    pub fn brought_back(&self) -> Self {
        let back = |chunk: &Arc<Chunk>| {
            if !chunk.entries.is_in_file() && !chunk.cold.is_in_file() {
                return chunk.clone();
            }
            let (entries, cold) = (chunk.entries.in_memory(), chunk.cold.in_memory());
            let (blocks, subjects) = (chunk.blocks.clone(), chunk.subjects.clone());
            let res = Arc::new(Chunk { entries, cold, blocks, subjects });
            chunk.let_go();
            res
        };
        Self { chunks: self.chunks.iter().map(back).collect() }
    }

    /// True when a chunk is in a file.
    pub fn is_moved_out(&self) -> bool {
        self.chunks.iter().any(|chunk| chunk.entries.is_in_file() || chunk.cold.is_in_file())
    }

    /// Gives back the memory into which rows were read from a file; what is in memory alone stays.
    pub fn let_go(&self) {
        self.chunks.iter().for_each(|chunk| chunk.let_go());
    }

    /// The entry at a position.
    pub fn entry(&self, position: u32) -> Entry<'_> {
        let (chunk, offset) = split(position);
        Entry::at(&self.chunks[chunk].entries, offset)
    }

    /// True when the entry at a position is that of exactly `name`.
    pub fn is_named(&self, position: u32, name: NameRef<'_>) -> bool {
        self.entry(position).is_named(name)
    }

    /// The octets from the cold record of the entry at a position on.
    pub fn record(&self, position: u32) -> &[u8] {
        let (chunk, _) = split(position);
        self.chunks[chunk].cold.get(self.entry(position).cold()..).unwrap_or_default()
    }

    /// The block that the entry at a position stands in.
    pub fn block(&self, position: u32) -> u32 {
        let (chunk, offset) = split(position);
        let blocks = &self.chunks[chunk].blocks;
        let after = blocks.partition_point(|&(begin, _)| begin as usize <= offset);
        after.checked_sub(1).map_or(0, |i| blocks[i].1)
    }

    /// Positions of all entries of chunk `number`, tombstones included, from `begin` to `end`.
    pub fn positions_in(&self, number: usize, begin: u32, end: u32) -> impl Iterator<Item = u32> + '_ {
        let entries = &self.chunks[number].entries;
        let end = (end as usize).min(entries.len());
        let mut at = begin as usize;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let res = join(number, at);
            at += Entry::at(entries, at).octets();
            Some(res)
        })
    }

    /// Positions of the entries from `begin` to `end`, which lie in one chunk.
    pub fn span(&self, begin: u32, end: u32) -> impl Iterator<Item = u32> + '_ {
        let (number, from) = split(begin);
        let length = end.saturating_sub(begin) as usize;
        let from = u32::try_from(from).expect("an offset has 24 bits");
        let to = from + u32::try_from(length).expect("a span is below a chunk");
        (number < self.chunks.len()).then(|| self.positions_in(number, from, to)).into_iter().flatten()
    }

    /// Positions of all entries.
    pub fn positions(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.chunks.len()).flat_map(|number| self.positions_in(number, 1, u32::MAX))
    }

    /// All entries in spans of whole blocks of some `octets` each, for work on parts.
    pub fn pieces(&self, octets: u32) -> Vec<(u32, u32)> {
        let mut res = Vec::new();
        for (number, chunk) in self.chunks.iter().enumerate() {
            let end = u32::try_from(chunk.entries.len()).expect("a chunk is below 4 GiB");
            let mut begin = 1;
            for &(at, _) in &chunk.blocks {
                if at.saturating_sub(begin) >= octets {
                    res.push((join(number, begin as usize), join(number, begin as usize) + (at - begin)));
                    begin = at;
                }
            }
            res.push((join(number, begin as usize), join(number, begin as usize) + end.saturating_sub(begin)));
        }
        res
    }

    /// The whole row at a position.
    pub fn filing(&self, position: u32, dictionary: &Dictionary, places: &Places) -> Filing {
        let entry = self.entry(position);
        let mut res = read_record(dictionary, self.record(position), entry.name(), &entry.facts());
        let (file, first_line) = places.of(self.block(position));
        res.file = file;
        res.line += first_line;
        res
    }

    /// True when two entries of one dictionary say the same, wherever they stand.
    pub fn says_the_same(&self, position: u32, other: &Self, other_position: u32) -> bool {
        let (a, b) = (self.entry(position), other.entry(other_position));
        let record = |arena: &Self, position: u32| {
            let octets = arena.record(position);
            let whole = record_octets(octets);
            split_line(&octets[..whole]).1.to_vec()
        };
        a.facts() == b.facts() && record(self, position) == record(other, other_position)
    }

    /// Positions of all rows that may stand under the main number of this hash, those that count no more included.
    pub fn of_subject(&self, hash: u32) -> Vec<u32> {
        let mut res = Vec::new();
        for (number, chunk) in self.chunks.iter().enumerate() {
            let subjects = chunk.subjects();
            let from = subjects.partition_point(|&(known, _)| known < hash);
            let found = subjects[from..].iter().take_while(|&&(known, _)| known == hash);
            res.extend(found.map(|&(_, offset)| join(number, offset as usize)));
        }
        res
    }

    /// Makes what [`Arena::of_subject`] needs, on all cores.
    pub fn prepare_subjects(&self) {
        // One that broke off is made again when it is asked for.
        let _ = on_all_cores(&self.chunks, |chunk| {
            chunk.subjects();
        });
    }

    /// Octets of entries, cold records and block tables.
    pub fn octets(&self) -> [usize; 3] {
        self.chunks.iter().fold([0; 3], |[entries, cold, blocks], chunk| {
            let subjects = chunk.subjects.get().map_or(0, |subjects| 8 * subjects.len());
            [entries + chunk.entries.len(), cold + chunk.cold.len(), blocks + 8 * chunk.blocks.len() + subjects]
        })
    }
}

/// Chunk and octet of a position.
pub fn split(position: u32) -> (usize, usize) {
    ((position >> OFFSET_BITS) as usize, position as usize & (CHUNK_OCTETS_MAX - 1))
}

/// The position of octet `offset` in chunk `number`.
pub fn join(number: usize, offset: usize) -> u32 {
    let number = u32::try_from(number).expect("chunks are fewer than CHUNKS_MAX");
    number << OFFSET_BITS | u32::try_from(offset).expect("chunks are shorter than CHUNK_OCTETS_MAX")
}

//--- Places ----------------------------------------------------------------------------------------------------------

/// Which file each block stands in, and from which line.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// File names.
    pub files: Vec<Arc<str>>,
    /// Per block: the file's number and its first line.
    pub blocks: Vec<(u32, u32)>,
}

impl Places {
    /// File and first line of a block.
    pub fn of(&self, block: u32) -> (Arc<str>, u32) {
        let (file, line) = self.blocks.get(block as usize).copied().unwrap_or_default();
        (self.files.get(file as usize).cloned().unwrap_or_default(), line)
    }

    /// The number of a file, given out now if it is new.
    pub fn file_number(&mut self, file: &Arc<str>) -> u32 {
        let at = self.files.iter().position(|known| known == file).unwrap_or_else(|| {
            self.files.push(file.clone());
            self.files.len() - 1
        });
        u32::try_from(at).expect("files are fewer than FILES_MAX")
    }

    /// Adds a block and gives its number.
    pub fn add(&mut self, file: u32, first_line: u32) -> u32 {
        self.blocks.push((file, first_line));
        u32::try_from(self.blocks.len() - 1).expect("blocks are fewer than rows")
    }
}

//--- Building --------------------------------------------------------------------------------------------------------

/// Rows on their way into a chunk: what a worker makes of a piece of a file.
#[derive(Default)]
pub struct Rows {
    /// Arena entries; their cold positions count from the start of `cold`.
    pub entries: Vec<u8>,
    /// Cold records.
    pub cold: Vec<u8>,
    /// Where each entry begins.
    pub begins: Vec<u32>,
}

impl Rows {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.begins.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.begins.is_empty()
    }

    /// Appends a row as `provider` sees it, standing on `line` of its block.
    pub fn push(
        &mut self,
        dictionary: &Dictionary,
        remembered: &mut Remembered,
        provider: &str,
        filing: &Filing,
        line: u32,
    ) {
        self.push_entry(filing.domain.wire(), &filing.facts(provider));
        write_record(dictionary, remembered, &mut self.cold, filing, line);
    }

    /// Appends an entry whose record is about to be written at the end of `cold`.
    pub fn push_entry(&mut self, name: &[u8], facts: &Facts) {
        self.begin();
        let cold = u32::try_from(self.cold.len()).expect("rows of one piece are far below 4 GiB");
        write_entry(&mut self.entries, name, facts, cold);
    }

    /// Appends an entry that says its name is gone.
    pub fn push_tombstone(&mut self, name: &[u8]) {
        self.begin();
        write_tombstone(&mut self.entries, name);
    }

    /// Copies an entry with its record, the latter now on line `line` of its block.
    pub fn copy(&mut self, arena: &Arena, position: u32, line: Option<u32>) {
        let entry = arena.entry(position);
        if entry.is_tombstone() {
            self.push_tombstone(entry.name().wire());
            return;
        }
        self.push_entry(entry.name().wire(), &entry.facts());
        let record = arena.record(position);
        let (old_line, rest) = split_line(&record[..record_octets(record)]);
        super::code::write_number(&mut self.cold, u64::from(line.unwrap_or(old_line)));
        self.cold.extend_from_slice(rest);
    }

    fn begin(&mut self) {
        self.begins.push(u32::try_from(self.entries.len()).expect("rows of one piece are far below 4 GiB"));
    }
}

/// Packs rows into chunks, which get the numbers that `before` has no chunk under.
pub struct ArenaBuilder {
    done: Vec<Arc<Chunk>>,
    open: Chunk,
    /// The number the open chunk gets.
    number: usize,
    /// Where closed chunks go while memory has no room for them.
    file: Option<NamelessFile>,
}

impl ArenaBuilder {
    /// Chunks beside those of `before`.
    pub fn after(before: &Arena) -> Self {
        let done = before.chunks.clone();
        let number = free_number(&done);
        Self { done, open: empty_chunk(), number, file: None }
    }

    /// The same; closed chunks go into `file`.
    pub fn into_file(self, file: NamelessFile) -> Self {
        Self { file: Some(file), ..self }
    }

    /// Appends rows, and the blocks they stand in: where in `rows.entries` each begins, with its number.
    ///
    /// Gives the position that the first octet of `rows.entries` got; all of them stand in one chunk.
    pub fn append(&mut self, rows: &mut Rows, blocks: &[(u32, u32)]) -> Result<u32, ArenaFull> {
        let fits = self.open.entries.len() + rows.entries.len() < CHUNK_OCTETS_MAX
            && self.open.cold.len() + rows.cold.len() < COLD_OCTETS_MAX;
        if !fits && self.open.entries.len() > 1 {
            self.close();
        }
        if self.number >= CHUNKS_MAX || rows.entries.len() >= CHUNK_OCTETS_MAX - 1 {
            return Err(ArenaFull);
        }
        let by = u32::try_from(self.open.cold.len()).expect("a chunk's cold octets are below 4 GiB");
        for &begin in &rows.begins {
            shift_cold(&mut rows.entries, begin as usize, by);
        }
        let base = u32::try_from(self.open.entries.len()).expect("a chunk is below CHUNK_OCTETS_MAX");
        self.open.blocks.extend(blocks.iter().map(|&(begin, number)| (base + begin, number)));
        self.open.entries.extend(&rows.entries, CHUNK_OCTETS_MAX);
        self.open.cold.extend(&rows.cold, COLD_OCTETS_MAX.max(rows.cold.len()));
        Ok(join(self.number, base as usize))
    }

    /// The chunks so far.
    pub fn finish(mut self) -> Arena {
        if self.open.entries.len() > 1 {
            self.close();
        }
        Arena { chunks: self.done }
    }

    fn close(&mut self) {
        let mut chunk = std::mem::replace(&mut self.open, empty_chunk());
        chunk.entries.shrink();
        chunk.cold.shrink();
        chunk.blocks.shrink_to_fit();
        if let Some(file) = &mut self.file {
            match file.append(&chunk.entries).and_then(|entries| Ok((entries, file.append(&chunk.cold)?))) {
                Ok((entries, cold)) => (chunk.entries, chunk.cold) = (entries, cold),
                // A full disk: memory has the chunk, and the next ones.
                Err(_) => self.file = None,
            }
        }
        let chunk = Arc::new(chunk);
        match self.done.get_mut(self.number) {
            Some(place) => *place = chunk,
            None => self.done.push(chunk),
        }
        self.number = free_number(&self.done);
    }
}

/// The first number without a chunk, or with one that was emptied.
fn free_number(chunks: &[Arc<Chunk>]) -> usize {
    chunks.iter().position(|chunk| chunk.entries.is_empty()).unwrap_or(chunks.len())
}

fn empty_chunk() -> Chunk {
    let mut res = Chunk::default();
    // No position is 0, which marks an empty slot.
    res.entries.extend(&[0], CHUNK_OCTETS_MAX);
    res
}
