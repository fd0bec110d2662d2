//! Memory of the big tables: heap for small ones, anonymous huge pages for large ones.
//!
//! Look-ups in a table of hundreds of megabytes are bound by the processor's address translation; two-megabyte pages take
//! most of that away. The pages are anonymous: no file that has a name is ever mapped, so nothing outside can pull them
//! away. Where the kernel grants no mapping or no huge page the heap or small pages serve as well, only slower.
//!
//! While a whole table is replaced, the rows of the old one can wait in a file, so that memory need not hold both.
//!
//! # Unsafe code
//!
//! Mapping a file is unsafe because whoever can change or cut the file changes the octets behind a `&[u8]`. The file here
//! has no name from the moment it is opened, its only handle is private to [`NamelessFile`], it is written with `write`
//! before it is mapped, and never after: nobody else can reach it. Giving its pages back ([`Memory::let_go`]) is unsafe for
//! anonymous pages, which would read as zeros; pages of a shared, read-only file mapping are read from the file again.
//! Asking for memory ahead ([`Memory::ask_for`]) is unsafe in name only: a hint reads nothing that a program can see.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::ops::{Deref, DerefMut};
use std::path::Path;

use memmap2::{Mmap, MmapMut, MmapOptions, UncheckedAdvice};

/// From this size on a table is mapped: below it a huge page would be mostly empty.
const MAPPED_OCTETS_MIN: usize = 1 << 20;

/// A run of octets that only grows until it is shared.
pub enum Memory {
    /// On the heap.
    Heap(Vec<u8>),
    /// In an anonymous mapping, of which the first `usize` octets are in use.
    Mapped(MmapMut, usize),
    /// In a file without a name.
    InFile(Mmap),
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
        if self.is_in_file() {
            *self = self.in_memory();
        }
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
            Self::InFile(_) => unreachable!("it was brought into memory"),
        }
    }

    /// True when a file has it.
    pub fn is_in_file(&self) -> bool {
        matches!(self, Self::InFile(_))
    }

    /// A copy that memory has.
    pub fn in_memory(&self) -> Self {
        let mut res = Self::zeroed(self.len());
        res.copy_from_slice(self);
        res
    }

    /// Gives back the pages that a file has as well; they are read again when they are needed.
    pub fn let_go(&self) {
        if let Self::InFile(mapping) = self {
            // SAFETY: a read-only mapping of a file that nobody changes reads the same afterwards.
            // Advice only: where it is refused the pages stay.
            let _ = unsafe { mapping.unchecked_advise(UncheckedAdvice::DontNeed) };
        }
    }

    /// Has the cache line at `at` fetched, without waiting for it; beyond the end nothing happens.
    #[inline]
    pub fn ask_for(&self, at: usize) {
        let Some(octet) = self.get(at) else { return };
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint to the processor, which faults on no address and changes nothing but caches.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(octet).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        std::hint::black_box(*octet);
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
            Self::InFile(mapping) => mapping,
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        if self.is_in_file() {
            *self = self.in_memory();
        }
        match self {
            Self::Heap(heap) => heap,
            Self::Mapped(mapping, used) => &mut mapping[..*used],
            Self::InFile(_) => unreachable!("it was brought into memory"),
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

/// A file that no directory lists and that goes away with its last user.
pub struct NamelessFile {
    file: File,
    octets: u64,
}

impl NamelessFile {
    /// Where runs begin: on pages, of any size that processors have.
    const ALIGNMENT: u64 = 64 << 10;

    /// An empty one on the file system of `directory`.
    pub fn create_in(directory: &Path) -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile_in(directory)?, octets: 0 })
    }

    /// Writes `octets` behind everything else; the run that is given back reads them from the file.
    pub fn append(&mut self, octets: &[u8]) -> io::Result<Memory> {
        if octets.is_empty() {
            return Ok(Memory::new());
        }
        let begin = self.octets;
        self.file.write_all(octets)?;
        let end = begin + octets.len() as u64;
        self.octets = end.next_multiple_of(Self::ALIGNMENT);
        let gap = usize::try_from(self.octets - end).map_err(io::Error::other)?;
        self.file.write_all(&vec![0; gap])?;
        // SAFETY: the file has no name and no other handle, and these octets of it are written once, above.
        let mapping = unsafe { MmapOptions::new().offset(begin).len(octets.len()).map(&self.file)? };
        Ok(Memory::InFile(mapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_has_reads_the_same_after_its_pages_are_given_back() {
        let mut file = NamelessFile::create_in(&std::env::temp_dir()).expect("a file");
        let runs: Vec<Vec<u8>> = [1usize, 70_000, 0, 300_000].map(|n| (0..n).map(|i| (i * n) as u8).collect()).into();
        let mut kept: Vec<Memory> = runs.iter().map(|run| file.append(run).expect("writes")).collect();
        drop(file);
        for (memory, run) in kept.iter_mut().zip(&runs) {
            memory.let_go();
            assert!(**memory == **run && memory.is_in_file() != run.is_empty());
            memory.extend(b"x", 1 << 20);
            assert!(!memory.is_in_file() && memory[..run.len()] == **run && memory.ends_with(b"x"));
        }
    }

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
