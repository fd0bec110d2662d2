//! The rows that a reload adds and takes away, before anybody sees them.

use std::sync::Arc;

use super::arena::{Arena, ArenaBuilder, Places};
use super::files::KnownBlock;

/// The rows that a reload adds and takes away, before anybody sees them.
pub struct Draft {
    /// Packs new rows.
    pub builder: ArenaBuilder,
    /// Files and lines of blocks, the new ones included.
    pub places: Arc<Places>,
    /// Numbers that no block has any more.
    pub free: Vec<u32>,
    /// Spans of rows that stand in no file any more.
    pub removed: Vec<KnownBlock>,
    /// Spans of rows that are new.
    pub added: Vec<KnownBlock>,
    /// Octets of text that were parsed.
    pub parsed_octets: usize,
    /// Octets of new rows that there is room for beside the old ones.
    pub room: usize,
    /// True when there were more: nothing was read to its end.
    pub is_over: bool,
    /// True when blocks that stayed changed their order: of equal rows the first counts, which may be another now.
    pub is_reordered: bool,
}

impl Draft {
    /// Nothing added to `arena` yet.
    pub fn new(arena: &Arena, places: &Arc<Places>, free: &[u32]) -> Self {
        Self {
            builder: ArenaBuilder::after(arena),
            places: places.clone(),
            free: free.to_vec(),
            removed: Vec::new(),
            added: Vec::new(),
            parsed_octets: 0,
            room: usize::MAX,
            is_over: false,
            is_reordered: false,
        }
    }

    pub(super) fn file_number(&mut self, file: &Arc<str>) -> u32 {
        match self.places.files.iter().position(|known| known == file) {
            Some(at) => u32::try_from(at).expect("files are fewer than FILES_MAX"),
            None => Arc::make_mut(&mut self.places).file_number(file),
        }
    }

    pub(super) fn number(&mut self, file: u32, first_line: u32) -> u32 {
        match self.free.pop() {
            Some(number) => {
                Arc::make_mut(&mut self.places).blocks[number as usize] = (file, first_line);
                number
            }
            None => Arc::make_mut(&mut self.places).add(file, first_line),
        }
    }
}
