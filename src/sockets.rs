//! Listening sockets by what they are for: bound anew, or taken over from a gate that is being replaced.
//!
//! A socket that changes hands keeps what waits in it: connections nobody accepted yet, datagrams nobody read. Whoever binds
//! one asks here first, and shows it here afterwards, so that it can be given to the next gate.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use socket2::Socket;

/// What a socket is for. Its text is what two gates agree on: a plane, a transport, and the address as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId {
    /// `admin`, `dns`, `dns tls`, `dns https`, `http`, `http transparent`, `quic` or `demo`.
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

/// The sockets of one gate.
#[derive(Debug, Default)]
pub struct Sockets {
    inherited: Mutex<HashMap<String, VecDeque<OwnedFd>>>,
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
        Self { inherited: Mutex::new(res), offered: Some(Mutex::default()) }
    }

    /// A socket that was taken over, each once; it does not block.
    pub fn inherit(&self, id: SocketId) -> Option<Socket> {
        let socket = lock(&self.inherited).get_mut(&id.to_string())?.pop_front().map(Socket::from)?;
        socket.set_nonblocking(true).ok()?;
        Some(socket)
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
}
