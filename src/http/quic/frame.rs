//! The frames that may stand in an Initial packet (RFC 9000 sections 12.4 and 19).

use thiserror::Error;

use crate::http::octets::Octets;

/// Why a payload is none of an Initial. The client is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// A frame that reaches past the packet.
    #[error("packet ends inside a frame")]
    CutShort,
    /// A packet without frames.
    #[error("packet has no frame")]
    Empty,
    /// A frame type that Initials do not carry, or one not in its shortest form.
    #[error("frame type does not stand in an Initial packet")]
    NotInInitial,
}

/// A frame; padding is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Acknowledgement.
    Ack,
    /// The client gives up.
    Close,
    /// Octets of the handshake.
    Crypto {
        /// Where they stand in it.
        offset: u64,
        /// The octets.
        octets: &'a [u8],
    },
    /// Nothing, to be acknowledged.
    Ping,
}

/// The frames of a payload, front to back; ends after the first that cannot be read.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: Octets<'a>,
    has_failed: bool,
}

/// The frames of a payload. Padding alone is a frame, no octets are [`FrameError::Empty`].
pub fn frames(payload: &[u8]) -> Result<Frames<'_>, FrameError> {
    if payload.is_empty() {
        return Err(FrameError::Empty);
    }
    Ok(Frames { rest: Octets::new(payload), has_failed: false })
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        const PADDING: u8 = 0;
        let padding = self.rest.rest().iter().take_while(|octet| **octet == PADDING).count();
        self.rest.take(padding);
        if self.rest.is_empty() || self.has_failed {
            return None;
        }
        let frame = read(&mut self.rest);
        self.has_failed = frame.is_err();
        Some(frame)
    }
}

/// Reads one frame that is no padding.
fn read<'a>(octets: &mut Octets<'a>) -> Result<Frame<'a>, FrameError> {
    const PING: u8 = 1;
    const ACK: u8 = 2;
    const ACK_WITH_ECN: u8 = 3;
    const CRYPTO: u8 = 6;
    const CONNECTION_CLOSE: u8 = 0x1c;
    let kind = octets.u8().ok_or(FrameError::CutShort)?;
    let frame = match kind {
        PING => Some(Frame::Ping),
        ACK | ACK_WITH_ECN => ack(octets, kind == ACK_WITH_ECN),
        CRYPTO => crypto(octets),
        CONNECTION_CLOSE => close(octets),
        _ => return Err(FrameError::NotInInitial),
    };
    frame.ok_or(FrameError::CutShort)
}

fn ack<'a>(octets: &mut Octets<'a>, has_ecn: bool) -> Option<Frame<'a>> {
    let (_largest, _delay, ranges) = (octets.varint()?, octets.varint()?, octets.varint()?);
    let _first = octets.varint()?;
    // A range takes two octets at least, so the packet's end bounds the loop.
    for _ in 0..ranges {
        let (_gap, _length) = (octets.varint()?, octets.varint()?);
    }
    for _ in 0..if has_ecn { 3 } else { 0 } {
        octets.varint()?;
    }
    Some(Frame::Ack)
}

fn crypto<'a>(octets: &mut Octets<'a>) -> Option<Frame<'a>> {
    let offset = octets.varint()?;
    Some(Frame::Crypto { offset, octets: octets.part_varint()?.rest() })
}

fn close<'a>(octets: &mut Octets<'a>) -> Option<Frame<'a>> {
    let (_code, _frame) = (octets.varint()?, octets.varint()?);
    octets.part_varint().map(|_reason| Frame::Close)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(payload: &[u8]) -> Vec<Result<Frame<'_>, FrameError>> {
        frames(payload).expect("not empty").collect()
    }

    #[test]
    fn frames_of_initials_are_read() {
        let payload = [
            &[0, 0, 1][..],                                 // padding, ping
            &[2, 5, 0, 1, 0, 0, 0],                         // acknowledgement with one more range
            &[3, 5, 0, 0, 0, 1, 2, 3],                      // with ECN counts
            &[6, 0x40, 0x10, 2, b'a', b'b', 0],             // handshake octets, padding
            &[0x1c, 0x41, 0x70, 6, 2, b'n', b'o', 0, 0, 0], // close with a reason
        ]
        .concat();
        let crypto = Frame::Crypto { offset: 16, octets: b"ab" };
        assert_eq!(all(&payload), [Frame::Ping, Frame::Ack, Frame::Ack, crypto, Frame::Close].map(Ok));
        assert_eq!(all(&[0, 0, 0]), []);
    }

    #[test]
    fn other_payloads_are_refused() {
        assert_eq!(frames(&[]).err(), Some(FrameError::Empty));
        for bad in [&[8][..], &[0x1d, 0, 0], &[0x40, 1], &[0x30], &[0x1e]] {
            assert_eq!(all(bad), [Err(FrameError::NotInInitial)], "{bad:?}");
        }
        for cut in [&[6, 0, 3, 1][..], &[6, 0x40], &[2, 0, 0, 0xbf, 0xff, 0xff, 0xff, 0], &[0x1c, 1, 6, 4, 0]] {
            assert_eq!(all(cut), [Err(FrameError::CutShort)], "{cut:?}");
        }
    }
}
