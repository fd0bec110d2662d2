//! Nothing grows without bound, and a flood takes the places of its like alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use icpgate::clients::Clients;
use icpgate::http::Counters;
use icpgate::http::flows::Pair;
use icpgate::http::flows::counters::{Dropped, FlightOutcome, PathEnd};
use icpgate::http::flows::flights::{Flights, HELD_OCTETS_MAX, OCTETS_MAX, PER_PAIR_MAX, Shown, Step};
use icpgate::http::flows::paths::{PathError, Paths};
use icpgate::http::flows::udp::Udp;
use icpgate::http::host::HostName;
use icpgate::http::quic::{Arrival, Version, arrival};

use crate::harness::fixture;
use crate::harness::quic::{DCID, Plain, SCID, crypto};
use crate::harness::quic_gate::{FILED, QuicGate, SERVER, UNFILED, early, handshake, hello, server_hello, short};
use crate::harness::tls::Sketch;

/// CONNECTION_REFUSED.
const TURNED_AWAY: u16 = 0x2;

async fn gate_for(flows: usize) -> QuicGate {
    QuicGate::with(fixture::view(Default::default()), |settings| settings.quic_flows_max = flows).await
}

/// The first half of a hello.
fn half(dcid: u8) -> Vec<u8> {
    let message = Sketch::new(FILED).message();
    Plain { dcid: vec![dcid; 8], ..Plain::new(crypto(0, &message[..60])) }.sealed()
}

#[tokio::test]
async fn a_flood_of_first_initials_leaves_established_flows_alone() {
    let gate = gate_for(16).await;
    let (client, path) = gate.established().await;
    // Halves of hellos, from many addresses.
    let mut clients = Vec::new();
    for i in 0..64 {
        let flooder = gate.client().await;
        flooder.send(&half(i)).await;
        clients.push(flooder);
    }
    gate.until_flights(FlightOutcome::Evicted, 48).await;
    assert_eq!(gate.quic().waiting.value(), 16);
    // Whole ones for a filed name, whose clients never go on: forged addresses.
    for (i, flooder) in clients.iter().enumerate() {
        flooder.send(&Plain { dcid: vec![0xf0; 8], number: i as u64, ..hello(FILED) }.sealed()).await;
        gate.until_flights(FlightOutcome::Passed, i as u64 + 2).await;
    }
    assert_eq!(gate.quic().ends(PathEnd::Evicted), 60);
    assert_eq!((gate.quic().opening.value(), gate.quic().paths.value()), (4, 5));

    client.send(&short(&SERVER, 1)).await;
    gate.until("the open flow goes on", || gate.origin.seen().contains(&(path, short(&SERVER, 1)))).await;
    gate.origin.send(path, &short(&SCID, 2)).await;
    assert_eq!(client.recv().await, short(&SCID, 2));
    // And new ones are established in the midst of it.
    let newcomer = gate.client().await;
    let is_hello = |seen: &&(_, Vec<u8>)| seen.1 == hello(FILED).sealed();
    newcomer.send(&hello(FILED).sealed()).await;
    gate.until("the newcomer passes", || gate.origin.seen().iter().filter(is_hello).count() == 2).await;
    let (path, _) = gate.origin.seen().iter().rfind(is_hello).cloned().expect("two");
    gate.origin.send(path, &server_hello(&[0x21; 8])).await;
    newcomer.recv().await;
    newcomer.send(&handshake(&[0x21; 8], &SCID)).await;
    gate.until("proven", || gate.quic().opening.value() == 3).await;
}

#[tokio::test]
async fn established_flows_are_not_given_up_for_new_ones() {
    let gate = gate_for(2).await;
    let (first, path) = gate.established().await;
    let (_second, _) = gate.established_as(&[0x31; 8]).await;
    let third = gate.client().await;
    third.send(&hello(FILED).sealed()).await;
    assert_eq!(third.closed(Version::V1).await, TURNED_AWAY);
    assert_eq!(gate.quic().flights(FlightOutcome::Refused), 1);
    first.send(&short(&SERVER, 1)).await;
    assert_eq!(gate.origin.nth(4).await, (path, short(&SERVER, 1)));
    // Nor does a flow that moves get more.
    let moved = gate.client().await;
    moved.send(&short(&SERVER, 2)).await;
    gate.until_dropped(Dropped::NoFlow, 1).await;
}

#[tokio::test]
async fn a_proof_is_a_packet_to_the_servers_own_connection_id() {
    let gate = QuicGate::start().await;
    let client = gate.client().await;
    client.send(&hello(FILED).sealed()).await;
    let (path, _) = gate.origin.nth(0).await;
    client.send(&short(&SERVER, 1)).await;
    gate.origin.nth(1).await;
    client.send(&handshake(&SERVER, &SCID)).await;
    gate.until_dropped(Dropped::NoFlow, 1).await;
    assert_eq!(gate.quic().opening.value(), 1, "the server has not said its name yet");
    gate.origin.send(path, &server_hello(&SERVER)).await;
    client.recv().await;
    client.send(&short(&[0x66; 8], 1)).await;
    gate.origin.nth(2).await;
    assert_eq!(gate.quic().opening.value(), 1);
    client.send(&short(&SERVER, 1)).await;
    gate.origin.nth(3).await;
    assert_eq!(gate.quic().opening.value(), 0);
}

#[tokio::test]
async fn one_client_has_its_share() {
    let set = |settings: &mut icpgate::http::Settings| settings.connections_per_client_max = 2;
    let gate = QuicGate::with(fixture::view(Default::default()), set).await;
    let clients = [gate.established().await, gate.established_as(&[0x31; 8]).await];
    gate.until("both are proven", || gate.quic().opening.value() == 0).await;
    let third = gate.client().await;
    third.send(&hello(FILED).sealed()).await;
    assert_eq!(third.closed(Version::V1).await, TURNED_AWAY);
    assert_eq!(gate.quic().refused_by_client.value(), 1);
    // TCP counts with it.
    assert!(gate.http.connect().await.rest().await.is_empty());
    drop(clients);
}

#[tokio::test]
async fn forged_hellos_do_not_take_the_places_of_the_client_they_name() {
    let set = |settings: &mut icpgate::http::Settings| settings.connections_per_client_max = 2;
    let gate = QuicGate::with(fixture::view(Default::default()), set).await;
    // All from one address, as whoever forges it sends them: none goes on.
    let mut forged = Vec::new();
    for i in 0..6 {
        let client = gate.client().await;
        client.send(&hello(FILED).sealed()).await;
        gate.origin.nth(i).await;
        forged.push(client);
    }
    assert_eq!((gate.quic().opening.value(), gate.quic().refused_by_client.value()), (2, 0));
    assert_eq!(gate.quic().ends(PathEnd::Evicted), 4);
    // The client itself has its places, over TCP and QUIC.
    assert_eq!(gate.http.status(FILED).await, 200);
    let (_client, _) = gate.established().await;
    gate.until("the client is proven", || gate.quic().opening.value() == 1).await;
    assert_eq!(gate.quic().paths.value(), 2);
}

#[tokio::test]
async fn who_has_all_its_places_by_then_is_not_proven() {
    let set = |settings: &mut icpgate::http::Settings| settings.connections_per_client_max = 1;
    let gate = QuicGate::with(fixture::view(Default::default()), set).await;
    let client = gate.client().await;
    client.send(&hello(FILED).sealed()).await;
    let (path, _) = gate.origin.nth(0).await;
    gate.origin.send(path, &server_hello(&SERVER)).await;
    client.recv().await;
    // Its one place is taken meanwhile.
    let mut tcp = gate.http.connect().await;
    tcp.send(crate::harness::http::get(FILED, "/").as_bytes()).await;
    tcp.response().await;
    client.send(&handshake(&SERVER, &SCID)).await;
    gate.until_ended(PathEnd::Refused, 1).await;
    assert_eq!((gate.quic().paths.value(), gate.quic().refused_by_client.value()), (0, 1));
}

#[tokio::test]
async fn a_socket_that_all_connections_share_goes_on_for_long() {
    let gate = QuicGate::start().await;
    let client = gate.client().await;
    for i in 0..200u8 {
        // More connections than are known at a time, each of another name, and long within the time a flight is kept.
        let name = format!("h{i}.{FILED}");
        gate.connect_on(&client, &name, &[i, 1, 1, 1, 1, 1, 1, 1], &[i, 2, 2, 2, 2, 2, 2, 2]).await;
    }
    assert_eq!(gate.quic().dropped(Dropped::Refused), 0);
    // The last ones are known by their connection IDs.
    let moved = gate.client().await;
    moved.send(&short(&[199, 2, 2, 2, 2, 2, 2, 2], 1)).await;
    gate.until("the client's other address", || gate.quic().migrations.value() == 1).await;
}

#[tokio::test]
async fn refused_names_take_no_places_of_others_on_a_socket() {
    let gate = QuicGate::start().await;
    let client = gate.client().await;
    for i in 0..=PER_PAIR_MAX as u8 {
        client.send(&Plain { dcid: vec![i; 8], ..hello(UNFILED) }.sealed()).await;
        client.recv().await;
    }
    client.send(&Plain { dcid: vec![0xfe; 8], ..hello(FILED) }.sealed()).await;
    gate.origin.nth(0).await;
    assert_eq!(gate.quic().flights(FlightOutcome::Blocked), 1 + PER_PAIR_MAX as u64);
}

#[tokio::test]
async fn a_name_is_judged_once_more_when_all_can_see_its_path() {
    let counters = Arc::new(Counters::default());
    let paths = Paths::new(4, Clients::new(4), counters.clone());
    let listener = Arc::new(Udp::bind("127.0.0.1:0".parse().expect("an address")).expect("binds"));
    let to = listener.addr();
    let pair = |port| Pair { client: SocketAddr::from(([127, 0, 0, 1], port)), reached: to };
    let host = |text| HostName::Name(fixture::name(text));
    // Data that are replaced between verdict and path are looked at by whoever comes later: us, or who looks at all paths.
    let passes = |_: &HostName| {
        assert!(paths.of(&pair(1)).is_some());
        false
    };
    assert!(matches!(paths.open(pair(1), &listener, to, host(FILED), &passes), Err(PathError::Verdict)));
    assert_eq!((paths.count(), counters.quic.ends(PathEnd::Verdict)), (0, 1));
    let opened = paths.open(pair(2), &listener, to, host(FILED), &|_| true).expect("opens").path;
    // Another name on a path is none of it then; the first stays.
    let refuses = |_: &HostName| {
        assert!(!opened.family.all(|host| *host != HostName::Name(fixture::name(UNFILED))));
        false
    };
    assert!(matches!(paths.admit(&opened, host(UNFILED), &refuses), Err(PathError::Verdict)));
    assert!(opened.family.all(|known| *known == host(FILED)));
    assert!(paths.admit(&opened, host(UNFILED), &|_| true).is_ok());
    assert!(!opened.family.all(|known| *known == host(FILED)));
    paths.end(&opened, PathEnd::Drained);
}

#[tokio::test]
async fn what_is_held_is_bounded() {
    let gate = QuicGate::start().await;
    let client = gate.client().await;
    client.send(&half(DCID[0])).await;
    let mut sent = 0;
    let dcid = [DCID[0]; 8];
    while gate.quic().dropped(Dropped::HeldFull) == 0 {
        client.send(&early(&dcid, 1)).await;
        sent += early(&dcid, 1).len();
        assert!(sent < 4 * HELD_OCTETS_MAX, "held without end");
        tokio::task::yield_now().await;
    }
    let held = gate.quic().held_octets.value() as usize;
    assert!((HELD_OCTETS_MAX / 2..HELD_OCTETS_MAX + 8192).contains(&held), "{held}");
    // Initials of a hello that never ends.
    let client = gate.client().await;
    for number in 0..64 {
        client.send(&Plain { number, ..Plain::new(vec![1]) }.sealed()).await;
    }
    assert_eq!(client.closed(Version::V1).await, TURNED_AWAY);
    let refused = 64 - HELD_OCTETS_MAX as u64 / 1200;
    gate.until_dropped(Dropped::Refused, refused).await;
    // Flights of one pair.
    let client = gate.client().await;
    for i in 0..=PER_PAIR_MAX {
        client.send(&half(i as u8)).await;
    }
    gate.until_dropped(Dropped::Refused, refused + 1).await;
    assert_eq!(gate.quic().waiting.value(), 1 + PER_PAIR_MAX as u64);
    assert_eq!(gate.origin.count(), 0);
}

#[test]
fn octets_of_all_flights_together_are_bounded() {
    // More than fits in all, from as many addresses.
    let counters = Arc::new(Counters::default());
    let mut flights = Flights::new(16 << 10, Duration::from_secs(5), 100_000, counters.clone());
    let octets = Plain { octets: 16_000, ..Plain::new(crypto(0, &[1, 0, 0x20, 0])) }.sealed();
    let Arrival::Initial(first) = arrival(&octets) else { panic!("no Initial") };
    let shown = Shown { first: &first, octets: &octets, ecn: None, begins: true };
    let now = tokio::time::Instant::now();
    let reached = SocketAddr::from(([192, 0, 2, 1], 443));
    for i in 0..OCTETS_MAX as u32 / 16_000 {
        let client = SocketAddr::from((std::net::Ipv4Addr::from(i), 50_000));
        let step = flights.initial(Pair { client, reached }, &shown, now, &mut |_| panic!("no hello"));
        assert!(matches!(step, Step::Hold));
        assert!(counters.quic.held_octets.value() as usize <= OCTETS_MAX);
    }
    assert!(counters.quic.flights(FlightOutcome::Evicted) > 0);
    flights.expire(now + Duration::from_secs(6));
    assert_eq!((flights.count(), counters.quic.held_octets.value()), (0, 0));
}

#[tokio::test]
async fn a_hello_must_be_whole_in_time() {
    let set = |settings: &mut icpgate::http::Settings| settings.hello_timeout = Duration::from_millis(300);
    let gate = QuicGate::with(fixture::view(Default::default()), set).await;
    let client = gate.client().await;
    let message = Sketch::new(FILED).message();
    client.send(&Plain::new(crypto(0, &message[..60])).sealed()).await;
    gate.until_flights(FlightOutcome::TimedOut, 1).await;
    assert_eq!((gate.quic().waiting.value(), gate.quic().held_octets.value()), (0, 0));
    // The rest alone begins another flight and goes nowhere.
    client.send(&Plain { number: 1, ..Plain::new(crypto(60, &message[60..])) }.sealed()).await;
    gate.until_flights(FlightOutcome::TimedOut, 2).await;
    gate.origin_saw(&[]).await;
}

#[tokio::test]
async fn a_silent_flow_is_forgotten() {
    let set = |settings: &mut icpgate::http::Settings| settings.quic_idle = Duration::from_millis(300);
    let gate = QuicGate::with(fixture::view(Default::default()), set).await;
    let (client, _) = gate.established().await;
    gate.until_ended(PathEnd::Idle, 1).await;
    client.send(&short(&SERVER, 1)).await;
    gate.until_dropped(Dropped::NoFlow, 1).await;
    assert_eq!(gate.quic().paths.value(), 0);
}
