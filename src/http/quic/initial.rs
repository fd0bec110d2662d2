//! A flight: the client Initials to one connection ID, read until they hold a whole ClientHello.

use thiserror::Error;

use super::crypto::{CryptoError, CryptoStream};
use super::frame::{self, Frame, FrameError};
use super::header::{Cid, Kind, Long, Packet, Version, packets};
use super::keys::{Keys, Opened, Side};
use super::reply::CloseCode;
use crate::http::hello::{self, Alert, Hello, HelloError};

/// Initial packets that are opened for one flight: the longest hello takes 15 datagrams, and as many may be sent again
/// and again before a slow server answers.
pub const INITIALS_MAX: usize = 64;

/// What is known of a flight after a datagram.
#[expect(clippy::large_enum_variant, reason = "one a datagram; a name is inline so that reading it allocates nothing")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    /// The client gave up: forget the flight.
    Closed,
    /// A whole hello; after a HelloRetryRequest the second, which names the same.
    Hello(Hello<'a>),
    /// What no client sends; refuse with [`FlightError::close_code`] and forget the flight.
    Malformed(FlightError),
    /// The hello is not whole. Hold the datagram and wait, within a time limit.
    NeedMore,
    /// An Initial in the datagram is not authentic or came before, or nothing in it belongs to this flight: drop it.
    Nothing,
}

/// Why a flight is refused. The client is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FlightError {
    /// A handshake octet that came with another value before.
    #[error("handshake octets contradict earlier ones")]
    Contradiction,
    /// A payload that is none of an Initial.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// Handshake octets that are no hello.
    #[error("{0}")]
    Hello(#[from] HelloError),
    /// A second hello with another name (D-T11).
    #[error("second hello names another site than the first")]
    OtherName,
    /// The reserved bits of a packet are not 0.
    #[error("reserved bits are not 0")]
    ReservedBits,
    /// A hello over the limit, or handshake octets past it.
    #[error("client hello is too long")]
    TooLong,
    /// More Initial packets than a hello takes.
    #[error("more than {INITIALS_MAX} Initial packets")]
    TooManyPackets,
}

impl FlightError {
    /// The code to close with (RFC 9000 section 20.1).
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Contradiction | Self::ReservedBits => CloseCode::ProtocolViolation,
            Self::Frame(FrameError::CutShort) => CloseCode::FrameEncoding,
            Self::Frame(FrameError::Empty | FrameError::NotInInitial) => CloseCode::ProtocolViolation,
            Self::Hello(error) => CloseCode::Alert(error.alert()),
            Self::OtherName => CloseCode::Alert(Alert::IllegalParameter),
            Self::TooLong => CloseCode::CryptoBufferExceeded,
            Self::TooManyPackets => CloseCode::ConnectionRefused,
        }
    }
}

impl From<CryptoError> for FlightError {
    fn from(error: CryptoError) -> Self {
        match error {
            CryptoError::Contradiction => Self::Contradiction,
            CryptoError::TooLong => Self::TooLong,
        }
    }
}

/// The client Initials to one connection ID.
#[derive(Debug)]
pub struct Flight {
    version: Version,
    dcid: Cid,
    scid: Cid,
    /// What the server chose to be called, once that is known.
    server: Option<Cid>,
    keys: Keys,
    /// The version the server answered in, where it is another, with the client's keys in it.
    answered: Option<(Version, Keys)>,
    octets_max: usize,
    stream: CryptoStream,
    /// The packet numbers opened, each once: a server reads no packet number twice (RFC 9000 section 12.3).
    numbers: Vec<u64>,
    has_early_data: bool,
}

impl Flight {
    /// Begins a flight with its first Initial, which [`super::may_begin()`] let through; `octets_max` bounds the hello.
    ///
    /// Nothing is read yet: show the datagram to [`Flight::read`]. `None` for a connection ID no version allows.
    /// Cost: derives keys.
    pub fn begin(initial: &Long<'_>, octets_max: usize) -> Option<Self> {
        Some(Self {
            version: initial.version,
            dcid: Cid::new(initial.dcid)?,
            scid: Cid::new(initial.scid)?,
            server: None,
            keys: Keys::derive(initial.version, initial.dcid, Side::Client),
            answered: None,
            octets_max,
            stream: CryptoStream::default(),
            numbers: Vec::new(),
            has_early_data: false,
        })
    }

    /// The version of its packets.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The connection ID its packets go to.
    pub fn dcid(&self) -> Cid {
        self.dcid
    }

    /// The connection ID the client wants answers sent to.
    pub fn scid(&self) -> Cid {
        self.scid
    }

    /// True once a datagram held 0-RTT packets beside an Initial.
    pub fn has_early_data(&self) -> bool {
        self.has_early_data
    }

    /// The connection ID the server chose, once that is known.
    pub fn server(&self) -> Option<Cid> {
        self.server
    }

    /// Octets of memory that the handshake takes.
    pub fn kept_octets(&self) -> usize {
        self.stream.kept_octets() + self.numbers.len() * size_of::<u64>()
    }

    /// Reads one more datagram of the client; `scratch` is overwritten.
    ///
    /// Packets to another connection ID or of another version are passed over (RFC 9000 section 12.2). A datagram with an
    /// Initial of the flight that is not authentic, or whose number came before, is [`Reading::Nothing`] as a whole: what is
    /// not read here, a server could read. Cost: decrypts the Initials in it and copies their handshake octets.
    pub fn read<'a>(&'a mut self, datagram: &[u8], scratch: &mut Vec<u8>) -> Reading<'a> {
        let taken =
            if datagram.len() < super::DATAGRAM_OCTETS_MIN { Ok(Taken::Nothing) } else { self.take(datagram, scratch) };
        match taken {
            Err(error) => return Reading::Malformed(error),
            Ok(Taken::Closed) => return Reading::Closed,
            Ok(Taken::Nothing) => return Reading::Nothing,
            Ok(Taken::Frames) => {}
        }
        self.last_hello()
    }

    /// The connection ID the server chose, to which the client goes on under the same keys (RFC 9001 section 5.2), and the
    /// version it answered in, which may be another (RFC 9368 section 2.3) with keys of the same connection ID.
    ///
    /// Needed where a HelloRetryRequest makes it send a second hello; a later choice takes the place of an earlier one.
    pub fn answered(&mut self, server: Cid, version: Version) {
        self.server = Some(server);
        if version != self.version && self.answered.is_none() {
            self.answered = Some((version, Keys::derive(version, self.dcid.octets(), Side::Client)));
        }
    }

    /// The keys of packets in a version, where the flight has them.
    fn keys_of(&self, version: Version) -> Option<&Keys> {
        match &self.answered {
            _ if version == self.version => Some(&self.keys),
            Some((answered, keys)) if version == *answered => Some(keys),
            _ => None,
        }
    }

    /// The hello, or the one after a HelloRetryRequest, which goes on in the same octets and must name the same (D-T11).
    fn last_hello(&self) -> Reading<'_> {
        let first = match self.hello_from(0) {
            Reading::Hello(hello) => hello,
            other => return other,
        };
        if self.stream.ready().len() == first.octets {
            return Reading::Hello(first);
        }
        match self.hello_from(first.octets) {
            Reading::Hello(second) if second.host() != first.host() => Reading::Malformed(FlightError::OtherName),
            other => other,
        }
    }

    /// The hello that begins at an octet of the handshake.
    fn hello_from(&self, start: usize) -> Reading<'_> {
        match hello::read_message(&self.stream.ready()[start..], self.octets_max) {
            hello::Reading::Hello(hello) => Reading::Hello(hello),
            hello::Reading::Malformed(error) => Reading::Malformed(error.into()),
            // Without records there is no other protocol to be told.
            hello::Reading::NeedMore | hello::Reading::NotTls(_) => Reading::NeedMore,
            hello::Reading::TooLong => Reading::Malformed(FlightError::TooLong),
        }
    }

    /// True for a packet of this flight.
    fn is_ours(&self, long: &Long<'_>) -> bool {
        let is_to_us = long.dcid == self.dcid.octets() || self.server.is_some_and(|cid| cid.octets() == long.dcid);
        self.keys_of(long.version).is_some() && is_to_us
    }

    /// Takes all Initials of a datagram that belong to the flight.
    fn take(&mut self, datagram: &[u8], scratch: &mut Vec<u8>) -> Result<Taken, FlightError> {
        let mut res = Taken::Nothing;
        let mut has_early_data = false;
        for packet in packets(datagram) {
            let Ok(Packet::Long(long)) = packet else { break };
            if !self.is_ours(&long) {
                continue;
            }
            match long.kind {
                Kind::Initial => {}
                Kind::ZeroRtt => {
                    has_early_data = true;
                    continue;
                }
                Kind::Handshake | Kind::Retry => continue,
            }
            let largest = self.numbers.iter().max().copied();
            let opened = self.keys_of(long.version).and_then(|keys| keys.open(&long, largest, scratch));
            let is_new = |opened: &Opened<'_>| !self.numbers.contains(&opened.number);
            let Some(opened) = opened.filter(is_new) else { return Ok(Taken::Nothing) };
            if self.take_packet(&opened)? == Taken::Closed {
                return Ok(Taken::Closed);
            }
            res = Taken::Frames;
        }
        self.has_early_data |= has_early_data && res == Taken::Frames;
        Ok(res)
    }

    /// Takes the frames of one packet.
    fn take_packet(&mut self, opened: &Opened<'_>) -> Result<Taken, FlightError> {
        if opened.has_reserved_bits {
            return Err(FlightError::ReservedBits);
        }
        if self.numbers.len() == INITIALS_MAX {
            return Err(FlightError::TooManyPackets);
        }
        self.numbers.push(opened.number);
        for frame in frame::frames(opened.payload)? {
            match frame? {
                Frame::Ack | Frame::Ping => {}
                Frame::Close => return Ok(Taken::Closed),
                Frame::Crypto { offset, octets } => self.stream.insert(offset, octets, self.octets_max)?,
            }
        }
        Ok(Taken::Frames)
    }
}

/// What a datagram held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Closed,
    Frames,
    Nothing,
}
