//! Chunked bodies.

use icpgate::http::body::{BodyError, BodyReader, Framing, LAST_CHUNK, push_piece};

use super::{HEADERS, ends};

/// Decodes a chunked body in steps and at once, by httparse, and again as it goes on.
pub fn check(octets: &[u8], step: usize) {
    let whole = decode(octets, octets.len().max(1));
    assert_eq!(decode(octets, step), whole);
    let Ok(Some((data, consumed))) = whole else { return };
    assert_eq!(as_httparse(octets), (data.clone(), consumed), "{}", octets.escape_ascii());
    let mut out = Vec::new();
    data.chunks(step).for_each(|piece| push_piece(true, piece, &mut out));
    out.extend_from_slice(LAST_CHUNK);
    let length = out.len();
    assert_eq!(decode(&out, step), Ok(Some((data, length))));
}

/// The body and the octets it took; `None` where more are needed.
fn decode(octets: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, BodyError> {
    let mut reader = BodyReader::new(Framing::Chunked);
    let (mut data, mut at) = (Vec::new(), 0);
    for end in ends(octets.len(), step) {
        while at < end && !reader.is_done() {
            let taken = reader.take(&octets[at..end])?;
            assert!(taken.consumed > 0 && taken.consumed <= end - at);
            assert!(taken.data.is_empty() || taken.trailers.is_empty());
            data.extend_from_slice(&octets[at..end][taken.data]);
            at += taken.consumed;
        }
        if reader.is_done() {
            return Ok(Some((data, at)));
        }
    }
    Ok(None)
}

/// A whole body by httparse's readers of chunk sizes and of fields, which are the more lenient.
fn as_httparse(octets: &[u8]) -> (Vec<u8>, usize) {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(&octets[at..]) else {
            panic!("a size at {at}: {}", octets.escape_ascii());
        };
        at += line;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).expect("it is here");
        data.extend_from_slice(&octets[at..at + size]);
        assert_eq!(&octets[at + size..][..2], b"\r\n");
        at += size + 2;
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    match httparse::parse_headers(&octets[at..], &mut headers) {
        Ok(httparse::Status::Complete((trailers, _))) => (data, at + trailers),
        // More lines than there is room for are bounded in octets here.
        Err(httparse::Error::TooManyHeaders) => {
            let end = octets[at..].windows(4).position(|part| part == b"\r\n\r\n").expect("an end");
            (data, at + end + 4)
        }
        other => panic!("{other:?} at {at}: {}", octets.escape_ascii()),
    }
}
