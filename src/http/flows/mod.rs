//! QUIC on its way through: flights are held until the verdict, flows that passed are forwarded unopened, both ways.
//!
//! ```text
//!             ┌ short header ─────▶ Paths (address pair, else connection ID) ─▶ origin
//! datagram ─ gate ─┼ Initial, 0-RTT ───▶ Flights ─▶ judge ─▶ open a path, send what was held │ close │ nothing
//!             └ other version ────▶ negotiate │ nothing
//! origin ─ path ─▶ server's connection IDs are learned ─▶ client
//! ```
//!
//! A path joins one client address and the address it reached to one socket toward the origin, so the origin sees what it
//! would see without us: another client port is another port there, which it validates itself (D-Q8), and its tokens hold
//! (D-Q6). Connections that share a client's socket share the path; each begins with a flight and a verdict of its own.
//!
//! What goes to the origin: a datagram with Initials, if a flight that has passed read every one of them anew; 0-RTT and
//! Handshake packets of a flight or connection ID that is known; short headers on a known path, else to a known connection
//! ID, but none to one of a flow that a verdict ended. Nothing that mixes connections. Everything else is dropped and
//! counted. To forget a flight is always safe: its next Initial is judged as if it were the first. What is not seen: names
//! inside (D-Q10), connection IDs that the server gives later (a client that changes address and connection ID at once
//! begins anew), and who the client tunnels for (D-Q14).
//!
//! Limits: [`flights`] (flights in number, octets and time, by what they wait for), [`paths`] (paths in number, those whose
//! client has not proven its address apart, paths of one flow, connection IDs of one path), [`revoked`] (connection IDs of
//! flows that ended, in number and time), [`pace`] (replies a second), `Settings::quic_flows_max`,
//! `Settings::connections_per_client_max`. A flood of first Initials, forged or not, takes the places of such as itself
//! ([`opening`]): a path that its client has proven is never given up for another, and counts from then on as one of the
//! client's connections.

pub mod cids;
pub mod counters;
pub mod flights;
pub mod gate;
pub mod opening;
pub mod pace;
pub mod path;
pub mod paths;
pub mod revoked;
pub mod sockets;
pub mod udp;

use std::net::{IpAddr, SocketAddr};

pub use counters::FlowCounters;
pub use gate::FlowGate;

/// One client address and what it reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The client.
    pub client: SocketAddr,
    /// Our address and port, as the client wrote them.
    pub reached: SocketAddr,
}

impl Pair {
    /// The client's address alone.
    pub fn client_ip(&self) -> IpAddr {
        self.client.ip().to_canonical()
    }

    /// Our address alone.
    pub fn reached_ip(&self) -> IpAddr {
        self.reached.ip().to_canonical()
    }
}
