//! Where a plane hands its verdicts: a bounded queue that never blocks and counts what it drops.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::verdict::{Action, Verdict};
use super::view::View;
use crate::model::{DomainName, Via};

/// Verdicts that may wait for the journal; at 100,000 a second this is 80 ms of a stalled disk.
pub const SINK_RECORDS_MAX: usize = 8192;

/// One verdict on its way to the journal.
#[derive(Clone)]
pub struct VerdictRecord {
    /// When it was reached.
    pub at: SystemTime,
    /// By which plane.
    pub via: Via,
    /// Who asked.
    pub client: IpAddr,
    /// The name; `None` for an IP literal or an invalid host.
    pub name: Option<DomainName>,
    /// The decision.
    pub verdict: Verdict,
    /// False in observe mode.
    pub enforced: bool,
    /// What it was reached with, so that the row and range can be shown. Holds the view alive until written.
    pub view: Arc<View>,
}

/// Which verdicts somebody reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interest {
    /// Every verdict.
    #[default]
    All,
    /// Blocks, enforced or not.
    Blocks,
}

/// The sending end; cheap to clone.
#[derive(Clone)]
pub struct Sink {
    sender: Option<mpsc::Sender<VerdictRecord>>,
    interest: Interest,
    /// Readers who want every verdict for now, whatever `interest` says.
    guests: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

impl Sink {
    /// A sink for every verdict and the end the journal reads.
    pub fn new() -> (Self, mpsc::Receiver<VerdictRecord>) {
        Self::of(Interest::All)
    }

    /// A sink for some verdicts and the end the journal reads.
    pub fn of(interest: Interest) -> (Self, mpsc::Receiver<VerdictRecord>) {
        let (sender, receiver) = mpsc::channel(SINK_RECORDS_MAX);
        (Self { sender: Some(sender), interest, guests: Arc::default(), dropped: Arc::default() }, receiver)
    }

    /// A sink that leads nowhere, for a gate without a journal; records are not even built.
    pub fn closed() -> Self {
        Self { sender: None, interest: Interest::Blocks, guests: Arc::default(), dropped: Arc::default() }
    }

    /// True when somebody reads; a plane builds records only then.
    pub fn is_open(&self) -> bool {
        self.sender.is_some()
    }

    /// True when somebody reads verdicts of this kind; a plane builds a record only then.
    pub fn wants(&self, action: Action) -> bool {
        let wants_all = || self.interest == Interest::All || self.guests.load(Ordering::Relaxed) > 0;
        self.is_open() && (action == Action::Block || wants_all())
    }

    /// Asks for every verdict for as long as the guest lives.
    pub fn invite(&self) -> SinkGuest {
        self.guests.fetch_add(1, Ordering::Relaxed);
        SinkGuest(self.guests.clone())
    }

    /// Hands a record over, or drops and counts it. Never waits.
    pub fn send(&self, record: VerdictRecord) {
        if let Some(sender) = &self.sender
            && self.wants(record.verdict.action)
            && sender.try_send(record).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// A reader of every verdict; dropping it ends the wish.
#[derive(Debug)]
pub struct SinkGuest(Arc<AtomicUsize>);

impl Drop for SinkGuest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
