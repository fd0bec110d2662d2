//! The gate itself: every datagram of a client is forwarded, held, answered or dropped here.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::Pair;
use super::cids::CID_OCTETS_MIN;
use super::counters::{Dropped, FlightOutcome, FlowCounters, PathEnd};
use super::flights::{Flights, Held, Ruling, Shown, Step};
use super::pace::Pace;
use super::path::Path;
use super::paths::{Opened, PathError, Paths};
use super::sockets;
use super::udp::{Ecn, Run, Udp};
use crate::clients::Clients;
use crate::http::Gate;
use crate::http::gate::{Asked, Decision};
use crate::http::hello::{Alert, Hello};
use crate::http::host::HostName;
use crate::http::quic::header::Unknown;
use crate::http::quic::{
    Arrival, Cid, CloseCode, Contents, DATAGRAM_OCTETS_MIN, Kind, Long, Packet, Unwanted, Version, arrival, close,
    contents, header, negotiate,
};
use crate::http::settings::QuicBlock;
use crate::model::Via;

/// The long header bit (RFC 8999 section 5).
const LONG_HEADER: u8 = 0x80;
/// The bit that is 1 in packets of QUIC, unless both peers have agreed otherwise (RFC 9000 section 17.3.1, RFC 9287).
const FIXED: u8 = 0x40;

/// The QUIC gate without its listeners.
pub struct FlowGate {
    gate: Arc<Gate>,
    /// The origin.
    peer: Option<SocketAddr>,
    flights: Mutex<Flights>,
    paths: Paths,
    pace: Mutex<Pace>,
    begun: Instant,
    is_draining: AtomicBool,
}

impl FlowGate {
    /// A gate with no flow yet; clients are counted in `clients`.
    pub fn new(gate: Arc<Gate>, clients: Arc<Clients>) -> Self {
        let settings = gate.settings();
        let (counters, flows_max) = (gate.shared_counters(), settings.quic_flows_max);
        let flights = Flights::new(settings.hello_octets_max, settings.hello_timeout, flows_max, counters.clone());
        Self {
            peer: settings.fixed_quic,
            flights: Mutex::new(flights),
            paths: Paths::new(flows_max, clients, counters),
            pace: Mutex::default(),
            begun: Instant::now(),
            is_draining: AtomicBool::new(false),
            gate,
        }
    }

    /// The verdicts.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The paths.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The counters.
    pub fn counters(&self) -> &FlowCounters {
        &self.gate.counters().quic
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no new flight any more.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Forgets flights that are over their time, and flows that ended long ago.
    pub fn expire(&self) {
        let now = Instant::now();
        self.flights().expire(now);
        self.paths.revoked().expire(now);
    }

    /// Ends a path with what passed on it.
    pub fn end(&self, path: &Arc<Path>, why: PathEnd) {
        self.paths.end(path, why);
        self.flights().forget_passed(&path.pair);
    }

    //--- From clients ------------------------------------------------------------------------------------------------

    /// Takes datagrams of one client that came on `listener`, to `to` where the system tells.
    pub fn take(self: &Arc<Self>, listener: &Arc<Udp>, run: &Run<'_>, client: SocketAddr, to: Option<IpAddr>) {
        let own = listener.addr();
        let pair = Pair { client, reached: SocketAddr::new(to.unwrap_or(own.ip()), own.port()) };
        let from = From { listener, pair };
        // Short headers one after the other go on together.
        let (mut begin, mut at) = (0, 0);
        for datagram in run.datagrams() {
            let end = at + datagram.len();
            if datagram[0] & LONG_HEADER != 0 {
                self.take_short(&from, &run.part(begin..at));
                self.take_long(&from, datagram, run.ecn);
                begin = end;
            }
            at = end;
        }
        self.take_short(&from, &run.part(begin..at));
    }

    /// Short headers: on the pair's path, else by connection ID (D-Q8, D-Q13).
    fn take_short(self: &Arc<Self>, from: &From<'_>, run: &Run<'_>) {
        if let Some(path) = self.paths.of(&from.pair) {
            if path.is_opening() && run.datagrams().any(|datagram| path.knows_begin(&datagram[1..])) {
                self.prove(&path);
            }
            return self.forward_short(&path, run);
        }
        for datagram in run.datagrams() {
            // The first opens the path that the others find.
            let path = self.paths.of(&from.pair).or_else(|| self.moved(from, self.paths.of_short(&datagram[1..])?));
            match path {
                Some(path) => self.forward_short(&path, &Run::one(datagram, run.ecn)),
                None => self.counters().drop(Dropped::NoFlow, 1),
            }
        }
    }

    /// Forwards short headers together, but for those that do not go on.
    fn forward_short(&self, path: &Path, run: &Run<'_>) {
        let (mut begin, mut at) = (0, 0);
        for datagram in run.datagrams() {
            let end = at + datagram.len();
            if let Some(why) = self.unwanted_short(path, datagram) {
                self.forward(path, &run.part(begin..at));
                self.counters().drop(why, 1);
                begin = end;
            }
            at = end;
        }
        self.forward(path, &run.part(begin..at));
    }

    /// Why a short header does not go on, although its client has a path.
    fn unwanted_short(&self, path: &Path, datagram: &[u8]) -> Option<Dropped> {
        if datagram[0] & FIXED == 0 && !path.may_be_unfixed(datagram) {
            return Some(Dropped::NotQuic);
        }
        self.paths.revoked().has_begin(&datagram[1..]).then_some(Dropped::Refused)
    }

    /// A datagram that begins with a long header.
    fn take_long(self: &Arc<Self>, from: &From<'_>, datagram: &[u8], ecn: Ecn) {
        let (first, begins) = match arrival(datagram) {
            Arrival::Drop(unwanted) => return self.counters().drop(dropped(unwanted), 1),
            Arrival::UnknownVersion(unknown) => return self.answer_unknown(from, &unknown, datagram.len()),
            // No datagram with the bit set is one.
            Arrival::Short(_) => return self.counters().drop(Dropped::NotQuic, 1),
            Arrival::Initial(long) => (long, true),
            Arrival::OfFlow(long) => (long, false),
        };
        let Some(contents) = contents(datagram) else { return self.counters().drop(Dropped::Mixed, 1) };
        let shown = Shown { first: &first, octets: datagram, ecn, begins };
        match first.kind {
            _ if contents.has_initial && datagram.len() < DATAGRAM_OCTETS_MIN => {
                self.counters().drop(Dropped::TooSmall, 1);
            }
            _ if contents.has_initial => self.take_initial(from, &shown, contents),
            Kind::ZeroRtt => self.take_early(from, &shown),
            _ => self.take_handshake(from, &shown),
        }
    }

    /// A datagram with an Initial in it: nothing of it goes on that its flight has not read.
    fn take_initial(self: &Arc<Self>, from: &From<'_>, shown: &Shown<'_>, contents: Contents) {
        let pair = from.pair;
        let step = self.flights().initial(pair, shown, Instant::now(), &mut |hello| self.judge(pair, hello));
        match step {
            Step::Drop(why) => self.counters().drop(why, 1),
            Step::Hold => {}
            Step::Forward => match self.paths.of(&pair) {
                Some(path) => {
                    self.forward(&path, &Run::one(shown.octets, shown.ecn));
                    if contents.has_handshake {
                        self.note_handshake(&path, shown.first.dcid);
                    }
                }
                None => {
                    // Its path is gone: what comes next is judged as if it were the first.
                    self.flights().forget_passed(&pair);
                    self.counters().drop(Dropped::NoFlow, 1);
                }
            },
            Step::Open(host, held) => self.open(from, shown, host, &held),
            Step::Refuse(code) => self.refuse(from, shown, shown.first.dcid, code),
            Step::End(code, dcid) => {
                if let Some(path) = self.paths.of(&pair) {
                    self.end(&path, PathEnd::Malformed);
                }
                self.refuse(from, shown, dcid.octets(), code);
            }
        }
    }

    /// 0-RTT: with its flight, or to a connection ID of the server's.
    fn take_early(self: &Arc<Self>, from: &From<'_>, shown: &Shown<'_>) {
        let step = self.flights().early(from.pair, shown, Instant::now());
        let path = self.paths.of(&from.pair);
        match (step, path) {
            (Step::Hold, _) => {}
            (Step::Forward, Some(path)) => self.forward(&path, &Run::one(shown.octets, shown.ecn)),
            (Step::Drop(Dropped::NoFlow), Some(path)) if path.knows(shown.first.dcid) => {
                self.forward(&path, &Run::one(shown.octets, shown.ecn));
            }
            (Step::Drop(why), _) => self.counters().drop(why, 1),
            _ => self.counters().drop(Dropped::NoFlow, 1),
        }
    }

    /// Handshake packets: to a connection ID of the server's, which may be empty.
    fn take_handshake(self: &Arc<Self>, from: &From<'_>, shown: &Shown<'_>) {
        let dcid = shown.first.dcid;
        let path = self.paths.of(&from.pair).or_else(|| self.moved(from, self.paths.of_cid(dcid)?));
        match path.filter(|path| path.knows(dcid)) {
            Some(path) => {
                self.forward(&path, &Run::one(shown.octets, shown.ecn));
                self.note_handshake(&path, dcid);
            }
            None => self.counters().drop(Dropped::NoFlow, 1),
        }
    }

    /// Who sends Handshake packets to the server's connection ID has read what was sent to the address it claims, unless that
    /// is empty or can be guessed; and it sends no Initial there any more.
    fn note_handshake(&self, path: &Arc<Path>, dcid: &[u8]) {
        if dcid.is_empty() || !path.knows(dcid) {
            return;
        }
        if path.is_opening() && dcid.len() >= CID_OCTETS_MIN {
            self.prove(path);
        }
        self.flights().went_on(&path.pair, dcid);
    }

    /// Notes that a path's client has proven its address, from which on it has a place among the client's connections.
    fn prove(&self, path: &Arc<Path>) {
        if !self.paths.prove(path) {
            self.note_error(&PathError::Client);
            self.flights().forget_passed(&path.pair);
        }
    }

    fn forward(&self, path: &Path, run: &Run<'_>) {
        let count = run.count();
        if path.has_ended() {
            return self.counters().drop(Dropped::NoFlow, count);
        }
        if count == 0 {
            return;
        }
        let lost = path.forward(run);
        self.counters().drop(Dropped::SendFailed, lost);
        self.counters().datagrams_in.add((count - lost.min(count)) as u64);
    }

    //--- Verdicts ----------------------------------------------------------------------------------------------------

    /// What a whole hello gets: the one verdict of its flight.
    fn judge(&self, pair: Pair, hello: &Hello<'_>) -> Ruling {
        if self.peer.is_none() || self.is_draining.load(Ordering::Relaxed) {
            return Ruling::Refuse(FlightOutcome::Refused, CloseCode::ConnectionRefused);
        }
        // Without a name the address stands for it.
        let host = hello.host().cloned().unwrap_or(HostName::Address(pair.reached_ip()));
        let shown = hello.server_name.as_ref().map_or("", |name| name.text);
        let (client, reached) = (pair.client_ip(), pair.reached_ip());
        match self.gate.decide_via(Via::Quic, &Asked { host: &host, shown, client, reached, plain_path: None }) {
            Decision::Pass => Ruling::Pass(host),
            // No carve-out without a path.
            Decision::Block(_) | Decision::CarveOut => {
                Ruling::Refuse(FlightOutcome::Blocked, CloseCode::Alert(Alert::UnrecognizedName))
            }
            Decision::NotReady => Ruling::Refuse(FlightOutcome::NotReady, CloseCode::ConnectionRefused),
        }
    }

    /// Opens the pair's path for a host that passed, unless it is open, and sends what was held.
    fn open(self: &Arc<Self>, from: &From<'_>, shown: &Shown<'_>, host: HostName, held: &[Held]) {
        let path = match self.path_for(from, host) {
            Ok(path) => path,
            Err(error) => {
                self.note_error(&error);
                let (outcome, code) = match error {
                    PathError::Verdict => (FlightOutcome::Blocked, CloseCode::Alert(Alert::UnrecognizedName)),
                    _ => (FlightOutcome::Refused, CloseCode::ConnectionRefused),
                };
                self.counters().flight(outcome);
                self.flights().forget_flight(&from.pair, shown.first);
                return self.refuse(from, shown, shown.first.dcid, code);
            }
        };
        self.counters().flight(FlightOutcome::Passed);
        for held in held {
            self.forward(&path, &Run::one(&held.octets, held.ecn));
        }
        self.forward(&path, &Run::one(shown.octets, shown.ecn));
    }

    fn path_for(self: &Arc<Self>, from: &From<'_>, host: HostName) -> Result<Arc<Path>, PathError> {
        let passes = |host: &HostName| self.gate.still_passes(host, from.pair.reached_ip());
        if let Some(path) = self.paths.of(&from.pair) {
            self.paths.admit(&path, host, &passes)?;
            return Ok(path);
        }
        // A hello is not judged without an origin.
        let peer = self.peer.ok_or(PathError::Full)?;
        self.paths.open(from.pair, from.listener, peer, host, &passes).map(|opened| self.begin(opened))
    }

    /// The path of a known flow whose client comes from another address now.
    fn moved(self: &Arc<Self>, from: &From<'_>, of: Arc<Path>) -> Option<Arc<Path>> {
        let passes = |host: &HostName| self.gate.still_passes(host, from.pair.reached_ip());
        match self.paths.open_sibling(from.pair, from.listener, &of, self.peer?, &passes) {
            Ok(opened) => {
                self.counters().migrations.increment();
                Some(self.begin(opened))
            }
            Err(error) => {
                self.note_error(&error);
                None
            }
        }
    }

    /// Sets a new path to work, and forgets what passed on those that had to go for it.
    fn begin(self: &Arc<Self>, opened: Opened) -> Arc<Path> {
        for gone in &opened.gone {
            self.flights().forget_passed(&gone.pair);
        }
        tokio::spawn(sockets::carry(self.clone(), opened.path.clone()));
        opened.path
    }

    fn note_error(&self, error: &PathError) {
        tracing::debug!(%error, "a flow is refused");
        match error {
            PathError::Client => self.counters().refused_by_client.increment(),
            PathError::Socket(_) => self.counters().socket_errors.increment(),
            PathError::Full | PathError::Hosts | PathError::Verdict => {}
        }
    }

    //--- Answers -----------------------------------------------------------------------------------------------------

    /// Drops a datagram of a flight that is refused, and says so where that is wanted; `dcid` is the flight's.
    fn refuse(&self, from: &From<'_>, shown: &Shown<'_>, dcid: &[u8], code: CloseCode) {
        self.counters().drop(Dropped::Refused, 1);
        if self.gate.settings().block.quic == QuicBlock::Drop {
            return;
        }
        let Long { version, scid, .. } = *shown.first;
        if self.may_answer(from.pair.client_ip())
            && let Some(reply) = close(version, dcid, scid, code, shown.octets.len())
        {
            self.answer(from, &reply);
            self.counters().closes.increment();
        }
    }

    /// Tells a client of another version which ones are read (D-Q7).
    fn answer_unknown(&self, from: &From<'_>, unknown: &Unknown<'_>, received: usize) {
        self.counters().drop(Dropped::UnknownVersion, 1);
        if self.may_answer(from.pair.client_ip())
            && let Some(reply) = negotiate(unknown, received)
        {
            self.answer(from, &reply);
            self.counters().negotiations.increment();
        }
    }

    fn may_answer(&self, client: IpAddr) -> bool {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let may = pace.allows(client, self.begun.elapsed().as_secs());
        if !may {
            self.counters().replies_withheld.increment();
        }
        may
    }

    fn answer(&self, from: &From<'_>, reply: &[u8]) {
        // What the system does not take is as good as lost on the way.
        from.listener.send(from.pair.client, Some(from.pair.reached.ip()), &Run::one(reply, None));
    }

    //--- From the origin ---------------------------------------------------------------------------------------------

    /// Forwards datagrams of the origin, and learns what it is called.
    pub fn give_back(&self, path: &Arc<Path>, run: &Run<'_>) {
        for datagram in run.datagrams() {
            match datagram[0] & (LONG_HEADER | FIXED) {
                FIXED => {}
                0 => path.family.note_unfixed(),
                _ => self.learn(path, datagram),
            }
        }
        if path.is_opening() && path.is_validated_by_origin() {
            self.prove(path);
        }
        let (count, lost) = (run.count(), path.back(run));
        self.counters().drop(Dropped::SendFailed, lost);
        self.counters().datagrams_out.add((count - lost.min(count)) as u64);
    }

    fn learn(&self, path: &Arc<Path>, datagram: &[u8]) {
        for packet in header::packets(datagram) {
            let Ok(Packet::Long(Long { version, kind: kind @ (Kind::Initial | Kind::Handshake), dcid, scid, .. })) =
                packet
            else {
                return;
            };
            self.learn_one(path, version, kind, (dcid, scid));
        }
    }

    fn learn_one(&self, path: &Arc<Path>, version: Version, kind: Kind, (client, server): (&[u8], &[u8])) {
        let Some(cid) = Cid::new(server) else { return };
        if kind == Kind::Initial || !path.knows(server) {
            self.paths.learn(path, cid);
            self.flights().answered(&path.pair, client, cid, version);
        }
    }
}

/// Where datagrams come from.
struct From<'a> {
    listener: &'a Arc<Udp>,
    pair: Pair,
}

fn dropped(unwanted: Unwanted) -> Dropped {
    match unwanted {
        Unwanted::FromServer => Dropped::FromServer,
        Unwanted::NoPacket(_) => Dropped::NotQuic,
        Unwanted::TooSmall => Dropped::TooSmall,
    }
}
