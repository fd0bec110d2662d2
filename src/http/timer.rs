//! One timer for everything a connection waits for, one wait after the other.
//!
//! Arming a runtime timer for every read would cost more than parsing a request. This one is armed once and re-armed
//! only when it fires early or must fire sooner; a wait that is over at once does not even read the clock.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// A wait took longer than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// The timer.
pub struct Timer {
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    /// A timer, armed for `first`: the longest usual wait.
    pub fn new(first: Duration) -> Self {
        Self { sleep: Box::pin(sleep(first)) }
    }

    /// Waits for `future`, at most `limit` from when it first has to wait.
    pub async fn within<F: Future>(&mut self, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
        self.until(|| Instant::now() + limit, future).await
    }

    /// Waits for `future`, at most until `deadline`, which is asked for only when there is a wait.
    pub async fn until<F: Future>(&mut self, deadline: impl Fn() -> Instant, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut until = None;
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            let deadline = *until.get_or_insert_with(&deadline);
            if self.sleep.deadline() > deadline {
                self.sleep.as_mut().reset(deadline);
            }
            while self.sleep.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(Err(Elapsed));
                }
                self.sleep.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_ends_at_its_own_limit_whatever_was_armed() {
        let mut timer = Timer::new(Duration::from_secs(3600));
        let never = std::future::pending::<()>;
        assert_eq!(timer.within(Duration::from_millis(5), never()).await, Err(Elapsed));
        // Armed in the past now: a longer wait must not end early.
        let begun = Instant::now();
        assert_eq!(timer.within(Duration::from_millis(30), never()).await, Err(Elapsed));
        assert!(begun.elapsed() >= Duration::from_millis(30));
        assert_eq!(timer.within(Duration::ZERO, async { 7 }).await, Ok(7));
    }
}
