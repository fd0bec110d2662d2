//! Datagrams in batches: received together, answered each from the address it came to, sent together.
//!
//! One system call brings up to [`BATCH`] queries and one takes their answers away; nothing is allocated in between.
//!
//! # Safety
//!
//! The system calls are told of memory by pointers in headers. They are written anew right before each call, from the slices
//! and vectors that the batch owns and with the lengths of these, and nobody uses them after it. What the system wrote is
//! read within the lengths it says and that were checked against the slices. Nothing refers to the memory of another thread,
//! so a batch may change threads.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use libc::{c_int, cmsghdr, iovec, mmsghdr, msghdr, sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t};

/// Datagrams of one call: more would only wait for each other.
pub const BATCH: usize = 32;
/// Greatest query over UDP; a query with every option in use is a few hundred octets.
pub const QUERY_OCTETS_MAX: usize = 4096;
/// Room for one control message with an IPv6 address and an interface.
const CONTROL_OCTETS: usize = 64;

/// Control messages have to begin where a header may.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_OCTETS]);

/// Where a datagram came from and to.
#[derive(Clone, Copy)]
pub struct Way {
    peer: sockaddr_storage,
    peer_length: socklen_t,
    control: Control,
    control_length: usize,
}

impl Way {
    /// Who sent it.
    pub fn peer(&self) -> Option<SocketAddr> {
        read_addr(&self.peer, self.peer_length)
    }
}

/// Room for a batch, and what is in it.
pub struct Batch {
    octets: Box<[u8]>,
    ways: Box<[Way]>,
    iovecs: Box<[iovec]>,
    headers: Box<[mmsghdr]>,
    received: usize,
}

// SAFETY: see the head of this module.
unsafe impl Send for Batch {}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        // SAFETY: these are plain data of the system, for which all bits zero are a value: null pointers and no lengths.
        let (peer, header): (sockaddr_storage, mmsghdr) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let way = Way { peer, peer_length: 0, control: Control([0; CONTROL_OCTETS]), control_length: 0 };
        let octets = vec![0; BATCH * QUERY_OCTETS_MAX].into_boxed_slice();
        let iovecs = vec![iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH].into_boxed_slice();
        Self {
            octets,
            ways: vec![way; BATCH].into_boxed_slice(),
            iovecs,
            headers: vec![header; BATCH].into_boxed_slice(),
            received: 0,
        }
    }

    /// Points the headers at the room for datagrams, their ways and their control messages.
    fn point(&mut self) {
        let slots = self.octets.chunks_exact_mut(QUERY_OCTETS_MAX).zip(&mut self.ways);
        for ((slot, way), (iovec, header)) in slots.zip(self.iovecs.iter_mut().zip(&mut self.headers)) {
            *iovec = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            let message: &mut msghdr = &mut header.msg_hdr;
            message.msg_iov = iovec;
            message.msg_iovlen = 1;
            message.msg_name = (&raw mut way.peer).cast();
            message.msg_namelen = size_of::<sockaddr_storage>() as socklen_t;
            message.msg_control = way.control.0.as_mut_ptr().cast();
            message.msg_controllen = CONTROL_OCTETS as _;
            message.msg_flags = 0;
        }
    }

    /// Waits for datagrams as long as the socket does, and takes what is there; `WouldBlock` when nothing came in that time.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received = 0;
        self.point();
        // SAFETY: see the head of this module.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_WAITFORONE as _,
                ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            return Err(io::Error::last_os_error());
        };
        self.received = count.min(BATCH);
        for (header, way) in self.headers[..self.received].iter().zip(&mut self.ways) {
            way.peer_length = header.msg_hdr.msg_namelen;
            way.control_length = header.msg_hdr.msg_controllen.min(CONTROL_OCTETS);
        }
        Ok(self.received)
    }

    /// A datagram, and its way; one that did not fit is cut, and not decoded by anybody then.
    pub fn get(&self, i: usize) -> (&[u8], &Way) {
        let length = (self.headers[i].msg_len as usize).min(QUERY_OCTETS_MAX);
        (&self.octets[i * QUERY_OCTETS_MAX..][..length], &self.ways[i])
    }
}

/// Answers to be sent together.
pub struct Answers {
    messages: Vec<(Vec<u8>, Way)>,
    iovecs: Vec<iovec>,
    headers: Vec<mmsghdr>,
}

// SAFETY: the pointers in here are used only within the call that wrote them.
unsafe impl Send for Answers {}

impl Default for Answers {
    fn default() -> Self {
        Self::new()
    }
}

impl Answers {
    /// None.
    pub fn new() -> Self {
        Self {
            messages: Vec::with_capacity(BATCH),
            iovecs: Vec::with_capacity(BATCH),
            headers: Vec::with_capacity(BATCH),
        }
    }

    /// Takes an answer to a datagram that came this way.
    pub fn push(&mut self, message: Vec<u8>, way: &Way) {
        self.messages.push((message, way.back()));
    }

    /// Sends all, without a wait where the system has no room, and forgets them. How many it did not take.
    pub fn send(&mut self, socket: &UdpSocket) -> usize {
        self.iovecs.clear();
        self.headers.clear();
        for (message, _) in &self.messages {
            // Read only, whatever the type says.
            self.iovecs.push(iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() });
        }
        for ((_, way), iovec) in self.messages.iter_mut().zip(&mut self.iovecs) {
            // SAFETY: plain data; null pointers and no lengths.
            let mut header: mmsghdr = unsafe { std::mem::zeroed() };
            let message = &mut header.msg_hdr;
            message.msg_iov = iovec;
            message.msg_iovlen = 1;
            message.msg_name = (&raw mut way.peer).cast();
            message.msg_namelen = way.peer_length;
            if way.control_length > 0 {
                message.msg_control = way.control.0.as_mut_ptr().cast();
                message.msg_controllen = way.control_length as _;
            }
            self.headers.push(header);
        }
        let (mut at, mut refused) = (0, 0);
        while let Some(left @ [_, ..]) = self.headers.get_mut(at..) {
            // SAFETY: see the head of this module; `left` has as many headers as the call is told of.
            let count = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), left.as_mut_ptr(), left.len() as u32, libc::MSG_DONTWAIT as _)
            };
            match usize::try_from(count) {
                Ok(count @ 1..) => at += count,
                // The first of them was not taken; the others may be.
                Ok(0) | Err(_) => (at, refused) = (at + 1, refused + 1),
            }
        }
        self.messages.clear();
        refused
    }
}

impl Way {
    /// The way of the answer: to who sent the query, from the address it was sent to.
    fn back(&self) -> Self {
        let mut res = Self { control_length: 0, ..*self };
        // SAFETY: plain data for the macros, which read the one pointer and length given to them.
        let mut message: msghdr = unsafe { std::mem::zeroed() };
        let mut control = self.control;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = self.control_length as _;
        // SAFETY: the macros walk headers within `msg_controllen` octets of `control`, which outlives the walk.
        let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        while !next.is_null() {
            // SAFETY: a whole header stands there, by the macro that gave the pointer.
            let (header, data) = unsafe { (ptr::read_unaligned(next), libc::CMSG_DATA(next)) };
            let room = self.control_length.saturating_sub(data as usize - control.0.as_ptr() as usize);
            match (header.cmsg_level, header.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) if room >= size_of::<libc::in_pktinfo>() => {
                    // SAFETY: so many octets are there.
                    let info: libc::in_pktinfo = unsafe { ptr::read_unaligned(data.cast()) };
                    let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_addr: libc::in_addr { s_addr: 0 }, ..info };
                    res.set_control(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if room >= size_of::<libc::in6_pktinfo>() => {
                    // SAFETY: so many octets are there.
                    let info: libc::in6_pktinfo = unsafe { ptr::read_unaligned(data.cast()) };
                    let info = libc::in6_pktinfo { ipi6_ifindex: 0, ..info };
                    res.set_control(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
                }
                _ => {}
            }
            // SAFETY: as for the first.
            next = unsafe { libc::CMSG_NXTHDR(&raw const message, next) };
        }
        res
    }

    /// Makes `data` the one control message.
    fn set_control<T: Copy>(&mut self, level: c_int, kind: c_int, data: T) {
        let size = size_of::<T>() as u32;
        // SAFETY: arithmetic.
        let (length, space) = unsafe { (libc::CMSG_LEN(size), libc::CMSG_SPACE(size) as usize) };
        if space > CONTROL_OCTETS {
            return;
        }
        let at: *mut cmsghdr = self.control.0.as_mut_ptr().cast();
        // SAFETY: header and data fit into the octets, which begin where a header may; all bits are a value of it.
        unsafe {
            let mut header: cmsghdr = std::mem::zeroed();
            header.cmsg_len = length as _;
            header.cmsg_level = level;
            header.cmsg_type = kind;
            ptr::write(at, header);
            ptr::write_unaligned(libc::CMSG_DATA(at).cast(), data);
        }
        self.control_length = space;
    }
}

/// Asks the system to tell where datagrams were sent to: answers leave from there. Needed where a socket has all addresses.
pub fn tell_destination(socket: &UdpSocket, is_ipv4: bool) -> io::Result<()> {
    let on: c_int = 1;
    let (level, option) =
        if is_ipv4 { (libc::IPPROTO_IP, libc::IP_PKTINFO) } else { (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) };
    // SAFETY: the call reads one `c_int` from where it is told one stands.
    let done = unsafe {
        let length = size_of::<c_int>() as socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn read_addr(addr: &sockaddr_storage, length: socklen_t) -> Option<SocketAddr> {
    let at: *const sockaddr_storage = addr;
    let length = length as usize;
    match c_int::from(addr.ss_family) {
        libc::AF_INET if length >= size_of::<sockaddr_in>() => {
            // SAFETY: the storage is larger and aligned for every family, and the system wrote this one.
            let addr = unsafe { &*at.cast::<sockaddr_in>() };
            let ip = Ipv4Addr::from(addr.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(addr.sin_port)).into())
        }
        libc::AF_INET6 if length >= size_of::<sockaddr_in6>() => {
            // SAFETY: as above.
            let addr = unsafe { &*at.cast::<sockaddr_in6>() };
            let ip = Ipv6Addr::from(addr.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(addr.sin6_port), addr.sin6_flowinfo, addr.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn socket(addr: &str) -> UdpSocket {
        let socket = UdpSocket::bind(addr).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket
    }

    #[test]
    fn answers_go_back_the_way_the_queries_came() {
        for (any, one) in [("0.0.0.0:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "::1")] {
            let server = socket(any);
            tell_destination(&server, any.starts_with('0')).expect("the option");
            let port = server.local_addr().expect("an address").port();
            let clients: Vec<_> = (0..40).map(|_| socket(if any.starts_with('0') { any } else { "[::1]:0" })).collect();
            for (i, client) in clients.iter().enumerate() {
                // Connected: answers from elsewhere are not taken.
                client.connect((one, port)).expect("connects");
                client.send(format!("query {i}").as_bytes()).expect("sends");
            }
            let (mut batch, mut answers, mut seen) = (Batch::new(), Answers::new(), 0);
            while seen < clients.len() {
                let count = batch.receive(&server).expect("datagrams");
                for i in 0..count {
                    let (octets, way) = batch.get(i);
                    assert!(way.peer().is_some());
                    answers.push([b"answer to ", octets].concat(), way);
                }
                assert_eq!(answers.send(&server), 0);
                seen += count;
            }
            for (i, client) in clients.iter().enumerate() {
                let mut octets = [0; 64];
                let count = client.recv(&mut octets).unwrap_or_else(|error| panic!("{one}: {error}"));
                assert_eq!(&octets[..count], format!("answer to query {i}").as_bytes());
            }
        }
    }

    #[test]
    fn what_cannot_be_sent_keeps_nothing_behind_it_back() {
        let (server, client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let to = server.local_addr().expect("an address");
        for _ in 0..3 {
            client.send_to(b"query", to).expect("sends");
        }
        let (mut batch, mut answers, mut seen) = (Batch::new(), Answers::new(), 0);
        while seen < 3 {
            for i in 0..batch.receive(&server).expect("datagrams") {
                // Over the greatest datagram there is.
                let octets = if seen == 1 { 70_000 } else { 10 + seen };
                answers.push(vec![0; octets], batch.get(i).1);
                seen += 1;
            }
        }
        assert_eq!(answers.send(&server), 1);
        assert_eq!([client.recv(&mut [0; 99]).expect("one"), client.recv(&mut [0; 99]).expect("two")], [10, 12]);
    }
}
