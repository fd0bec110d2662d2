//! A second server is asked beside a first one that takes longer than it usually does; the first good answer is taken.
//!
//! Bounded, so that servers slowed by load do not get more of it: one beside one question, and one in ten questions over time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Times its usual time after which an answer is late.
const LATE_FACTOR: u32 = 4;
/// No answer is late before that: a second server would not have been faster.
const LATE_MIN: Duration = Duration::from_millis(20);
/// For a server whose usual time is not known.
const LATE_UNKNOWN: Duration = Duration::from_millis(200);
/// What one question adds, what a second one beside it costs, and what can be saved: ten in a row.
const EARNED: u32 = 1;
const COST: u32 = 10;
const SAVED_MAX: u32 = 100;

/// When an answer is late that usually takes `mean`.
pub fn late_after(mean: Option<Duration>) -> Duration {
    mean.map_or(LATE_UNKNOWN, |mean| (mean * LATE_FACTOR).max(LATE_MIN))
}

/// What may be asked beside what must be.
#[derive(Debug)]
pub struct Budget(AtomicU32);

impl Budget {
    /// A full one.
    pub const fn new() -> Self {
        Self(AtomicU32::new(SAVED_MAX))
    }

    /// A question was asked.
    pub fn earn(&self) {
        let add = |saved: u32| Some((saved + EARNED).min(SAVED_MAX));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// True where a second one may be asked now.
    pub fn spend(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(COST)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_late_by_what_is_usual() {
        let millis = Duration::from_millis;
        assert_eq!(late_after(Some(millis(30))), millis(120));
        assert_eq!(late_after(Some(millis(1))), millis(20));
        assert_eq!(late_after(None), millis(200));
    }

    #[test]
    fn one_in_ten_is_asked_twice() {
        let budget = Budget::new();
        while budget.spend() {}
        let mut twice = 0;
        for _ in 0..1000 {
            budget.earn();
            twice += u32::from(budget.spend());
        }
        assert_eq!(twice, 100);
    }
}
