//! The signal to stop: first no new work (drain), then no work at all (stop).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// How far the process is on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    #[default]
    Running,
    /// No new connections; those open finish what they do.
    Draining,
    /// Everything ends now.
    Stopped,
}

/// The end that gives the signal.
#[derive(Debug)]
pub struct DrainSignal {
    phase: watch::Sender<Phase>,
    handed_over: Arc<AtomicBool>,
}

impl DrainSignal {
    /// A signal and its first watcher.
    pub fn new() -> (Self, DrainWatch) {
        let (phase, receiver) = watch::channel(Phase::Running);
        let handed_over = Arc::<AtomicBool>::default();
        (Self { phase, handed_over: handed_over.clone() }, DrainWatch { phase: receiver, handed_over })
    }

    /// One more watcher.
    pub fn watch(&self) -> DrainWatch {
        DrainWatch { phase: self.phase.subscribe(), handed_over: self.handed_over.clone() }
    }

    /// Begins the drain of a process whose sockets another one serves: what it reads from them, that one misses.
    pub fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Release);
        self.advance(Phase::Draining);
    }

    /// Goes on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let is_later = phase > *now;
            if is_later {
                *now = phase;
            }
            is_later
        });
    }
}

/// The end that waits for it; cheap to clone.
#[derive(Clone, Debug)]
pub struct DrainWatch {
    phase: watch::Receiver<Phase>,
    handed_over: Arc<AtomicBool>,
}

impl DrainWatch {
    /// The phase now. A dropped signal counts as stopped.
    pub fn phase(&self) -> Phase {
        if self.phase.has_changed().is_err() { Phase::Stopped } else { *self.phase.borrow() }
    }

    /// True once another process serves the sockets.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }

    /// Waits until the drain begins because another process serves the sockets; for ever where that is not why.
    pub async fn handed_over(&mut self) {
        self.reached(Phase::Draining).await;
        if !self.is_handed_over() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the phase is at least `phase`. A dropped signal counts as stopped.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means the signal is gone, and with it whoever would have kept us running.
        let _ = self.phase.wait_for(|now| *now >= phase).await;
    }
}
