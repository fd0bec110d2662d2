//! A client's datagram, sorted by what can be seen without keys.

use super::header::{self, HeaderError, Kind, Long, Packet, Unknown};

/// Shortest connection ID a client may choose for a server it has heard nothing from (RFC 9000 section 7.2).
const FIRST_CID_OCTETS_MIN: usize = 8;

/// What to do with a client's datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival<'a> {
    /// Nothing.
    Drop(Unwanted),
    /// Begins with an Initial: show it to the flight of its address pair and connection ID, or begin one.
    Initial(Long<'a>),
    /// 0-RTT or Handshake in front: forward for a flow that has passed, hold for one that waits, drop otherwise.
    OfFlow(Long<'a>),
    /// A short header: forward for a flow that has passed, by connection ID or address pair, drop otherwise (D-Q8, D-Q13).
    Short(&'a [u8]),
    /// Another version, in a datagram that may be answered: [`super::negotiate`] or drop (D-Q7).
    UnknownVersion(Unknown<'a>),
}

/// Why a datagram is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwanted {
    /// A first Initial to a connection ID under 8 octets.
    CidTooShort,
    /// A packet that only servers send.
    FromServer,
    /// No packet of QUIC.
    NoPacket(HeaderError),
    /// An Initial or an unknown version in a datagram under 1200 octets.
    TooSmall,
}

/// Sorts a client's datagram. Cost: reads its first header only.
pub fn arrival(datagram: &[u8]) -> Arrival<'_> {
    let is_small = datagram.len() < super::DATAGRAM_OCTETS_MIN;
    match header::read(datagram) {
        Err(error) => Arrival::Drop(Unwanted::NoPacket(error)),
        Ok(Packet::Negotiation) => Arrival::Drop(Unwanted::FromServer),
        Ok(Packet::Short(after_first)) => Arrival::Short(after_first),
        Ok(Packet::Unknown(_)) if is_small => Arrival::Drop(Unwanted::TooSmall),
        Ok(Packet::Unknown(unknown)) => Arrival::UnknownVersion(unknown),
        Ok(Packet::Long(long)) => match long.kind {
            Kind::Retry => Arrival::Drop(Unwanted::FromServer),
            Kind::Handshake | Kind::ZeroRtt => Arrival::OfFlow(long),
            Kind::Initial if is_small => Arrival::Drop(Unwanted::TooSmall),
            // After a Retry the server has chosen the connection ID, and its token comes back.
            Kind::Initial if long.dcid.len() < FIRST_CID_OCTETS_MIN && long.token.is_empty() => {
                Arrival::Drop(Unwanted::CidTooShort)
            }
            Kind::Initial => Arrival::Initial(long),
        },
    }
}
