//! Octets that a server could read and the gate might not: none of them goes on.

use icpgate::http::flows::counters::{Dropped, FlightOutcome, PathEnd};
use icpgate::http::quic::Version;

use super::rows::REFUSED;
use crate::harness::quic::{DCID, Plain, SCID, crypto};
use crate::harness::quic_gate::{
    FILED, QuicClient, QuicGate, SERVER, UNFILED, close_code, early, handshake, hello, server_hello, short,
};
use crate::harness::tls::Sketch;

/// A client whose hello has passed, the server's answer having arrived; no Handshake packet yet.
async fn answered(gate: &QuicGate) -> QuicClient {
    let client = gate.client().await;
    client.send(&hello(FILED).sealed()).await;
    let (path, _) = gate.origin.nth(0).await;
    gate.origin.send(path, &server_hello(&SERVER)).await;
    client.recv().await;
    client
}

#[tokio::test]
async fn packets_of_another_connection_do_not_ride_along() {
    let gate = QuicGate::start().await;
    let client = answered(&gate).await;
    let other = Plain { dcid: vec![8; 8], ..hello(UNFILED) }.sealed();
    let mut other_version = Plain { version: Version::V2, ..hello(UNFILED) }.sealed();
    let ping = Plain { number: 1, ..Plain::new(vec![1]) }.sealed();
    let smuggled = [
        [&ping[..], &other].concat(),
        [&ping[..], &other_version].concat(),
        [&handshake(&SERVER, &SCID)[..], &other].concat(),
        [&early(&DCID, 1)[..], &other].concat(),
    ];
    for datagram in &smuggled {
        client.send(datagram).await;
    }
    gate.until_dropped(Dropped::Mixed, 4).await;
    // A version that is not read, and a Retry, behind what is.
    other_version[1..5].copy_from_slice(&0xff00_001d_u32.to_be_bytes());
    client.send(&[&handshake(&SERVER, &SCID)[..], &other_version].concat()).await;
    let retry = [&[0xf0, 0, 0, 0, 1, 8][..], &SERVER, &[0], &[7; 30]].concat();
    client.send(&[&handshake(&SERVER, &SCID)[..], &retry].concat()).await;
    gate.until_dropped(Dropped::Mixed, 6).await;
    gate.origin_saw(&[hello(FILED).sealed()]).await;
}

#[tokio::test]
async fn what_only_begins_like_padding_does_not_ride_along() {
    let gate = QuicGate::start().await;
    let tails: [&[u8]; 7] = [
        &[0xc8],
        &[0xc8, 0xc8, 0xc8],
        &[0xc8, 0xc8, 0x12],
        &[0xc8, 0x13, 0xc8],
        &[0xc8, 0x13, 0x13],
        &[0xc8, 0xc9, 0xc8, 0xc8, 0x13],
        &[0xc0, 0xc8, 0xc8, 0xc8, 0x13],
    ];
    for (i, tail) in tails.into_iter().enumerate() {
        let client = gate.client().await;
        client.send(&[&hello(FILED).sealed(), tail].concat()).await;
        gate.until_dropped(Dropped::Mixed, i as u64 + 1).await;
    }
    // Between two packets it is no padding either.
    let client = gate.client().await;
    let ping = Plain { number: 1, ..Plain::new(vec![1]) }.sealed();
    client.send(&[&hello(FILED).sealed()[..], &[0xc8, 0x13], &ping].concat()).await;
    gate.until_dropped(Dropped::Mixed, tails.len() as u64 + 1).await;
    gate.origin_saw(&[]).await;
}

#[tokio::test]
async fn an_initial_that_cannot_be_read_takes_its_datagram_with_it() {
    let gate = QuicGate::start().await;
    let client = answered(&gate).await;
    let ack = |number| Plain { number, keys_of: Some(DCID.to_vec()), dcid: SERVER.to_vec(), ..Plain::new(vec![1]) };
    // Under the keys of the server's own name: a server that has forgotten the connection would begin another.
    let begins_anew = Plain { dcid: SERVER.to_vec(), number: 9, ..hello(UNFILED) }.sealed();
    client.send(&[ack(1).sealed(), begins_anew.clone()].concat()).await;
    client.send(&[handshake(&SERVER, &SCID), begins_anew].concat()).await;
    gate.until_dropped(Dropped::NotAuthentic, 2).await;
    // A number that came before, with something else in it.
    client.send(&ack(2).sealed()).await;
    gate.origin.nth(1).await;
    let same_number = Plain { number: 2, ..hello(UNFILED) }.sealed();
    client.send(&[same_number.clone(), ack(3).sealed()].concat()).await;
    gate.until_dropped(Dropped::Mixed, 1).await;
    let again = Plain { number: 2, ..ack(0) }.sealed();
    client.send(&[again, ack(4).sealed()].concat()).await;
    client.send(&same_number).await;
    gate.until_dropped(Dropped::NotAuthentic, 4).await;
    gate.origin_saw(&[hello(FILED).sealed(), ack(2).sealed()]).await;
}

#[tokio::test]
async fn a_later_initial_that_contradicts_ends_the_flow() {
    let gate = QuicGate::start().await;
    let client = answered(&gate).await;
    client.send(&Plain { number: 1, ..hello(UNFILED) }.sealed()).await;
    assert_eq!(client.closed(Version::V1).await, 0xa, "PROTOCOL_VIOLATION");
    gate.until_ended(PathEnd::Malformed, 1).await;
    for datagram in [short(&SERVER, 1), handshake(&SERVER, &SCID), early(&SERVER, 1)] {
        client.send(&datagram).await;
    }
    gate.until_dropped(Dropped::NoFlow, 3).await;
    gate.origin_saw(&[hello(FILED).sealed()]).await;
}

#[tokio::test]
async fn a_second_hello_with_another_name_ends_the_flow() {
    for name in [FILED, UNFILED] {
        let gate = QuicGate::start().await;
        let client = answered(&gate).await;
        let first = Sketch::new(FILED).message().len();
        let second = Sketch::new(name).and(44, b"cookie").message();
        let [start, end] = [(1, 0..90), (2, 90..second.len())].map(|(number, part)| {
            let frames = crypto(first + part.start, &second[part]);
            let keys_of = Some(DCID.to_vec());
            Plain { number, keys_of, dcid: SERVER.to_vec(), ..Plain::new(frames) }.sealed()
        });
        client.send(&start).await;
        client.send(&end).await;
        if name == FILED {
            gate.origin.nth(2).await;
            gate.origin_saw(&[hello(FILED).sealed(), start, end]).await;
        } else {
            gate.until_ended(PathEnd::Malformed, 1).await;
            // The half without the name is of no use to the server.
            gate.origin_saw(&[hello(FILED).sealed(), start]).await;
        }
    }
}

#[tokio::test]
async fn a_flight_that_is_over_is_judged_as_new() {
    // The gate cannot see that a connection has ended: its first connection ID may begin another at the server.
    let gate = QuicGate::start().await;
    let (client, path) = gate.established().await;
    client.send(&Plain { number: 7, ..hello(UNFILED) }.sealed()).await;
    assert_eq!(client.closed(Version::V1).await, REFUSED);
    let to_server_name = Plain { dcid: SERVER.to_vec(), ..hello(UNFILED) }.sealed();
    client.send(&to_server_name).await;
    assert_eq!(close_code(Version::V1, &SERVER, &client.recv().await), REFUSED);
    // Half of it is not enough to go on.
    let half = Plain { dcid: vec![5; 8], ..Plain::new(crypto(50, &Sketch::new(UNFILED).message()[50..])) };
    client.send(&half.sealed()).await;
    gate.until("a flight that waits", || gate.quic().waiting.value() == 1).await;
    // The open flow is not touched by that.
    client.send(&short(&SERVER, 1)).await;
    assert_eq!(gate.origin.nth(2).await, (path, short(&SERVER, 1)));
    gate.origin_saw(&[hello(FILED).sealed(), handshake(&SERVER, &SCID), short(&SERVER, 1)]).await;
    assert_eq!(gate.quic().flights(FlightOutcome::Blocked), 2);
}

#[tokio::test]
async fn hellos_that_no_client_sends_are_refused_with_their_reason() {
    let gate = QuicGate::start().await;
    let message = |octets: &[u8]| Plain::new(crypto(0, octets));
    for (i, (plain, code)) in [
        (message(&Sketch::new("here.cn\0").message()), 0x170),
        (message(&[2, 0, 0, 1]), 0x10a),
        (message(&[1, 0, 0x40, 0]), 0xd),
        (Plain::new(vec![8, 0]), 0xa),
        (Plain { first: 0x04, ..hello(FILED) }, 0xa),
    ]
    .into_iter()
    .enumerate()
    {
        let client = gate.client().await;
        client.send(&plain.sealed()).await;
        assert_eq!(client.closed(Version::V1).await, code);
        gate.until_flights(FlightOutcome::Malformed, i as u64 + 1).await;
    }
    // One that gives up is not answered.
    let client = gate.client().await;
    client.send(&Plain::new([&crypto(0, b"\x01\0")[..], &[0x1c, 0, 0, 0]].concat()).sealed()).await;
    gate.until_flights(FlightOutcome::Abandoned, 1).await;
    assert_eq!(client.recv_now(), None);
    gate.origin_saw(&[]).await;
}
