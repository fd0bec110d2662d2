//! D-Q1 to D-Q7: the hello in all its forms, early data, Retry, other versions.

use icpgate::count::{Observe, Sample};
use icpgate::http::flows::counters::{Dropped, FlightOutcome};
use icpgate::http::quic::header::{self, Packet};
use icpgate::http::quic::{Kind, Version};
use icpgate::model::Via;
use icpgate::policy::{Mode, Reason, Rules};

use crate::harness::quic::{DCID, Plain, SCID, crypto};
use crate::harness::quic_gate::{
    FILED, QuicGate, SERVER, UNFILED, close_code, early, handshake, hello, server_hello, short,
};
use crate::harness::tls::{Sketch, rows};
use crate::harness::{fixture, shared};

/// CRYPTO_ERROR with unrecognized_name.
pub const REFUSED: u16 = 0x170;

#[tokio::test]
async fn q01_quic_is_gated_like_everything_else() {
    let mut gate = QuicGate::start().await;
    let (client, path) = gate.established().await;
    gate.origin.send(path, &short(&SCID, 1)).await;
    assert_eq!(client.recv().await, short(&SCID, 1));
    client.send(&short(&SERVER, 2)).await;
    assert_eq!(gate.origin.nth(2).await, (path, short(&SERVER, 2)));

    let other = gate.client().await;
    other.send(&hello(UNFILED).sealed()).await;
    assert_eq!(other.closed(Version::V1).await, REFUSED);
    gate.origin_saw(&[hello(FILED).sealed(), handshake(&SERVER, &SCID), short(&SERVER, 2)]).await;

    let [first, second] =
        [gate.http.records.recv().await, gate.http.records.recv().await].map(|r| r.expect("a record"));
    assert_eq!((first.via, first.verdict.reason), (Via::Quic, Reason::Filed));
    assert_eq!((second.via, second.verdict.reason, second.enforced), (Via::Quic, Reason::NotFiled, true));
    assert_eq!(second.name, Some(fixture::name(UNFILED)));
    assert_eq!(gate.quic().flights(FlightOutcome::Passed), 2);
    assert_eq!(gate.quic().flights(FlightOutcome::Blocked), 1);
    let mut verdicts = 0;
    gate.http.counters.observe(&mut |family, labels, sample| {
        if let ("verdicts_total", Some(("plane", "quic")), Sample::Count(count)) = (family, labels.first(), sample) {
            verdicts += count;
        }
    });
    assert_eq!(verdicts, 3);
}

#[tokio::test]
async fn q01_what_is_sent_again_is_refused_again_without_another_verdict() {
    let mut gate = QuicGate::start().await;
    let client = gate.client().await;
    for number in 0..3 {
        client.send(&Plain { number, ..hello(UNFILED) }.sealed()).await;
        assert_eq!(client.closed(Version::V1).await, REFUSED);
    }
    assert_eq!(gate.quic().flights(FlightOutcome::Blocked), 1);
    assert!(gate.http.records.recv().await.is_some());
    assert!(gate.http.records.try_recv().is_err(), "one record");
}

#[tokio::test]
async fn q02_both_versions_are_read() {
    let gate = QuicGate::start().await;
    let mut expected = Vec::new();
    for version in Version::ALL {
        let client = gate.client().await;
        client.send(&Plain { version, ..hello(UNFILED) }.sealed()).await;
        assert_eq!(client.closed(version).await, REFUSED);
        // The same connection ID in another version is another flight.
        let filed = Plain { version, dcid: vec![9; 8], ..hello(FILED) }.sealed();
        client.send(&filed).await;
        expected.push(filed);
        assert_eq!(gate.origin.nth(expected.len() - 1).await.1, *expected.last().expect("one"));
    }
    gate.origin_saw(&expected).await;
}

#[tokio::test]
async fn q03_hello_over_initials_in_any_order() {
    let gate = QuicGate::start().await;
    let mut expected = Vec::new();
    // Kept, so that none has the port of another.
    let mut clients = Vec::new();
    for order in permutations(4) {
        for name in [UNFILED, FILED] {
            let client = gate.client().await;
            let datagrams = pieces(name);
            for (sent, &at) in order.iter().enumerate() {
                client.send(&datagrams[at]).await;
                // Twice: the second time it is dropped.
                let before = gate.quic().dropped(Dropped::NotAuthentic);
                if sent < 3 {
                    client.send(&datagrams[at]).await;
                    gate.until_dropped(Dropped::NotAuthentic, before + 1).await;
                    assert_eq!(gate.origin.count(), expected.len(), "{order:?}: nothing before the last piece");
                }
            }
            if name == UNFILED {
                assert_eq!(client.closed(Version::V1).await, REFUSED, "{order:?}");
            } else {
                expected.extend(order.iter().map(|&at| datagrams[at].clone()));
                gate.origin.nth(expected.len() - 1).await;
            }
            clients.push(client);
        }
    }
    gate.origin_saw(&expected).await;
    assert_eq!(gate.quic().flights(FlightOutcome::Blocked), 24);
}

/// A hello of 3 kB in four Initials, the name's octets in two of them; the pieces overlap.
fn pieces(name: &str) -> [Vec<u8>; 4] {
    let message = Sketch::with(vec![(16, b"\0\x03\x02h3".to_vec())]).and(51, &[7; 900]);
    let (kind, body) = crate::harness::tls::server_name(&[(0, name.as_bytes())]);
    let message = message.and(kind, &body).padded_to(3000).message();
    let at = message.windows(name.len()).position(|window| window == name.as_bytes()).expect("the name");
    let cuts = [(0, at + 2), (at - 3, at + 4), (at + 4, 2000), (1900, 3000)];
    let mut number = 0;
    cuts.map(|(start, end)| {
        number += 3;
        Plain { number, ..Plain::new(crypto(start, &message[start..end])) }.sealed()
    })
}

/// Every order of `count` things.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let insert = |order: &Vec<usize>, at: usize| [&order[..at], &[last], &order[at..]].concat();
    permutations(last).iter().flat_map(|order| (0..=order.len()).map(move |at| insert(order, at))).collect()
}

#[tokio::test]
async fn q03_recorded_hellos_of_real_clients_are_judged() {
    let blocks = QuicGate::start().await;
    blocks.http.publish(vec![fixture::filed(FILED, &[fixture::PROVIDER])]);
    let passes = QuicGate::with(fixture::view(Rules { mode: Mode::Off, ..Rules::default() }), |_| {}).await;
    let mut count = 0;
    for row in ["own-quic", "captured-quic"].into_iter().flat_map(rows) {
        let Some(datagrams) = row.datagrams().filter(|_| row.expect.action == "sni") else { continue };
        let Ok(Packet::Long(first)) = header::read(&datagrams[0]) else { continue };
        let (version, dcid) = (first.version, first.dcid);
        let (client, other) = (blocks.client().await, passes.client().await);
        let before = passes.origin.count();
        for datagram in &datagrams {
            client.send(datagram).await;
            other.send(datagram).await;
        }
        assert_eq!(close_code(version, dcid, &client.recv().await), REFUSED, "{}", row.id);
        // Off: the hello is read all the same, and what belongs to it goes on in order.
        assert_eq!(passes.origin.nth(before).await.1, datagrams[0], "{}", row.id);
        count += 1;
    }
    blocks.origin_saw(&[]).await;
    // The recordings of other people's clients are not part of this tree.
    let least = if shared::data_path("tls/captured-quic.jsonl.zst").is_some() { 10 } else { 0 };
    assert!(count > least, "{count}");
}

#[tokio::test]
async fn q04_frames_before_the_hello_and_any_packet_number() {
    let gate = QuicGate::start().await;
    let mut expected = Vec::new();
    for (i, before) in [&[1][..], &[0, 0, 1, 0], &[2, 0, 0, 0, 0], &[]].into_iter().enumerate() {
        for (name, number) in [(UNFILED, 0x1234), (FILED, 77)] {
            let client = gate.client().await;
            let frames = [before, &crypto(0, &Sketch::new(name).message())].concat();
            let first = Plain { number: number - 1, ..Plain::new(vec![1]) }.sealed();
            let second = Plain { number, ..Plain::new(frames) }.sealed();
            // A first packet that is nothing but a ping is held as well.
            client.send(&first).await;
            client.send(&second).await;
            if name == UNFILED {
                assert_eq!(client.closed(Version::V1).await, REFUSED);
            } else {
                expected.extend([first, second]);
                gate.origin.nth(2 * i + 1).await;
            }
        }
    }
    gate.origin_saw(&expected).await;
}

#[tokio::test]
async fn q04_what_some_clients_put_behind_an_initial_is_no_packet() {
    let gate = QuicGate::start().await;
    let mut expected = Vec::new();
    // From too short for a header to one that reads as another version with long connection IDs.
    for count in [1, 3, 4, 5, 10, 180, 300, 500] {
        let tail = [&vec![0xc8; count][..], &[0x13]].concat();
        let client = gate.client().await;
        let padded = |name| [Plain { octets: 1250 - tail.len(), ..hello(name) }.sealed(), tail.clone()].concat();
        client.send(&padded(UNFILED)).await;
        assert_eq!(client.closed(Version::V1).await, REFUSED, "{count}");
        client.send(&Plain { dcid: vec![5; 8], ..hello(UNFILED) }.sealed()).await;
        assert_eq!(close_code(Version::V1, &[5; 8], &client.recv().await), REFUSED);
        let client = gate.client().await;
        client.send(&padded(FILED)).await;
        expected.push(padded(FILED));
        gate.origin.nth(expected.len() - 1).await;
    }
    gate.origin_saw(&expected).await;
}

#[tokio::test]
async fn q05_early_data_wait_for_the_verdict() {
    let gate = QuicGate::start().await;
    let halves = |name: &str| {
        let message = Sketch::new(name).message();
        [(0, &message[..70]), (70, &message[70..])]
            .map(|(at, piece)| Plain { number: at as u64, ..Plain::new(crypto(at, piece)) }.sealed())
    };
    let mut expected = Vec::new();
    for name in [UNFILED, FILED] {
        let client = gate.client().await;
        let [first, second] = halves(name);
        // Coalesced with the first half, alone, and with the second.
        let datagrams = [[first, early(&DCID, 1)].concat(), early(&DCID, 2), [second, early(&DCID, 3)].concat()];
        for datagram in &datagrams {
            assert_eq!(gate.origin.count(), expected.len());
            client.send(datagram).await;
        }
        if name == UNFILED {
            assert_eq!(client.closed(Version::V1).await, REFUSED);
            client.send(&early(&DCID, 4)).await;
            gate.until_dropped(Dropped::Refused, 2).await;
        } else {
            expected.extend(datagrams);
            gate.origin.nth(2).await;
            // To the server's name later, and to no other.
            client.send(&early(&DCID, 5)).await;
            expected.push(early(&DCID, 5));
            client.send(&early(&[6; 8], 6)).await;
            gate.until_dropped(Dropped::NoFlow, 1).await;
        }
    }
    gate.origin_saw(&expected).await;
}

#[tokio::test]
async fn q06_after_a_retry_the_new_flight_is_judged_and_comes_from_the_same_socket() {
    let server_retry = [0x99; 8];
    for name in [FILED, UNFILED] {
        let gate = QuicGate::start().await;
        let client = gate.client().await;
        client.send(&hello(FILED).sealed()).await;
        let (path, _) = gate.origin.nth(0).await;
        let retry = [&[0xf0, 0, 0, 0, 1, 5][..], &SCID, &[8], &server_retry, b"token", &[0; 16]].concat();
        gate.origin.send(path, &retry).await;
        let got = client.recv().await;
        assert!(matches!(header::read(&got), Ok(Packet::Long(long)) if long.kind == Kind::Retry && got == retry));
        let again = Plain { dcid: server_retry.to_vec(), token: b"token".to_vec(), number: 1, ..hello(name) }.sealed();
        client.send(&again).await;
        if name == FILED {
            assert_eq!(gate.origin.nth(1).await, (path, again), "the token is good for this address");
            assert_eq!(gate.quic().flights(FlightOutcome::Passed), 2);
            // What goes to the server's own connection ID is under the keys of the second flight.
            gate.origin.send(path, &server_hello(&SERVER)).await;
            client.recv().await;
            let ack =
                Plain { dcid: SERVER.to_vec(), number: 2, keys_of: Some(server_retry.to_vec()), ..Plain::new(vec![1]) };
            let datagram = [ack.sealed(), handshake(&SERVER, &SCID)].concat();
            client.send(&datagram).await;
            assert_eq!(gate.origin.nth(2).await, (path, datagram));
        } else {
            assert_eq!(close_code(Version::V1, &server_retry, &client.recv().await), REFUSED);
            gate.origin_saw(&[hello(FILED).sealed()]).await;
        }
    }
}

#[tokio::test]
async fn q07_other_versions_are_told_which_are_read_and_go_nowhere() {
    let gate = QuicGate::start().await;
    let client = gate.client().await;
    let versions: [u32; 4] = [0xff00_001d, 0x5130_3436, 0x1a2a_3a4a, 2];
    for version in versions {
        let mut datagram = hello(FILED).sealed();
        datagram[1..5].copy_from_slice(&version.to_be_bytes());
        client.send(&datagram).await;
        let reply = client.recv().await;
        assert_eq!(header::read(&reply), Ok(Packet::Negotiation));
        assert_eq!(reply[reply.len() - 8..], [0, 0, 0, 1, 0x6b, 0x33, 0x43, 0xcf]);
        client.send(&datagram[..1199]).await;
    }
    gate.until_dropped(Dropped::TooSmall, 4).await;
    assert_eq!(gate.quic().dropped(Dropped::UnknownVersion), 4);
    assert_eq!(client.recv_now(), None);
    // On a path that is open as well.
    let (client, _) = gate.established().await;
    let mut datagram = hello(FILED).sealed();
    datagram[1..5].copy_from_slice(&versions[0].to_be_bytes());
    client.send(&datagram).await;
    assert_eq!(header::read(&client.recv().await), Ok(Packet::Negotiation));
    gate.origin_saw(&[hello(FILED).sealed(), handshake(&SERVER, &SCID)]).await;
}

#[tokio::test]
async fn q07_a_server_may_answer_in_the_other_version() {
    // Compatible version negotiation (RFC 9368): the client goes on in version 2 under keys of the same connection ID.
    for name in [FILED, UNFILED] {
        let gate = QuicGate::start().await;
        let client = gate.client().await;
        client.send(&hello(FILED).sealed()).await;
        let (path, _) = gate.origin.nth(0).await;
        let of_server = server_hello(&SERVER);
        let Ok(Packet::Long(_)) = header::read(&of_server) else { panic!("no long header") };
        let answer = Plain {
            version: Version::V2,
            side: rustls::Side::Server,
            keys_of: Some(DCID.to_vec()),
            dcid: SCID.to_vec(),
            scid: SERVER.to_vec(),
            ..Plain::new(vec![2, 0, 0, 0, 0])
        };
        gate.origin.send(path, &answer.sealed()).await;
        client.recv().await;
        let first = Sketch::new(FILED).message().len();
        let second = crypto(first, &Sketch::new(name).and(44, b"cookie").message());
        let next = Plain {
            version: Version::V2,
            keys_of: Some(DCID.to_vec()),
            dcid: SERVER.to_vec(),
            number: 1,
            ..Plain::new(second)
        };
        client.send(&next.sealed()).await;
        if name == FILED {
            assert_eq!(gate.origin.nth(1).await, (path, next.sealed()));
        } else {
            gate.until_ended(icpgate::http::flows::counters::PathEnd::Malformed, 1).await;
            gate.origin_saw(&[hello(FILED).sealed()]).await;
        }
    }
}
