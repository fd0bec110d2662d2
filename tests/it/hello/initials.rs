//! Client Initials: sample packets of the specifications, recorded ones, and pieces in any order (D-Q2 to D-Q6, D-Q9).

use std::collections::BTreeMap;

use icpgate::http::hello::HELLO_OCTETS_MAX;
use icpgate::http::quic::header::{self, Packet};
use icpgate::http::quic::keys::{Keys, Side};
use icpgate::http::quic::{Arrival, Flight, Kind, Long, Reading, Version, arrival, may_begin};
use serde::Deserialize;

use crate::harness::quic::{DCID, Plain, SCID, crypto, summary};
use crate::harness::tls::{Row, Sketch, octets, rows};

/// What a client's datagrams come to: the first answer that ends the waiting, else the last.
fn read_all<'a>(datagrams: impl IntoIterator<Item = &'a Vec<u8>>) -> String {
    let mut flights: BTreeMap<Vec<u8>, Flight> = BTreeMap::new();
    let mut scratch = Vec::new();
    let mut res = "drop".to_owned();
    for datagram in datagrams {
        let found = match arrival(datagram) {
            Arrival::Initial(initial) if flights.contains_key(initial.dcid) || may_begin(&initial) => {
                let begin = || Flight::begin(&initial, HELLO_OCTETS_MAX).expect("a flight");
                let flight = flights.entry(initial.dcid.to_vec()).or_insert_with(begin);
                summary(&flight.read(datagram, &mut scratch))
            }
            Arrival::UnknownVersion(_) => "version_negotiation".to_owned(),
            Arrival::Drop(_) | Arrival::Initial(_) | Arrival::OfFlow(_) | Arrival::Short(_) => continue,
        };
        let is_waiting = matches!(found.as_str(), "need_more" | "drop");
        if !is_waiting {
            return found;
        }
        if found == "need_more" {
            res = found;
        }
    }
    res
}

#[derive(Deserialize)]
struct Vectors {
    dcid: String,
    client_crypto_frame: String,
    server_payload: String,
    v1: Packets,
    v2: Packets,
}

#[derive(Deserialize)]
struct Packets {
    client_packet: String,
    server_packet: String,
    retry_packet: String,
}

fn long(packet: &[u8]) -> Long<'_> {
    match header::read(packet) {
        Ok(Packet::Long(long)) => long,
        other => panic!("expected a long header, got {other:?}"),
    }
}

#[test]
fn the_sample_packets_of_both_versions_open() {
    let vectors: Vectors =
        toml::from_str(include_str!("../../data/tls/quic-vectors.toml")).expect("the documented form");
    let dcid = octets(&vectors.dcid);
    let mut client_payload = octets(&vectors.client_crypto_frame);
    client_payload.resize(1162, 0);
    for (version, packets) in [(Version::V1, &vectors.v1), (Version::V2, &vectors.v2)] {
        let mut scratch = Vec::new();
        let packet = octets(&packets.client_packet);
        let client = long(&packet);
        assert_eq!(
            (client.version, client.kind, client.dcid, client.scid),
            (version, Kind::Initial, &dcid[..], &[][..])
        );
        let opened = Keys::derive(version, &dcid, Side::Client).open(&client, None, &mut scratch).expect("authentic");
        assert_eq!((opened.number, opened.payload), (2, &client_payload[..]));
        assert_eq!(read_all([&packet]), "sni:example.com");

        let packet = octets(&packets.server_packet);
        let server = long(&packet);
        assert_eq!((server.dcid, server.scid), (&[][..], &octets("f067a5502a4262b5")[..]));
        let opened = Keys::derive(version, &dcid, Side::Server).open(&server, None, &mut scratch).expect("authentic");
        assert_eq!((opened.number, opened.payload), (1, &octets(&vectors.server_payload)[..]));

        let packet = octets(&packets.retry_packet);
        let retry = long(&packet);
        assert_eq!((retry.version, retry.kind, retry.token), (version, Kind::Retry, &b"token"[..]));
        assert_eq!(retry.scid, octets("f067a5502a4262b5"));
    }
}

#[test]
fn recorded_and_crafted_datagrams_are_read_as_labelled() {
    let mut count = 0;
    for row in ["own-quic", "captured-quic", "crafted"].into_iter().flat_map(rows) {
        let Some(datagrams) = row.datagrams() else { continue };
        let found = read_all(&datagrams);
        assert!(row.allows(&found), "{}: {found}, expected {:?}", row.id, row.expect);
        count += 1;
    }
    assert!(count > 30, "{count}");
}

#[test]
fn recorded_datagrams_are_read_the_same_in_any_order_and_twice() {
    for row in ["own-quic", "captured-quic"].into_iter().flat_map(rows) {
        let Some(datagrams) = row.datagrams().filter(|all| all.len() <= 4) else { continue };
        let whole = read_all(&datagrams);
        for order in permutations(datagrams.len()) {
            assert_eq!(read_all(order.iter().map(|i| &datagrams[*i])), whole, "{} as {order:?}", row.id);
            let twice = order.iter().flat_map(|i| [&datagrams[*i]; 2]);
            assert_eq!(read_all(twice), whole, "{} twice as {order:?}", row.id);
        }
        check_sizes(&row, &datagrams);
    }
}

fn check_sizes(row: &Row, datagrams: &[Vec<u8>]) {
    let Arrival::Initial(initial) = arrival(&datagrams[0]) else { return };
    let mut flight = Flight::begin(&initial, HELLO_OCTETS_MAX).expect("a flight");
    let mut scratch = Vec::new();
    for datagram in datagrams {
        if let Reading::Hello(hello) = flight.read(datagram, &mut scratch) {
            assert_eq!((Some(hello.octets), Some(hello.has_ech)), (row.hello_len, row.ech), "{}", row.id);
            let protocols = hello.protocols().map(|protocol| String::from_utf8_lossy(protocol).into_owned());
            assert_eq!(Some(protocols.collect()), row.alpn, "{}", row.id);
        }
    }
}

/// Every order of `count` things.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let shorter = permutations(last);
    let inserted = shorter.iter().flat_map(|order| {
        (0..=order.len()).map(|at| {
            let mut order = order.clone();
            order.insert(at, last);
            order
        })
    });
    inserted.collect()
}

/// The message in pieces that end at these offsets, as CRYPTO frames.
fn pieces(message: &[u8], ends: &[usize]) -> Vec<Vec<u8>> {
    let mut start = 0;
    let all = ends.iter().copied().chain([message.len()]).map(|end| {
        let piece = crypto(start, &message[start..end]);
        start = end;
        piece
    });
    all.collect()
}

#[test]
fn pieces_in_any_order_and_packets_read_the_same() {
    let message = Sketch::new("www.nofile.cn").and(16, b"\0\x03\x02h3").padded_to(1800).message();
    for version in Version::ALL {
        for ends in [&[][..], &[900], &[60, 70], &[3, 75, 1000]] {
            let frames = pieces(&message, ends);
            for order in permutations(frames.len()) {
                // So many pieces share a packet.
                for together in 1..=frames.len() {
                    let packets: Vec<Vec<u8>> = order
                        .chunks(together)
                        .enumerate()
                        .map(|(i, chunk)| {
                            let frames = chunk.iter().flat_map(|at| frames[*at].clone()).collect();
                            Plain { version, number: i as u64 + 7, ..Plain::new(frames) }.sealed()
                        })
                        .collect();
                    assert_eq!(read_all(&packets), "sni:www.nofile.cn", "{order:?} by {together}");
                    assert_eq!(
                        read_all(&packets[..packets.len() - 1]),
                        if packets.len() == 1 { "drop" } else { "need_more" }
                    );
                    // In one datagram.
                    assert_eq!(read_all([&packets.concat()]), "sni:www.nofile.cn", "{order:?} by {together}");
                }
            }
        }
    }
}

#[test]
fn connection_ids_tokens_and_packet_numbers_of_any_length_are_read() {
    let message = Sketch::new("here.cn").message();
    let plain = || Plain::new(crypto(0, &message));
    for dcid in [8, 9, 20] {
        for scid in [0, 1, 20] {
            let plain = Plain { dcid: vec![3; dcid], scid: vec![4; scid], ..plain() };
            assert_eq!(read_all([&plain.sealed()]), "sni:here.cn");
        }
    }
    for number_octets in 1..=4 {
        for number in [0, 1, (1 << (8 * number_octets - 1)) - 1] {
            assert_eq!(read_all([&Plain { number, number_octets, ..plain() }.sealed()]), "sni:here.cn");
        }
    }
    assert_eq!(read_all([&Plain { token: vec![9; 300], ..plain() }.sealed()]), "sni:here.cn");
    // After a Retry the server chose the connection ID: another flight with keys of its own.
    let again = Plain { dcid: vec![5; 3], token: vec![9; 30], number: 1, ..plain() };
    assert_eq!(read_all([&again.sealed()]), "sni:here.cn");
    let mut flight = Flight::begin(&long(&again.sealed()), HELLO_OCTETS_MAX).expect("a flight");
    assert_eq!((flight.dcid().octets(), flight.scid().octets()), (&[5, 5, 5][..], &SCID[..]));
    assert_eq!(flight.read(&plain().sealed(), &mut Vec::new()), Reading::Nothing);
}

#[test]
fn pieces_to_different_connection_ids_do_not_mix() {
    let message = Sketch::new("here.cn").message();
    let [first, second] = [crypto(0, &message[..80]), crypto(80, &message[80..])].map(Plain::new);
    let other = Plain { dcid: vec![6; 8], ..second.clone() };
    assert_eq!(read_all(&[first.sealed(), other.sealed()]), "need_more");
    assert_eq!(read_all(&[first.sealed(), Plain { number: 1, ..second }.sealed()]), "sni:here.cn");
    // Also inside one datagram (RFC 9000 section 12.2).
    assert_eq!(read_all(&[[first.sealed(), other.sealed()].concat()]), "need_more");
}

#[test]
fn early_data_beside_an_initial_are_noticed_and_nothing_else() {
    let initial = Plain::new(crypto(0, &Sketch::new("here.cn").message())).sealed();
    let mut early = vec![0xd0, 0, 0, 0, 1, 8];
    early.extend_from_slice(&DCID);
    early.extend_from_slice(&[&[5][..], &SCID, &[20], &[0xee; 20]].concat());
    assert_eq!(long(&early).kind, Kind::ZeroRtt);
    for (datagram, expected) in [(initial.clone(), false), ([initial.clone(), early.clone()].concat(), true)] {
        let mut flight = Flight::begin(&long(&initial), HELLO_OCTETS_MAX).expect("a flight");
        assert_eq!(summary(&flight.read(&datagram, &mut Vec::new())), "sni:here.cn");
        assert_eq!(flight.has_early_data(), expected);
    }
    assert!(matches!(arrival(&early), Arrival::OfFlow(_)));
    // In front of the Initial it belongs to the flow as well.
    assert!(matches!(arrival(&[early, initial].concat()), Arrival::OfFlow(_)));
}
