//! The flights under way: those that wait for their hello, those that have passed and are still looked at, those refused.
//!
//! No socket, and the time comes from outside. Each kind has its own places, oldest out first, so that none can push
//! another out; all share one bound on octets, which those that wait give way to first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Pair;
use super::counters::{Dropped, FlightOutcome};
use super::udp::Ecn;
use crate::http::Counters;
use crate::http::hello::Hello;
use crate::http::host::HostName;
use crate::http::quic::{Cid, CloseCode, Flight, FlightError, Long, Reading, Version, may_begin};

/// Flights that wait for the rest of their hello. It follows within milliseconds, so this is 100,000 new ones a second.
pub const WAITING_MAX: usize = 8192;
/// Flights that have passed and are still looked at: 16,000 handshakes a second that take a second each.
pub const PASSED_MAX: usize = 16_384;
/// Refused flights that are remembered, so that what a client sends again is no further verdict.
pub const REFUSED_MAX: usize = 8192;
/// Flights on one pair: clients that use one socket for all connections open several at once. Refused ones make room.
pub const PER_PAIR_MAX: usize = 32;
/// Octets held for one flight: the longest hello twice, and the early data of a first window.
pub const HELD_OCTETS_MAX: usize = 64 << 10;
/// Octets of all flights, handshakes included.
pub const OCTETS_MAX: usize = 64 << 20;
/// How long Initials of a flight that has passed are read: the slowest handshake that ends well.
pub const PASSED_TIME: Duration = Duration::from_secs(30);
/// How long a refused flight is remembered: the first few times that its client sends it again.
pub const REFUSED_TIME: Duration = Duration::from_secs(5);
/// Octets that a flight takes besides its handshake and what is held: keys, and its places in the tables.
const FLIGHT_OCTETS: usize = 2 << 10;

/// What a hello gets.
#[expect(clippy::large_enum_variant, reason = "one a flight; a name is inline so that reading it allocates nothing")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It goes to the origin.
    Pass(HostName),
    /// It does not: how that is counted, and the code to close with.
    Refuse(FlightOutcome, CloseCode),
}

/// What to do with a datagram.
#[expect(clippy::large_enum_variant, reason = "one a datagram; a name is inline so that reading it allocates nothing")]
#[derive(Debug)]
pub enum Step {
    /// Drop it.
    Drop(Dropped),
    /// Refuse it and end the pair's path: it contradicts what was judged. The flight began with this connection ID.
    End(CloseCode, Cid),
    /// Forward it on the pair's path.
    Forward,
    /// Nothing: it is held.
    Hold,
    /// Open the pair's path for this host, unless it is open, and send what was held and then this datagram.
    Open(HostName, Vec<Held>),
    /// Refuse it.
    Refuse(CloseCode),
}

/// A datagram with an Initial in it, as its pair sent it.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Its first header.
    pub first: &'a Long<'a>,
    /// All of it.
    pub octets: &'a [u8],
    /// Its congestion marks.
    pub ecn: Ecn,
    /// It may begin a flight: an Initial is in front.
    pub begins: bool,
}

/// A datagram that waits.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    /// Its octets.
    pub octets: Box<[u8]>,
    /// Its congestion marks.
    pub ecn: Ecn,
}

/// All flights under way.
pub struct Flights {
    by_pair: HashMap<Pair, Vec<Entry>>,
    queues: [Queue; Class::ALL.len()],
    octets: usize,
    next_id: u64,
    hello_octets_max: usize,
    scratch: Vec<u8>,
    counters: Arc<Counters>,
}

impl Flights {
    /// None yet. Flights wait for `hello_time` at most; `flows_max` bounds their number further.
    pub fn new(hello_octets_max: usize, hello_time: Duration, flows_max: usize, counters: Arc<Counters>) -> Self {
        let queue = |most: usize, time| Queue { order: VecDeque::new(), live: 0, most: most.min(flows_max), time };
        let queues = [queue(WAITING_MAX, hello_time), queue(PASSED_MAX, PASSED_TIME), queue(REFUSED_MAX, REFUSED_TIME)];
        let (by_pair, scratch) = (HashMap::new(), Vec::new());
        Self { by_pair, queues, octets: 0, next_id: 0, hello_octets_max, scratch, counters }
    }

    /// Shows a datagram to its flight, or begins one; `judge` is asked when a hello is whole, once a flight.
    pub fn initial(
        &mut self,
        pair: Pair,
        shown: &Shown<'_>,
        now: Instant,
        judge: &mut dyn FnMut(&Hello<'_>) -> Ruling,
    ) -> Step {
        let first = shown.first;
        // After a Retry two flights have the same server, and only the later one's keys open what goes to it.
        let mut ids = self.ids_of(&pair, first);
        let is_known = !ids.is_empty();
        while let Some(id) = ids.pop()
            && let Some(entry) = self.take(&pair, |entry| entry.id == id)
        {
            let step = self.go_on(pair, entry, shown, now, judge);
            if !matches!(step, Step::Drop(Dropped::NotAuthentic)) {
                return step;
            }
        }
        if is_known {
            return Step::Drop(Dropped::NotAuthentic);
        }
        if !shown.begins {
            return Step::Drop(Dropped::NoFlow);
        }
        if !may_begin(first) {
            return Step::Drop(Dropped::CidTooShort);
        }
        let is_full = self.by_pair.get(&pair).is_some_and(|entries| entries.len() >= PER_PAIR_MAX);
        if is_full && !self.forget_refused(&pair) {
            return Step::Drop(Dropped::Refused);
        }
        let (Some(flight), Some(dcid)) = (Flight::begin(first, self.hello_octets_max), Cid::new(first.dcid)) else {
            return Step::Drop(Dropped::NotQuic);
        };
        self.next_id += 1;
        let state = State::Waiting(Box::new(flight), Vec::new());
        let entry = Entry { id: self.next_id, version: first.version, dcid, state, charged: 0 };
        self.go_on(pair, entry, shown, now, judge)
    }

    /// What to do with a 0-RTT packet: it shares its flight's lot (D-Q5).
    pub fn early(&mut self, pair: Pair, shown: &Shown<'_>, now: Instant) -> Step {
        let first = shown.first;
        let Some(mut entry) = self.take(&pair, |entry| entry.is_of(first.version, first.dcid)) else {
            return Step::Drop(Dropped::NoFlow);
        };
        let before = entry.class();
        let step = match &mut entry.state {
            State::Waiting(_, held) => {
                if hold(held, shown) {
                    Step::Hold
                } else {
                    Step::Drop(Dropped::HeldFull)
                }
            }
            State::Passed(_) => Step::Forward,
            State::Refused(_) => Step::Drop(Dropped::Refused),
        };
        self.put(pair, entry, Some(before), now);
        step
    }

    /// The server answered `client` on a pair, under a connection ID and version of its choice.
    pub fn answered(&mut self, pair: &Pair, client: &[u8], server: Cid, version: Version) {
        for entry in self.by_pair.get_mut(pair).into_iter().flatten() {
            if let State::Passed(flight) = &mut entry.state
                && flight.scid().octets() == client
            {
                flight.answered(server, version);
            }
        }
    }

    /// The client went on to Handshake packets with the server of this connection ID: it sends no Initial any more (RFC 9001
    /// section 4.9.1).
    pub fn went_on(&mut self, pair: &Pair, server: &[u8]) {
        let is_over = |entry: &Entry| matches!(&entry.state, State::Passed(flight) if is_server(flight, server));
        while self.take(pair, is_over).is_some() {}
        self.show();
    }

    /// Forgets what passed on a pair whose path is no more.
    pub fn forget_passed(&mut self, pair: &Pair) {
        while self.take(pair, |entry| entry.class() == Class::Passed).is_some() {}
        self.show();
    }

    /// Forgets the flight that passed and to which an Initial belongs, since nothing of it goes on.
    pub fn forget_flight(&mut self, pair: &Pair, first: &Long<'_>) {
        let is_it = |entry: &Entry| {
            entry.class() == Class::Passed && entry.version == first.version && entry.dcid.octets() == first.dcid
        };
        self.take(pair, is_it);
        self.show();
    }

    /// Forgets the flight of a pair that was refused first; false when there is none.
    fn forget_refused(&mut self, pair: &Pair) -> bool {
        let entries = self.by_pair.get(pair).into_iter().flatten();
        let oldest = entries.filter(|entry| entry.class() == Class::Refused).map(|entry| entry.id).min();
        oldest.is_some_and(|id| self.take(pair, |entry| entry.id == id).is_some())
    }

    /// Forgets what is over its time.
    pub fn expire(&mut self, now: Instant) {
        for class in Class::ALL {
            while let Some(&(deadline, pair, id)) = self.queues[class as usize].order.front()
                && deadline <= now
            {
                self.queues[class as usize].order.pop_front();
                self.out(class, &pair, id, FlightOutcome::TimedOut);
            }
        }
        self.show();
    }

    /// Flights of all kinds.
    pub fn count(&self) -> usize {
        self.queues.iter().map(|queue| queue.live).sum()
    }

    /// The flights a packet may belong to, latest last.
    fn ids_of(&self, pair: &Pair, first: &Long<'_>) -> Vec<u64> {
        let entries = self.by_pair.get(pair).into_iter().flatten();
        let mut res: Vec<u64> =
            entries.filter(|entry| entry.is_of(first.version, first.dcid)).map(|entry| entry.id).collect();
        res.sort_unstable();
        res
    }

    //--- Entries -----------------------------------------------------------------------------------------------------

    /// Reads a datagram into a flight that is taken out, and puts it back as what it became.
    fn go_on(
        &mut self,
        pair: Pair,
        mut entry: Entry,
        shown: &Shown<'_>,
        now: Instant,
        judge: &mut dyn FnMut(&Hello<'_>) -> Ruling,
    ) -> Step {
        let before = (entry.charged > 0).then_some(entry.class());
        let (state, step) = match entry.state {
            State::Refused(code) => (Some(State::Refused(code)), Step::Refuse(code)),
            State::Passed(flight) => pass_on(flight, shown, &mut self.scratch),
            State::Waiting(flight, held) => self.wait_on(flight, held, shown, before.is_none(), judge),
        };
        if let Some(state) = state {
            entry.state = state;
            self.put(pair, entry, before, now);
        }
        step
    }

    /// Reads a datagram into a flight that waits.
    fn wait_on(
        &mut self,
        mut flight: Box<Flight>,
        mut held: Vec<Held>,
        shown: &Shown<'_>,
        is_new: bool,
        judge: &mut dyn FnMut(&Hello<'_>) -> Ruling,
    ) -> (Option<State>, Step) {
        let quic = &self.counters.quic;
        let refuse = |outcome, code| {
            quic.flight(outcome);
            (Some(State::Refused(code)), Step::Refuse(code))
        };
        let ruling = match flight.read(shown.octets, &mut self.scratch) {
            Reading::Hello(hello) => judge(&hello),
            Reading::Malformed(error) => Ruling::Refuse(FlightOutcome::Malformed, error.close_code()),
            Reading::NeedMore if hold(&mut held, shown) => {
                return (Some(State::Waiting(flight, held)), Step::Hold);
            }
            Reading::NeedMore => Ruling::Refuse(FlightOutcome::Refused, FlightError::TooManyPackets.close_code()),
            Reading::Closed => {
                quic.flight(FlightOutcome::Abandoned);
                return (None, Step::Drop(Dropped::NoFlow));
            }
            // A first datagram that cannot be read begins nothing.
            Reading::Nothing if is_new => return (None, Step::Drop(Dropped::NotAuthentic)),
            Reading::Nothing => return (Some(State::Waiting(flight, held)), Step::Drop(Dropped::NotAuthentic)),
        };
        match ruling {
            Ruling::Pass(host) => (Some(State::Passed(flight)), Step::Open(host, held)),
            Ruling::Refuse(outcome, code) => refuse(outcome, code),
        }
    }

    /// Takes a flight of a pair out.
    fn take(&mut self, pair: &Pair, is_it: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let entries = self.by_pair.get_mut(pair)?;
        let at = entries.iter().position(is_it)?;
        let entry = entries.swap_remove(at);
        if entries.is_empty() {
            self.by_pair.remove(pair);
        }
        self.queues[entry.class() as usize].live -= 1;
        self.octets -= entry.charged;
        Some(entry)
    }

    /// Puts a flight in, which was of class `before`, and makes room where it is one too many.
    fn put(&mut self, pair: Pair, mut entry: Entry, before: Option<Class>, now: Instant) {
        let (class, id) = (entry.class(), entry.id);
        entry.charged = entry.octets();
        self.octets += entry.charged;
        self.by_pair.entry(pair).or_default().push(entry);
        let queue = &mut self.queues[class as usize];
        queue.live += 1;
        if before != Some(class) {
            queue.order.push_back((now + queue.time, pair, id));
        }
        if queue.order.len() > 2 * queue.most + PER_PAIR_MAX {
            self.compact(class);
        }
        while self.queues[class as usize].live > self.queues[class as usize].most && self.evict(class) {}
        while self.octets > OCTETS_MAX
            && [Class::Waiting, Class::Refused, Class::Passed].into_iter().any(|class| self.evict(class))
        {}
        self.show();
    }

    /// Takes the oldest flight of a class out; false when there is none.
    fn evict(&mut self, class: Class) -> bool {
        while let Some((_, pair, id)) = self.queues[class as usize].order.pop_front() {
            if self.out(class, &pair, id, FlightOutcome::Evicted) {
                return true;
            }
        }
        false
    }

    /// Takes a flight out if it is still of this class; only one that waits has no outcome yet.
    fn out(&mut self, class: Class, pair: &Pair, id: u64, outcome: FlightOutcome) -> bool {
        let is_out = self.take(pair, |entry| entry.id == id && entry.class() == class).is_some();
        if is_out && class == Class::Waiting {
            self.counters.quic.flight(outcome);
        }
        is_out
    }

    /// Drops places of flights that are gone or of another class by now.
    fn compact(&mut self, class: Class) {
        let by_pair = &self.by_pair;
        let is_live = |pair: &Pair, id: u64| {
            by_pair.get(pair).is_some_and(|entries| entries.iter().any(|e| e.id == id && e.class() == class))
        };
        self.queues[class as usize].order.retain(|(_, pair, id)| is_live(pair, *id));
    }

    /// Brings the gauges up to date.
    fn show(&self) {
        self.counters.quic.waiting.set(self.queues[Class::Waiting as usize].live as u64);
        self.counters.quic.held_octets.set(self.octets as u64);
    }
}

/// Reads a datagram into a flight that has passed.
fn pass_on(mut flight: Box<Flight>, shown: &Shown<'_>, scratch: &mut Vec<u8>) -> (Option<State>, Step) {
    match flight.read(shown.octets, scratch) {
        // The rest of a second hello is still to come: without it the server can do nothing with what goes on now.
        Reading::Hello(_) | Reading::NeedMore => (Some(State::Passed(flight)), Step::Forward),
        Reading::Malformed(error) => {
            let code = error.close_code();
            (Some(State::Refused(code)), Step::End(code, flight.dcid()))
        }
        // What follows the frame that closes was not read, so the server has to find out by its own timer.
        Reading::Closed => (None, Step::Drop(Dropped::NoFlow)),
        Reading::Nothing => (Some(State::Passed(flight)), Step::Drop(Dropped::NotAuthentic)),
    }
}

/// Holds a datagram, unless it is one too many.
fn hold(held: &mut Vec<Held>, shown: &Shown<'_>) -> bool {
    let fits = held_octets(held) + shown.octets.len() <= HELD_OCTETS_MAX;
    if fits {
        held.push(Held { octets: shown.octets.into(), ecn: shown.ecn });
    }
    fits
}

fn held_octets(held: &[Held]) -> usize {
    held.iter().map(|held| held.octets.len()).sum()
}

fn is_server(flight: &Flight, cid: &[u8]) -> bool {
    flight.server().is_some_and(|server| server.octets() == cid)
}

/// One flight.
struct Entry {
    id: u64,
    version: Version,
    dcid: Cid,
    state: State,
    /// Octets counted for it; 0 before it is put in.
    charged: usize,
}

impl Entry {
    /// True for packets of this flight: to the connection ID it began with in its version, or to the server's.
    fn is_of(&self, version: Version, dcid: &[u8]) -> bool {
        let is_first = self.version == version && self.dcid.octets() == dcid;
        is_first || matches!(&self.state, State::Passed(flight) if is_server(flight, dcid))
    }

    fn class(&self) -> Class {
        match self.state {
            State::Waiting(..) => Class::Waiting,
            State::Passed(_) => Class::Passed,
            State::Refused(_) => Class::Refused,
        }
    }

    fn octets(&self) -> usize {
        let more = match &self.state {
            State::Waiting(flight, held) => flight.kept_octets() + held_octets(held),
            State::Passed(flight) => flight.kept_octets(),
            State::Refused(_) => 0,
        };
        FLIGHT_OCTETS + more
    }
}

enum State {
    Waiting(Box<Flight>, Vec<Held>),
    Passed(Box<Flight>),
    Refused(CloseCode),
}

/// The kinds of flights, in the order of `ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Waiting,
    Passed,
    Refused,
}

impl Class {
    const ALL: [Self; 3] = [Self::Waiting, Self::Passed, Self::Refused];
}

/// The places of one class: who came when. A flight that is gone keeps its place until it is met or there are too many.
struct Queue {
    order: VecDeque<(Instant, Pair, u64)>,
    live: usize,
    most: usize,
    /// How long each may stay.
    time: Duration,
}
