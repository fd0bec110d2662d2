//! The first octets of a TLS connection: one reading however they are cut, and the one that rustls has.

use std::net::IpAddr;

use icpgate::http::hello::{Hello, HelloFault, Reader, Reading, read_message};
use icpgate::http::host::HostName;
use rustls::server::Acceptor;

use super::Choices;
use crate::harness::tls::{Sketch, message, records};

/// Streams up to this length are also read octet by octet.
const OCTET_BY_OCTET_MAX: usize = 700;
/// Places at which longer ones are cut.
const CUTS: usize = 6;

/// Reads `octets` as a stream, and as the extensions of a hello that is sound otherwise.
pub fn check(octets: &[u8]) {
    stream(octets);
    stream(&records(&with_extensions(octets), &[]));
}

/// A hello whose list of extensions is these octets.
fn with_extensions(octets: &[u8]) -> Vec<u8> {
    let octets = &octets[..octets.len().min(8000)];
    let plain = Sketch { extensions: None, ..Sketch::new("") }.message();
    let length = u16::try_from(octets.len()).expect("is short").to_be_bytes();
    message(1, &[&plain[4..], &length, octets].concat())
}

fn stream(stream: &[u8]) {
    let mut reader = Reader::default();
    let whole = reader.read(stream);
    segments(stream, &whole);
    match &whole {
        Reading::Hello(hello) => {
            let end = end_of(stream);
            before_and_behind(stream, end, &whole);
            recut(&content(&stream[..end]), hello, &whole);
            limit(stream, hello, &whole);
        }
        Reading::Malformed(error) if !is_of_records(error.fault) => {
            let content = content(stream);
            assert_eq!(read_message(&content, reader_limit()), whole, "without records");
        }
        _ => assert_eq!(end_of(stream), 0),
    }
    second(stream);
    as_rustls(stream, &whole);
}

fn reader_limit() -> usize {
    icpgate::http::hello::HELLO_OCTETS_MAX
}

fn end_of(stream: &[u8]) -> usize {
    let mut reader = Reader::default();
    let _ = reader.read(stream);
    reader.end()
}

/// The ends of the segments of a stream, its own end last.
fn ends(stream: &[u8]) -> Vec<usize> {
    let mut ends = if stream.len() <= OCTET_BY_OCTET_MAX {
        (0..stream.len()).collect()
    } else {
        Choices::of(stream).cuts(stream.len(), CUTS)
    };
    ends.push(stream.len());
    ends
}

/// In segments the stream is read as in one piece, and a reading other than `NeedMore` is final (D-T1).
fn segments(stream: &[u8], whole: &Reading<'_>) {
    let mut reader = Reader::default();
    for end in ends(stream) {
        match reader.read(&stream[..end]) {
            Reading::NeedMore => {}
            found => {
                assert_eq!(&found, whole, "after {end} octets");
                return;
            }
        }
    }
    assert_eq!(whole, &Reading::NeedMore);
}

/// The hello is read with its last octet, not before, and what follows it changes nothing.
fn before_and_behind(stream: &[u8], end: usize, whole: &Reading<'_>) {
    assert!((1..=stream.len()).contains(&end), "{end}");
    assert_eq!(Reader::default().read(&stream[..end - 1]), Reading::NeedMore);
    assert_eq!(&Reader::default().read(&stream[..end]), whole);
}

/// The content of handshake records, put together by another way than the reader's.
fn content(stream: &[u8]) -> Vec<u8> {
    let mut res = Vec::new();
    let mut rest = stream;
    while let [22, 3, _, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        res.extend_from_slice(&after[..length]);
        rest = &after[length..];
    }
    res
}

/// The message alone, and in other records, is the same hello (D-T2).
fn recut(content: &[u8], hello: &Hello<'_>, whole: &Reading<'_>) {
    let message = &content[..hello.octets];
    assert_eq!(&read_message(message, reader_limit()), whole, "without records");
    for count in [0, 1, CUTS] {
        let cuts = Choices::of(message).cuts(message.len(), count);
        let torn = records(message, &cuts);
        assert_eq!(&Reader::default().read(&torn), whole, "cut at {cuts:?}");
    }
}

/// The limit holds at its octet.
fn limit(stream: &[u8], hello: &Hello<'_>, whole: &Reading<'_>) {
    assert_eq!(&Reader::new(hello.octets).read(stream), whole);
    assert_eq!(Reader::new(hello.octets - 1).read(stream), Reading::TooLong);
}

fn is_of_records(fault: HelloFault) -> bool {
    matches!(
        fault,
        HelloFault::BadRecordVersion
            | HelloFault::EmptyRecord
            | HelloFault::RecordTooLong
            | HelloFault::UnexpectedRecord
    )
}

/// What follows the first hello is read as a second in segments as in one piece (D-T11).
fn second(stream: &[u8]) {
    let mut at_once = Reader::default();
    if !matches!(at_once.read(stream), Reading::Hello(_)) {
        return;
    }
    at_once.expect_second();
    let whole = at_once.read(stream);
    let mut reader = Reader::default();
    let mut is_second = false;
    for end in ends(stream) {
        if !is_second {
            if !matches!(reader.read(&stream[..end]), Reading::Hello(_)) {
                continue;
            }
            reader.expect_second();
            is_second = true;
        }
        match reader.read(&stream[..end]) {
            Reading::NeedMore => {}
            found => {
                assert_eq!(found, whole, "second hello after {end} octets");
                return;
            }
        }
    }
    assert_eq!(whole, Reading::NeedMore, "second hello");
}

//--- A second opinion ------------------------------------------------------------------------------------------------

/// Name and protocols as rustls reads them.
pub type Accepted = (Option<String>, Vec<Vec<u8>>);

/// What rustls reads from a stream; `None` if it refuses or waits.
pub fn accepted(stream: &[u8]) -> Option<Accepted> {
    let mut acceptor = Acceptor::default();
    let mut rest = stream;
    loop {
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let protocols = hello.alpn().map(|list| list.map(<[u8]>::to_vec).collect());
            return Some((hello.server_name().map(str::to_owned), protocols.unwrap_or_default()));
        }
        if rest.is_empty() || acceptor.read_tls(&mut rest).ok()? == 0 {
            return None;
        }
    }
}

/// Where rustls reads a hello too, it reads the same name and protocols.
fn as_rustls(stream: &[u8], whole: &Reading<'_>) {
    let Some((name, protocols)) = accepted(stream) else { return };
    match whole {
        Reading::Hello(hello) => {
            assert_eq!(hello.protocols().map(<[u8]>::to_vec).collect::<Vec<_>>(), protocols);
            same_name(name.as_deref(), hello.host());
        }
        // A name that rustls reads is none that is refused here as no name.
        Reading::Malformed(error) => {
            assert!(name.is_none() || error.fault != HelloFault::BadName, "rustls reads {name:?}, here it is {error}")
        }
        Reading::NeedMore => panic!("rustls reads {name:?}, here more is needed"),
        Reading::NotTls(_) => panic!("rustls reads {name:?}, here it is no TLS"),
        Reading::TooLong => {}
    }
}

fn same_name(theirs: Option<&str>, ours: Option<&HostName>) {
    match (theirs, ours) {
        (Some(theirs), Some(HostName::Name(ours))) => {
            let theirs = theirs.to_ascii_lowercase();
            assert_eq!(ours.to_string(), theirs.strip_suffix('.').unwrap_or(&theirs));
        }
        // A number in a spelling that rustls takes for a name, and browsers for an address.
        (Some(theirs), Some(HostName::Address(_))) => assert!(theirs.parse::<IpAddr>().is_err(), "{theirs}"),
        (Some(theirs), Some(HostName::Invalid)) => assert!(theirs.to_ascii_lowercase().contains("xn--"), "{theirs}"),
        (Some(theirs), None) => panic!("rustls reads {theirs:?}, here there is no name"),
        // rustls takes addresses, and names it finds odd, for none.
        (None, _) => {}
    }
}
