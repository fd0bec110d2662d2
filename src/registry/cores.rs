//! Work on many parts at once.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What `work` makes of each item, in their order, on all cores; `None` when it broke off with a panic.
pub(super) fn on_all_cores<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Option<Vec<T>> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut res = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return res };
            res.push((at, work(item)));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get).min(items.len());
    let mut made: Vec<(usize, T)> = Vec::with_capacity(items.len());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        // All are waited for before one that broke off is told of.
        let joined: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        joined.into_iter().try_for_each(|found| found.map(|found| made.extend(found)))
    })
    .ok()?;
    made.sort_by_key(|&(at, _)| at);
    Some(made.into_iter().map(|(_, made)| made).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_in_the_order_of_the_items() {
        for count in [0u32, 1, 2, 1000] {
            let items: Vec<u32> = (0..count).collect();
            let expected: Vec<u32> = items.iter().map(|n| n * 3).collect();
            assert_eq!(on_all_cores(&items, |n| n * 3), Some(expected));
        }
    }

    #[test]
    fn work_that_panics_is_told_of() {
        assert_eq!(on_all_cores(&[1, 2, 3], |&n| assert_ne!(n, 2)), None);
    }
}
