//! QUIC at its first packets: opens client Initials far enough to read the ClientHello, and refuses without a connection.
//!
//! ```text
//! datagram ─ arrival ─▶ Initial ─▶ Flight (keys, packet numbers, CRYPTO octets) ─▶ hello ─▶ judge ─▶ forward │ close
//!               ├ unknown version ─▶ negotiate                0-RTT, Handshake, short header ─▶ the flow table decides
//!               └ drop
//! ```
//!
//! Everything here is a function of octets: no socket, no clock, no table of flows. Versions 1 (RFC 9000, RFC 9001) and 2
//! (RFC 9369) are read; the keys of an Initial come from the connection ID it is sent to, which anybody on the path can
//! derive, so nothing is broken open. A datagram is never changed: what is forwarded is what came.
//!
//! What the caller must do, since it needs the table of flows ([`crate::http::flows`]): hold the datagrams of a flight until
//! the verdict, 0-RTT included (D-Q5); keep one [`Flight`] per address pair, version and destination connection ID (D-Q9),
//! bounded in number and time; pass nothing on that mixes connections ([`contents()`]); and go on showing Initials to the
//! flight after the verdict, dropping what it does not take, since a server may pass over a packet that was read here: a
//! later one that contradicts is [`FlightError::Contradiction`]. Once a flight is forgotten its Initials are another flight.
//! The server's own connection ID is told to the flight ([`Flight::answered`]): a second hello after a HelloRetryRequest
//! goes there. An Initial to any other connection ID, as after a Retry (D-Q6), is another flight with another verdict.
//!
//! Limits: [`initial::INITIALS_MAX`] packets and [`crate::http::hello::HELLO_OCTETS_MAX`] octets of CRYPTO data a flight,
//! [`DATAGRAM_OCTETS_MIN`], and replies of at most [`reply::AMPLIFICATION_MAX`] times what came.

pub mod arrival;
pub mod crypto;
pub mod foreign;
pub mod frame;
pub mod header;
pub mod initial;
pub mod keys;
pub mod reply;

pub use arrival::{Arrival, Contents, Unwanted, arrival, contents, may_begin};
pub use header::{Cid, Kind, Long, Packet, Version};
pub use initial::{Flight, FlightError, Reading};
pub use reply::{CloseCode, close, negotiate};

/// Smallest datagram that may carry a client Initial (RFC 9000 section 14.1); smaller ones are dropped (D-Q11).
pub const DATAGRAM_OCTETS_MIN: usize = 1200;
