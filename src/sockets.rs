//! Listening sockets by what they are for: bound anew, taken over from a gate that is being replaced, or opened by the
//! service manager.
//!
//! A socket that changes hands keeps what waits in it: connections nobody accepted yet, datagrams nobody read. Whoever binds
//! one asks here first, and shows it here afterwards, so that it can be given to the next gate.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use socket2::Socket;

/// What a socket is for. Its text is what two gates agree on: a plane, a transport, and the address as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId {
    /// `admin`, `dns`, `dns proxied`, `dns tls`, `dns https`, `http`, `http transparent`, `quic` or `demo`.
    pub plane: &'static str,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// The address as configured; port 0 where the system chooses.
    pub addr: SocketAddr,
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.plane, self.transport, self.addr)
    }
}

/// A socket that the service manager opened. It knows addresses and transports, and nothing of planes.
#[derive(Debug)]
pub struct Opened {
    /// What it is called there, for messages.
    pub name: String,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// Where it is bound, which is what it is asked for by.
    pub addr: SocketAddr,
    /// The socket.
    pub fd: OwnedFd,
}

/// One of them, and whether somebody asked for it.
#[derive(Debug)]
struct Kept {
    opened: Opened,
    is_used: bool,
}

/// The sockets of one gate.
#[derive(Debug, Default)]
pub struct Sockets {
    inherited: Mutex<HashMap<String, VecDeque<OwnedFd>>>,
    opened: Mutex<Vec<Kept>>,
    /// `None` where none are to be given away.
    offered: Option<Mutex<Vec<(String, OwnedFd)>>>,
}

impl Sockets {
    /// Those of a gate that may give its own away, and has `inherited` ones with their ids.
    pub fn to_give_away(inherited: Vec<(String, OwnedFd)>) -> Self {
        let mut res: HashMap<String, VecDeque<OwnedFd>> = HashMap::new();
        for (id, fd) in inherited {
            res.entry(id).or_default().push_back(fd);
        }
        Self { inherited: Mutex::new(res), opened: Mutex::default(), offered: Some(Mutex::default()) }
    }

    /// The same, with sockets of the service manager behind those that were taken over.
    pub fn with_opened(self, opened: Vec<Opened>) -> Self {
        let kept = opened.into_iter().map(|opened| Kept { opened, is_used: false });
        Self { opened: Mutex::new(kept.collect()), ..self }
    }

    /// A socket that was taken over, each once, or that the service manager opened; it does not block.
    ///
    /// Where the manager opened fewer for an address than are asked for, the last one is shared: one more cannot be bound
    /// beside it, for the two would be different users'.
    pub fn inherit(&self, id: SocketId) -> Option<Socket> {
        let taken_over = lock(&self.inherited).get_mut(&id.to_string()).and_then(VecDeque::pop_front);
        let socket = taken_over.map(Socket::from).or_else(|| self.opened_for(id))?;
        socket.set_nonblocking(true).ok()?;
        Some(socket)
    }

    fn opened_for(&self, id: SocketId) -> Option<Socket> {
        let mut opened = lock(&self.opened);
        let mut matching: Vec<&mut Kept> = opened
            .iter_mut()
            .filter(|kept| kept.opened.transport == id.transport && kept.opened.addr == id.addr)
            .collect();
        let at = matching.iter().position(|kept| !kept.is_used).or(matching.len().checked_sub(1))?;
        let kept = matching.get_mut(at)?;
        kept.is_used = true;
        Some(kept.opened.fd.try_clone().ok()?.into())
    }

    /// The sockets of the service manager that nobody asked for, by name and address; they are closed here.
    pub fn forget_opened(&self) -> Vec<String> {
        let left = std::mem::take(&mut *lock(&self.opened)).into_iter().filter(|kept| !kept.is_used);
        left.map(|Kept { opened, .. }| format!("{} ({} {})", opened.name, opened.transport, opened.addr)).collect()
    }

    /// Takes note of a socket in use; several may have one id.
    ///
    /// Where no second descriptor can be had, the next gate binds its own.
    pub fn offer(&self, id: SocketId, socket: &impl AsFd) {
        if let (Some(offered), Ok(fd)) = (&self.offered, socket.as_fd().try_clone_to_owned()) {
            lock(offered).push((id.to_string(), fd));
        }
    }

    /// Closes what was taken over and not asked for: it is configured no more.
    pub fn forget_inherited(&self) -> usize {
        let left = std::mem::take(&mut *lock(&self.inherited));
        left.values().map(VecDeque::len).sum()
    }

    /// Descriptors to give away. An error where the process has no room for the copies.
    pub fn offered(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let Some(offered) = &self.offered else { return Ok(Vec::new()) };
        lock(offered).iter().map(|(id, fd)| Ok((id.clone(), fd.try_clone()?))).collect()
    }

    /// Forgets all: only who uses a socket keeps it open.
    pub fn close(&self) {
        if let Some(offered) = &self.offered {
            lock(offered).clear();
        }
    }
}

/// A panic elsewhere leaves the list as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address with a port that the system chooses, where it names none.
///
/// For a UDP socket that others share (`SO_REUSEPORT`) the system may well choose a port that another program's sockets of
/// this user have and share: each would get a part of the other's packets. A socket that shares nothing is given a port
/// that nobody has.
pub fn with_own_udp_port(addr: SocketAddr) -> io::Result<SocketAddr> {
    if addr.port() == 0 { UdpSocket::bind(addr)?.local_addr() } else { Ok(addr) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_go_to_who_has_their_id_each_once() {
        let id = |plane, port| SocketId { plane, transport: "tcp", addr: SocketAddr::from(([127, 0, 0, 1], port)) };
        let old = Sockets::to_give_away(Vec::new());
        let sockets: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a socket")).collect();
        let addrs: Vec<_> = sockets.iter().map(|socket| socket.local_addr().expect("an address")).collect();
        for (socket, plane) in sockets.iter().zip(["http", "http", "admin"]) {
            old.offer(id(plane, 0), socket);
        }
        let new = Sockets::to_give_away(old.offered().expect("descriptors"));
        let local = |socket: Option<Socket>| socket.and_then(|socket| socket.local_addr().ok()?.as_socket());
        assert_eq!(local(new.inherit(id("dns", 0))), None);
        assert_eq!(local(new.inherit(id("http", 80))), None);
        assert_eq!(local(new.inherit(id("http", 0))), Some(addrs[0]));
        assert_eq!(local(new.inherit(id("http", 0))), Some(addrs[1]));
        assert_eq!(local(new.inherit(id("http", 0))), None);
        assert_eq!(new.forget_inherited(), 1);
        assert!(Sockets::default().offered().expect("none").is_empty());
        old.close();
        assert!(old.offered().expect("none").is_empty());
    }

    #[test]
    fn sockets_of_the_manager_go_by_address_and_are_shared_where_they_are_few() {
        let opened = |name: &str| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
            let addr = listener.local_addr().expect("an address");
            Opened { name: name.to_owned(), transport: "tcp", addr, fd: listener.into() }
        };
        let (used, unused) = (opened("web"), opened("old"));
        let (addr, left) = (used.addr, unused.addr);
        let sockets = Sockets::default().with_opened(vec![used, unused]);
        let id = |transport, addr| SocketId { plane: "http", transport, addr };
        assert!(sockets.inherit(id("udp", addr)).is_none());
        for _ in 0..2 {
            let socket = sockets.inherit(id("tcp", addr)).expect("the socket");
            assert_eq!(socket.local_addr().expect("an address").as_socket(), Some(addr));
        }
        assert_eq!(sockets.forget_opened(), [format!("old (tcp {left})")]);
        assert!(sockets.inherit(id("tcp", addr)).is_none());
    }
}
