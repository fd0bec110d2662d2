//! Exact look-up of names: keyed 64-bit slots over a name arena.
//!
//! A slot holds 32 bits of the name's keyed hash and the row's number; the name itself is compared octet by octet, so a
//! fingerprint alone never decides. The key is drawn at build time: nobody can choose names that collide.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use siphasher::sip::SipHasher13;

use crate::model::NameRef;

/// The arena of names with its slots.
pub struct NameIndex {
    names: Vec<u8>,
    /// Where each row's name begins; one more than rows, the last being the end.
    starts: Vec<u32>,
    /// Tag in the high half, row number plus one in the low half; 0 is empty. A power of two, at most half full.
    slots: Vec<u64>,
    key: (u64, u64),
}

impl NameIndex {
    /// Builds the index of distinct `names`; the position in the iterator is the row number.
    ///
    /// Names number fewer than 2^31 and take fewer than 2^32 octets, which the loader's limits keep.
    pub fn build<'a>(names: impl ExactSizeIterator<Item = NameRef<'a>>) -> Self {
        let count = names.len();
        let slots = vec![0; (count.max(4) * 2).next_power_of_two()];
        let random = |n: u64| RandomState::new().hash_one(n);
        let mut res = Self {
            names: Vec::with_capacity(count * 20),
            starts: Vec::with_capacity(count + 1),
            slots,
            key: (random(0), random(1)),
        };
        for (row, name) in names.enumerate() {
            res.starts.push(u32::try_from(res.names.len()).expect("the loader limits names to 2^32 octets"));
            res.names.extend_from_slice(name.wire());
            res.insert(name, u32::try_from(row).expect("the loader limits rows to 2^31"));
        }
        res.starts.push(u32::try_from(res.names.len()).expect("the loader limits names to 2^32 octets"));
        res
    }

    /// The row of exactly `name`. Cost: one hash, usually one slot, one compare; no allocation.
    pub fn find(&self, name: NameRef<'_>) -> Option<u32> {
        let hash = self.hash(name);
        let mask = self.slots.len() - 1;
        let mut at = slot_of(hash, mask);
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if slot >> 32 == hash >> 32 {
                let row = (slot as u32) - 1;
                if self.name(row) == name {
                    return Some(row);
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// The name of a row.
    pub fn name(&self, row: u32) -> NameRef<'_> {
        let (start, end) = (self.starts[row as usize] as usize, self.starts[row as usize + 1] as usize);
        NameRef::from_canonical_wire(&self.names[start..end])
    }

    /// Octets held.
    pub fn octets(&self) -> usize {
        self.names.len() + 4 * self.starts.len() + 8 * self.slots.len()
    }

    fn insert(&mut self, name: NameRef<'_>, row: u32) {
        let hash = self.hash(name);
        let mask = self.slots.len() - 1;
        let mut at = slot_of(hash, mask);
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = (hash >> 32 << 32) | u64::from(row + 1);
    }

    fn hash(&self, name: NameRef<'_>) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write(name.wire());
        hasher.finish()
    }
}

/// Slots are chosen by the low half, tags by the high one, so that the two are independent.
fn slot_of(hash: u64, mask: usize) -> usize {
    hash as u32 as usize & mask
}
