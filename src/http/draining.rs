//! The wait for the drain, registered once for all requests of a connection.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use crate::drain::{DrainWatch, Phase};

/// A wait that may be given up and taken up again.
pub struct Draining {
    wait: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
}

impl Draining {
    /// Registers with the drain.
    pub fn new(mut drain: DrainWatch) -> Self {
        Self { wait: Box::pin(async move { drain.reached(Phase::Draining).await }), is_over: false }
    }

    /// Returns once the drain has begun, each time it is asked.
    pub async fn wait(&mut self) {
        poll_fn(|context| {
            if !self.is_over && self.wait.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.is_over = true;
            Poll::Ready(())
        })
        .await;
    }
}
