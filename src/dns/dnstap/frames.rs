//! Frame Streams: frames of data with their length, and control frames that begin and end a stream.
//!
//! ```text
//! both ways (sockets)   READY ─▶  ◀─ ACCEPT   START ─▶ data … STOP ─▶  ◀─ FINISH
//! one way (files)                             START    data … STOP
//! ```
//!
//! Source: the Frame Streams protocol as fstrm 0.6 documents it (`fstrm/control.h`).

use std::io;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest control frame (`FSTRM_CONTROL_FRAME_LENGTH_MAX`).
const CONTROL_OCTETS_MAX: usize = 512;
/// The one field there is: a content type.
const CONTENT_TYPE_FIELD: u32 = 1;

/// A control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The reader's answer to READY.
    Accept = 1,
    /// Data follow.
    Start = 2,
    /// No more data follow.
    Stop = 3,
    /// A writer is there.
    Ready = 4,
    /// The reader has all.
    Finish = 5,
}

/// What a reader said is not what it has to say.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The stream broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It takes other content.
    #[error("the reader does not accept protobuf:dnstap.Dnstap")]
    OtherContent,
    /// No control frame, or not the one that is due.
    #[error("the reader does not speak Frame Streams: expected {0:?}")]
    Unexpected(Control),
}

/// A frame of data, with its length before it.
pub fn data(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], payload].concat()
}

/// A control frame, with the content type where it takes one.
pub fn control(kind: Control, content_type: Option<&[u8]>) -> Vec<u8> {
    let mut body = (kind as u32).to_be_bytes().to_vec();
    if let Some(content_type) = content_type {
        body.extend_from_slice(&CONTENT_TYPE_FIELD.to_be_bytes());
        body.extend_from_slice(&u32::try_from(content_type.len()).unwrap_or(0).to_be_bytes());
        body.extend_from_slice(content_type);
    }
    // Frames of data have a length; one of zero is an escape.
    [&[0; 4][..], &u32::try_from(body.len()).unwrap_or(0).to_be_bytes(), &body].concat()
}

/// Reads the control frame that is due from a reader. Where it lists content types, `content_type` must be among them.
pub async fn expect<R: AsyncRead + Unpin>(reader: &mut R, due: Control, content_type: &[u8]) -> Result<(), FrameError> {
    let unexpected = || FrameError::Unexpected(due);
    let (escape, length) = (reader.read_u32().await?, reader.read_u32().await?);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if escape != 0 || !(4..=CONTROL_OCTETS_MAX).contains(&length) {
        return Err(unexpected());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    let (kind, mut fields) = body.split_first_chunk::<4>().ok_or_else(unexpected)?;
    if u32::from_be_bytes(*kind) != due as u32 {
        return Err(unexpected());
    }
    let (mut has_types, mut is_listed) = (false, false);
    while !fields.is_empty() {
        let (field, rest) = fields.split_first_chunk::<4>().ok_or_else(unexpected)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(unexpected)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (value, rest) = rest.split_at_checked(length).ok_or_else(unexpected)?;
        if u32::from_be_bytes(*field) == CONTENT_TYPE_FIELD {
            has_types = true;
            is_listed |= value == content_type;
        }
        fields = rest;
    }
    if has_types && !is_listed {
        return Err(FrameError::OtherContent);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(octets: &[u8]) -> Result<(), FrameError> {
        let mut octets = octets;
        expect(&mut octets, Control::Accept, b"mine").await
    }

    #[tokio::test]
    async fn a_reader_is_understood_or_told_apart() {
        let ready = control(Control::Ready, Some(b"mine"));
        assert_eq!(ready, b"\0\0\0\0\0\0\0\x10\0\0\0\x04\0\0\0\x01\0\0\0\x04mine");
        assert_eq!(data(b"abc"), b"\0\0\0\x03abc");
        assert!(read(&control(Control::Accept, Some(b"mine"))).await.is_ok());
        assert!(read(&control(Control::Accept, None)).await.is_ok());
        // Of several content types one is enough.
        let two = b"\0\0\0\0\0\0\0\x1d\0\0\0\x01\0\0\0\x01\0\0\0\x05other\0\0\0\x01\0\0\0\x04mine";
        assert!(read(two).await.is_ok());
        assert!(matches!(read(&control(Control::Accept, Some(b"other"))).await, Err(FrameError::OtherContent)));
        for bad in [
            &control(Control::Finish, Some(b"mine"))[..],
            b"\0\0\0\x01\0\0\0\x04\0\0\0\x01",
            b"\0\0\0\0\xff\xff\xff\xff\0\0\0\x01",
            b"\0\0\0\0\0\0\0\x0b\0\0\0\x01\0\0\0\x01\0\0\0",
            b"\0\0\0\0\0\0\0\x0c\0\0\0\x01\0\0\0\x01\xff\xff\xff\xff",
        ] {
            assert!(matches!(read(bad).await, Err(FrameError::Unexpected(_))), "{bad:?}");
        }
        assert!(matches!(read(b"\0\0").await, Err(FrameError::Io(_))));
    }
}
