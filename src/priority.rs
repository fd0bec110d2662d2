//! Work that stands back: threads of their own at a lower priority, so that a reload never holds up an answer.
//!
//! A priority belongs to a thread and, without rights, only ever falls: such work never runs on threads of a pool. What it
//! starts inherits the priority. Nothing here can fail: where the system has no such thing the work runs as any other.

use std::time::{Duration, Instant};

/// How far work stands back from the threads that answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Until nobody else wants the processor: tidying, writing files that a later start reads.
    Idle,
    /// About a quarter of a processor that is wanted without end: somebody waits for the result.
    Soon,
}

/// Runs `work` on a thread of its own at `rank` and waits for it; a panic is passed on.
pub fn apart<T: Send>(rank: Rank, work: impl FnOnce() -> T + Send) -> T {
    let ranked = move || {
        stand_back(rank);
        work()
    };
    std::thread::scope(|scope| scope.spawn(ranked).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Lets threads that wake up meanwhile go first, without losing its own share to threads that never sleep.
///
/// Linux leaves a thread its slice of milliseconds even when one of higher priority wakes up (EEVDF, `RUN_TO_PARITY`),
/// unless it is idle by policy. Long work therefore offers the processor itself; but an offer to a thread that computes
/// without end costs one of that thread's slices, so what an offer cost is worked for before the next one.
#[derive(Debug)]
pub struct Turns {
    next: Instant,
}

impl Turns {
    /// The first offer is due at once.
    #[expect(clippy::new_without_default, reason = "it begins at a moment")]
    pub fn new() -> Self {
        Self { next: Instant::now() }
    }

    /// Offers the processor, if that is due. Cheap enough for every few kilobytes.
    pub fn offer(&mut self) {
        /// The least time between two offers; an answer from the cache takes as long.
        const WORK_MIN: Duration = Duration::from_micros(20);
        let begun = Instant::now();
        if begun < self.next {
            return;
        }
        std::thread::yield_now();
        let ended = Instant::now();
        self.next = ended + (ended - begun).max(WORK_MIN);
    }
}

/// Lowers the calling thread.
///
/// Two calls with plain numbers and one structure that outlives the call; they fail without any effect. A library around
/// them would be larger than they are.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the standard library has no thread priorities")]
fn stand_back(rank: Rank) {
    /// Weight 335 against 1024 of an ordinary thread (sched(7), "The nice value").
    const SOON_NICE: libc::c_int = 5;
    // In both calls 0 is the calling thread: setpriority(2), "C library/kernel differences"; sched_setscheduler(2).
    match rank {
        Rank::Idle => {
            // SAFETY: all-zero octets are a valid value of a structure of integers.
            let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
            // SAFETY: the pointer is to a live local value, which is only read.
            unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
        }
        Rank::Soon => {
            // SAFETY: takes no pointers.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, SOON_NICE) };
        }
    }
}

/// Elsewhere all threads are alike.
#[cfg(not(target_os = "linux"))]
fn stand_back(_: Rank) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Field `number` of the calling thread's `stat` (proc_pid_stat(5)).
    fn of_this_thread(number: usize) -> i64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("reads");
        let behind_the_name = stat.rsplit_once(')').expect("a name").1;
        behind_the_name.split_whitespace().nth(number - 3).and_then(|field| field.parse().ok()).expect("a number")
    }

    const NICE: usize = 19;
    const POLICY: usize = 41;

    #[test]
    fn work_stands_back_with_the_threads_it_starts_and_its_caller_does_not() {
        let before = (of_this_thread(NICE), of_this_thread(POLICY));
        let inner = || std::thread::scope(|scope| scope.spawn(|| of_this_thread(POLICY)).join().expect("runs"));
        assert_eq!(apart(Rank::Idle, inner), i64::from(libc::SCHED_IDLE));
        let soon = apart(Rank::Soon, || of_this_thread(NICE));
        assert!(soon == 5 || before.0 > 5, "{soon}");
        assert_eq!((of_this_thread(NICE), of_this_thread(POLICY)), before);
    }

    #[test]
    #[should_panic(expected = "of the work")]
    fn a_panic_of_the_work_is_passed_on() {
        apart(Rank::Soon, || panic!("of the work"));
    }
}
