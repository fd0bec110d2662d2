//! Numbers that nobody can foresee: keys of hashes, secrets of one process, names beside those of others.

use std::hash::{BuildHasher, RandomState};

/// So many words of 64 bits; others at each call.
///
/// From the keys of the standard library's hashes, which it takes from the system's random source: there is no failure
/// that a caller would have to answer to. Keys that outlive the process are not made here.
pub fn words<const N: usize>() -> [u64; N] {
    let keys = RandomState::new();
    std::array::from_fn(|n| keys.hash_one(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_differ_in_a_call_and_between_calls() {
        let mut all: Vec<u64> = (0..100).flat_map(|_| words::<4>()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 400);
    }
}
