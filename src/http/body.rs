//! Bodies: how long they are, decoding what comes in, framing what goes out.
//!
//! A chunked body is decoded and chunked anew; extensions and trailers are checked and dropped (RFC 9112 section 7.1), but
//! for the trailers of an answer that goes on over HTTP/2.
//! Nothing here keeps more than counters: the octets stay in the buffer they were read into.

use std::io::Write;
use std::ops::Range;

use thiserror::Error;

use super::head::is_token;

/// Octets of the extensions of one chunk; nobody is known to send any.
const EXTENSION_OCTETS_MAX: u32 = 256;
/// Octets of all trailers of a body; they are dropped.
const TRAILER_OCTETS_MAX: u32 = 8192;
/// Digits of a chunk size, leading zeros included: 60 bits.
const SIZE_DIGITS_MAX: u8 = 15;

/// How the end of a body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// By the last chunk.
    Chunked,
    /// By the count of octets.
    Length(u64),
    /// There is no body.
    #[default]
    None,
    /// By the end of the connection; responses only.
    UntilClose,
}

impl Framing {
    /// True when a body may follow.
    pub fn has_body(self) -> bool {
        !matches!(self, Self::None | Self::Length(0))
    }

    /// Writes the field that says so.
    pub fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Self::Length(length) => {
                out.extend_from_slice(b"Content-Length: ");
                push_decimal(length, out);
                out.extend_from_slice(b"\r\n");
            }
            Self::None | Self::UntilClose => {}
        }
    }
}

/// Writes a number without allocation.
pub fn push_decimal(mut n: u64, out: &mut Vec<u8>) {
    /// Digits of the greatest 64-bit number.
    const DIGITS_MAX: usize = 20;
    let mut digits = [0; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(n % 10).expect("a digit");
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A chunked body that is not. The sender is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// A size line, chunk end or trailer outside the grammar, or over its limit.
    #[error("chunk is not a hexadecimal size, that many octets and CRLF")]
    Chunk,
    /// The connection ended inside the body.
    #[error("connection ended inside the body")]
    Truncated,
}

//--- BodyReader ------------------------------------------------------------------------------------------------------

/// What a step of decoding found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Octets of the input that are done with once `data` is.
    pub consumed: usize,
    /// Body octets among them; may be empty.
    pub data: Range<usize>,
    /// Octets of the trailer section among them; empty with body octets.
    pub trailers: Range<usize>,
}

/// Decodes one body piece by piece.
#[derive(Clone, Copy, Debug)]
pub enum BodyReader {
    /// See [`Framing::Chunked`].
    Chunked(ChunkDecoder),
    /// Octets left.
    Length(u64),
    /// See [`Framing::UntilClose`].
    UntilClose,
}

impl BodyReader {
    /// A reader for a body so framed.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Chunked => Self::Chunked(ChunkDecoder::default()),
            Framing::Length(length) => Self::Length(length),
            Framing::None => Self::Length(0),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// True when the body is over; never before the end of the connection for [`BodyReader::UntilClose`].
    pub fn is_done(&self) -> bool {
        match self {
            Self::Chunked(decoder) => decoder.state == State::Done,
            Self::Length(left) => *left == 0,
            Self::UntilClose => false,
        }
    }

    /// Takes the next piece of body from the front of `input`. Without progress, all of `input` was consumed.
    pub fn take(&mut self, input: &[u8]) -> Result<Taken, BodyError> {
        match self {
            Self::Chunked(decoder) => decoder.take(input),
            Self::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= length as u64;
                Ok(Taken { consumed: length, data: 0..length, trailers: 0..0 })
            }
            Self::UntilClose => Ok(Taken { consumed: input.len(), data: 0..input.len(), trailers: 0..0 }),
        }
    }
}

/// Where in the chunked grammar a decoder stands; the names say what comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl State {
    /// True where the next octet is of the trailer section.
    fn is_trailer(self) -> bool {
        matches!(self, Self::TrailerStart | Self::TrailerName | Self::TrailerValue | Self::TrailerLf | Self::EndLf)
    }
}

/// The chunked coding, RFC 9112 section 7.1, without its optional white space.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChunkDecoder {
    state: State,
    left: u64,
    digits: u8,
    dropped: u32,
}

impl ChunkDecoder {
    fn take(&mut self, input: &[u8]) -> Result<Taken, BodyError> {
        let mut trailers = 0..0;
        for (at, &octet) in input.iter().enumerate() {
            match self.state {
                State::Done => return Ok(Taken { consumed: at, data: at..at, trailers }),
                State::Data => {
                    let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                    self.left -= length as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Taken { consumed: at + length, data: at..at + length, trailers: 0..0 });
                }
                state => {
                    self.state = self.step(octet)?;
                    if state.is_trailer() {
                        trailers = if trailers.is_empty() { at..at + 1 } else { trailers.start..at + 1 };
                    }
                }
            }
        }
        Ok(Taken { consumed: input.len(), data: 0..0, trailers })
    }

    /// One octet outside the data.
    fn step(&mut self, octet: u8) -> Result<State, BodyError> {
        let next = match (self.state, octet) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, b';') if self.digits > 0 => {
                self.dropped = 0;
                State::Extension
            }
            (State::Size, _) => return self.size_digit(octet),
            (State::SizeLf, b'\n') if self.left == 0 => {
                self.dropped = 0;
                State::TrailerStart
            }
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.digits = 0;
                State::Size
            }
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, _) if is_value(octet) => return self.drop_one(State::Extension, EXTENSION_OCTETS_MAX),
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerStart | State::TrailerName, _) if is_token(octet) => {
                return self.drop_one(State::TrailerName, TRAILER_OCTETS_MAX);
            }
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_value(octet) => {
                return self.drop_one(State::TrailerValue, TRAILER_OCTETS_MAX);
            }
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            _ => return Err(BodyError::Chunk),
        };
        Ok(next)
    }

    fn size_digit(&mut self, octet: u8) -> Result<State, BodyError> {
        let digit = char::from(octet).to_digit(16).ok_or(BodyError::Chunk)?;
        if self.digits == SIZE_DIGITS_MAX {
            return Err(BodyError::Chunk);
        }
        self.digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn drop_one(&mut self, next: State, octets_max: u32) -> Result<State, BodyError> {
        self.dropped += 1;
        if self.dropped > octets_max { Err(BodyError::Chunk) } else { Ok(next) }
    }
}

fn is_value(octet: u8) -> bool {
    octet == b'\t' || (octet >= b' ' && octet != 0x7f)
}

//--- Writing ---------------------------------------------------------------------------------------------------------

/// Appends one piece of a body, as a chunk of its own where `chunked` says so; an empty piece is nothing.
pub fn push_piece(chunked: bool, data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    if !chunked {
        out.extend_from_slice(data);
        return;
    }
    write!(out, "{:x}\r\n", data.len()).expect("writing to memory does not fail");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// The last chunk, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` cut at every multiple of `step`.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, usize), BodyError> {
        let mut reader = BodyReader::new(Framing::Chunked);
        let (mut res, mut at, mut seen) = (Vec::new(), 0, 0);
        while !reader.is_done() {
            if at == seen {
                if seen == input.len() {
                    return Err(BodyError::Truncated);
                }
                seen = (seen + step).min(input.len());
            }
            let taken = reader.take(&input[at..seen])?;
            res.extend_from_slice(&input[at..seen][taken.data]);
            at += taken.consumed;
        }
        Ok((res, at))
    }

    #[test]
    fn chunks_are_decoded_at_any_split() {
        let input = b"5\r\nhello\r\nA;x=\"y\"\r\n, world!!!\r\n000\r\nX: 1\r\nY:\r\n\r\nGET";
        for step in 1..=input.len() {
            assert_eq!(decode(input, step), Ok((b"hello, world!!!".to_vec(), input.len() - 3)), "{step}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "3 \r\nabc\r\n0\r\n\r\n",
            "3\nabc\n0\n\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            "-3\r\nabc\r\n",
            "+3\r\nabc\r\n",
            "\r\nabc\r\n",
            ";a\r\n\r\n",
            "0_3\r\nabc\r\n",
            "3;a\nxx\r\nabc\r\n",
            "3\rX\nabc\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "0\r\n X: folded\r\n\r\n",
            "0\r\nX : 1\r\n\r\n",
            "0\r\n\nX",
            "1000000000000000\r\n",
            "0\0\r\n\r\n",
        ] {
            for step in [1, text.len()] {
                assert_eq!(decode(text.as_bytes(), step), Err(BodyError::Chunk), "{text:?}");
            }
        }
        let long = format!("1;{}\r\n", "x".repeat(300));
        assert_eq!(decode(long.as_bytes(), 7), Err(BodyError::Chunk));
        let trailers = format!("0\r\n{}\r\n", "X: y\r\n".repeat(5000));
        assert_eq!(decode(trailers.as_bytes(), 7), Err(BodyError::Chunk));
    }

    #[test]
    fn numbers_are_written_whole() {
        for n in [0, 7, 10, 1024, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(n, &mut out);
            assert_eq!(out, n.to_string().as_bytes());
        }
    }
}
