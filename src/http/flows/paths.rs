//! All paths: found by address pair and by the server's connection IDs, bounded, those with a proven client apart; and what
//! those were called that a verdict ended.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use dashmap::DashMap;
use thiserror::Error;
use tokio::time::Instant;

use super::Pair;
use super::cids::Cids;
use super::counters::PathEnd;
use super::opening::Opening;
use super::path::{Family, PATHS_PER_FAMILY_MAX, Path};
use super::revoked::Revoked;
use super::udp::Udp;
use crate::clients::{ClientPlace, Clients};
use crate::http::Counters;
use crate::http::host::HostName;
use crate::http::quic::Cid;

/// Of all paths, one in so many may be such whose client has not proven its address.
const OPENING_SHARE: usize = 4;
/// How long a flow's path must have been silent before a newer one takes its place.
const SIBLING_SILENCE: Duration = Duration::from_secs(1);

/// Why a path cannot be had.
#[derive(Debug, Error)]
pub enum PathError {
    /// The client has as many as it may.
    #[error("client has too many connections")]
    Client,
    /// All places are taken by flows whose clients have proven their address, or the flow has its share.
    #[error("too many flows")]
    Full,
    /// More names than one path may have.
    #[error("too many names on one path")]
    Hosts,
    /// The system has no socket.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// A name is blocked meanwhile.
    #[error("a name is blocked meanwhile")]
    Verdict,
}

/// All paths.
pub struct Paths {
    by_pair: DashMap<Pair, Arc<Path>>,
    by_cid: Cids<Weak<Path>>,
    revoked: Revoked,
    opening: Opening,
    opened: AtomicU64,
    count: AtomicUsize,
    most: usize,
    clients: Arc<Clients>,
    counters: Arc<Counters>,
}

impl Paths {
    /// None yet; up to `most`, and as many of one client as `clients` allows.
    pub fn new(most: usize, clients: Arc<Clients>, counters: Arc<Counters>) -> Self {
        Self {
            by_pair: DashMap::new(),
            by_cid: Cids::default(),
            revoked: Revoked::default(),
            opening: Opening::default(),
            opened: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            most,
            clients,
            counters,
        }
    }

    /// The path of a pair.
    pub fn of(&self, pair: &Pair) -> Option<Arc<Path>> {
        self.by_pair.get(pair).map(|path| path.clone())
    }

    /// The path whose server has a connection ID that what follows a short header's first octet begins with (D-Q8).
    pub fn of_short(&self, after_first: &[u8]) -> Option<Arc<Path>> {
        self.by_cid.find_begin(after_first, |path| path.upgrade())
    }

    /// The path whose server has a connection ID.
    pub fn of_cid(&self, cid: &[u8]) -> Option<Arc<Path>> {
        self.by_cid.get(cid)?.upgrade()
    }

    /// The connection IDs of paths that a verdict ended.
    pub fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    /// Every path, to look at all.
    pub fn all(&self) -> Vec<Arc<Path>> {
        self.by_pair.iter().map(|path| path.clone()).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    //--- Opening -----------------------------------------------------------------------------------------------------

    /// Opens the path of a pair for a host that passed. Gives those that had to go for it as well.
    ///
    /// The client has a place for it from its proof on; so many others of its may open at the same time.
    pub fn open(
        &self,
        pair: Pair,
        listener: &Arc<Udp>,
        peer: SocketAddr,
        host: HostName,
        passes: &dyn Fn(&HostName) -> bool,
    ) -> Result<Opened, PathError> {
        let family = Arc::new(Family::default());
        family.admit(host).ok_or(PathError::Hosts)?;
        let client = pair.client_ip();
        if !self.clients.has_room(client) {
            return Err(PathError::Client);
        }
        let mut gone = Vec::new();
        while self.count() >= self.most || self.opening.count() >= self.opening_max() {
            self.evict(self.opening.pop().ok_or(PathError::Full)?, &mut gone);
        }
        while self.opening.count_of(client) >= self.clients.each_max() {
            self.evict(self.opening.pop_of(client).ok_or(PathError::Client)?, &mut gone);
        }
        let path = self.insert(pair, listener, family, peer, None)?;
        self.opening.add(&path);
        if !path.is_opening() {
            // Another task was faster.
            self.opening.remove(&path);
        }
        self.show();
        self.if_passes(path, gone, passes)
    }

    /// Adds a host that passed to a path that is open; asks as for a new path.
    pub fn admit(&self, path: &Path, host: HostName, passes: &dyn Fn(&HostName) -> bool) -> Result<(), PathError> {
        let is_new = path.family.admit(host.clone()).ok_or(PathError::Hosts)?;
        if passes(&host) {
            return Ok(());
        }
        if is_new {
            path.family.withdraw(&host);
        }
        Err(PathError::Verdict)
    }

    /// Ends a path again if a name on it passes no more. Asked when the path is found by those who look for blocked ones, so
    /// that data which are replaced between verdict and path are seen by one of the two.
    fn if_passes(
        &self,
        path: Arc<Path>,
        gone: Vec<Arc<Path>>,
        passes: &dyn Fn(&HostName) -> bool,
    ) -> Result<Opened, PathError> {
        if path.family.all(passes) {
            return Ok(Opened { path, gone });
        }
        self.end(&path, PathEnd::Verdict);
        Err(PathError::Verdict)
    }

    /// Opens another path of a flow, to the address its client comes from now. Its proof is the connection ID.
    pub fn open_sibling(
        &self,
        pair: Pair,
        listener: &Arc<Udp>,
        of: &Arc<Path>,
        peer: SocketAddr,
        passes: &dyn Fn(&HostName) -> bool,
    ) -> Result<Opened, PathError> {
        let mut gone = Vec::new();
        while self.count() >= self.most {
            self.evict(self.opening.pop().ok_or(PathError::Full)?, &mut gone);
        }
        gone.extend(self.make_room_among_siblings(&of.family)?);
        let place = self.clients.enter(pair.client_ip()).ok_or(PathError::Client)?;
        let path = self.insert(pair, listener, of.family.clone(), peer, Some(place))?;
        for cid in of.cids() {
            self.share(&path, cid);
        }
        self.show();
        self.if_passes(path, gone, passes)
    }

    /// Puts a path in; with a place its client is proven.
    fn insert(
        &self,
        pair: Pair,
        listener: &Arc<Udp>,
        family: Arc<Family>,
        peer: SocketAddr,
        place: Option<ClientPlace>,
    ) -> Result<Arc<Path>, PathError> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let path = Arc::new(Path::open(pair, listener.clone(), family, peer, number)?);
        if let Some(place) = place {
            path.seat(place);
            path.prove();
        }
        let mut siblings = path.family.paths.lock().unwrap_or_else(PoisonError::into_inner);
        siblings.push(Arc::downgrade(&path));
        drop(siblings);
        self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(before) = self.by_pair.insert(pair, path.clone()) {
            // Two sockets took datagrams of one pair at once, which the system does not do.
            self.end(&before, PathEnd::Evicted);
        }
        Ok(path)
    }

    /// Ends the flow's path that was silent longest, if there are as many as may be.
    fn make_room_among_siblings(&self, family: &Family) -> Result<Option<Arc<Path>>, PathError> {
        let oldest = {
            let mut siblings = family.paths.lock().unwrap_or_else(PoisonError::into_inner);
            siblings.retain(|path| path.upgrade().is_some_and(|path| !path.has_ended()));
            if siblings.len() < PATHS_PER_FAMILY_MAX {
                return Ok(None);
            }
            siblings.iter().filter_map(Weak::upgrade).min_by_key(|path| path.last())
        };
        let Some(oldest) = oldest.filter(|path| path.last() + SIBLING_SILENCE <= Instant::now()) else {
            return Err(PathError::Full);
        };
        self.end(&oldest, PathEnd::Evicted);
        Ok(Some(oldest))
    }

    /// How many clients may be unproven at a time.
    fn opening_max(&self) -> usize {
        (self.most / OPENING_SHARE).max(1)
    }

    /// Ends a path for another, unless its client is proven meanwhile.
    fn evict(&self, path: Arc<Path>, gone: &mut Vec<Arc<Path>>) {
        if path.end_opening() {
            self.forget(&path, PathEnd::Evicted);
            gone.push(path);
        }
    }

    //--- Going on ----------------------------------------------------------------------------------------------------

    /// Notes a connection ID that the server chose on a path, for a connection that was judged.
    pub fn learn(&self, path: &Arc<Path>, cid: Cid) {
        if !path.has_ended() {
            self.revoked.forgive(&cid);
        }
        self.share(path, cid);
    }

    /// Notes a connection ID of the server's on a path.
    fn share(&self, path: &Arc<Path>, cid: Cid) {
        let (is_new, gone) = path.learn(cid);
        if !is_new {
            return;
        }
        self.by_cid.insert(cid, Arc::downgrade(path));
        if let Some(gone) = gone {
            self.release(path, &gone);
        }
        if path.has_ended() {
            self.forget_cids(path);
        }
    }

    /// Notes that a path's client has shown to read what is sent to it. False where it has too many connections by now: the
    /// path is no more.
    pub fn prove(&self, path: &Arc<Path>) -> bool {
        if !path.prove() {
            return true;
        }
        self.opening.remove(path);
        let place = self.clients.enter(path.pair.client_ip());
        let has_place = place.is_some();
        match place {
            Some(place) => path.seat(place),
            None => self.end(path, PathEnd::Refused),
        }
        self.show();
        has_place
    }

    /// Ends a path, once. After a verdict its connections go on over no other.
    pub fn end(&self, path: &Arc<Path>, why: PathEnd) {
        if path.end() {
            self.forget(path, why);
        }
    }

    /// Forgets a path that has ended.
    fn forget(&self, path: &Arc<Path>, why: PathEnd) {
        if why == PathEnd::Verdict {
            self.revoked.add(path.cids(), Instant::now());
        }
        self.by_pair.remove_if(&path.pair, |_, found| Arc::ptr_eq(found, path));
        self.forget_cids(path);
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.opening.remove(path);
        self.counters.quic.end(why);
        self.show();
        path.stop.notify_one();
    }

    fn forget_cids(&self, path: &Arc<Path>) {
        for cid in path.cids() {
            self.release(path, &cid);
        }
    }

    /// Has a connection ID lead to a path no more, but to another of the flow, if one is left that knows it.
    fn release(&self, path: &Arc<Path>, cid: &Cid) {
        if !self.by_cid.remove_if(cid, |found| std::ptr::eq(found.as_ptr(), Arc::as_ptr(path))) {
            return;
        }
        let heir = {
            let siblings = path.family.paths.lock().unwrap_or_else(PoisonError::into_inner);
            let living = siblings.iter().filter_map(Weak::upgrade).filter(|path| !path.has_ended());
            living.filter(|path| path.knows(cid.octets())).max_by_key(|path| path.last())
        };
        let Some(heir) = heir else { return };
        self.by_cid.insert(*cid, Arc::downgrade(&heir));
        if heir.has_ended() {
            self.release(&heir, cid);
        }
    }

    /// Brings the gauges up to date.
    fn show(&self) {
        self.counters.quic.paths.set(self.count() as u64);
        self.counters.quic.opening.set(self.opening.count() as u64);
    }
}

/// A path that was opened.
pub struct Opened {
    /// The path.
    pub path: Arc<Path>,
    /// Paths that had to go for it.
    pub gone: Vec<Arc<Path>>,
}
