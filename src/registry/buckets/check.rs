//! A table that was written before, checked record by record before anything is looked up in it.

use super::{BUCKET, HEAD, RECORD_HEAD, Record};
use crate::registry::entry::is_sound_alone;

/// Where rows begin, as far as a table that was written before is checked against it.
pub trait Rows: Sync {
    /// True when a row begins at this arena position.
    fn contains(&self, position: u32) -> bool;

    /// Has what [`Rows::contains`] will read fetched.
    fn ask_for(&self, _position: u32) {}
}

impl<F: Fn(u32) -> bool + Sync> Rows for F {
    fn contains(&self, position: u32) -> bool {
        self(position)
    }
}

/// How many records `buckets` hold, and their octets; `None` when they are none or lead to no row.
pub(super) fn count_records(buckets: &[u8], known: &impl Rows) -> Option<(usize, usize)> {
    /// Buckets whose positions are fetched side by side.
    const TOGETHER: usize = 32;
    let (mut rows, mut filled) = (0, 0);
    let mut positions = Vec::with_capacity(TOGETHER * 8);
    for buckets in buckets.chunks(TOGETHER * BUCKET) {
        positions.clear();
        for bucket in buckets.chunks_exact(BUCKET) {
            let records = bucket.get(HEAD..HEAD + usize::from(bucket[0]))?;
            let mut at = 0;
            while at < records.len() {
                let octets = usize::from(*records.get(at + 1)?);
                let record = records.get(at..at + octets)?;
                if !is_sound_alone(record.get(RECORD_HEAD..)?) {
                    return None;
                }
                let position = Record(record).position();
                known.ask_for(position);
                positions.push(position);
                at += octets;
            }
            filled += records.len();
        }
        if !positions.iter().all(|&position| known.contains(position)) {
            return None;
        }
        rows += positions.len();
    }
    Some((rows, filled))
}
