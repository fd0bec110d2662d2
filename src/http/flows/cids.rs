//! Connection IDs of servers, each with what it stands for; found whole, or at the beginning of a short header.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use crate::http::quic::Cid;
use crate::http::quic::header::CID_OCTETS_MAX;

/// Shortest connection ID that tells a flow from others by itself, and that nobody guesses. Shorter ones are not kept.
pub const CID_OCTETS_MIN: usize = 4;

/// A table by connection ID.
#[derive(Debug)]
pub struct Cids<V> {
    by_cid: DashMap<Cid, V>,
    /// How many of each length there are.
    lengths: [AtomicUsize; CID_OCTETS_MAX + 1],
    count: AtomicUsize,
}

impl<V> Default for Cids<V> {
    fn default() -> Self {
        Self { by_cid: DashMap::new(), lengths: Default::default(), count: AtomicUsize::new(0) }
    }
}

impl<V: Clone> Cids<V> {
    /// True without any, which costs next to nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// What a connection ID stands for.
    pub fn get(&self, cid: &[u8]) -> Option<V> {
        self.by_cid.get(&Cid::new(cid)?).map(|value| value.clone())
    }

    /// What `pick` takes of those that what follows a short header's first octet begins with, longest first (D-Q8).
    pub fn find_begin<T>(&self, after_first: &[u8], pick: impl Fn(V) -> Option<T>) -> Option<T> {
        let is_used = |length: &usize| self.lengths[*length].load(Ordering::Relaxed) > 0;
        (CID_OCTETS_MIN..=CID_OCTETS_MAX)
            .rev()
            .filter(is_used)
            .find_map(|length| pick(self.get(after_first.get(..length)?)?))
    }

    /// Notes what a connection ID stands for from now on, unless it is too short.
    pub fn insert(&self, cid: Cid, value: V) {
        let length = cid.octets().len();
        if length >= CID_OCTETS_MIN && self.by_cid.insert(cid, value).is_none() {
            self.lengths[length].fetch_add(1, Ordering::Relaxed);
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets a connection ID that stands for what `is_it` says; true if it did.
    pub fn remove_if(&self, cid: &Cid, is_it: impl FnOnce(&V) -> bool) -> bool {
        let is_out = self.by_cid.remove_if(cid, |_, value| is_it(value)).is_some();
        if is_out {
            self.lengths[cid.octets().len()].fetch_sub(1, Ordering::Relaxed);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        is_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_that_a_header_begins_with_is_found() {
        let cids = Cids::default();
        let cid = |octets: &[u8]| Cid::new(octets).expect("short");
        for (octets, value) in [(&[][..], 0), (&[1, 2, 3], 3), (&[1, 2, 3, 4], 4), (&[1, 2, 3, 4, 5], 5)] {
            cids.insert(cid(octets), value);
        }
        assert_eq!(cids.find_begin(&[1, 2, 3, 4, 5, 6], Some), Some(5));
        assert_eq!(cids.find_begin(&[1, 2, 3, 4, 5, 6], |value| (value < 5).then_some(value)), Some(4));
        assert_eq!(cids.find_begin(&[1, 2, 3, 4, 9], Some), Some(4));
        assert_eq!(cids.find_begin(&[1, 2, 3], Some), None, "too short to be kept");
        assert!(!cids.remove_if(&cid(&[1, 2, 3, 4]), |value| *value == 5));
        assert!(cids.remove_if(&cid(&[1, 2, 3, 4]), |value| *value == 4));
        assert!(cids.remove_if(&cid(&[1, 2, 3, 4, 5]), |_| true));
        assert_eq!(cids.find_begin(&[1, 2, 3, 4, 5, 6], Some), None);
        assert!(cids.is_empty());
    }
}
