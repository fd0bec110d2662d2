//! Connection IDs of flows that a verdict ended, for as long as their clients may go on writing to them.
//!
//! The path is gone, but its client may have another one, for another name: the server would take what comes there for a
//! change of address, and the connection would go on. What is not seen are connection IDs that the server gave later.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::cids::Cids;
use crate::http::quic::Cid;

/// Connection IDs remembered, about 6 MB: those of all flows that a change of the registry ends at once, as a rule.
pub const REVOKED_MAX: usize = 65_536;
/// How long each is remembered: longer than servers let a connection be silent, 30 seconds to 5 minutes as they come. By
/// then it is no more.
pub const REVOKED_TIME: Duration = Duration::from_secs(600);

/// The connection IDs of flows that a verdict ended, oldest out first.
#[derive(Debug, Default)]
pub struct Revoked {
    /// Each with until when.
    cids: Cids<Instant>,
    order: Mutex<VecDeque<(Instant, Cid)>>,
}

impl Revoked {
    /// Remembers connection IDs from `now` on.
    pub fn add(&self, cids: Vec<Cid>, now: Instant) {
        let until = now + REVOKED_TIME;
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        for cid in cids {
            self.cids.insert(cid, until);
            order.push_back((until, cid));
        }
        while order.len() > REVOKED_MAX {
            self.drop_oldest(&mut order);
        }
    }

    /// Forgets a connection ID: its server has given it to a connection that was judged since.
    pub fn forgive(&self, cid: &Cid) {
        if !self.cids.is_empty() {
            self.cids.remove_if(cid, |_| true);
        }
    }

    /// Forgets those that are over their time.
    pub fn expire(&self, now: Instant) {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        while order.front().is_some_and(|(until, _)| *until <= now) {
            self.drop_oldest(&mut order);
        }
    }

    /// True where what follows a short header's first octet begins with one.
    pub fn has_begin(&self, after_first: &[u8]) -> bool {
        !self.cids.is_empty() && self.cids.find_begin(after_first, Some).is_some()
    }

    fn drop_oldest(&self, order: &mut VecDeque<(Instant, Cid)>) {
        if let Some((until, cid)) = order.pop_front() {
            // It may be remembered anew.
            self.cids.remove_if(&cid, |found| *found == until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_ids_are_remembered_for_a_time_and_in_a_number() {
        let revoked = Revoked::default();
        let cid = |i: u32| Cid::new(&i.to_be_bytes()).expect("short");
        let has = |i: u32| revoked.has_begin(&[&i.to_be_bytes()[..], &[7; 30]].concat());
        let begun = Instant::now();
        revoked.add(vec![cid(1), cid(2)], begun);
        revoked.add(vec![cid(2)], begun + Duration::from_secs(1));
        assert!(has(1) && has(2) && !has(3));
        revoked.expire(begun + REVOKED_TIME);
        assert!(!has(1) && has(2), "from the last time on");
        revoked.forgive(&cid(2));
        assert!(!has(2));
        let many = 10..=10 + REVOKED_MAX as u32;
        revoked.add(many.clone().map(cid).collect(), begun);
        assert_eq!((has(*many.start()), has(many.start() + 1), has(*many.end())), (false, true, true));
        assert!(revoked.order.lock().expect("no panic").len() <= REVOKED_MAX);
    }
}
