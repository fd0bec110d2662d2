//! Housekeeping behind the reloads: the overlay goes into a new base, and chunks that are mostly dead are written anew.
//!
//! Nothing a verdict or a person can see changes. Chunks that stay are shared with the old state, and at most a sixteenth of
//! the registry is written anew at a time, so memory stays near what it was.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::arena::{Arena, ArenaBuilder, ArenaFull, Rows, split};
use super::files::{Content, FileState, KnownBlock};
use super::index::Slots;
use super::state::State;
use super::table::{Recount, Table};
use crate::model::NameRef;

/// The overlay goes into a new base above this share of the rows (one in so many).
const OVERLAY_SHARE: usize = 100;
/// Overlays below this never do: a new base would cost more than it saves.
const OVERLAY_ROWS_MIN: usize = 2048;
/// Chunks smaller than this are joined once there are [`SMALL_CHUNKS_MAX`] of them.
const SMALL_CHUNK_OCTETS: usize = 2 << 20;
/// Small chunks that are left alone: every reload makes one or two.
const SMALL_CHUNKS_MAX: usize = 48;
/// Live octets of a hundred below which a chunk is written anew.
const LIVE_PERCENT_MIN: usize = 70;
/// Of all octets, one in so many is written anew at a time: the new look-up table needs memory beside the old one as well.
const REWRITTEN_SHARE: usize = 16;
/// Octets of rows packed at a time.
const RUN_OCTETS: usize = 256 << 10;

/// A tidied state: the same rows, looked up and stored better.
pub struct Tidied {
    /// Rows and look-up tables.
    pub table: Table,
    /// With the blocks where they are now.
    pub files: BTreeMap<PathBuf, Arc<FileState>>,
    /// As in the state, with the positions of now.
    pub rows_of: HashMap<Box<[u8]>, Vec<u32>>,
}

impl State {
    /// True when tidying is worth its cost.
    pub fn is_untidy(&self) -> bool {
        let overlay = self.table.overlay.len();
        let small = self.small_chunks().len();
        overlay > OVERLAY_ROWS_MIN.max(self.table.len() / OVERLAY_SHARE) || small > SMALL_CHUNKS_MAX
    }

    /// The same rows in memory, where a reload left some in a file.
    pub fn brought_back(&self) -> Tidied {
        let table = Table { arena: self.table.arena.brought_back(), ..self.table.clone() };
        Tidied { table, files: self.files.clone(), rows_of: HashMap::clone(&self.rows_of) }
    }

    /// Tidies. A function of the state, which stays as it is.
    pub fn tidied(&self) -> Result<Tidied, ArenaFull> {
        let mut moving = Moving::new(self, self.worn_chunks());
        let mut files = BTreeMap::new();
        for (path, file) in &self.files {
            files.insert(path.clone(), moving.file(file)?);
        }
        let names = self.events.names.iter().map(|name| NameRef::from_canonical_wire(name));
        moving.events(&names.filter_map(|name| self.table.find(name)).collect::<Vec<_>>())?;
        let Moving { worn, builder, moved, .. } = moving;
        let arena = builder.finish().without(&worn);
        let now = |position: u32| moved.get(&position).copied().unwrap_or(position);

        let rows: usize = files.values().map(|file| file.rows()).sum();
        let blocks = files.values().filter_map(|file| table_blocks(file)).flatten();
        let octets = blocks.clone().map(|block| (block.end - block.begin) as usize).sum();
        let positions = blocks.flat_map(|block| arena.span(block.begin, block.end));
        // Of names with several rows the first stands until the one that counts is named below.
        let mut base = Recount::index(&arena, self.table.key, (rows, octets), positions, |_, _| {});
        for name in self.rows_of.keys() {
            let name = NameRef::from_canonical_wire(name);
            if let Some(position) = self.table.find(name) {
                base.lead(&arena, name, now(position));
            }
        }
        let (base, tally) = base.finish();
        let rows_of =
            self.rows_of.iter().map(|(name, rows)| (name.clone(), rows.iter().map(|&row| now(row)).collect()));
        let rows_of = rows_of.collect();
        let (base, overlay) = (Arc::new(base), Arc::new(Slots::with_room(0)));
        Ok(Tidied { table: Table { base, overlay, arena, tally, ..self.table.clone() }, files, rows_of })
    }

    /// Takes a tidied state over.
    pub fn adopt(&mut self, tidied: Tidied) {
        self.table = tidied.table;
        self.files = tidied.files;
        self.rows_of = Arc::new(tidied.rows_of);
    }

    fn small_chunks(&self) -> Vec<usize> {
        let chunks = self.table.arena.chunks().iter().enumerate();
        let is_small = |octets: usize| (1..SMALL_CHUNK_OCTETS).contains(&octets);
        chunks.filter(|(_, chunk)| is_small(chunk.octets())).map(|(number, _)| number).collect()
    }

    /// Chunks to write anew, together at most a share of all octets, but at least one.
    fn worn_chunks(&self) -> Vec<usize> {
        let chunks = self.table.arena.chunks();
        let mut live = vec![0; chunks.len()];
        for block in self.files.values().filter_map(|file| table_blocks(file)).flatten() {
            // A block without rows may stand where no chunk is.
            if let Some(live) = live.get_mut(split(block.begin).0) {
                *live += (block.end - block.begin) as usize;
            }
        }
        let small = self.small_chunks();
        let joins = small.len() > SMALL_CHUNKS_MAX / 2;
        let share = |number: usize| live[number] * 100 / chunks[number].entries.len().max(1);
        let mut candidates: Vec<usize> = (0..chunks.len())
            .filter(|&number| !chunks[number].entries.is_empty())
            .filter(|number| share(*number) < LIVE_PERCENT_MIN || (joins && small.contains(number)))
            .collect();
        candidates.sort_by_key(|&number| share(number));
        let total: usize = chunks.iter().map(|chunk| chunk.octets()).sum();
        let mut budget = total / REWRITTEN_SHARE;
        let mut res = Vec::new();
        for number in candidates {
            let octets = chunks[number].octets() * share(number).max(1) / 100;
            if !res.is_empty() && octets > budget {
                break;
            }
            budget = budget.saturating_sub(octets);
            res.push(number);
        }
        res
    }
}

fn table_blocks(file: &FileState) -> Option<&[KnownBlock]> {
    match &file.content {
        Content::Table(table) => Some(&table.blocks),
        Content::Changes(_) => None,
    }
}

/// Rows on their way out of worn chunks.
struct Moving<'a> {
    arena: &'a Arena,
    worn: Vec<usize>,
    is_worn: Vec<bool>,
    builder: ArenaBuilder,
    /// Rows whose new position must be known, because more than their block remembers the old one.
    remembered: HashSet<u32>,
    /// Where those went.
    moved: HashMap<u32, u32>,
}

/// Rows that are packed together.
#[derive(Default)]
struct Run {
    rows: Rows,
    /// Where each block begins in the rows, with its number.
    blocks: Vec<(u32, u32)>,
    /// Remembered rows with where they begin in the rows.
    moved: Vec<(u32, u32)>,
}

impl<'a> Moving<'a> {
    fn new(state: &'a State, worn: Vec<usize>) -> Self {
        let arena = &state.table.arena;
        let mut is_worn = vec![false; arena.chunks().len()];
        for &number in &worn {
            is_worn[number] = true;
        }
        let rows = state.rows_of.values().flatten().copied();
        let counting = state.rows_of.keys().filter_map(|name| state.table.find(NameRef::from_canonical_wire(name)));
        let remembered = rows.chain(counting).filter(|&row| is_worn[split(row).0]).collect();
        Self { arena, worn, is_worn, builder: ArenaBuilder::after(arena), remembered, moved: HashMap::new() }
    }

    fn is_worn(&self, position: u32) -> bool {
        self.is_worn.get(split(position).0).copied().unwrap_or(false)
    }

    /// Moves the blocks of a file that stand in worn chunks.
    fn file(&mut self, file: &Arc<FileState>) -> Result<Arc<FileState>, ArenaFull> {
        let has_worn = |blocks: &[KnownBlock]| blocks.iter().any(|block| self.is_worn(block.begin));
        if !table_blocks(file).is_some_and(has_worn) {
            return Ok(file.clone());
        }
        let mut res = FileState::clone(file);
        let Content::Table(table) = &mut res.content else { return Ok(file.clone()) };
        let mut run = Run::default();
        let mut first_of_run = 0;
        for at in 0..table.blocks.len() {
            let block = &mut table.blocks[at];
            if self.is_worn(block.begin) {
                let begin = run.octets();
                run.blocks.push((begin, block.number));
                for position in self.arena.span(block.begin, block.end) {
                    self.copy(&mut run, position);
                }
                (block.begin, block.end) = (begin, run.octets());
            }
            if run.rows.entries.len() >= RUN_OCTETS || at + 1 == table.blocks.len() {
                // Blocks of the run have their begin within it until its base is known.
                let numbers: HashSet<u32> = run.blocks.iter().map(|&(_, number)| number).collect();
                let base = self.pack(&mut run)?;
                for block in table.blocks[first_of_run..=at].iter_mut().filter(|b| numbers.contains(&b.number)) {
                    block.begin += base;
                    block.end += base;
                }
                first_of_run = at + 1;
            }
        }
        Ok(Arc::new(res))
    }

    /// Moves rows by events that stand in worn chunks, each with its block.
    fn events(&mut self, rows: &[u32]) -> Result<(), ArenaFull> {
        let mut run = Run::default();
        for &position in rows {
            if !self.is_worn(position) {
                continue;
            }
            run.blocks.push((run.octets(), self.arena.block(position)));
            self.copy(&mut run, position);
            if run.rows.entries.len() >= RUN_OCTETS {
                self.pack(&mut run)?;
            }
        }
        self.pack(&mut run).map(drop)
    }

    fn copy(&self, run: &mut Run, position: u32) {
        if self.remembered.contains(&position) {
            run.moved.push((position, run.octets()));
        }
        run.rows.copy(self.arena, position, None);
    }

    fn pack(&mut self, run: &mut Run) -> Result<u32, ArenaFull> {
        let Run { mut rows, blocks, moved } = std::mem::take(run);
        if blocks.is_empty() {
            return Ok(0);
        }
        let base = self.builder.append(&mut rows, &blocks)?;
        self.moved.extend(moved.into_iter().map(|(old, at)| (old, base + at)));
        Ok(base)
    }
}

impl Run {
    /// Octets of entries so far.
    fn octets(&self) -> u32 {
        u32::try_from(self.rows.entries.len()).expect("a run is below a chunk")
    }
}
