//! Memory of the big tables: heap for small ones, anonymous huge pages for large ones.
//!
//! Look-ups in a table of hundreds of megabytes are bound by the processor's address translation; two-megabyte pages take
//! most of that away. The pages are anonymous: no file is ever mapped, so nothing outside can pull them away. Where the
//! kernel grants no mapping or no huge page the heap or small pages serve as well, only slower.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// From this size on a table is mapped: below it a huge page would be mostly empty.
const MAPPED_OCTETS_MIN: usize = 1 << 20;

/// A run of octets that only grows until it is shared.
pub enum Memory {
    /// On the heap.
    Heap(Vec<u8>),
    /// In an anonymous mapping, of which the first `usize` octets are in use.
    Mapped(MmapMut, usize),
}

impl Memory {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::Heap(Vec::new())
    }

    /// `octets` zeros.
    pub fn zeroed(octets: usize) -> Self {
        match map(octets) {
            Some(mapping) => Self::Mapped(mapping, octets),
            None => Self::Heap(vec![0; octets]),
        }
    }

    /// Appends `octets`; a heap run that grows large moves to a mapping of `octets_max`, which it is not to exceed.
    pub fn extend(&mut self, octets: &[u8], octets_max: usize) {
        let end = self.len() + octets.len();
        if let Self::Heap(heap) = self
            && end >= MAPPED_OCTETS_MIN
            && let Some(mut mapping) = map(octets_max.max(end))
        {
            mapping[..heap.len()].copy_from_slice(heap);
            let used = heap.len();
            *self = Self::Mapped(mapping, used);
        }
        match self {
            Self::Heap(heap) => heap.extend_from_slice(octets),
            Self::Mapped(mapping, used) => {
                mapping[*used..end].copy_from_slice(octets);
                *used = end;
            }
        }
    }

    /// Gives back what a heap run reserved beyond its end; a mapping's untouched pages take no memory.
    pub fn shrink(&mut self) {
        if let Self::Heap(heap) = self {
            heap.shrink_to_fit();
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(heap) => heap,
            Self::Mapped(mapping, used) => &mapping[..*used],
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(heap) => heap,
            Self::Mapped(mapping, used) => &mut mapping[..*used],
        }
    }
}

/// A zeroed mapping of `octets`, on huge pages where the kernel has them.
fn map(octets: usize) -> Option<MmapMut> {
    if octets < MAPPED_OCTETS_MIN {
        return None;
    }
    let mapping = MmapMut::map_anon(octets).ok()?;
    // Advice only: without huge pages everything works on small ones.
    #[cfg(target_os = "linux")]
    let _ = mapping.advise(memmap2::Advice::HugePage);
    Some(mapping)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_keeps_its_octets_while_it_moves_to_a_mapping() {
        let mut memory = Memory::new();
        let piece: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        for _ in 0..30 {
            memory.extend(&piece, 4 << 20);
        }
        assert!(matches!(memory, Memory::Mapped(..)));
        assert!(memory.len() == 3_000_000 && memory.chunks(piece.len()).all(|found| found == piece));
        assert!(Memory::zeroed(2 << 20).iter().all(|&octet| octet == 0));
    }
}
