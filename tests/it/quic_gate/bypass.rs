//! D-Q8 to D-Q14: addresses that change, connection IDs, amplification, and what is not seen.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use icpgate::http::flows::counters::{Dropped, FlightOutcome, PathEnd};
use icpgate::http::flows::path::PATHS_PER_FAMILY_MAX;
use icpgate::http::quic::Version;
use icpgate::http::quic::reply::AMPLIFICATION_MAX;

use super::rows::REFUSED;
use crate::harness::fixture;
use crate::harness::quic::{DCID, Plain, SCID, crypto};
use crate::harness::quic_gate::{
    FILED, QuicClient, QuicGate, SERVER, UNFILED, close_code, handshake, hello, server_hello, short, short_unfixed,
};
use crate::harness::tls::Sketch;

#[tokio::test]
async fn q08_a_known_connection_id_from_another_address_is_another_path_to_the_origin() {
    let gate = QuicGate::start().await;
    let (client, path) = gate.established().await;
    let moved = gate.client().await;
    moved.send(&short(&SERVER, 1)).await;
    let (new_path, got) = gate.origin.nth(2).await;
    assert_eq!(got, short(&SERVER, 1));
    assert_ne!(new_path, path, "the origin sees the change, and validates the address");
    // What goes to the old path goes to the old address: nobody is sent what he did not ask for.
    gate.origin.send(path, &short(&SCID, 2)).await;
    assert_eq!(client.recv().await, short(&SCID, 2));
    gate.origin.send(new_path, &short(&SCID, 3)).await;
    assert_eq!(moved.recv().await, short(&SCID, 3));
    // Once there, it is known by its address, whatever connection IDs the two agree on.
    moved.send(&short(&[0x44; 8], 4)).await;
    assert_eq!(gate.origin.nth(3).await, (new_path, short(&[0x44; 8], 4)));
    assert_eq!(gate.quic().migrations.value(), 1);
}

#[tokio::test]
async fn q08_an_unknown_connection_id_from_an_unknown_address_goes_nowhere() {
    let gate = QuicGate::start().await;
    let (client, _) = gate.established().await;
    let other = gate.client().await;
    other.send(&short(&[0x44; 8], 1)).await;
    other.send(&short(&SERVER[..7], 2)).await;
    other.send(&handshake(&[0x44; 8], &SCID)).await;
    other.send(&[0x40]).await;
    other.send(&[]).await;
    gate.until_dropped(Dropped::NoFlow, 4).await;
    // A Handshake packet goes to a server that is known, also on a path that is open.
    client.send(&handshake(&[0x44; 8], &SCID)).await;
    gate.until_dropped(Dropped::NoFlow, 5).await;
    gate.origin_saw(&[hello(FILED).sealed(), handshake(&SERVER, &SCID)]).await;
}

#[tokio::test]
async fn q08_one_flow_has_few_paths() {
    let gate = QuicGate::start().await;
    let (client, _) = gate.established().await;
    let mut moved = Vec::new();
    for i in 1..PATHS_PER_FAMILY_MAX {
        let next = gate.client().await;
        next.send(&short(&SERVER, 1)).await;
        gate.origin.nth(1 + i).await;
        moved.push(next);
    }
    let one_more = gate.client().await;
    one_more.send(&short(&SERVER, 1)).await;
    gate.until_dropped(Dropped::NoFlow, 1).await;
    // A path that was silent for a while makes room.
    gate.until("room for a newer path", || {
        one_more.try_send(&short(&SERVER, 9));
        gate.quic().ends(PathEnd::Evicted) == 1
    })
    .await;
    assert_eq!(gate.quic().paths.value(), PATHS_PER_FAMILY_MAX as u64);
    drop((client, moved));
}

#[tokio::test]
async fn q08_a_negotiated_fixed_bit_is_no_obstacle() {
    let gate = QuicGate::start().await;
    let (client, path) = gate.established().await;
    // To a server that is known it may be 0: who sends it was told so by this server.
    client.send(&short_unfixed(&SERVER, 1)).await;
    assert_eq!(gate.origin.nth(2).await, (path, short_unfixed(&SERVER, 1)));
    // To others only once the origin shows that it has heard of that.
    client.send(&short_unfixed(&[0x44; 8], 2)).await;
    gate.until_dropped(Dropped::NotQuic, 1).await;
    gate.origin.send(path, &short_unfixed(&SCID, 3)).await;
    assert_eq!(client.recv().await, short_unfixed(&SCID, 3));
    client.send(&short_unfixed(&[0x44; 8], 4)).await;
    assert_eq!(gate.origin.nth(3).await, (path, short_unfixed(&[0x44; 8], 4)));
    let mut unknown = handshake(&DCID, &SCID);
    unknown[0] &= !0x40;
    client.send(&unknown).await;
    gate.until_dropped(Dropped::NoFlow, 1).await;
    // An Initial that lacks it is read, so that a server that reads it too is told nothing new.
    let other = gate.client().await;
    other.send(&Plain { fixed: 0, ..hello(UNFILED) }.sealed()).await;
    assert_eq!(other.closed(Version::V1).await, REFUSED);
}

#[tokio::test]
async fn q08_other_protocols_do_not_ride_an_open_path() {
    let gate = QuicGate::start().await;
    let (client, path) = gate.established().await;
    // gQUIC Q043 as its client begins (public flags, connection ID, version), also called like the known server; a DTLS
    // 1.2 hello; a STUN binding request; a DNS query.
    let gquic = |cid: &[u8; 8]| [&[0x0d][..], cid, b"Q043", &[1; 1300]].concat();
    let dtls = [&[0x16, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, 1][..], &[0; 59]].concat();
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    let dns = [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x01u\x02cn\0\0\x01\0\x01"].concat();
    for datagram in [&gquic(&[9; 8]), &gquic(&SERVER), &dtls, &stun, &dns] {
        client.send(datagram).await;
    }
    gate.until_dropped(Dropped::NotQuic, 5).await;
    // A server that lets the bit be 0 opens the path for QUIC, not for what is known to be something else.
    gate.origin.send(path, &short_unfixed(&SCID, 1)).await;
    client.recv().await;
    for datagram in [&gquic(&[9; 8]), &gquic(&SERVER), &dtls] {
        client.send(datagram).await;
    }
    gate.until_dropped(Dropped::NotQuic, 8).await;
    gate.origin_saw(&[hello(FILED).sealed(), handshake(&SERVER, &SCID)]).await;
}

#[tokio::test]
async fn q08_a_connection_id_comes_back_from_a_path_that_ended() {
    let set = |settings: &mut icpgate::http::Settings| settings.quic_idle = Duration::from_secs(1);
    let gate = QuicGate::with(fixture::view(Default::default()), set).await;
    let (client, _) = gate.established().await;
    let moved = gate.client().await;
    moved.send(&short(&SERVER, 1)).await;
    gate.until("the path of the second address", || gate.quic().migrations.value() == 1).await;
    let last = Cell::new(Instant::now());
    let keep_first = || {
        if last.get().elapsed() > Duration::from_millis(50) {
            client.try_send(&short(&SERVER, 2));
            last.set(Instant::now());
        }
    };
    gate.until("its end", || {
        keep_first();
        gate.quic().ends(PathEnd::Idle) == 1
    })
    .await;
    let again = gate.client().await;
    again.send(&short(&SERVER, 3)).await;
    gate.until("the path of the third address", || {
        keep_first();
        gate.quic().migrations.value() == 2
    })
    .await;
    gate.until("what came on it", || gate.origin.datagrams().contains(&short(&SERVER, 3))).await;
}

#[tokio::test]
async fn q09_pieces_to_different_connection_ids_or_from_different_addresses_do_not_mix() {
    let gate = QuicGate::start().await;
    let message = Sketch::new(FILED).message();
    let [first, second] = [crypto(0, &message[..80]), crypto(80, &message[80..])].map(Plain::new);
    let second = Plain { number: 1, ..second };
    let client = gate.client().await;
    client.send(&first.sealed()).await;
    client.send(&Plain { dcid: vec![6; 8], ..second.clone() }.sealed()).await;
    gate.client().await.send(&second.sealed()).await;
    gate.client().await.send(&Plain { version: Version::V2, ..second.clone() }.sealed()).await;
    gate.until("four flights", || gate.quic().waiting.value() == 4).await;
    assert_eq!(gate.origin.count(), 0);
    client.send(&second.sealed()).await;
    gate.origin.nth(1).await;
    gate.origin_saw(&[first.sealed(), second.sealed()]).await;
}

#[tokio::test]
async fn q10_q14_what_a_passed_connection_says_inside_is_not_seen() {
    // Pinned: a name in HTTP/3 other than the hello's, and whatever is tunnelled, are under keys that are not ours.
    let gate = QuicGate::start().await;
    let (client, path) = gate.established().await;
    client.send(&short(&SERVER, 0x5a)).await;
    assert_eq!(gate.origin.nth(2).await, (path, short(&SERVER, 0x5a)));
}

#[tokio::test]
async fn q11_small_datagrams_are_not_answered_and_answers_amplify_nothing() {
    let gate = QuicGate::start().await;
    let client = gate.client().await;
    client.send(&Plain { octets: 1199, ..hello(UNFILED) }.sealed()).await;
    client.send(&Plain { octets: 0, ..hello(FILED) }.sealed()).await;
    client.send(&Plain { dcid: vec![1; 7], ..hello(UNFILED) }.sealed()).await;
    let first = crypto(0, &Sketch::new(FILED).message()[..50]);
    client.send(&Plain { octets: 1199, ..Plain::new(first) }.sealed()).await;
    gate.until_dropped(Dropped::TooSmall, 3).await;
    assert_eq!(gate.quic().dropped(Dropped::CidTooShort), 1);
    client.send(&hello(UNFILED).sealed()).await;
    let reply = client.recv().await;
    assert_eq!(close_code(Version::V1, &DCID, &reply), REFUSED);
    assert!(reply.len() <= AMPLIFICATION_MAX * 1200 && reply.len() < 100, "{}", reply.len());
    assert_eq!(client.recv_now(), None);
    gate.origin_saw(&[]).await;
}

#[tokio::test]
async fn q11_answers_to_one_network_are_limited() {
    use icpgate::http::flows::pace::REPLIES_PER_NETWORK_MAX;
    let gate = QuicGate::start().await;
    let begun = Instant::now();
    let client = gate.client().await;
    let sealed = hello(UNFILED).sealed();
    let all = 4 * u64::from(REPLIES_PER_NETWORK_MAX);
    for sent in 1..=all {
        client.send(&sealed).await;
        if sent % 50 == 0 {
            gate.until_dropped(Dropped::Refused, sent).await;
        }
    }
    let seconds = 2 + begun.elapsed().as_secs();
    let (closes, withheld) = (gate.quic().closes.value(), gate.quic().replies_withheld.value());
    assert_eq!(closes + withheld, all);
    assert!(closes <= seconds * u64::from(REPLIES_PER_NETWORK_MAX), "{closes} in {seconds} s");
    assert_eq!(gate.quic().flights(FlightOutcome::Blocked), 1);
}

#[tokio::test]
async fn q12_every_port_the_gate_is_given_is_gated() {
    // Pinned: a port it is not given is not; the README says so.
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let gate = QuicGate::with(fixture::view(Default::default()), |s| s.quic_listen = vec![any, any]).await;
    let addrs = gate.http.quic.clone();
    assert_eq!(addrs.len(), 2);
    for (i, addr) in addrs.into_iter().enumerate() {
        let client = QuicClient::to(addr).await;
        client.send(&hello(UNFILED).sealed()).await;
        assert_eq!(client.closed(Version::V1).await, REFUSED);
        client.send(&Plain { dcid: vec![2; 8], ..hello(FILED) }.sealed()).await;
        gate.origin.nth(i).await;
    }
}

#[tokio::test]
async fn q13_a_server_without_connection_ids_is_known_by_addresses_alone() {
    let gate = QuicGate::start().await;
    let (client, path) = gate.established_as(&[]).await;
    client.send(&short(&[], 1)).await;
    assert_eq!(gate.origin.nth(2).await, (path, short(&[], 1)));
    let other = gate.client().await;
    other.send(&short(&[], 1)).await;
    other.send(&handshake(&[], &SCID)).await;
    gate.until_dropped(Dropped::NoFlow, 2).await;
    // Anybody may write to no connection ID; a server sends so much only to an address that it has validated.
    assert_eq!(gate.quic().opening.value(), 1, "a Handshake packet is no proof here");
    for mark in 0..4 {
        gate.origin.send(path, &[0x41 + mark; 1200]).await;
        client.recv().await;
    }
    gate.until("proven", || gate.quic().opening.value() == 0).await;
    gate.origin_saw(&[hello(FILED).sealed(), handshake(&[], &SCID), short(&[], 1)]).await;
}

#[tokio::test]
async fn q13_a_server_with_short_connection_ids_is_no_obstacle() {
    for server in [&[][..], &[9], &[1, 2, 3, 4], &[7; 7]] {
        let gate = QuicGate::start().await;
        let client = gate.client().await;
        client.send(&hello(FILED).sealed()).await;
        let (path, _) = gate.origin.nth(0).await;
        gate.origin.send(path, &server_hello(server)).await;
        client.recv().await;
        let to_server = Plain { dcid: server.to_vec(), keys_of: Some(DCID.to_vec()), ..Plain::new(vec![1]) };
        let acks = [1, 2].map(|number| Plain { number, ..to_server.clone() }.sealed());
        client.send(&acks[0]).await;
        client.send(&acks[1]).await;
        client.send(&Plain { dcid: server.to_vec(), number: 9, ..hello(UNFILED) }.sealed()).await;
        gate.until_dropped(Dropped::NotAuthentic, 1).await;
        // Nobody begins with so few octets.
        let other = gate.client().await;
        other.send(&Plain { dcid: server.to_vec(), ..hello(FILED) }.sealed()).await;
        gate.until_dropped(Dropped::CidTooShort, 1).await;
        gate.origin_saw(&[hello(FILED).sealed(), acks[0].clone(), acks[1].clone()]).await;
    }
}
