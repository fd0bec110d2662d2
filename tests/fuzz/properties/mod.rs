//! What holds for any octets that a reader of the wire is given. The targets here and the tests of the kept corpus
//! (`tests/it/corpus.rs`) share it; a check that fails panics.

pub mod dns;
pub mod head;
pub mod hello;
pub mod initial;
pub mod proxy;

/// A source of choices that the octets at hand determine: the same octets are always cut at the same places.
#[derive(Clone, Debug)]
pub struct Choices(u64);

impl Choices {
    /// Choices for these octets (FNV-1a).
    pub fn of(octets: &[u8]) -> Self {
        let hash = |sum: u64, octet: &u8| (sum ^ u64::from(*octet)).wrapping_mul(0x100_0000_01b3);
        Self(octets.iter().fold(0xcbf2_9ce4_8422_2325, hash) | 1)
    }

    /// A number below `end`, which is above 0 (xorshift).
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let end = u64::try_from(end).expect("lengths fit");
        usize::try_from(self.0 % end).expect("is below a length")
    }

    /// Up to `count` places strictly inside `length` octets, in order, each once.
    pub fn cuts(&mut self, length: usize, count: usize) -> Vec<usize> {
        if length < 2 {
            return Vec::new();
        }
        let mut res: Vec<usize> = (0..count).map(|_| 1 + self.below(length - 1)).collect();
        res.sort_unstable();
        res.dedup();
        res
    }
}
