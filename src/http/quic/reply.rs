//! What the gate sends to a QUIC client on its own: a closed connection, or the versions it reads.
//!
//! Both are small, are made from one datagram without keeping anything, and are not made at all where they would be longer
//! than a server may send to an address it has not verified (D-Q11). How often is the caller's to limit.

use super::header::{Unknown, Version};
use super::keys::{Keys, Side, TAG_OCTETS};
use crate::http::hello::Alert;

/// What may be sent before an address is verified, as a multiple of what came from it (RFC 9000 section 8.1).
pub const AMPLIFICATION_MAX: usize = 3;

/// Why a connection is closed (RFC 9000 section 20.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// CRYPTO_ERROR: a TLS alert; with `unrecognized_name` it is 0x170, the refusal of a name without a filing.
    Alert(Alert),
    /// CONNECTION_REFUSED.
    ConnectionRefused,
    /// CRYPTO_BUFFER_EXCEEDED.
    CryptoBufferExceeded,
    /// FRAME_ENCODING_ERROR.
    FrameEncoding,
    /// PROTOCOL_VIOLATION.
    ProtocolViolation,
}

impl CloseCode {
    /// The number of the registry, below 2^14.
    pub fn code(self) -> u16 {
        match self {
            Self::Alert(alert) => 0x100 + u16::from(alert.code()),
            Self::ConnectionRefused => 0x2,
            Self::CryptoBufferExceeded => 0xd,
            Self::FrameEncoding => 0x7,
            Self::ProtocolViolation => 0xa,
        }
    }
}

/// A server Initial with a CONNECTION_CLOSE frame, in answer to a client Initial of `received` octets.
///
/// `dcid` and `scid` are those of the client's packet. The client's own choice is sent back as the server's connection ID:
/// any would do for a connection that ends here. The packet asks for no acknowledgement, so it needs no padding (RFC 9000
/// section 14.1). `None` where the datagram was too small to be answered.
pub fn close(version: Version, dcid: &[u8], scid: &[u8], code: CloseCode, received: usize) -> Option<Vec<u8>> {
    const CONNECTION_CLOSE: u8 = 0x1c;
    const CRYPTO: u8 = 6;
    const VARINT_OF_TWO: u16 = 0x4000;
    const NUMBER: u8 = 0;
    let [code_high, code_low] = (VARINT_OF_TWO | code.code()).to_be_bytes();
    let payload = [CONNECTION_CLOSE, code_high, code_low, CRYPTO, 0];
    let number_and_rest = 1 + payload.len() + TAG_OCTETS;

    let mut header = vec![0xc0 | (version.initial_bits() << 4)];
    header.extend_from_slice(&version.wire().to_be_bytes());
    push_cid(&mut header, scid)?;
    push_cid(&mut header, dcid)?;
    header.push(0);
    header.push(u8::try_from(number_and_rest).expect("22 octets"));
    header.push(NUMBER);
    answerable(Keys::derive(version, dcid, Side::Server).seal(&header, u64::from(NUMBER), &payload), received)
}

/// A version negotiation with the versions that can be read, in answer to another version in `received` octets.
///
/// `None` where the datagram was too small to be answered.
pub fn negotiate(unknown: &Unknown<'_>, received: usize) -> Option<Vec<u8>> {
    // Any bits but the first (RFC 8999 section 6); the fixed bit, so that it can be told from other protocols.
    let mut res = vec![0xc0, 0, 0, 0, 0];
    push_cid(&mut res, unknown.scid)?;
    push_cid(&mut res, unknown.dcid)?;
    for version in Version::ALL {
        res.extend_from_slice(&version.wire().to_be_bytes());
    }
    answerable(res, received)
}

fn push_cid(header: &mut Vec<u8>, cid: &[u8]) -> Option<()> {
    header.push(u8::try_from(cid.len()).ok()?);
    header.extend_from_slice(cid);
    Some(())
}

/// The reply, if what came allows one.
fn answerable(reply: Vec<u8>, received: usize) -> Option<Vec<u8>> {
    (received >= super::DATAGRAM_OCTETS_MIN && reply.len() <= AMPLIFICATION_MAX * received).then_some(reply)
}
