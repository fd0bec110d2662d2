//! UDP sockets that take and give many datagrams a system call.
//!
//! The system joins datagrams of one sender and size into one buffer (GRO) and cuts such a buffer again (GSO): what is
//! forwarded keeps its boundaries and its congestion marks (ECN). Where the system can do neither, each goes for itself.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::sockets::with_own_udp_port;

/// Greatest datagram, and greatest run of joined ones.
const BUFFER_OCTETS: usize = 1 << 16;
/// Greatest run that is sent at once: what fits one IP packet of either family, before it is cut.
const RUN_OCTETS_MAX: usize = 65_000;
/// Socket buffers of a listener: a burst of 3,000 full datagrams each way.
const SOCKET_BUFFER_OCTETS: usize = 4 << 20;

/// Congestion marks of a datagram.
pub type Ecn = Option<EcnCodepoint>;

/// A socket that does not block, and what the system can do with it.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    addr: SocketAddr,
}

impl AsFd for Udp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Udp {
    /// A listener; several may share one address, each client staying with one of them. IPv6 ones take IPv6 only.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_port(true)?;
        // The system may grant less; that is its limit to set.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_OCTETS);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_OCTETS);
        socket.bind(&with_own_udp_port(addr)?.into())?;
        Self::new(socket)
    }

    /// A socket toward one peer; it takes nothing from others.
    pub fn connect(peer: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))?;
        socket.connect(&peer.into())?;
        Self::new(socket)
    }

    /// A socket that was made elsewhere.
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        let addr = socket.local_addr()?;
        Ok(Self { socket, state, addr })
    }

    /// Our address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits until there is something to receive.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Receives what is there into `buffers`; `WouldBlock` when nothing is.
    pub fn receive(&self, buffers: &mut Buffers) -> io::Result<usize> {
        let Buffers { octets, metas } = buffers;
        let mut slices: Vec<IoSliceMut<'_>> = octets.chunks_mut(BUFFER_OCTETS).map(IoSliceMut::new).collect();
        self.socket.try_io(Interest::READABLE, || self.state.recv((&self.socket).into(), &mut slices, metas))
    }

    /// Sends a run of datagrams, each of `stride` octets but the last, which may be shorter; gives how many were not taken.
    ///
    /// `from` is the address of ours that the peer knows; only a socket bound to all addresses needs it.
    pub fn send(&self, to: SocketAddr, from: Option<IpAddr>, run: &Run<'_>) -> usize {
        let stride = run.stride.max(1);
        let mut lost = 0;
        let mut rest = run.octets;
        loop {
            let most = self.state.max_gso_segments().min(RUN_OCTETS_MAX / stride).max(1) * stride;
            let (now, later) = rest.split_at(most.min(rest.len()));
            let is_run = now.len() > stride;
            let transmit = Transmit {
                destination: to,
                ecn: run.ecn,
                contents: now,
                segment_size: is_run.then_some(stride),
                src_ip: from,
            };
            // Without the runtime, which does not know yet that a new socket can be written to; nobody waits for it here.
            let sent = self.state.try_send((&self.socket).into(), &transmit);
            if sent.is_err() && is_run && self.state.max_gso_segments() == 1 {
                // The system cannot cut runs after all: the same again, one by one.
                continue;
            }
            lost += if sent.is_err() { now.len().div_ceil(stride).max(1) } else { 0 };
            rest = later;
            if rest.is_empty() {
                return lost;
            }
        }
    }
}

/// Datagrams one after the other, of one size but the last.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// All octets.
    pub octets: &'a [u8],
    /// Octets of each.
    pub stride: usize,
    /// Congestion marks of all.
    pub ecn: Ecn,
}

impl<'a> Run<'a> {
    /// A run of one.
    pub fn one(octets: &'a [u8], ecn: Ecn) -> Self {
        Self { octets, stride: octets.len(), ecn }
    }

    /// The datagrams from one octet to another.
    pub fn part(&self, octets: Range<usize>) -> Self {
        Self { octets: &self.octets[octets], ..*self }
    }

    /// The datagrams; one without octets is none.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.octets.chunks(self.stride.max(1))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.octets.len().div_ceil(self.stride.max(1))
    }
}

/// What one system call receives.
pub struct Buffers {
    octets: Box<[u8]>,
    metas: Box<[RecvMeta]>,
}

impl Buffers {
    /// Room for `count` runs.
    pub fn new(count: usize) -> Self {
        let count = count.min(quinn_udp::BATCH_SIZE);
        let octets = vec![0; count * BUFFER_OCTETS].into_boxed_slice();
        Self { octets, metas: vec![RecvMeta::default(); count].into_boxed_slice() }
    }

    /// The first `count` runs with who sent them, and to which of our addresses where the system tells.
    pub fn runs(&self, count: usize) -> impl Iterator<Item = (Run<'_>, SocketAddr, Option<IpAddr>)> {
        let buffers = self.octets.chunks(BUFFER_OCTETS);
        buffers.zip(&self.metas).take(count).map(|(octets, meta)| {
            let run = Run { octets: &octets[..meta.len], stride: meta.stride, ecn: meta.ecn };
            (run, meta.addr, meta.dst_ip)
        })
    }
}
