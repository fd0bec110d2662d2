//! dnstap: a copy of what clients ask and are answered, with the verdict that changed it, for whoever collects such things.
//!
//! ```text
//! gate ─ tap (encode) ─▶ bounded queue ─▶ output (connect, handshake, write, connect again) ─▶ socket │ file
//! ```
//!
//! A gate without it has no tap and does nothing here. One with it never waits: what the queue does not take is dropped and
//! counted. Sources: dnstap.proto of the dnstap project, the Frame Streams protocol of fstrm 0.6.

pub mod frames;
pub mod message;
mod output;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use tokio::sync::mpsc;

use self::message::{Event, Kind, Policy};
pub use self::output::{LAST_WORDS, Output};
use super::Counters;
use super::handler::Client;
use super::settings::Dnstap;

/// Frames that may wait for the reader: of ordinary queries two megabytes, a tenth of a second at 40,000 queries a second.
const FRAMES_MAX: usize = 8192;
/// Octets of these: answers over streams may have 64 KiB each.
const QUEUED_OCTETS_MAX: usize = 16 << 20;

/// The sending end.
pub struct Tap {
    settings: Dnstap,
    sender: mpsc::Sender<Vec<u8>>,
    /// Octets in the queue.
    queued: Arc<AtomicUsize>,
    counters: Arc<Counters>,
}

/// The end that the output reads.
pub struct Frames {
    receiver: mpsc::Receiver<Vec<u8>>,
    queued: Arc<AtomicUsize>,
}

impl Tap {
    /// Both ends of the queue.
    pub fn new(settings: Dnstap, counters: Arc<Counters>) -> (Self, Frames) {
        Self::with_room(settings, counters, FRAMES_MAX)
    }

    fn with_room(settings: Dnstap, counters: Arc<Counters>, frames_max: usize) -> (Self, Frames) {
        let (sender, receiver) = mpsc::channel(frames_max);
        let queued = Arc::<AtomicUsize>::default();
        (Self { settings, sender, queued: queued.clone(), counters }, Frames { receiver, queued })
    }

    /// Takes a query as it came.
    pub fn query(&self, packet: &[u8], client: Client, at: SystemTime) {
        if self.settings.queries {
            self.send(&Event { query: packet, ..self.event(Kind::ClientQuery, client, Some(at)) });
        }
    }

    /// Takes a response as it goes, to a query that came at `asked_at`, with the policy that was applied to it.
    pub fn response(
        &self,
        message: &[u8],
        client: Client,
        (asked_at, at): (Option<SystemTime>, SystemTime),
        policy: Option<&Policy<'_>>,
    ) {
        if self.settings.responses {
            let event = self.event(Kind::ClientResponse, client, asked_at);
            self.send(&Event { response: message, answered_at: Some(at), policy, ..event });
        }
    }

    fn event(&self, kind: Kind, client: Client, asked_at: Option<SystemTime>) -> Event<'_> {
        Event {
            identity: self.settings.identity.as_bytes(),
            kind,
            client,
            asked_at,
            query: &[],
            answered_at: None,
            response: &[],
            policy: None,
        }
    }

    /// Queues an event, or drops and counts it. Never waits.
    fn send(&self, event: &Event<'_>) {
        let frame = frames::data(&event.encode());
        let octets = frame.len();
        let before = self.queued.fetch_add(octets, Ordering::Relaxed);
        if before + octets > QUEUED_OCTETS_MAX || self.sender.try_send(frame).is_err() {
            self.queued.fetch_sub(octets, Ordering::Relaxed);
            self.counters.dnstap_dropped.increment();
        }
    }
}

impl Frames {
    /// Waits for frames and appends up to `most` to `batch`; none at the end of all.
    async fn receive(&mut self, batch: &mut Vec<Vec<u8>>, most: usize) -> usize {
        let count = self.receiver.recv_many(batch, most).await;
        let octets: usize = batch.iter().rev().take(count).map(Vec::len).sum();
        self.queued.fetch_sub(octets, Ordering::Relaxed);
        count
    }

    /// Takes no more: what waits is still received.
    fn close(&mut self) {
        self.receiver.close();
    }

    /// How many wait.
    fn len(&self) -> usize {
        self.receiver.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::PathBuf;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::dns::send::Transport;
    use crate::dns::settings::DnstapTarget;

    fn settings() -> Dnstap {
        let to = DnstapTarget::Unix(PathBuf::from("/nowhere"));
        Dnstap { to, identity: "gate-1".to_owned(), queries: true, responses: true }
    }

    #[tokio::test]
    async fn what_the_queue_does_not_take_is_counted_and_makes_nobody_wait() {
        let counters = Arc::<Counters>::default();
        let (tap, mut frames) = Tap::with_room(settings(), counters.clone(), 3);
        let client = Client::new((Ipv4Addr::LOCALHOST, 40_000).into(), None, Transport::Udp);
        for _ in 0..5 {
            tap.query(b"query", client, UNIX_EPOCH);
        }
        assert_eq!((counters.dnstap_dropped.value(), frames.len()), (2, 3));
        let mut batch = Vec::new();
        assert_eq!(frames.receive(&mut batch, 8).await, 3);
        assert_eq!(tap.queued.load(Ordering::Relaxed), 0);
        tap.response(b"response", client, (None, UNIX_EPOCH), None);
        assert_eq!((counters.dnstap_dropped.value(), frames.len()), (2, 1));
        frames.close();
        assert_eq!((frames.receive(&mut batch, 8).await, frames.receive(&mut batch, 8).await), (1, 0));
        tap.query(b"query", client, UNIX_EPOCH);
        assert_eq!(counters.dnstap_dropped.value(), 3);
    }

    #[test]
    fn octets_are_bounded_too() {
        let counters = Arc::<Counters>::default();
        let (tap, frames) = Tap::new(settings(), counters.clone());
        let client = Client::new((Ipv4Addr::LOCALHOST, 40_000).into(), None, Transport::Tcp);
        for _ in 0..300 {
            tap.response(&[7; 65_000], client, (None, UNIX_EPOCH), None);
        }
        assert!(frames.len() < 260 && frames.queued.load(Ordering::Relaxed) <= QUEUED_OCTETS_MAX);
        assert_eq!(counters.dnstap_dropped.value() as usize, 300 - frames.len());
    }
}
