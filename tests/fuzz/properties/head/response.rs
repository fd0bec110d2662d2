//! Answers of the origin.

use icpgate::http::body::Framing;
use icpgate::http::head::response::Persistence;
use icpgate::http::head::{HeadError, Progress, ResponseHead, ResponseParser, Version};

use super::{HEADERS, LIMITS, Pair, ends, hop_by_hop, pairs, values};

/// Reads an answer's head in steps and at once, by httparse, and again as it goes to the client.
pub fn check(octets: &[u8], step: usize) {
    let mut parser = ResponseParser::new(LIMITS);
    let whole = parser.advance(octets);
    in_steps(octets, step, whole, parser.head());
    if whole == Ok(Progress::Whole) {
        let head = parser.head();
        assert!(head.octets <= octets.len().min(LIMITS.octets_max));
        assert!((100..600).contains(&head.status));
        let lines = as_httparse(&octets[..head.octets], head);
        written(head, octets, &lines);
    }
}

fn in_steps(octets: &[u8], step: usize, whole: Result<Progress, HeadError>, head: &ResponseHead) {
    let mut parser = ResponseParser::new(LIMITS);
    for end in ends(octets.len(), step) {
        match parser.advance(&octets[..end]) {
            Ok(Progress::Partial) => {}
            found => {
                assert_eq!(found, whole, "after {end} octets");
                assert_eq!(format!("{:?}", parser.head()), format!("{head:?}"));
                return;
            }
        }
    }
    assert_eq!(whole, Ok(Progress::Partial));
}

/// httparse reads the same head: version, status, lines, and by them the same length of body.
fn as_httparse(octets: &[u8], head: &ResponseHead) -> Vec<Pair> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut theirs = httparse::Response::new(&mut headers);
    let status = theirs.parse(octets);
    assert_eq!(status, Ok(httparse::Status::Complete(octets.len())), "{}", octets.escape_ascii());
    assert_eq!(theirs.code, Some(head.status));
    assert_eq!(theirs.version, Some(if head.version == Version::Http11 { 1 } else { 0 }));
    let lines = pairs(theirs.headers);
    match head.framing {
        Framing::Chunked => {
            let codings = values(&lines, "transfer-encoding");
            assert!(codings.len() == 1 && codings[0].eq_ignore_ascii_case(b"chunked"));
            assert!(values(&lines, "content-length").is_empty());
        }
        Framing::Length(length) => {
            let lengths = values(&lines, "content-length").into_iter().flat_map(|value| value.split(|o| *o == b','));
            let lengths = lengths.map(<[u8]>::trim_ascii).filter(|value| !value.is_empty());
            let mut lengths = lengths.map(|value| String::from_utf8_lossy(value).parse());
            assert!(lengths.all(|value| value == Ok(length)), "one length");
            assert!(values(&lines, "transfer-encoding").is_empty());
        }
        Framing::None | Framing::UntilClose => {
            assert!(values(&lines, "transfer-encoding").is_empty());
            let is_empty = |value: &&[u8]| value.iter().all(|octet| matches!(octet, b',' | b' ' | b'\t'));
            assert!(values(&lines, "content-length").iter().all(is_empty));
        }
    }
    lines
}

/// What goes to the client is the same answer to both readers, without what ends at this hop.
fn written(head: &ResponseHead, octets: &[u8], lines: &[Pair]) {
    let mut out = Vec::new();
    head.write(octets, head.framing, Persistence::KeepHttp11, false, &mut out);
    let mut limits = LIMITS;
    limits.octets_max *= 2;
    let mut parser = ResponseParser::new(limits);
    assert_eq!(parser.advance(&out), Ok(Progress::Whole), "{}", out.escape_ascii());
    let again = parser.head();
    assert_eq!((again.octets, again.status, again.framing), (out.len(), head.status, head.framing));
    assert_eq!(again.reason.of(&out), head.reason.of(octets));
    let fields: Vec<(&[u8], &[u8])> = again.end_to_end(&out, false).collect();
    assert_eq!(fields, head.end_to_end(octets, false).collect::<Vec<_>>());
    let sent = as_httparse(&out, again);
    let ended = hop_by_hop(lines);
    for (name, _) in &sent {
        let is_own = [&b"transfer-encoding"[..], b"content-length"].iter().any(|own| name.eq_ignore_ascii_case(own));
        assert!(is_own || !ended.iter().any(|ended| name.eq_ignore_ascii_case(ended)), "{}", name.escape_ascii());
    }
}
