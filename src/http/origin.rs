//! The connection to the origin: opened when first needed, kept for the client connection's next requests.
//!
//! Where it leads is asked in one place, [`connect`], for plain HTTP and for TLS: a fixed address, the one the client meant
//! before the system sent it here, or what the name resolves to. It never leads back to the gate: an address of its own is
//! refused before connecting, and a connection that comes round all the same is told by [`Outgoing`].

mod race;
mod reach;
mod resolve;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dashmap::DashSet;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::accepted::Accepted;
use super::buffer::Buffer;
use super::counters::OriginFailure;
use super::gate::Gate;
use super::head::{HeadLimits, ResponseParser};
use super::host::HostName;
use super::settings::{Origin, Settings};
use super::timer::Timer;
use crate::proxy_header;

pub use resolve::{Resolver, ResolverError};

//--- Route -----------------------------------------------------------------------------------------------------------

/// The two ends of a client connection, and where the client meant to go.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Who connected: the peer, or whom its PROXY header names.
    pub client: SocketAddr,
    /// What the client reached: by the PROXY header, by the original destination, or by the socket.
    pub reached: SocketAddr,
    /// The socket's own address.
    pub socket: SocketAddr,
    /// Where the client meant to go, where that is asked for and known.
    pub meant: Option<SocketAddr>,
}

impl Ends {
    /// The ends of a connection that was just accepted.
    pub(super) fn new(settings: &Settings, accepted: &Accepted) -> io::Result<Self> {
        let socket = accepted.local_addr()?;
        let meant = if settings.origin == Origin::OriginalDst { meant(settings, accepted, socket) } else { None };
        Ok(Self { client: canonical(accepted.peer), reached: meant.unwrap_or(socket), socket, meant })
    }
}

/// Where the client meant to go: with TPROXY the socket has that address, with REDIRECT the system remembers it.
fn meant(settings: &Settings, accepted: &Accepted, socket: SocketAddr) -> Option<SocketAddr> {
    if settings.transparent {
        return Some(socket);
    }
    let asked = SockRef::from(accepted.socket());
    let found = if socket.is_ipv4() { asked.original_dst_v4() } else { asked.original_dst_v6() };
    found.ok()?.as_socket()
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// What a connection to the origin will carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Requests.
    Http,
    /// TLS, unopened.
    Tls,
}

/// Whose origin is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// The host that was judged.
    pub host: &'a HostName,
    /// The client connection.
    pub ends: &'a Ends,
    /// For what.
    pub carries: Carries,
}

/// A connection to the origin.
#[derive(Debug)]
pub struct Connected {
    /// The connection; a PROXY header was sent on it, where one is.
    pub stream: TcpStream,
    /// Held for as long as the connection is open.
    pub place: Option<OutgoingPlace>,
}

/// Connects to the origin of a host and says whose connection it is, where that is asked for.
pub async fn connect(gate: &Gate, route: &Route<'_>, timer: &mut Timer) -> Result<Connected, OriginFailure> {
    let limit = gate.settings().connect_timeout;
    timer.within(limit, connect_untimed(gate, route)).await.unwrap_or(Err(OriginFailure::Slow))
}

async fn connect_untimed(gate: &Gate, route: &Route<'_>) -> Result<Connected, OriginFailure> {
    let settings = gate.settings();
    let stream = match (&settings.origin, route.carries) {
        (Origin::Fixed(addr), Carries::Http) => connect_to(*addr).await?,
        (Origin::Fixed(_), Carries::Tls) => connect_to(settings.fixed_tls.ok_or(OriginFailure::Nowhere)?).await?,
        (Origin::OriginalDst, _) => {
            let addr = route.ends.meant.ok_or(OriginFailure::Nowhere)?;
            if is_own(settings, route.ends, addr) {
                return Err(OriginFailure::Loop);
            }
            connect_to(addr).await?
        }
        (Origin::Resolve(_), _) => connect_to_any(gate, route).await?,
    };
    let place = match settings.origin {
        // The configuration's check holds the fixed ones.
        Origin::Fixed(_) => None,
        Origin::OriginalDst | Origin::Resolve(_) => stream.local_addr().ok().map(|addr| gate.outgoing().enter(addr)),
    };
    let mut res = Connected { stream, place };
    if let Some(version) = settings.proxy_to_origin {
        let authority = route.host.name().filter(|_| route.carries == Carries::Tls).map(ToString::to_string);
        let mut header = Vec::with_capacity(128);
        proxy_header::write(version, route.ends.client, route.ends.reached, authority.as_deref(), &mut header);
        res.stream.write_all(&header).await.map_err(|_| OriginFailure::Connect)?;
    }
    Ok(res)
}

async fn connect_to(addr: SocketAddr) -> Result<TcpStream, OriginFailure> {
    let stream = TcpStream::connect(addr).await.map_err(|_| OriginFailure::Connect)?;
    // Heads and small bodies leave at once; a failure costs time only.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Connects to an address of the host that takes the connection.
async fn connect_to_any(gate: &Gate, route: &Route<'_>) -> Result<TcpStream, OriginFailure> {
    let check = |addr: IpAddr| check(gate.settings(), route, addr.to_canonical());
    match (route.host, gate.resolver()) {
        (HostName::Address(addr), _) => connect_to(check(*addr)?).await,
        (HostName::Name(name), Some(resolver)) => race::race(resolver.v4(name), resolver.v6(name), check).await,
        (HostName::Name(_), None) | (HostName::Invalid, _) => Err(OriginFailure::Nowhere),
    }
}

/// Where a connection to an address of the host goes, if it may.
fn check(settings: &Settings, route: &Route<'_>, addr: IpAddr) -> Result<SocketAddr, OriginFailure> {
    let to = SocketAddr::new(addr, route.ends.reached.port());
    if is_own(settings, route.ends, to) {
        return Err(OriginFailure::Loop);
    }
    if !reach::may_lead_to(settings, route.host, route.ends, addr) {
        tracing::debug!(host = ?route.host, %addr, "refused where a host leads");
        return Err(OriginFailure::Nowhere);
    }
    Ok(to)
}

/// True for an address that leads to the gate itself.
fn is_own(settings: &Settings, ends: &Ends, addr: SocketAddr) -> bool {
    let is_socket = !settings.transparent && addr == ends.socket;
    // One that listens everywhere has the addresses that were seen to reach it, and loopback.
    let is_here = addr.ip().is_loopback() || (!settings.transparent && addr.ip() == ends.socket.ip());
    let listens = |own: &SocketAddr| {
        let is_everywhere = own.ip().is_unspecified() && own.is_ipv4() == addr.is_ipv4();
        *own == addr || (is_everywhere && own.port() == addr.port() && is_here)
    };
    is_socket || settings.listen.iter().chain(&settings.tls_listen).any(listens)
}

//--- Outgoing --------------------------------------------------------------------------------------------------------

/// The near ends of the connections to origins, by which the gate knows one that comes back to it.
///
/// The system's rules may send the gate's own connections to the gate again; no look at addresses can tell, and TLS that is
/// passed on unopened bears no mark.
#[derive(Clone, Debug, Default)]
pub struct Outgoing(Arc<DashSet<SocketAddr>>);

impl Outgoing {
    fn enter(&self, addr: SocketAddr) -> OutgoingPlace {
        self.0.insert(addr);
        OutgoingPlace { outgoing: self.clone(), addr }
    }

    /// True for the near end of one of our own connections; asked once the peer has sent something.
    pub fn contains(&self, peer: SocketAddr) -> bool {
        !self.0.is_empty() && self.0.contains(&peer)
    }
}

/// One connection to an origin; dropping it takes it out.
#[derive(Debug)]
pub struct OutgoingPlace {
    outgoing: Outgoing,
    addr: SocketAddr,
}

impl Drop for OutgoingPlace {
    fn drop(&mut self) {
        self.outgoing.0.remove(&self.addr);
    }
}

//--- OriginConnection ------------------------------------------------------------------------------------------------

/// One connection to the origin with what was read from it.
#[derive(Debug)]
pub struct OriginConnection {
    /// The connection.
    pub stream: TcpStream,
    /// Octets read and not used.
    pub input: Buffer,
    /// Reads its answers.
    pub parser: ResponseParser,
    /// The host it was opened for, where other hosts have other origins.
    host: Option<HostName>,
    _place: Option<OutgoingPlace>,
}

impl OriginConnection {
    /// Connects.
    pub async fn open(gate: &Gate, route: &Route<'_>, timer: &mut Timer) -> Result<Self, OriginFailure> {
        let Connected { stream, place } = connect(gate, route, timer).await?;
        gate.counters().origin_connections.increment();
        let limits = head_limits(gate.settings());
        let host = matches!(gate.settings().origin, Origin::Resolve(_)).then(|| route.host.clone());
        let (input, parser) = (Buffer::new(limits.octets_max), ResponseParser::new(limits));
        Ok(Self { stream, input, parser, host, _place: place })
    }

    /// True while the origin keeps the connection and has said nothing unasked.
    ///
    /// Costs no system call unless something arrived: the runtime knows.
    pub fn is_idle(&self) -> bool {
        let is_open =
            || matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.input.is_empty() && is_open()
    }

    /// True when requests for `host` go over this connection.
    pub fn serves(&self, host: &HostName) -> bool {
        self.host.as_ref().is_none_or(|own| own == host)
    }
}

/// The limits of heads on either side.
pub fn head_limits(settings: &Settings) -> HeadLimits {
    HeadLimits { octets_max: settings.head_bytes_max, lines_max: settings.head_lines_max }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn ends(socket: &str) -> Ends {
        Ends { client: addr("192.0.2.1:1"), reached: addr(socket), socket: addr(socket), meant: None }
    }

    #[test]
    fn own_addresses_are_told() {
        let mut settings = Settings::new(addr("192.0.2.9:80"));
        settings.listen = vec![addr("0.0.0.0:8080")];
        settings.tls_listen = vec![addr("[2001:db8::1]:8443")];
        let reached = ends("203.0.113.1:8080");
        for (own, is) in [
            ("203.0.113.1:8080", true),
            ("127.0.0.1:8080", true),
            ("[2001:db8::1]:8443", true),
            ("203.0.113.1:80", false),
            ("203.0.113.2:8080", false),
            ("127.0.0.1:8081", false),
            ("[2001:db8::1]:443", false),
        ] {
            assert_eq!(is_own(&settings, &reached, addr(own)), is, "{own}");
        }
        settings.transparent = true;
        assert!(!is_own(&settings, &reached, addr("203.0.113.1:8080")), "the socket has the destination's address");
    }
}
