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
    /// An invalid host as it arrived, by [`received_host`]; `None` for all others.
    pub received: Option<Box<str>>,
    /// The decision.
    pub verdict: Verdict,
    /// False in observe mode.
    pub enforced: bool,
    /// The shadow's verdict, where it is another one.
    pub shadow: Option<Verdict>,
    /// What it was reached with, so that the row and range can be shown. Holds the view alive until written.
    pub view: Arc<View>,
}

/// Octets of an invalid host that are kept: those of the longest name (RFC 1035 section 2.3.4).
pub const RECEIVED_OCTETS_MAX: usize = 255;

/// The text of an invalid host as a record keeps it: at most [`RECEIVED_OCTETS_MAX`] octets, "..." behind what was cut, and
/// everything that is no visible ASCII as RFC 4343 section 2.1 shows it.
pub fn received_host(text: &[u8]) -> Box<str> {
    let mut res = String::with_capacity(text.len().min(RECEIVED_OCTETS_MAX));
    for &octet in text.iter().take(RECEIVED_OCTETS_MAX) {
        match octet {
            b'\\' => res.push_str("\\\\"),
            0x21..=0x7e => res.push(char::from(octet)),
            _ => res.push_str(&format!("\\{octet:03}")),
        }
    }
    if text.len() > RECEIVED_OCTETS_MAX {
        res.push_str("...");
    }
    res.into_boxed_str()
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
            && (record.shadow.is_some() || self.wants(record.verdict.action))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_received_host_is_escaped_and_bounded() {
        assert_eq!(&*received_host(b"XN--A.cn"), "XN--A.cn");
        assert_eq!(&*received_host("a b\\\r\né\u{7f}".as_bytes()), "a\\032b\\\\\\013\\010\\195\\169\\127");
        assert_eq!(&*received_host(&[b'a'; RECEIVED_OCTETS_MAX]), "a".repeat(RECEIVED_OCTETS_MAX));
        let cut = received_host(&[b'a'; RECEIVED_OCTETS_MAX + 1]);
        assert_eq!(&*cut, "a".repeat(RECEIVED_OCTETS_MAX) + "...");
    }
}
