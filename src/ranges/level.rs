//! The search structure of one family: disjoint sorted segments under a first level of 2^16 slots.
//!
//! A look-up takes the slot of the address, which leaves the few segments that begin in it and the one that reaches into
//! it, and searches those by halves. No allocation.

/// The id of segments nothing is known of.
pub(super) const NOTHING: u32 = u32::MAX;

/// What an address is as a number, and how numbers fall into slots.
pub(super) trait Key: Copy + Ord {
    /// How many slots.
    const SLOTS: usize;
    /// The lowest address.
    const ZERO: Self;
    /// The slot; never falls as addresses rise.
    fn slot(self) -> usize;
    /// As [`super::span`] counts.
    fn widen(self) -> u128;
}

impl Key for u32 {
    const SLOTS: usize = 1 << 16;
    const ZERO: Self = 0;

    fn slot(self) -> usize {
        (self >> 16) as usize
    }

    fn widen(self) -> u128 {
        u128::from(self)
    }
}

impl Key for u128 {
    /// 2^16 slots in 2000::/3, all the unicast space that is handed out (RFC 4291 section 2.4), one below and one above.
    const SLOTS: usize = (1 << 16) + 2;
    const ZERO: Self = 0;

    fn slot(self) -> usize {
        match self >> 125 {
            0 => 0,
            // Bits 3 to 18: the three before are the same for all.
            1 => 1 + ((self >> 109) & 0xffff) as usize,
            _ => Self::SLOTS - 1,
        }
    }

    fn widen(self) -> u128 {
        self
    }
}

/// Segments that cover the whole family, each from its start to before the next one's.
pub(super) struct Level<K> {
    starts: Vec<K>,
    ids: Vec<u32>,
    /// For each slot and one more, how many segments begin in the slots before it.
    before: Vec<u32>,
}

impl<K: Key> Level<K> {
    /// Indexes segments, which ascend strictly; what lies before the first is [`NOTHING`].
    pub(super) fn new(segments: &[(K, u32)]) -> Self {
        let mut res = Self { starts: Vec::new(), ids: Vec::new(), before: Vec::with_capacity(K::SLOTS + 1) };
        if segments.first().is_none_or(|&(start, _)| start > K::ZERO) {
            res.starts.push(K::ZERO);
            res.ids.push(NOTHING);
        }
        res.starts.extend(segments.iter().map(|&(start, _)| start));
        res.ids.extend(segments.iter().map(|&(_, id)| id));
        let mut count = 0;
        for slot in 0..=K::SLOTS {
            while res.starts.get(count).is_some_and(|start| start.slot() < slot) {
                count += 1;
            }
            res.before.push(u32::try_from(count).expect("the loader limits rows to far fewer than 2^31"));
        }
        res
    }

    /// The id of the segment that holds `addr`.
    pub(super) fn find(&self, addr: K) -> u32 {
        let slot = addr.slot();
        // The last segment of the slots before reaches into this one; the first of all begins at zero.
        let from = (self.before[slot] as usize).saturating_sub(1);
        let to = self.before[slot + 1] as usize;
        let at = from + self.starts[from..to].partition_point(|start| *start <= addr);
        self.ids[at - 1]
    }

    /// Every segment, [`NOTHING`] included: first and last address, id. `max` is the family's last address.
    pub(super) fn segments(&self, max: u128) -> impl Iterator<Item = (u128, u128, u32)> + '_ {
        self.starts.iter().enumerate().map(move |(i, start)| {
            let last = self.starts.get(i + 1).map_or(max, |next| next.widen() - 1);
            (start.widen(), last, self.ids[i])
        })
    }
}
