//! Where a hash leads: one bucket after the other, each of them in the end.

/// Numbers of buckets without end, but for a bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    state: u64,
    count: u64,
    left: usize,
}

impl Way {
    /// The way of a hash through so many buckets.
    pub(super) fn new(hash: u64, buckets: usize) -> Self {
        /// Numbers of buckets before each was named with near certainty.
        const ROUNDS: usize = 16;
        Self { state: hash, count: buckets as u64, left: ROUNDS * buckets }
    }
}

impl Iterator for Way {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let number = ((self.state >> 32) * self.count) >> 32;
        // Knuth's constants for a generator of full period; its upper half is what is used.
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some(number as usize)
    }
}
