//! Client Initials: the same hello however its octets are spread over frames and packets, and in any order.
//!
//! The first octet says how the others are used, so that the protection of packets, which no search gets past, does not
//! hide what is behind it.

use icpgate::http::hello::{self, HELLO_OCTETS_MAX, read_message};
use icpgate::http::quic::crypto::{CryptoError, CryptoStream};
use icpgate::http::quic::header::packets;
use icpgate::http::quic::{Arrival, Flight, FlightError, Packet, Reading, Version, arrival, contents};

use super::Choices;
use crate::harness::quic::{Plain, crypto};
use crate::harness::tls::{Sketch, message};

/// Most pieces of a hello: each is sealed, which takes most of the time.
const PIECES_MAX: usize = 5;

/// Reads octets as the first says: a datagram, frames, a hello in pieces, or the octets of a handshake out of order.
pub fn check(octets: &[u8]) {
    let Some((way, rest)) = octets.split_first() else { return };
    match way % 4 {
        0 => datagram(rest),
        1 => frames(rest),
        2 => pieces(rest),
        _ => stream(rest),
    }
}

fn version(bits: u8) -> Version {
    if bits & 1 == 0 { Version::V1 } else { Version::V2 }
}

fn flight_of(datagram: &[u8]) -> Flight {
    match arrival(datagram) {
        Arrival::Initial(initial) => Flight::begin(&initial, HELLO_OCTETS_MAX).expect("a connection ID of a version"),
        other => panic!("an Initial, not {other:?}"),
    }
}

/// A datagram as it comes: its packets lie inside it, one after the other, and a second look finds nothing new.
fn datagram(octets: &[u8]) {
    let mut used = 0;
    for packet in packets(octets) {
        if let Ok(Packet::Long(long)) = packet {
            assert!(!long.packet.is_empty() && long.number_at <= long.packet.len());
            assert_eq!(octets[used..].get(..long.packet.len()), Some(long.packet));
            used += long.packet.len();
        }
    }
    let contents = contents(octets);
    let Arrival::Initial(initial) = arrival(octets) else { return };
    assert!(contents.is_none_or(|contents| contents.has_initial));
    let Some(mut flight) = Flight::begin(&initial, HELLO_OCTETS_MAX) else { return };
    let mut scratch = Vec::new();
    let is_malformed = matches!(flight.read(octets, &mut scratch), Reading::Malformed(_));
    let again = flight.read(octets, &mut scratch);
    assert!(is_malformed || again == Reading::Nothing, "a datagram is read once: {again:?}");
}

/// Frames in a packet of their own: the reading does not depend on the version, on padding and pings before them, nor on
/// what stands in other packets of the datagram.
fn frames(payload: &[u8]) {
    // Padded here already, so that a frame finds the same octets behind it whatever stands before it.
    let mut payload = payload[..payload.len().min(4000)].to_vec();
    payload.resize(payload.len().max(1200), 0);
    let payload = &payload[..];
    let read = |version: Version, payload: &[u8]| {
        let sealed = Plain { version, ..Plain::new(payload.to_vec()) }.sealed();
        let mut flight = flight_of(&sealed);
        let mut scratch = Vec::new();
        let found = format!("{:?}", flight.read(&sealed, &mut scratch));
        let again = flight.read(&sealed, &mut scratch);
        assert_eq!(again, Reading::Nothing, "a packet is read once");
        found
    };
    let found = read(Version::V1, payload);
    assert_eq!(read(Version::V2, payload), found);
    assert_eq!(read(Version::V1, &[&[0, 0, 1, 0, 1], payload].concat()), found);
}

/// The octets of a handshake in pieces, each in a packet, in any order and some of them twice.
fn pieces(octets: &[u8]) {
    let Some((&[bits, count, order, more], rest)) = octets.split_first_chunk() else { return };
    let handshake = handshake(bits, rest);
    let mut choices = Choices::of(&[bits, count, order, more]);
    let mut cuts = vec![0];
    cuts.extend(choices.cuts(handshake.len(), usize::from(count) % PIECES_MAX));
    cuts.push(handshake.len());
    let mut pieces: Vec<(usize, &[u8])> = cuts.windows(2).map(|ends| (ends[0], &handshake[ends[0]..ends[1]])).collect();
    for i in (1..pieces.len()).rev() {
        pieces.swap(i, choices.below(i + 1));
    }
    // One piece again, from the middle of it: the same octets at the same place change nothing.
    if more & 1 == 1
        && let Some(&(start, piece)) = pieces.first()
    {
        let from = piece.len() / 2;
        pieces.push((start + from, &piece[from..]));
    }
    let plain =
        |number: usize, frames: Vec<u8>| Plain { version: version(bits), number: number as u64, ..Plain::new(frames) };
    let sealed: Vec<Vec<u8>> = if more & 2 == 0 {
        pieces.iter().enumerate().map(|(i, (start, piece))| plain(i, crypto(*start, piece)).sealed()).collect()
    } else {
        // All of them in one packet.
        vec![plain(0, pieces.iter().flat_map(|(start, piece)| crypto(*start, piece)).collect()).sealed()]
    };
    let mut flight = flight_of(&sealed[0]);
    let mut scratch = Vec::new();
    let mut early = None;
    for (i, datagram) in sealed.iter().enumerate() {
        let reading = flight.read(datagram, &mut scratch);
        if i + 1 == sealed.len() {
            last(&reading, &handshake, early.as_deref());
        } else if let Reading::Hello(hello) = reading {
            early.get_or_insert(format!("{:?}", hello.host()));
        }
    }
}

/// The handshake octets of a client: as they are, or as the extensions of a hello that is sound otherwise, or two hellos.
fn handshake(bits: u8, octets: &[u8]) -> Vec<u8> {
    let octets = &octets[..octets.len().min(4000)];
    let with_extensions = |octets: &[u8]| {
        let plain = Sketch { extensions: None, ..Sketch::new("") }.message();
        let length = u16::try_from(octets.len()).expect("is short").to_be_bytes();
        message(1, &[&plain[4..], &length, octets].concat())
    };
    match (bits >> 1) & 3 {
        0 => octets.to_vec(),
        1 | 2 => with_extensions(octets),
        _ => {
            let (first, second) = octets.split_at(octets.len() / 2);
            [with_extensions(first), with_extensions(second)].concat()
        }
    }
}

/// With all octets there the reading is that of the octets in order, and a hello that was read before names the same.
fn last(reading: &Reading<'_>, handshake: &[u8], early: Option<&str>) {
    let expected = in_order(handshake);
    match (reading, &expected) {
        (Reading::Hello(found), Reading::Hello(expected)) => assert_eq!(found, expected),
        (found, expected) => assert_eq!(found, expected),
    }
    if let (Some(early), Reading::Hello(hello)) = (early, reading) {
        assert_eq!(early, format!("{:?}", hello.host()), "two names in one flight");
    }
}

/// What the octets in order come to (RFC 9001 section 4.1.3; RFC 8446 section 4.1.2 for the second hello).
fn in_order(handshake: &[u8]) -> Reading<'_> {
    let first = match one(handshake) {
        Reading::Hello(hello) if hello.octets < handshake.len() => hello,
        other => return other,
    };
    match one(&handshake[first.octets..]) {
        Reading::Hello(second) if second.host() != first.host() => Reading::Malformed(FlightError::OtherName),
        other => other,
    }
}

fn one(octets: &[u8]) -> Reading<'_> {
    match read_message(octets, HELLO_OCTETS_MAX) {
        hello::Reading::Hello(hello) => Reading::Hello(hello),
        hello::Reading::Malformed(error) => Reading::Malformed(FlightError::Hello(error)),
        hello::Reading::NeedMore | hello::Reading::NotTls(_) => Reading::NeedMore,
        hello::Reading::TooLong => Reading::Malformed(FlightError::TooLong),
    }
}

/// Octets of a handshake out of order, against the plainest way to keep them: place, length, octets, and so on.
fn stream(mut octets: &[u8]) {
    const MAX: usize = 300;
    let mut stream = CryptoStream::default();
    let mut kept: Vec<Option<u8>> = vec![None; MAX];
    while let Some((&[high, low, length], rest)) = octets.split_first_chunk() {
        let start = usize::from(high & 1) << 8 | usize::from(low);
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(length)));
        octets = rest;
        let end = start + piece.len();
        let found = stream.insert(start as u64, piece, MAX);
        if end > MAX {
            assert_eq!(found, Err(CryptoError::TooLong));
            continue;
        }
        let is_other = |(kept, octet): (&Option<u8>, &u8)| kept.is_some_and(|kept| kept != *octet);
        if kept[start..end].iter().zip(piece).any(is_other) {
            assert_eq!(found, Err(CryptoError::Contradiction));
            return;
        }
        assert_eq!(found, Ok(()));
        kept[start..end].iter_mut().zip(piece).for_each(|(kept, octet)| *kept = Some(*octet));
        let ready: Vec<u8> = kept.iter().map_while(|kept| *kept).collect();
        assert_eq!(stream.ready(), ready);
        assert!(stream.kept_octets() <= 4 * MAX, "{} octets kept", stream.kept_octets());
    }
}
