//! The overlay's look-up table: keyed 64-bit slots over the arena, and the key that all look-up tables hash with.
//!
//! A slot holds 32 bits of the name's keyed hash and where its entry begins; the name itself is compared octet by octet,
//! so a fingerprint alone never decides. The key is drawn when the table is built: nobody can choose names that collide.
//! The place of a slot is the product of the hash's low half and the number of slots, so that a table has the size its
//! rows need and not the next power of two.

use siphasher::sip::SipHasher13;

use super::memory::Memory;
use crate::chance;
use crate::model::NameRef;

/// Slots per 16 rows: at 69 % full a miss looks at some five neighbours, most of them in one cache line.
const SLOTS_PER_16_ROWS: usize = 23;
/// Octets of a slot.
const SLOT: usize = 8;

/// Turns names into hashes that nobody outside can foresee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKey {
    /// SipHash-1-3 under a secret.
    Secret(u64, u64),
    /// The same hash for every name, to test that names decide.
    #[cfg(test)]
    Same(u64),
}

impl NameKey {
    /// A key from the operating system's randomness.
    pub fn random() -> Self {
        let [first, second] = chance::words();
        Self::Secret(first, second)
    }

    /// Its two words.
    pub fn words(self) -> (u64, u64) {
        match self {
            Self::Secret(a, b) => (a, b),
            #[cfg(test)]
            Self::Same(hash) => (hash, 0),
        }
    }

    /// The hash of `name`.
    pub fn hash(self, name: NameRef<'_>) -> u64 {
        match self {
            Self::Secret(a, b) => SipHasher13::new_with_keys(a, b).hash(name.wire()),
            #[cfg(test)]
            Self::Same(hash) => hash,
        }
    }
}

/// The table: tag in a slot's high half, position of the entry in the low half; 0 is empty.
pub struct Slots {
    octets: Memory,
    count: usize,
    used: usize,
}

impl Slots {
    /// A table with room for `rows` rows.
    pub fn with_room(rows: usize) -> Self {
        let count = rows * SLOTS_PER_16_ROWS / 16 + SLOT;
        Self { octets: Memory::zeroed(count * SLOT), count, used: 0 }
    }

    /// A table of slots written before; `None` when they are no table.
    pub fn from_octets(octets: Memory) -> Option<Self> {
        let count = octets.len() / SLOT;
        let mut res = Self { octets, count, used: 0 };
        res.used = (0..count).filter(|&at| res.slot(at) != 0).count();
        let has_an_empty_one = res.used < count && res.octets.len() == count * SLOT && count <= u32::MAX as usize;
        has_an_empty_one.then_some(res)
    }

    /// The slots as they lie in memory.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// How many rows it holds.
    pub fn len(&self) -> usize {
        self.used
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The position that `is_wanted` accepts among those whose tag fits `hash`. Cost: usually one slot, one compare.
    pub fn find(&self, hash: u64, is_wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            let slot = self.slot(at);
            if slot == 0 {
                return None;
            }
            if slot >> 32 == hash >> 32 && is_wanted(slot as u32) {
                return Some(slot as u32);
            }
            at = self.after(at);
        }
    }

    /// Enters `position`, unless `is_same` accepts one that is there already, which is given back.
    ///
    /// The table must have room: the caller sized it for its rows.
    pub fn insert(&mut self, hash: u64, position: u32, is_same: impl Fn(u32) -> bool) -> Option<u32> {
        assert!(self.used < self.count - 1, "the table was sized for its rows");
        let mut at = self.home(hash);
        loop {
            let slot = self.slot(at);
            if slot == 0 {
                self.put(at, ((hash >> 32) << 32) | u64::from(position));
                self.used += 1;
                return None;
            }
            if slot >> 32 == hash >> 32 && is_same(slot as u32) {
                return Some(slot as u32);
            }
            at = self.after(at);
        }
    }

    /// True when `rows` more fit.
    pub fn has_room(&self, rows: usize) -> bool {
        (self.used + rows) * SLOTS_PER_16_ROWS / 16 + 1 < self.count
    }

    /// The same rows with room for `rows` more; `hash` gives the hash of the name at a position.
    pub fn with_more_room(&self, rows: usize, hash: impl Fn(u32) -> u64) -> Self {
        if self.has_room(rows) {
            let mut octets = Memory::zeroed(self.octets.len());
            octets.copy_from_slice(&self.octets);
            return Self { octets, count: self.count, used: self.used };
        }
        // Twice as many, so that a row at a time does not copy the table each time into one of another size.
        let mut res = Self::with_room((self.used + rows) * 2);
        for position in self.positions() {
            res.insert(hash(position), position, |_| false);
        }
        res
    }

    /// Lets the slot that leads to `old` lead to `new`.
    pub fn redirect(&mut self, hash: u64, old: u32, new: u32) {
        let mut at = self.home(hash);
        loop {
            let slot = self.slot(at);
            if slot == 0 {
                return;
            }
            if slot as u32 == old {
                self.put(at, ((hash >> 32) << 32) | u64::from(new));
                return;
            }
            at = self.after(at);
        }
    }

    /// Every position, in the order of slots.
    pub fn positions(&self) -> impl Iterator<Item = u32> + '_ {
        self.octets.chunks_exact(SLOT).filter_map(|octets| {
            let slot = u64::from_le_bytes(octets.try_into().expect("chunks are as long as a slot"));
            (slot != 0).then_some(slot as u32)
        })
    }

    /// Where the search for a hash begins.
    fn home(&self, hash: u64) -> usize {
        (((hash & 0xffff_ffff) * self.count as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.count { 0 } else { at + 1 }
    }

    fn slot(&self, at: usize) -> u64 {
        let octets = &self.octets[at * SLOT..][..SLOT];
        u64::from_le_bytes(octets.try_into().expect("the slice is as long as a slot"))
    }

    fn put(&mut self, at: usize, slot: u64) {
        self.octets[at * SLOT..][..SLOT].copy_from_slice(&slot.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn a_full_table_finds_everything_and_nothing_else() {
        for rows in [0usize, 1, 2, 7, 1000, 20_000] {
            let mut slots = Slots::with_room(rows);
            let mut known = HashMap::new();
            let mut hash = 7u64;
            for position in 1..=u32::try_from(rows).expect("few rows") {
                hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                assert_eq!(slots.insert(hash, position, |_| false), None);
                known.insert(position, hash);
            }
            assert_eq!(slots.len(), rows);
            for (&position, &hash) in &known {
                assert_eq!(slots.find(hash, |found| found == position), Some(position));
                assert_eq!(slots.find(hash, |found| found == u32::MAX), None);
            }
            let mut positions: Vec<u32> = slots.positions().collect();
            positions.sort_unstable();
            assert!(positions.into_iter().eq(1..=u32::try_from(rows).expect("few rows")));
        }
    }

    #[test]
    fn a_slot_can_be_led_elsewhere() {
        let mut slots = Slots::with_room(4);
        assert_eq!(slots.insert(5, 11, |_| false), None);
        assert_eq!(slots.insert(5, 12, |found| found == 11), Some(11));
        slots.redirect(5, 11, 12);
        slots.redirect(99, 44, 45);
        assert_eq!((slots.find(5, |_| true), slots.len()), (Some(12), 1));
    }

    #[test]
    fn octets_without_an_empty_slot_are_no_table() {
        let mut octets = Memory::zeroed(24);
        octets.fill(1);
        assert!(Slots::from_octets(octets).is_none());
        assert!(Slots::from_octets(Memory::zeroed(23)).is_none());
        assert_eq!(Slots::from_octets(Memory::zeroed(24)).map(|slots| slots.len()), Some(0));
    }
}
