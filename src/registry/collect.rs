//! What a scan found, taken over into a draft: known blocks stay where they are, new ones are packed.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use hashbrown::HashMap;

use super::arena::{Arena, ArenaFull, Rows};
use super::block::Findings;
use super::draft::Draft;
use super::files::{KnownBlock, TableFile};
use super::parse::{FileError, ISSUES_MAX, ROWS_MAX};
use super::scan::{BlockHash, BlockRows, Known, ScanError, ScannedBlock, ScannedPiece};
use super::split::Block;
use crate::priority::Turns;

/// Takes scanned pieces over into the draft, in the order of the file.
pub(super) struct Collector<'a> {
    pub draft: &'a mut Draft,
    pub arena: &'a Arena,
    pub old: Option<&'a TableFile>,
    pub known: &'a Matching<'a>,
    pub unused: Unused,
    pub file: u32,
    pub line: u32,
    /// The known block behind the one that was met last.
    pub next_known: usize,
    /// Findings kept so far.
    pub issues: usize,
    pub table: TableFile,
    pub differs: bool,
    pub full: Option<ArenaFull>,
}

impl Collector<'_> {
    pub fn collect(&mut self, mut piece: ScannedPiece) -> Result<(), ScanError> {
        // Known blocks that are used up: the same text once more than before. Their rows are copied.
        let mut copies: Vec<(usize, usize)> = Vec::new();
        let mut new: Vec<(u32, u32)> = Vec::new();
        let mut new_at: Vec<usize> = Vec::new();
        for block in std::mem::take(&mut piece.blocks) {
            let first_line = self.line;
            self.line += block.lines;
            let at = self.table.blocks.len();
            if let BlockRows::At(begin) = block.rows {
                let number = self.draft.number(self.file, first_line);
                self.keep(number, block.found);
                new.push((begin, number));
                new_at.push(at);
                let ScannedBlock { hash, octets, lines, .. } = block;
                self.push(KnownBlock { hash, number, octets, lines, rows: 0, begin, end: 0 });
                continue;
            }
            let BlockRows::Known(i) = block.rows else { continue };
            let old_blocks = self.old.map_or(&[][..], |old| &old.blocks);
            match self.unused.take(self.known, i, &block.hash) {
                Some(i) => {
                    self.draft.is_reordered |= i < self.next_known;
                    self.next_known = i + 1;
                    self.reuse(old_blocks[i], i == at, first_line);
                }
                None => {
                    copies.push((at, i));
                    let number = self.draft.number(self.file, first_line);
                    let found = self.old.and_then(|old| old.findings.get(&old_blocks[i].number));
                    if let Some(found) = found {
                        self.table.findings.insert(number, found.clone());
                    }
                    self.push(KnownBlock { number, ..old_blocks[i] });
                }
            }
        }
        self.table.rows += piece.rows.len();
        if self.table.rows > ROWS_MAX {
            return Err(FileError::TooManyRows.into());
        }
        if !new.is_empty() {
            self.differs = true;
            self.draft.parsed_octets += piece.octets;
        }
        let packed = self.pack(&mut piece.rows, &new, &new_at);
        if self.draft.is_over {
            // Whoever set the limit starts again without it; the reason is for nobody.
            return Err(FileError::TooManyRows.into());
        }
        let copied = packed.and_then(|()| copies.into_iter().try_for_each(|(at, i)| self.copy(at, i)));
        copied.map_err(|full| {
            self.full = Some(full);
            FileError::TooManyRows.into()
        })
    }

    fn push(&mut self, block: KnownBlock) {
        self.table.blocks.push(block);
    }

    fn keep(&mut self, number: u32, mut found: Findings) {
        let room = ISSUES_MAX.saturating_sub(self.issues);
        found.issues.truncate(room);
        self.issues += found.issues.len();
        if found.bad_rows > 0 || !found.issues.is_empty() {
            self.table.findings.insert(number, Arc::new(found));
        }
    }

    fn reuse(&mut self, block: KnownBlock, stays: bool, first_line: u32) {
        let place = (self.file, first_line);
        let moves = self.draft.places.blocks[block.number as usize] != place;
        self.differs |= !stays || moves;
        if moves {
            Arc::make_mut(&mut self.draft.places).blocks[block.number as usize] = place;
        }
        if let Some(found) = self.old.and_then(|old| old.findings.get(&block.number)) {
            self.issues += found.issues.len();
            self.table.findings.insert(block.number, found.clone());
        }
        self.push(block);
    }

    /// Packs the rows of new blocks, of which `new` says where each begins in `rows`, and tells the blocks their spans.
    fn pack(&mut self, rows: &mut Rows, new: &[(u32, u32)], new_at: &[usize]) -> Result<(), ArenaFull> {
        if new.is_empty() {
            return Ok(());
        }
        let octets = rows.entries.len() + rows.cold.len();
        self.draft.is_over |= octets > self.draft.room;
        self.draft.room = self.draft.room.saturating_sub(octets);
        let base = self.draft.builder.append(rows, new)?;
        let whole = u32::try_from(rows.entries.len()).expect("a piece is below a chunk");
        for (i, &at) in new_at.iter().enumerate() {
            let end = new.get(i + 1).map_or(whole, |&(begin, _)| begin);
            let before = |octet: u32| rows.begins.partition_point(|&begin| begin < octet);
            let count = before(end) - before(new[i].0);
            let block = &mut self.table.blocks[at];
            block.rows = u32::try_from(count).expect("a piece is below a chunk");
            block.begin += base;
            block.end = base + end;
            self.draft.added.push(*block);
        }
        Ok(())
    }

    fn copy(&mut self, at: usize, i: usize) -> Result<(), ArenaFull> {
        let Some(old) = self.old.map(|old| old.blocks[i]) else { return Ok(()) };
        let mut rows = Rows::default();
        for position in self.arena.span(old.begin, old.end) {
            rows.copy(self.arena, position, None);
        }
        self.differs = true;
        self.table.rows += rows.len();
        let number = self.table.blocks[at].number;
        self.table.blocks[at].begin = 0;
        self.pack(&mut rows, &[(0, number)], &[at])
    }
}

/// Blocks that are put into a table, some tens of nanoseconds each, between two moments at which threads that answer may
/// go first.
const BLOCKS_PER_OFFER: usize = 256;

/// A file's remembered blocks by hash.
pub(super) struct Matching<'a> {
    blocks: &'a [KnownBlock],
    first: HashMap<BlockHash, u32, BuildHasherDefault<FirstWord>>,
    /// Per block the next one of the same hash, or its own number.
    next: Vec<u32>,
}

impl<'a> Matching<'a> {
    pub fn new(blocks: &'a [KnownBlock]) -> Self {
        let mut first = HashMap::with_capacity_and_hasher(blocks.len(), BuildHasherDefault::default());
        let mut next: Vec<u32> = (0..u32::try_from(blocks.len()).unwrap_or(u32::MAX)).collect();
        let mut turns = Turns::new();
        for (i, block) in blocks.iter().enumerate().rev() {
            if i % BLOCKS_PER_OFFER == 0 {
                turns.offer();
            }
            let own = u32::try_from(i).unwrap_or(u32::MAX);
            if let Some(later) = first.insert(block.hash, own) {
                next[i] = later;
            }
        }
        Self { blocks, first, next }
    }
}

impl Known for Matching<'_> {
    fn find(&self, hash: &BlockHash, expected: usize) -> Option<usize> {
        if self.blocks.get(expected).is_some_and(|block| block.hash == *hash) {
            return Some(expected);
        }
        self.first.get(hash).map(|&i| i as usize)
    }

    fn at(&self, expected: usize) -> Option<(BlockHash, Block)> {
        let block = self.blocks.get(expected)?;
        Some((block.hash, Block { octets: block.octets as usize, lines: block.lines }))
    }
}

/// Which remembered blocks were not met again yet.
pub(super) struct Unused {
    is_used: Vec<bool>,
    /// Per first block of a hash, the first that may be unused.
    head: Vec<u32>,
}

impl Unused {
    pub fn new(known: &Matching<'_>) -> Self {
        let count = known.next.len();
        Self { is_used: vec![false; count], head: (0..u32::try_from(count).unwrap_or(u32::MAX)).collect() }
    }

    /// Block `i`, which has this hash, or another one that has it, that was not met yet.
    pub fn take(&mut self, known: &Matching<'_>, i: usize, hash: &BlockHash) -> Option<usize> {
        if !self.is_used[i] {
            self.is_used[i] = true;
            return Some(i);
        }
        let first = *known.first.get(hash)? as usize;
        loop {
            let head = self.head[first] as usize;
            if !self.is_used[head] {
                self.is_used[head] = true;
                return Some(head);
            }
            if known.next[head] as usize == head {
                return None;
            }
            self.head[first] = known.next[head];
        }
    }

    pub fn blocks<'a>(&'a self, blocks: &'a [KnownBlock]) -> impl Iterator<Item = KnownBlock> + 'a {
        blocks.iter().zip(&self.is_used).filter(|(_, is_used)| !**is_used).map(|(block, _)| *block)
    }
}

/// Block hashes are hashes already.
#[derive(Default)]
struct FirstWord(u64);

impl Hasher for FirstWord {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for chunk in octets.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = self.0.rotate_left(32) ^ word;
    }

    fn write_usize(&mut self, _: usize) {}
}
