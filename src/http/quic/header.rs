//! Packet headers: what can be read of a packet without keys.
//!
//! Sources: RFC 8999 (what holds for every version), RFC 9000 section 17.2, RFC 9369 section 3.2.

use std::fmt;

use thiserror::Error;

use crate::http::octets::Octets;

/// Longest connection ID of versions 1 and 2 (RFC 9000 section 17.2).
pub const CID_OCTETS_MAX: usize = 20;
/// Octets of a Retry packet's integrity tag (RFC 9000 section 17.2.5).
const RETRY_TAG_OCTETS: usize = 16;

/// Why octets are no packet. The sender is at fault, or speaks something else.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HeaderError {
    /// A connection ID over 20 octets in a version that allows no more.
    #[error("connection ID is longer than 20 octets")]
    CidTooLong,
    /// A length that reaches past the datagram.
    #[error("datagram ends inside a packet")]
    CutShort,
    /// The fixed bit of a short header is 0 (RFC 9000 section 17.3.1), which only a known flow may have negotiated (RFC 9287).
    #[error("fixed bit is 0")]
    FixedBitClear,
}

//--- Version, Cid ----------------------------------------------------------------------------------------------------

/// A version whose Initials can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 9000.
    V1,
    /// RFC 9369.
    V2,
}

impl Version {
    /// All of them, best known first: what a version negotiation offers.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// As it stands on the wire.
    pub fn wire(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 0x6b33_43cf,
        }
    }

    /// From the wire; `None` for versions that cannot be read, drafts and GREASE among them (D-Q7).
    pub fn from_wire(wire: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.wire() == wire)
    }

    /// The packet type that two bits of a long header's first octet say; version 2 moved all by one.
    fn kind(self, bits: u8) -> Kind {
        const IN_ORDER: [Kind; 4] = [Kind::Initial, Kind::ZeroRtt, Kind::Handshake, Kind::Retry];
        let first = match self {
            Self::V1 => 0,
            Self::V2 => 3,
        };
        IN_ORDER[usize::from((bits + first) & 3)]
    }

    /// The two bits that say `Initial`.
    pub(super) fn initial_bits(self) -> u8 {
        match self {
            Self::V1 => 0,
            Self::V2 => 1,
        }
    }
}

/// A connection ID that is kept; at most 20 octets, inline.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cid {
    length: u8,
    octets: [u8; CID_OCTETS_MAX],
}

impl Cid {
    /// Copies a connection ID; `None` over 20 octets.
    pub fn new(octets: &[u8]) -> Option<Self> {
        let mut res = Self { length: u8::try_from(octets.len()).ok()?, octets: [0; CID_OCTETS_MAX] };
        res.octets.get_mut(..octets.len())?.copy_from_slice(octets);
        Some(res)
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cid(")?;
        self.octets().iter().try_for_each(|octet| write!(f, "{octet:02x}"))?;
        f.write_str(")")
    }
}

//--- Packet ----------------------------------------------------------------------------------------------------------

/// The type of a packet with a long header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Handshake.
    Handshake,
    /// Initial.
    Initial,
    /// Retry, of servers.
    Retry,
    /// 0-RTT, of clients.
    ZeroRtt,
}

/// A packet as far as it is in the open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A long header of a version that is known.
    Long(Long<'a>),
    /// Version negotiation, of servers.
    Negotiation,
    /// A short header; the connection ID after the first octet has the length the receiver gave it.
    Short(&'a [u8]),
    /// A long header of another version, which takes the rest of the datagram.
    Unknown(Unknown<'a>),
}

/// A packet with a long header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Long<'a> {
    /// Its version.
    pub version: Version,
    /// Its type.
    pub kind: Kind,
    /// Destination connection ID.
    pub dcid: &'a [u8],
    /// Source connection ID.
    pub scid: &'a [u8],
    /// The token of an Initial or a Retry; empty otherwise.
    pub token: &'a [u8],
    /// The whole packet.
    pub packet: &'a [u8],
    /// Where the protected packet number begins; the end of a Retry.
    pub number_at: usize,
}

/// What every version shows of a long header (RFC 8999 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown<'a> {
    /// The version.
    pub version: u32,
    /// Destination connection ID, up to 255 octets.
    pub dcid: &'a [u8],
    /// Source connection ID, up to 255 octets.
    pub scid: &'a [u8],
}

/// Reads the first packet of a datagram; a short header and another version take all of it.
pub fn read(datagram: &[u8]) -> Result<Packet<'_>, HeaderError> {
    const LONG_HEADER: u8 = 0x80;
    const FIXED: u8 = 0x40;
    let mut octets = Octets::new(datagram);
    let first = octets.u8().ok_or(HeaderError::CutShort)?;
    if first & LONG_HEADER == 0 {
        return if first & FIXED == 0 { Err(HeaderError::FixedBitClear) } else { Ok(Packet::Short(octets.rest())) };
    }
    let wire = octets.u32().ok_or(HeaderError::CutShort)?;
    let dcid = octets.part8().ok_or(HeaderError::CutShort)?.rest();
    let scid = octets.part8().ok_or(HeaderError::CutShort)?.rest();
    if wire == 0 {
        return Ok(Packet::Negotiation);
    }
    let Some(version) = Version::from_wire(wire) else {
        return Ok(Packet::Unknown(Unknown { version: wire, dcid, scid }));
    };
    // The fixed bit tells nothing here: who remembers a server that lets it be 0 clears it from the first Initial on (RFC 9287
    // section 3.1), and a server may read such packets. So they are read as any other.
    if dcid.len().max(scid.len()) > CID_OCTETS_MAX {
        return Err(HeaderError::CidTooLong);
    }
    let kind = version.kind((first >> 4) & 3);
    if kind == Kind::Retry {
        let token = octets.rest();
        let token = &token[..token.len().checked_sub(RETRY_TAG_OCTETS).ok_or(HeaderError::CutShort)?];
        let long = Long { version, kind, dcid, scid, token, packet: datagram, number_at: datagram.len() };
        return Ok(Packet::Long(long));
    }
    let token = match kind {
        Kind::Initial => octets.part_varint().ok_or(HeaderError::CutShort)?.rest(),
        _ => &[],
    };
    let rest = octets.part_varint().ok_or(HeaderError::CutShort)?;
    let number_at = rest.at();
    let packet = &datagram[..octets.at()];
    Ok(Packet::Long(Long { version, kind, dcid, scid, token, packet, number_at }))
}

/// The packets of a datagram, front to back; ends after the first that cannot be read (RFC 9000 section 12.2).
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

/// The packets of a datagram.
pub fn packets(datagram: &[u8]) -> Packets<'_> {
    Packets { rest: datagram }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, HeaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let packet = read(self.rest);
        self.rest = match packet {
            Ok(Packet::Long(long)) => &self.rest[long.packet.len()..],
            _ => &[],
        };
        Some(packet)
    }
}
