//! One path: a client address and the address it reached, joined to one socket toward the origin.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Pair;
use super::cids::CID_OCTETS_MIN;
use super::flights::PER_PAIR_MAX;
use super::udp::{Run, Udp};
use crate::clients::ClientPlace;
use crate::http::host::HostName;
use crate::http::quic::Cid;
use crate::http::quic::foreign::is_foreign;
use crate::http::quic::reply::AMPLIFICATION_MAX;

/// Connection IDs of the server known for one path, the latest: twice as many as connections that may begin there at a time.
pub const CIDS_MAX: usize = 2 * PER_PAIR_MAX;
/// Names on one path: those of all connections that ever shared a client's socket, since nobody sees one end. They are kept
/// until the path has been silent, or its connections would not end with their names' verdicts.
pub const HOSTS_MAX: usize = 256;
/// Paths of one flow, one for each address its client had of late.
pub const PATHS_PER_FAMILY_MAX: usize = 4;

/// The client has not proven that it is where it says.
const OPENING: u8 = 0;
/// It has.
const OPEN: u8 = 1;
/// The path is no more.
const ENDED: u8 = 2;

/// Places of what came from either side.
const OF_CLIENT: usize = 0;
const OF_ORIGIN: usize = 1;

/// The paths of one flow, whose client came from several addresses, with what was judged for it.
#[derive(Default)]
pub struct Family {
    /// Names that passed.
    pub hosts: Mutex<Vec<HostName>>,
    /// The paths, gone ones among them.
    pub paths: Mutex<Vec<Weak<Path>>>,
    /// The origin has sent a short header whose fixed bit is 0.
    is_unfixed: AtomicBool,
}

impl Family {
    /// Adds a name that passed; gives whether it is new, or `None` for one too many.
    pub fn admit(&self, host: HostName) -> Option<bool> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.contains(&host) {
            return Some(false);
        }
        (hosts.len() < HOSTS_MAX).then(|| {
            hosts.push(host);
            true
        })
    }

    /// Takes a name out again.
    pub fn withdraw(&self, host: &HostName) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| known != host);
    }

    /// Notes that the origin lets the fixed bit be 0, which it does for clients that know of that (RFC 9287 section 3).
    pub fn note_unfixed(&self) {
        self.is_unfixed.store(true, Ordering::Relaxed);
    }

    /// True while all its names satisfy `passes`.
    pub fn all(&self, passes: impl Fn(&HostName) -> bool) -> bool {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).iter().all(passes)
    }
}

/// One path.
pub struct Path {
    /// Whose it is.
    pub pair: Pair,
    /// Which path it is, counted from the first one on.
    pub number: u64,
    /// Where its client's datagrams come from, and answers go.
    pub listener: Arc<Udp>,
    /// What was judged, shared with the other paths of the flow.
    pub family: Arc<Family>,
    /// Wakes its task for the end.
    pub stop: Notify,
    origin: Udp,
    peer: SocketAddr,
    state: AtomicU8,
    begun: Instant,
    /// When octets last came from either side, in milliseconds since it began.
    last_ms: AtomicU64,
    /// Octets that came while its client was unproven, of the client and of the origin.
    opening_octets: [AtomicU64; 2],
    cids: Mutex<Vec<Cid>>,
    /// Its place among its client's connections, once that has proven its address.
    place: OnceLock<ClientPlace>,
}

impl Path {
    /// A path to the origin at `peer`, whose client is unproven; an error is the system's.
    pub fn open(
        pair: Pair,
        listener: Arc<Udp>,
        family: Arc<Family>,
        peer: SocketAddr,
        number: u64,
    ) -> io::Result<Self> {
        Ok(Self {
            pair,
            number,
            listener,
            family,
            stop: Notify::new(),
            origin: Udp::connect(peer)?,
            peer,
            state: AtomicU8::new(OPENING),
            begun: Instant::now(),
            last_ms: AtomicU64::new(0),
            opening_octets: Default::default(),
            cids: Mutex::default(),
            place: OnceLock::new(),
        })
    }

    /// The socket toward the origin.
    pub fn origin(&self) -> &Udp {
        &self.origin
    }

    /// Forwards to the origin; gives how many datagrams the system did not take.
    pub fn forward(&self, run: &Run<'_>) -> usize {
        self.touch();
        self.count_opening(OF_CLIENT, run);
        self.origin.send(self.peer, None, run)
    }

    /// Forwards to the client; gives how many datagrams the system did not take.
    pub fn back(&self, run: &Run<'_>) -> usize {
        self.touch();
        self.count_opening(OF_ORIGIN, run);
        self.listener.send(self.pair.client, Some(self.pair.reached.ip()), run)
    }

    fn count_opening(&self, whose: usize, run: &Run<'_>) {
        if self.is_opening() {
            self.opening_octets[whose].fetch_add(run.octets.len() as u64, Ordering::Relaxed);
        }
    }

    fn touch(&self) {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Ordering::Relaxed);
    }

    /// When octets last came from either side.
    pub fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    //--- State -------------------------------------------------------------------------------------------------------

    /// True until its client has proven its address.
    pub fn is_opening(&self) -> bool {
        self.state.load(Ordering::Acquire) == OPENING
    }

    /// True once it is no more.
    pub fn has_ended(&self) -> bool {
        self.state.load(Ordering::Acquire) == ENDED
    }

    /// Notes the client's proof; true the first time.
    pub fn prove(&self) -> bool {
        self.state.compare_exchange(OPENING, OPEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Gives it its place among its client's connections.
    pub fn seat(&self, place: ClientPlace) {
        // A path is proven once.
        let _ = self.place.set(place);
    }

    /// Ends it; false when it had ended.
    pub fn end(&self) -> bool {
        self.state.swap(ENDED, Ordering::AcqRel) != ENDED
    }

    /// Ends it if its client is unproven; false otherwise.
    pub fn end_opening(&self) -> bool {
        self.state.compare_exchange(OPENING, ENDED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    //--- Connection IDs ----------------------------------------------------------------------------------------------

    /// Adds a connection ID of the server; gives whether it is new, and the oldest one if that had to go for it.
    pub fn learn(&self, cid: Cid) -> (bool, Option<Cid>) {
        let mut cids = self.cids.lock().unwrap_or_else(PoisonError::into_inner);
        if cids.contains(&cid) {
            return (false, None);
        }
        let gone = (cids.len() >= CIDS_MAX).then(|| cids.remove(0));
        cids.push(cid);
        (true, gone)
    }

    /// True for a connection ID of the server's, the empty one included.
    pub fn knows(&self, cid: &[u8]) -> bool {
        self.cids.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|known| known.octets() == cid)
    }

    /// True where what follows a short header's first octet begins with a connection ID of the server's, long enough for
    /// that to say something.
    pub fn knows_begin(&self, after_first: &[u8]) -> bool {
        let is_begin = |cid: &Cid| cid.octets().len() >= CID_OCTETS_MIN && after_first.starts_with(cid.octets());
        self.cids.lock().unwrap_or_else(PoisonError::into_inner).iter().any(is_begin)
    }

    /// True where a datagram of the client's whose two first bits are 0 is to be taken for a short header of this flow.
    ///
    /// A client lets the fixed bit be 0 if the server has said that it may (RFC 9287), which is not seen. So it may where the
    /// datagram goes to a connection ID of the server's, and anywhere once the server itself has let it be 0: as a rule
    /// those who allow it do it. But never in what begins as another protocol does.
    pub fn may_be_unfixed(&self, datagram: &[u8]) -> bool {
        let is_of_flow = || self.family.is_unfixed.load(Ordering::Relaxed) || self.knows_begin(&datagram[1..]);
        !is_foreign(datagram) && is_of_flow()
    }

    /// True where the origin has sent more than a server may to an address that it has not validated (RFC 9000 section 8.1),
    /// if its connection ID is too short to be a proof.
    pub fn is_validated_by_origin(&self) -> bool {
        let octets_of = |whose: usize| self.opening_octets[whose].load(Ordering::Relaxed);
        let is_short = |cid: &Cid| cid.octets().len() < CID_OCTETS_MIN;
        octets_of(OF_ORIGIN) > AMPLIFICATION_MAX as u64 * octets_of(OF_CLIENT)
            && self.cids.lock().unwrap_or_else(PoisonError::into_inner).iter().any(is_short)
    }

    /// The connection IDs of the server, oldest first.
    pub fn cids(&self) -> Vec<Cid> {
        self.cids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
