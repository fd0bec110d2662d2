//! What is dropped, refused or answered of a QUIC client (D-Q3, D-Q5 to D-Q7, D-Q11).

use icpgate::http::hello::{Alert, HELLO_OCTETS_MAX, HelloFault};
use icpgate::http::quic::frame::FrameError;
use icpgate::http::quic::header::{self, HeaderError, Packet, Unknown};
use icpgate::http::quic::initial::INITIALS_MAX;
use icpgate::http::quic::reply::AMPLIFICATION_MAX;
use icpgate::http::quic::{
    Arrival, Cid, CloseCode, DATAGRAM_OCTETS_MIN, Flight, FlightError, Reading, Unwanted, Version, arrival, close,
    may_begin, negotiate,
};
use proptest::prelude::*;
use rustls::Side;

use crate::harness::quic::{DCID, Plain, SCID, crypto, opened_by_client, summary};
use crate::harness::tls::Sketch;

/// A flight and the readings of its datagrams, one each.
fn readings(packets: &[Plain]) -> Vec<String> {
    let first = packets[0].sealed();
    let Arrival::Initial(initial) = arrival(&first) else { panic!("no Initial") };
    let mut flight = Flight::begin(&initial, HELLO_OCTETS_MAX).expect("a flight");
    let mut scratch = Vec::new();
    packets.iter().map(|packet| summary(&flight.read(&packet.sealed(), &mut scratch))).collect()
}

fn error_of(packet: &Plain) -> FlightError {
    let datagram = packet.sealed();
    let Arrival::Initial(initial) = arrival(&datagram) else { panic!("no Initial") };
    let mut flight = Flight::begin(&initial, HELLO_OCTETS_MAX).expect("a flight");
    match flight.read(&datagram, &mut Vec::new()) {
        Reading::Malformed(error) => error,
        other => panic!("expected an error, got {other:?}"),
    }
}

fn hello_packet(number: u64) -> Plain {
    Plain { number, ..Plain::new(crypto(0, &Sketch::new("here.cn").message())) }
}

#[test]
fn datagrams_are_sorted_by_their_first_header() {
    let sealed = hello_packet(0).sealed();
    assert!(matches!(arrival(&sealed), Arrival::Initial(_)));
    let short = Plain { octets: 1199, ..hello_packet(0) }.sealed();
    assert_eq!((short.len(), arrival(&short)), (1199, Arrival::Drop(Unwanted::TooSmall)));
    let few = Plain { dcid: vec![1; 7], ..hello_packet(0) }.sealed();
    let Arrival::Initial(few) = arrival(&few) else { panic!("a server may be called so") };
    assert!(!may_begin(&few), "but no client calls it so first");
    let token = Plain { dcid: vec![1; 7], token: b"t".to_vec(), ..hello_packet(0) }.sealed();
    assert!(matches!(arrival(&token), Arrival::Initial(long) if may_begin(&long)), "after a Retry");
    let long = Plain { dcid: vec![1; 21], ..hello_packet(0) }.sealed();
    assert_eq!(arrival(&long), Arrival::Drop(Unwanted::NoPacket(HeaderError::CidTooLong)));
    let mut unfixed = sealed.clone();
    unfixed[0] &= !0x40;
    assert!(matches!(arrival(&unfixed), Arrival::Initial(_)), "a server may read it, so it is read here");
    assert_eq!(arrival(&[]), Arrival::Drop(Unwanted::NoPacket(HeaderError::CutShort)));
    assert_eq!(arrival(&[0x12, 0x34]), Arrival::Drop(Unwanted::NoPacket(HeaderError::FixedBitClear)));
    assert_eq!(arrival(b"\x43abcdef"), Arrival::Short(b"abcdef"));
    let mut negotiation = sealed.clone();
    negotiation[1..5].fill(0);
    assert_eq!(arrival(&negotiation), Arrival::Drop(Unwanted::FromServer));
    let mut retry = sealed.clone();
    retry[0] |= 0x30;
    assert_eq!(arrival(&retry), Arrival::Drop(Unwanted::FromServer));
    for version in [0xff00_001d_u32, 0x5130_3436, 0x1a2a_3a4a, 2] {
        let mut other = sealed.clone();
        other[1..5].copy_from_slice(&version.to_be_bytes());
        let expected = Unknown { version, dcid: &DCID, scid: &SCID };
        assert_eq!(arrival(&other), Arrival::UnknownVersion(expected));
        assert_eq!(arrival(&other[..1199]), Arrival::Drop(Unwanted::TooSmall));
    }
}

#[test]
fn packets_that_are_not_authentic_change_nothing() {
    let message = Sketch::new("here.cn").message();
    let first = Plain::new(crypto(0, &message[..70]));
    let octets = first.sealed();
    let Arrival::Initial(initial) = arrival(&octets) else { panic!("no Initial") };
    let mut flight = Flight::begin(&initial, HELLO_OCTETS_MAX).expect("a flight");
    let scratch = &mut Vec::new();
    let rest = Plain { number: 1, ..Plain::new(crypto(70, &message[70..])) };
    let mut forged = rest.sealed();
    forged[1000] ^= 1;
    let of_server = Plain { side: Side::Server, ..rest.clone() };
    let other_version = Plain { version: Version::V2, ..rest.clone() };
    let too_small = Plain { octets: 1100, ..rest.clone() };
    for datagram in
        [&forged, &of_server.sealed(), &other_version.sealed(), &too_small.sealed(), &octets[..1199].to_vec()]
    {
        assert_eq!(flight.read(datagram, scratch), Reading::Nothing);
    }
    assert_eq!(flight.read(&octets, scratch), Reading::NeedMore);
    assert_eq!(flight.read(&octets, scratch), Reading::Nothing, "a packet is read once");
    assert_eq!(summary(&flight.read(&rest.sealed(), scratch)), "sni:here.cn");
}

#[test]
fn a_packet_number_is_read_once() {
    // A server passes over the second packet with a number and takes the third: so must whoever reads before it.
    let (here, other) = (Sketch::new("here1.cn").message(), Sketch::new("other.cn").message());
    let packets = [
        Plain { number: 4, ..Plain::new(crypto(0, &here[..60])) },
        Plain { number: 4, ..Plain::new(crypto(60, &here[60..])) },
        Plain { number: 5, ..Plain::new(crypto(60, &other[60..])) },
    ];
    assert_eq!(readings(&packets), ["need_more", "drop", "sni:other.cn"]);
}

#[test]
fn octets_that_contradict_are_refused_also_after_the_hello() {
    let (here, other) = (Sketch::new("here1.cn").message(), Sketch::new("other.cn").message());
    let second = |message: &[u8]| Plain { number: 1, ..Plain::new(crypto(0, message)) };
    assert_eq!(readings(&[Plain::new(crypto(0, &here)), second(&other)]), ["sni:here1.cn", "reject"]);
    assert_eq!(readings(&[Plain::new(crypto(0, &here)), second(&here)]), ["sni:here1.cn", "sni:here1.cn"]);
    let both = Plain::new([crypto(60, &here[60..]), crypto(50, &other[50..])].concat());
    assert_eq!(error_of(&both), FlightError::Contradiction);
    assert_eq!(FlightError::Contradiction.close_code().code(), 0xa);
}

#[test]
fn the_second_hello_after_a_retry_request_must_name_the_same_site() {
    // It follows the first in the same octets, to the connection ID the server chose, under the keys of the first.
    let first = Sketch::new("here.cn").message();
    let server_cid = Cid::new(&[0xab; 6]).expect("short");
    for (name, expected) in [("HERE.cn", "sni:here.cn"), ("nofile.cn", "reject")] {
        let second = Sketch::new(name).and(44, b"cookie").message();
        let sealed = Plain::new(crypto(0, &first)).sealed();
        let Arrival::Initial(initial) = arrival(&sealed) else { panic!("no Initial") };
        let mut flight = Flight::begin(&initial, HELLO_OCTETS_MAX).expect("a flight");
        let scratch = &mut Vec::new();
        assert_eq!(summary(&flight.read(&sealed, scratch)), "sni:here.cn");
        let [start, end] = [(1, 0..90), (2, 90..second.len())].map(|(number, part)| {
            let frames = crypto(first.len() + part.start, &second[part]);
            Plain { number, keys_of: Some(DCID.to_vec()), dcid: server_cid.octets().to_vec(), ..Plain::new(frames) }
                .sealed()
        });
        assert_eq!(flight.read(&start, scratch), Reading::Nothing, "before the server's choice is known");
        flight.answered(server_cid, Version::V1);
        assert_eq!(flight.read(&start, scratch), Reading::NeedMore);
        assert_eq!(summary(&flight.read(&end, scratch)), expected);
    }
    assert_eq!(FlightError::OtherName.close_code(), CloseCode::Alert(Alert::IllegalParameter));
}

#[test]
fn frames_and_bits_that_no_client_sends_are_refused() {
    let message = Sketch::new("here.cn").message();
    let with = |frames: &[u8]| Plain::new([frames, &crypto(0, &message)].concat());
    for fine in [&[1][..], &[0, 0, 1], &[2, 0, 0, 0, 0], &[3, 0, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(readings(&[with(fine)]), ["sni:here.cn"], "{fine:?}");
    }
    for frames in [&[8, 0][..], &[0x1d, 0, 0], &[0x1e], &[0x40, 1]] {
        assert_eq!(error_of(&with(frames)), FlightError::Frame(FrameError::NotInInitial), "{frames:?}");
    }
    assert_eq!(
        error_of(&Plain { octets: 0, dcid: vec![0; 8], ..Plain::new(vec![6, 0]) }.widened()),
        FlightError::Frame(FrameError::CutShort)
    );
    assert_eq!(readings(&[with(&[0x1c, 0, 0, 0])]), ["drop"]);
    assert_eq!(error_of(&Plain { first: 0x04, ..hello_packet(0) }), FlightError::ReservedBits);
    assert_eq!(FlightError::Frame(FrameError::CutShort).close_code().code(), 0x7);
}

impl Plain {
    /// With its last frame at the very end of a datagram of the smallest size.
    fn widened(mut self) -> Self {
        let padding = 1200 - Plain { octets: 0, ..self.clone() }.sealed().len();
        self.frames.splice(0..0, vec![0; padding]);
        self
    }
}

#[test]
fn handshake_octets_are_held_to_the_rules_of_the_hello() {
    let error = |octets: &[u8]| error_of(&Plain::new(crypto(0, octets)));
    let FlightError::Hello(fault) = error(&[2, 0, 0, 1]) else { panic!("no fault") };
    assert_eq!(fault.fault, HelloFault::NotClientHello);
    assert_eq!(error(&[1, 0, 0x40, 0]), FlightError::TooLong);
    let bad_name = error(&Sketch::new("here.cn\0").message());
    assert_eq!(bad_name.close_code(), CloseCode::Alert(Alert::UnrecognizedName));
    let past = Plain::new(crypto(HELLO_OCTETS_MAX, b"x"));
    assert_eq!(error_of(&past), FlightError::TooLong);
    assert_eq!(FlightError::TooLong.close_code().code(), 0xd);
}

#[test]
fn the_longest_hello_arrives_and_packets_are_bounded_in_number() {
    let message = Sketch::new("here.cn").padded_to(HELLO_OCTETS_MAX).message();
    let packets: Vec<Plain> = message
        .chunks(1100)
        .enumerate()
        .map(|(i, piece)| Plain { number: i as u64, ..Plain::new(crypto(i * 1100, piece)) })
        .collect();
    let (last, rest) = packets.split_last().expect("fifteen");
    let mut order: Vec<Plain> = rest.iter().rev().cloned().collect();
    order.push(last.clone());
    let found = readings(&order);
    assert!(found[..found.len() - 1].iter().all(|found| found == "need_more"));
    assert_eq!(found.last().map(String::as_str), Some("sni:here.cn"));

    let pings: Vec<Plain> = (0..=INITIALS_MAX as u64).map(|number| Plain { number, ..Plain::new(vec![1]) }).collect();
    let found = readings(&pings);
    assert!(found[..INITIALS_MAX].iter().all(|found| found == "need_more"));
    assert_eq!(found[INITIALS_MAX], "reject");
}

#[test]
fn a_refusal_is_a_server_initial_that_closes() {
    for version in Version::ALL {
        for scid in [&[][..], &SCID, &[7; 20]] {
            let code = CloseCode::Alert(Alert::UnrecognizedName);
            let reply = close(version, &DCID, scid, code, 1200).expect("room");
            assert!(reply.len() < 100, "{}", reply.len());
            let Ok(Packet::Long(long)) = header::read(&reply) else { panic!("no long header") };
            assert_eq!((long.version, long.dcid, long.scid, long.token), (version, scid, &DCID[..], &[][..]));
            assert_eq!(long.packet, reply);
            let (number, frames) = opened_by_client(version, &DCID, &reply, long.number_at);
            // CONNECTION_CLOSE, 0x170 (CRYPTO_ERROR with unrecognized_name), caused by a CRYPTO frame, no reason.
            assert_eq!((number, &frames[..]), (0, &[0x1c, 0x41, 0x70, 0x06, 0][..]));
        }
    }
}

#[test]
fn another_version_is_answered_with_those_that_are_read() {
    let unknown = Unknown { version: 0x1a2a_3a4a, dcid: &[1; 40], scid: &[2; 255] };
    let reply = negotiate(&unknown, 1200).expect("room");
    assert_eq!(header::read(&reply), Ok(Packet::Negotiation));
    let expected = [&[0, 0, 0, 0, 255][..], &[2; 255], &[40], &[1; 40], &[0, 0, 0, 1, 0x6b, 0x33, 0x43, 0xcf]].concat();
    assert_eq!(reply[1..], expected);
    assert!(reply[0] & 0x80 != 0);
}

#[test]
fn replies_amplify_nothing() {
    let code = CloseCode::ConnectionRefused;
    let unknown = Unknown { version: 9, dcid: &[1; 255], scid: &[2; 255] };
    for received in [0, 20, 400, DATAGRAM_OCTETS_MIN - 1] {
        assert_eq!(close(Version::V1, &DCID, &SCID, code, received), None);
        assert_eq!(negotiate(&unknown, received), None);
    }
    assert!(negotiate(&unknown, 1200).is_some_and(|reply| reply.len() <= AMPLIFICATION_MAX * 1200));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_datagram_makes_the_readers_panic(
        start in prop::sample::select(vec![&b"\xc0\0\0\0\x01"[..], b"\xd3\x6b\x33\x43\xcf", b"\xc0\xff\0\0\x1d", b""]),
        octets in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut datagram = [start, &octets].concat();
        datagram.resize(1200, 0x40);
        header::packets(&datagram).for_each(drop);
        if let Arrival::Initial(initial) = arrival(&datagram) {
            let mut flight = Flight::begin(&initial, HELLO_OCTETS_MAX).expect("a flight");
            prop_assert_eq!(flight.read(&datagram, &mut Vec::new()), Reading::Nothing);
        }
    }

    #[test]
    fn no_sealed_frames_make_the_reader_panic(frames in prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 3, 6, 0x1c, 0x40, 0x80, 0xff]), 1..60)) {
        let found = readings(&[Plain::new(frames)]);
        prop_assert!(!found[0].contains("sni"), "{found:?}");
    }

    #[test]
    fn a_changed_octet_of_a_datagram_gives_no_other_name(at in 0usize..1200, mask in 1u8..) {
        let mut datagram = hello_packet(0).sealed();
        datagram[at] ^= mask;
        if let Arrival::Initial(initial) = arrival(&datagram) {
            let mut flight = Flight::begin(&initial, HELLO_OCTETS_MAX).expect("a flight");
            let found = summary(&flight.read(&datagram, &mut Vec::new()));
            prop_assert!(matches!(found.as_str(), "drop" | "sni:here.cn"), "{found}");
        }
    }

    #[test]
    fn pieces_that_overlap_read_as_the_whole(
        starts in prop::collection::vec((0usize..400, 1usize..200), 1..30),
        number_octets in 1usize..5,
    ) {
        let message = Sketch::new("www.here.cn").padded_to(400).message();
        let mut frames: Vec<Vec<u8>> = starts
            .iter()
            .map(|(start, length)| crypto(*start, &message[*start..(start + length).min(message.len())]))
            .collect();
        frames.push(crypto(0, &message[..250]));
        frames.push(crypto(230, &message[230..]));
        let packets: Vec<Plain> = frames
            .into_iter()
            .enumerate()
            .map(|(i, frames)| Plain { number: i as u64, number_octets, ..Plain::new(frames) })
            .collect();
        let found = readings(&packets);
        prop_assert!(found.iter().all(|found| found == "need_more" || found == "sni:www.here.cn"), "{found:?}");
        prop_assert_eq!(found.last().map(String::as_str), Some("sni:www.here.cn"));
    }
}
