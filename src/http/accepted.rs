//! A connection as `accept` gives it, before the runtime knows it.
//!
//! Most that are refused have sent everything that they are judged by when they are accepted. Read and answered here, they
//! cost four system calls and are never registered with the runtime, which would cost two more and a turn of its loop.
//!
//! The system hands a connection over once its first octets are there (`TCP_DEFER_ACCEPT`), or after a second without: who
//! says nothing takes no place before.
//!
//! # Safety
//!
//! The runtime must not be given a descriptor that is closed or replaced while it is registered. The one place that needs
//! to promise this registers a `TcpListener` of the standard library, which owns an open descriptor, by value: nobody has
//! it mutably until the registration is dropped, and with it the listener. The option of the socket is set by a call that
//! reads one `c_int` from where it is told one stands, of a descriptor that is open for as long as its owner is borrowed.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use rustix::net::{SendFlags, SocketFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Octets of the first read: the hello of a browser with a post-quantum share has some two thousand.
const READ_OCTETS: usize = 8 << 10;

/// How long the system waits for the first octets, in seconds: one more segment to who is silent, and then it is our turn.
const DEFER_SECONDS: libc::c_int = 1;

thread_local! {
    /// Where the first octets stand until it is known who needs them.
    static DESK: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_OCTETS].into_boxed_slice());
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: AsyncFd<TcpListener>,
    /// Its address, where all connections have it.
    local: Option<SocketAddr>,
}

impl Listener {
    /// Takes connections from a socket that does not block; `takes_any` where the system sends it those to other addresses.
    pub fn new(socket: TcpListener, takes_any: bool) -> io::Result<Self> {
        let addr = socket.local_addr()?;
        wait_for_octets(&socket);
        let local = (!takes_any && !addr.ip().is_unspecified()).then_some(addr);
        // SAFETY: see the head of this module.
        #[expect(unsafe_code)]
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { socket, local })
    }

    /// Its address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    /// The next connection. Cancel safe.
    pub async fn accept(&self) -> io::Result<Accepted> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accept = |socket: &TcpListener| Ok(rustix::net::acceptfrom_with(socket, flags)?);
        let (stream, peer) = self.socket.async_io(Interest::READABLE, accept).await?;
        let peer = peer.and_then(|addr| SocketAddr::try_from(addr).ok());
        // A listener of TCP accepts from addresses of TCP only.
        let peer = peer.ok_or_else(|| io::Error::from(ErrorKind::ConnectionAborted))?;
        Ok(Accepted { stream: stream.into(), peer, local: self.local })
    }
}

/// Asks the system to hold connections back until they have said something.
fn wait_for_octets(socket: &TcpListener) {
    let seconds: libc::c_int = DEFER_SECONDS;
    let length = libc::socklen_t::try_from(size_of_val(&seconds)).unwrap_or_default();
    // SAFETY: see the head of this module. A failure costs time only.
    #[expect(unsafe_code)]
    let _ = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            length,
        )
    };
}

/// What the first read of a connection brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First<T> {
    /// The peer has ended it, or it failed.
    Ended,
    /// Nothing is there yet.
    Nothing,
    /// Octets, and what the reader made of them.
    Octets(T),
}

/// A connection; it does not block.
#[derive(Debug)]
pub(super) struct Accepted {
    stream: TcpStream,
    /// Who connected.
    pub peer: SocketAddr,
    local: Option<SocketAddr>,
}

impl Accepted {
    /// The address that the peer reached.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local.map_or_else(|| self.stream.local_addr(), Ok)
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads once what is there, and shows it to `reader`.
    pub fn read<T>(&self, reader: impl FnOnce(&[u8]) -> T) -> First<T> {
        DESK.with_borrow_mut(|desk| {
            loop {
                match (&self.stream).read(desk) {
                    Ok(0) => return First::Ended,
                    Ok(count) => return First::Octets(reader(&desk[..count])),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return First::Nothing,
                    Err(_) => return First::Ended,
                }
            }
        })
    }

    /// Sends a few last octets, in one segment with the end of the connection.
    pub fn end_with(self, octets: &[u8]) {
        // Into an empty socket: no wait. A failure means that the peer is gone. The close that follows sends what waits.
        let _ = rustix::net::send(&self.stream, octets, SendFlags::MORE | SendFlags::NOSIGNAL);
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        // A failure means that the peer has reset it already.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Makes it known to the runtime.
    pub fn register(self) -> io::Result<tokio::net::TcpStream> {
        tokio::net::TcpStream::from_std(self.stream)
    }
}
