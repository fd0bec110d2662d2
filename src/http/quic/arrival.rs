//! A client's datagram, sorted by what can be seen without keys.

use super::header::{self, HeaderError, Kind, Long, Packet, Unknown, packets};

/// Shortest connection ID a client may choose for a server it has heard nothing from (RFC 9000 section 7.2).
const FIRST_CID_OCTETS_MIN: usize = 8;

/// What to do with a client's datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival<'a> {
    /// Nothing.
    Drop(Unwanted),
    /// Begins with an Initial: show it to the flight of its address pair and connection ID, or begin one if it [`may_begin`].
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
            Kind::Initial => Arrival::Initial(long),
        },
    }
}

/// True for an Initial that may be a client's first: later ones go to whatever the server is called, which may be short.
pub fn may_begin(initial: &Long<'_>) -> bool {
    // After a Retry the server has chosen the connection ID, and its token comes back.
    initial.dcid.len() >= FIRST_CID_OCTETS_MIN || !initial.token.is_empty()
}

/// What a client's datagram holds, all its packets taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// An Initial is among them, in any place.
    pub has_initial: bool,
    /// A Handshake packet is among them: its sender has read the server's first packets.
    pub has_handshake: bool,
}

/// True for the tail that some clients pad datagrams with Initials with: any number of octets 0xc8, then 0x13, by which they
/// ask the network for its rate (SCONE). No server reads a packet in it: it is cut short, or of a version 0xc8c8c8c8.
fn is_scone_padding(octets: &[u8]) -> bool {
    const FILLER: u8 = 0xc8;
    const LAST: u8 = 0x13;
    matches!(octets, [filler @ .., LAST] if !filler.is_empty() && filler.iter().all(|octet| *octet == FILLER))
}

/// What the packets of a datagram with a long header are; `None` where they are not all of one connection and version.
///
/// A sender puts packets of one connection into a datagram, and a receiver should ignore others (RFC 9000 section 12.2); one
/// that does not would read what was not judged. So such a datagram must not go on. Cost: reads all headers.
pub fn contents(datagram: &[u8]) -> Option<Contents> {
    const LONG_HEADER: u8 = 0x80;
    let mut first: Option<Long<'_>> = None;
    let mut res = Contents::default();
    let mut rest = datagram;
    for packet in packets(datagram) {
        match packet {
            Ok(Packet::Long(long)) => {
                let first = first.get_or_insert(long);
                if long.version != first.version || long.dcid != first.dcid || long.kind == Kind::Retry {
                    return None;
                }
                res.has_initial |= long.kind == Kind::Initial;
                res.has_handshake |= long.kind == Kind::Handshake;
                rest = &rest[long.packet.len()..];
            }
            Ok(Packet::Short(_)) => {}
            _ if is_scone_padding(rest) => {}
            Ok(Packet::Negotiation | Packet::Unknown(_)) => return None,
            // Padding behind the last packet begins with 0; a long header that cannot be read here may be read elsewhere.
            Err(_) if rest.first().is_some_and(|octet| octet & LONG_HEADER != 0) => return None,
            Err(_) => {}
        }
    }
    Some(res)
}
