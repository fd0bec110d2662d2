//! The signal to stop: first no new work (drain), then no work at all (stop).

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
pub struct DrainSignal(watch::Sender<Phase>);

impl DrainSignal {
    /// A signal and its first watcher.
    pub fn new() -> (Self, DrainWatch) {
        let (sender, receiver) = watch::channel(Phase::Running);
        (Self(sender), DrainWatch(receiver))
    }

    /// Goes on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
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
pub struct DrainWatch(watch::Receiver<Phase>);

impl DrainWatch {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until the phase is at least `phase`. A dropped signal counts as stopped.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means the signal is gone, and with it whoever would have kept us running.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}
