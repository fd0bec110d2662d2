//! Modes, reloads, the drain, addresses, and datagrams in bulk.

use std::net::SocketAddr;
use std::time::Duration;

use icpgate::drain::Phase;
use icpgate::http::Settings;
use icpgate::http::flows::counters::{Dropped, FlightOutcome, PathEnd};
use icpgate::http::flows::udp::{Run, Udp};
use icpgate::http::quic::Version;
use icpgate::http::settings::QuicBlock;
use icpgate::policy::{Fault, Mode, Outcome, Reason, Rules};
use tokio::time::timeout;

use super::rows::REFUSED;
use crate::harness::fixture;
use crate::harness::http::PATIENCE;
use crate::harness::quic::{Plain, SCID, crypto};
use crate::harness::quic_gate::{FILED, QuicClient, QuicGate, SERVER, UNFILED, hello, short};
use crate::harness::tls::Sketch;

/// CONNECTION_REFUSED.
const TURNED_AWAY: u16 = 0x2;

#[tokio::test]
async fn without_data_nothing_passes() {
    let mut view = fixture::view(Rules::default());
    view.faults = vec![(Fault::RegistryMissing, Outcome::Block)];
    let gate = QuicGate::with(view, |_| {}).await;
    let client = gate.client().await;
    client.send(&hello(FILED).sealed()).await;
    assert_eq!(client.closed(Version::V1).await, TURNED_AWAY);
    gate.until_flights(FlightOutcome::NotReady, 1).await;
    assert_eq!(gate.origin.count(), 0);
}

#[tokio::test]
async fn observe_and_off_pass_what_can_be_read() {
    for mode in [Mode::Observe, Mode::Off] {
        let mut gate = QuicGate::with(fixture::view(Rules { mode, ..Rules::default() }), |_| {}).await;
        let client = gate.client().await;
        client.send(&hello(UNFILED).sealed()).await;
        gate.origin.nth(0).await;
        match gate.http.records.try_recv() {
            Ok(record) => {
                assert_eq!((mode, record.verdict.reason, record.enforced), (Mode::Observe, Reason::NotFiled, false));
            }
            Err(_) => assert_eq!(mode, Mode::Off),
        }
        client.send(&Plain { dcid: vec![1; 8], ..Plain::new(crypto(0, &[2, 0, 0, 0])) }.sealed()).await;
        gate.until_flights(FlightOutcome::Malformed, 1).await;
        assert_eq!(gate.origin.count(), 1);
    }
}

#[tokio::test]
async fn without_a_name_the_address_stands_for_it() {
    let mut gate = QuicGate::start().await;
    for sketch in [Sketch::with(Vec::new()), Sketch::new("203.0.113.9")] {
        let client = gate.client().await;
        client.send(&Plain::new(crypto(0, &sketch.message())).sealed()).await;
        assert_eq!(client.closed(Version::V1).await, REFUSED);
        let record = gate.http.records.recv().await.expect("a record");
        assert_eq!((record.verdict.reason, record.name), (Reason::IpSite, None));
    }
    assert_eq!(gate.origin.count(), 0);
}

#[tokio::test]
async fn a_block_may_be_silent() {
    let set = |settings: &mut Settings| settings.block.quic = QuicBlock::Drop;
    let gate = QuicGate::with(fixture::view(Rules::default()), set).await;
    let client = gate.client().await;
    client.send(&hello(UNFILED).sealed()).await;
    client.send(&Plain { dcid: vec![1; 8], ..Plain::new(vec![8]) }.sealed()).await;
    gate.until_dropped(Dropped::Refused, 2).await;
    assert_eq!(client.recv_now(), None);
    gate.origin_saw(&[]).await;
}

#[tokio::test]
async fn without_an_origin_nothing_passes() {
    let gate = QuicGate::with(fixture::view(Rules::default()), |settings| settings.fixed_quic = None).await;
    let client = gate.client().await;
    client.send(&hello(FILED).sealed()).await;
    assert_eq!(client.closed(Version::V1).await, TURNED_AWAY);
    assert_eq!(gate.origin.count(), 0);
}

#[tokio::test]
async fn an_open_flow_of_a_name_that_is_blocked_meanwhile_ends_after_the_grace() {
    let set = |settings: &mut Settings| settings.blocked_tunnel_grace = Some(Duration::from_millis(50));
    let gate = QuicGate::with(fixture::view(Rules::default()), set).await;
    let (client, path) = gate.established().await;
    gate.http.publish(Vec::new());
    gate.until_ended(PathEnd::Verdict, 1).await;
    client.send(&short(&SERVER, 1)).await;
    gate.until_dropped(Dropped::NoFlow, 1).await;
    gate.origin.send(path, &short(&SCID, 1)).await;
    client.send(&Plain { dcid: vec![7; 8], ..hello(FILED) }.sealed()).await;
    gate.until_flights(FlightOutcome::Blocked, 1).await;
    assert_eq!(gate.origin.count(), 2, "the hello and the Handshake packet from before");
}

#[tokio::test]
async fn a_flow_that_a_verdict_ended_does_not_go_on_over_a_later_path() {
    let set = |settings: &mut Settings| settings.blocked_tunnel_grace = Some(Duration::from_millis(50));
    let gate = QuicGate::with(fixture::view(Rules::default()), set).await;
    let (client, _) = gate.established().await;
    let other = gate.client().await;
    gate.http.publish(vec![fixture::filed(UNFILED, &[fixture::PROVIDER])]);
    gate.until_ended(PathEnd::Verdict, 1).await;
    // Both clients have a path of another name now.
    let path = gate.connect_on(&client, UNFILED, &[0x21; 8], &[0x31; 8]).await;
    let other_path = gate.connect_on(&other, UNFILED, &[0x22; 8], &[0x32; 8]).await;
    for client in [&client, &other] {
        client.send(&short(&SERVER, 1)).await;
    }
    gate.until_dropped(Dropped::Refused, 2).await;
    // What is of those names goes on, whatever it is called later.
    let seen = gate.origin.count();
    client.send(&short(&[0x31; 8], 2)).await;
    assert_eq!(gate.origin.nth(seen).await, (path, short(&[0x31; 8], 2)));
    other.send(&short(&[0x44; 8], 3)).await;
    assert_eq!(gate.origin.nth(seen + 1).await, (other_path, short(&[0x44; 8], 3)));
    // A server that gives the connection ID anew means another connection.
    gate.connect_on(&client, UNFILED, &[0x23; 8], &SERVER).await;
    let seen = gate.origin.count();
    client.send(&short(&SERVER, 4)).await;
    assert_eq!(gate.origin.nth(seen).await, (path, short(&SERVER, 4)));
    assert!(!gate.origin.datagrams().contains(&short(&SERVER, 1)));
}

#[tokio::test]
async fn open_flows_are_kept_where_so_configured_and_where_the_name_still_passes() {
    let set = |settings: &mut Settings| settings.blocked_tunnel_grace = Some(Duration::from_millis(50));
    let ends = QuicGate::with(fixture::view(Rules::default()), set).await;
    let keeps = QuicGate::with(fixture::view(Rules::default()), |s| s.blocked_tunnel_grace = None).await;
    let (client, path) = keeps.established().await;
    let (_other, _) = ends.established().await;
    let (still_filed, still_path) = ends.established_as(&[0x55; 8]).await;
    keeps.http.publish(Vec::new());
    ends.http.publish(fixture::filings());
    ends.http.publish(vec![fixture::filed("else-filed.cn", &[fixture::PROVIDER])]);
    ends.until_ended(PathEnd::Verdict, 2).await;
    // By then the other gate has had the time, too.
    client.send(&short(&SERVER, 1)).await;
    assert_eq!(keeps.origin.nth(2).await, (path, short(&SERVER, 1)));
    drop((still_filed, still_path));
}

#[tokio::test]
async fn a_draining_gate_takes_no_flight_and_ends_when_the_last_is_gone() {
    let set = |settings: &mut Settings| settings.quic_idle = Duration::from_millis(1500);
    let mut gate = QuicGate::with(fixture::view(Rules::default()), set).await;
    let (client, path) = gate.established().await;
    gate.http.drain.advance(Phase::Draining);
    let begun = std::time::Instant::now();
    loop {
        // The drain is noticed a moment later.
        let other = gate.client().await;
        other.send(&hello(FILED).sealed()).await;
        let refused = gate.quic().flights(FlightOutcome::Refused);
        gate.until("an answer", || {
            let quic = gate.quic();
            quic.flights(FlightOutcome::Refused) > refused
                || gate.origin.count() > 2
                || quic.flights(FlightOutcome::Passed) > 1
        })
        .await;
        if gate.quic().flights(FlightOutcome::Refused) > 0 {
            assert_eq!(other.closed(Version::V1).await, TURNED_AWAY);
            break;
        }
        assert!(begun.elapsed() < PATIENCE);
    }
    client.send(&short(&SERVER, 1)).await;
    gate.until("the open flow goes on", || gate.origin.seen().contains(&(path, short(&SERVER, 1)))).await;
    timeout(PATIENCE, &mut gate.http.running).await.expect("ends in time").expect("ends well");
    assert_eq!(gate.quic().paths.value(), 0);
}

#[tokio::test]
async fn answers_come_from_the_address_that_was_reached() {
    for (listen, reached) in [("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "::1")] {
        let set = |settings: &mut Settings| settings.quic_listen = vec![listen.parse().expect("an address")];
        let gate = QuicGate::with(fixture::view(Rules::default()), set).await;
        let addr = SocketAddr::new(reached.parse().expect("an address"), gate.addr.port());
        // Connected sockets take nothing from another address.
        let client = QuicClient::to(addr).await;
        client.send(&hello(UNFILED).sealed()).await;
        assert_eq!(client.closed(Version::V1).await, REFUSED);
        client.send(&Plain { dcid: vec![3; 8], ..hello(FILED) }.sealed()).await;
        let (path, _) = gate.origin.nth(0).await;
        gate.origin.send(path, &short(&SCID, 1)).await;
        assert_eq!(client.recv().await, short(&SCID, 1));
    }
}

#[tokio::test]
async fn datagrams_keep_their_boundaries_and_order_in_bulk() {
    let gate = QuicGate::start().await;
    let client = Udp::connect(gate.addr).expect("a socket");
    let send = |octets: &[u8], stride| {
        assert_eq!(client.send(gate.addr, None, &Run { octets, stride, ecn: None }), 0);
    };
    send(&hello(FILED).sealed(), 1200);
    gate.origin.nth(0).await;
    let mut expected = vec![hello(FILED).sealed()];
    for (count, last) in [(20, 300), (1, 7), (40, 1200), (3, 1)] {
        // So many of one size and a shorter one, in one call where the system can.
        let mut octets = Vec::new();
        for i in 0..=count {
            let size = if i == count { last } else { 1200 };
            let mut datagram = vec![0x40 | i as u8; size];
            datagram[0] = 0x41;
            octets.extend_from_slice(&datagram);
            expected.push(datagram);
        }
        send(&octets, 1200);
        gate.origin.nth(expected.len() - 1).await;
    }
    assert!(gate.origin.datagrams() == expected);
    let path = gate.origin.seen()[0].0;
    let mut buffers = icpgate::http::flows::udp::Buffers::new(32);
    for i in 0..100u8 {
        gate.origin.send(path, &vec![0x40 | (i & 0x3f); 100 + usize::from(i)]).await;
    }
    let mut got = Vec::new();
    while got.len() < 100 {
        timeout(PATIENCE, client.readable()).await.expect("in time").expect("readable");
        let Ok(count) = client.receive(&mut buffers) else { continue };
        got.extend(buffers.runs(count).flat_map(|(run, ..)| run.datagrams().map(<[u8]>::to_vec).collect::<Vec<_>>()));
    }
    let expected: Vec<Vec<u8>> = (0..100u8).map(|i| vec![0x40 | (i & 0x3f); 100 + usize::from(i)]).collect();
    assert!(got == expected);
    assert_eq!(gate.quic().dropped(Dropped::SendFailed), 0);
}
