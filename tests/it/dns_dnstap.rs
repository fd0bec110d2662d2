//! dnstap: what a reader of its own gets over a unix socket, over TCP and in a file, and that nobody waits for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Instant;

use icpgate::dns::Settings;
use icpgate::dns::handler::{Client, Taken};
use icpgate::dns::send::Transport;
use icpgate::dns::settings::{BlockAction, Dnstap, DnstapTarget};
use icpgate::drain::Phase;
use icpgate::policy::{Mode, Rules};
use icpgate::proxy_header::{ProxyVersion, write};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket, UnixListener, UnixStream};
use tokio::time::timeout;

use crate::allocations;
use crate::harness::dns::{Answer, Ask, DnsGate, PATIENCE, over_udp};
use crate::harness::dnstap::{FINISH, Fields, Frame, READY, START, STOP, control, read_frame, shake_hands};
use crate::harness::fixture;

const QUERY: u64 = 5;
const RESPONSE: u64 = 6;

pub fn dnstap(to: DnstapTarget) -> Dnstap {
    Dnstap { to, identity: "gate-1".to_owned(), queries: true, responses: true }
}

pub async fn gate(to: DnstapTarget, rules: Rules, change: impl FnOnce(&mut Settings)) -> DnsGate {
    let gate = DnsGate::with(fixture::view(rules), |settings| {
        settings.dnstap = Some(dnstap(to));
        change(settings);
    })
    .await;
    gate.upstream.addresses("www.nofile.cn", &["203.0.113.1"]).addresses("www.far.net", &["192.0.2.1"]);
    gate
}

/// A reader at a unix socket, and the gate that writes to it.
async fn over_unix(rules: Rules, change: impl FnOnce(&mut Settings)) -> (DnsGate, UnixStream, TempDir) {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("tap");
    let listener = UnixListener::bind(&path).expect("binds");
    let gate = gate(DnstapTarget::Unix(path), rules, change).await;
    let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a writer");
    shake_hands(&mut stream).await;
    (gate, stream, dir)
}

/// The next frame's `Dnstap` and its `Message`.
async fn next<R: AsyncRead + Unpin>(reader: &mut R) -> (Fields, Fields) {
    let Some(Frame::Data(data)) = read_frame(reader).await else { panic!("no data") };
    let dnstap = Fields::read(&data);
    assert_eq!((dnstap.number(15), dnstap.text(1).as_str()), (Some(1), "gate-1"));
    assert!(dnstap.text(2).starts_with("icpgate "), "{}", dnstap.text(2));
    let message = dnstap.inner(14).expect("a message");
    (dnstap, message)
}

#[tokio::test]
async fn queries_and_responses_are_copied_as_they_are() {
    let (gate, mut reader, _dir) = over_unix(Rules::default(), |_| {}).await;
    for (tcp, protocol) in [(false, 1), (true, 2)] {
        // From the upstream, then from the cache.
        for _ in 0..2 {
            let ask = Ask { tcp, ..Ask::new("www.far.net", "A") };
            let answer = gate.ask_as(&ask).await;
            let (_, query) = next(&mut reader).await;
            assert_eq!((query.number(1), query.number(2), query.number(3)), (Some(QUERY), Some(1), Some(protocol)));
            assert_eq!(query.octets(10), Some(&ask.octets()[..]));
            assert_eq!(query.octets(4), Some(&[127, 0, 0, 1][..]));
            assert_eq!(query.octets(5), Some(&[127, 0, 0, 1][..]));
            assert_eq!(query.number(7), Some(u64::from(gate.addr.port())));
            assert!(query.number(6).is_some_and(|port| port > 0) && query.octets(14).is_none());
            let (dnstap, response) = next(&mut reader).await;
            assert_eq!((response.number(1), response.octets(14)), (Some(RESPONSE), Some(&answer.0[..])));
            assert_eq!(response.number(6), query.number(6));
            assert!(response.octets(10).is_none() && response.inner(15).is_none() && dnstap.octets(3).is_none());
            let seconds = fixture::seconds(fixture::noon(fixture::TODAY));
            assert_eq!(
                (query.number(8), response.number(8), response.number(12)),
                (Some(seconds), Some(seconds), Some(seconds))
            );
        }
    }
    // What is answered with an error. What is no query is not copied.
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.send_to(&[0x12, 0x34, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0], gate.addr).await.expect("sends");
    over_udp(gate.addr, &[0x12, 0x34, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0], PATIENCE).await.expect("an answer");
    let (_, query) = next(&mut reader).await;
    assert_eq!(query.octets(10).map(<[u8]>::len), Some(12));
    let (_, response) = next(&mut reader).await;
    assert_eq!(response.octets(14).map(|octets| octets[3] & 0xf), Some(4));
    assert_eq!((gate.counters.dnstap_dropped.value(), gate.counters.dnstap_up.value()), (0, 1));
}

#[tokio::test]
async fn the_policy_that_blocks_is_told() {
    for (action, expected) in [
        (BlockAction::Redirect, Some(6)),
        (BlockAction::Nxdomain, Some(1)),
        (BlockAction::Nodata, Some(2)),
        (BlockAction::Refused, None),
    ] {
        let (gate, mut reader, _dir) = over_unix(Rules::default(), |settings| settings.block.action = action).await;
        for _ in 0..2 {
            let answer = gate.ask("www.nofile.cn", "A").await;
            next(&mut reader).await;
            let (dnstap, response) = next(&mut reader).await;
            let policy = response.inner(15).expect("a policy");
            assert_eq!((policy.text(1).as_str(), policy.text(2).as_str()), ("ICP", "B1"));
            assert_eq!((policy.number(3), policy.number(4)), (expected, Some(1)), "{action:?}");
            assert_eq!(policy.octets(5), Some(&b"\x06nofile\x02cn\0"[..]));
            // The same words, and the same decision, as the client has.
            assert_eq!(dnstap.text(3), answer.reason());
        }
    }
    let (gate, mut reader, _dir) = over_unix(Rules { mode: Mode::Observe, ..Rules::default() }, |_| {}).await;
    assert_eq!(gate.ask("www.nofile.cn", "A").await.addresses(), ["203.0.113.1"]);
    next(&mut reader).await;
    let policy = next(&mut reader).await.1.inner(15).expect("a policy");
    assert_eq!(policy.number(3), Some(3), "it passes");
}

#[tokio::test]
async fn behind_a_proxy_it_is_the_client() {
    let (gate, mut reader, _dir) = over_unix(Rules::default(), |settings| {
        settings.proxy_protocol.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        settings.proxy_protocol.from = vec!["127.0.0.1/32".parse().expect("a prefix")];
        settings.allow_from = vec!["198.51.100.0/24".parse().expect("a prefix")];
    })
    .await;
    let (client, reached): (SocketAddr, SocketAddr) =
        (([198, 51, 100, 7], 4000).into(), (Ipv4Addr::new(203, 0, 113, 53), 53).into());
    let mut packet = Vec::new();
    write(ProxyVersion::V2, client, reached, None, &mut packet);
    packet.extend_from_slice(&Ask::new("www.far.net", "A").octets());
    over_udp(gate.proxied.expect("it listens"), &packet, PATIENCE).await.expect("an answer");
    let (_, query) = next(&mut reader).await;
    assert_eq!((query.octets(4), query.number(6)), (Some(&[198, 51, 100, 7][..]), Some(4000)));
    assert_eq!((query.octets(5), query.number(7)), (Some(&[203, 0, 113, 53][..]), Some(53)));
    assert_eq!(query.octets(10), Some(&Ask::new("www.far.net", "A").octets()[..]), "without the header");
}

#[tokio::test]
async fn what_is_not_asked_for_is_not_copied() {
    let only = |queries: bool| {
        move |settings: &mut Settings| {
            let dnstap = settings.dnstap.as_mut().expect("it is on");
            (dnstap.queries, dnstap.responses) = (queries, !queries);
        }
    };
    for (queries, kind) in [(true, QUERY), (false, RESPONSE)] {
        let (gate, mut reader, _dir) = over_unix(Rules::default(), only(queries)).await;
        for _ in 0..2 {
            gate.ask("www.far.net", "A").await;
            assert_eq!(next(&mut reader).await.1.number(1), Some(kind));
        }
    }
}

#[tokio::test]
async fn a_reader_that_goes_is_followed_by_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let gate = gate(DnstapTarget::Tcp(listener.local_addr().expect("an address")), Rules::default(), |_| {}).await;
    // This one does not speak the protocol.
    let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a writer");
    assert!(matches!(read_frame(&mut stream).await, Some(Frame::Control(READY, _))));
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("writes");
    for round in 1..=2 {
        let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a writer");
        shake_hands(&mut stream).await;
        gate.ask("www.far.net", "A").await;
        assert_eq!(next(&mut stream).await.1.number(1), Some(QUERY));
        assert_eq!(next(&mut stream).await.1.number(1), Some(RESPONSE));
        assert_eq!((gate.counters.dnstap_opened.value(), gate.counters.dnstap_errors.value()), (round, round));
    }
}

#[tokio::test]
async fn the_last_words_are_stop_and_finish() {
    let (gate, mut reader, _dir) = over_unix(Rules::default(), |_| {}).await;
    gate.ask("www.far.net", "A").await;
    gate.advance(Phase::Draining);
    next(&mut reader).await;
    next(&mut reader).await;
    assert_eq!(read_frame(&mut reader).await, Some(Frame::Control(STOP, Vec::new())));
    reader.write_all(&control(FINISH, false)).await.expect("writes");
    assert_eq!(timeout(PATIENCE, reader.read(&mut [0; 8])).await.expect("in time").expect("the end"), 0);
    assert_eq!((gate.counters.dnstap_written.value(), gate.counters.dnstap_errors.value()), (2, 0));
}

#[tokio::test]
async fn without_a_reader_clients_are_answered_all_the_same() {
    let dir = TempDir::new().expect("a directory");
    let gate = gate(DnstapTarget::Unix(dir.path().join("nobody")), Rules::default(), |_| {}).await;
    let deadline = Instant::now() + PATIENCE;
    while gate.counters.dnstap_errors.value() == 0 {
        assert!(Instant::now() < deadline, "no failure is counted");
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        assert_eq!(gate.ask("www.far.net", "A").await.addresses(), ["192.0.2.1"]);
    }
    gate.advance(Phase::Draining);
    while gate.counters.dnstap_dropped.value() < 6 {
        assert!(Instant::now() < deadline, "no loss is counted");
        tokio::task::yield_now().await;
    }
}

/// All frames of a file; it has to end with STOP.
async fn frames_of(path: &Path) -> Vec<Fields> {
    let octets = std::fs::read(path).expect("a file");
    let mut rest = &octets[..];
    assert!(matches!(read_frame(&mut rest).await, Some(Frame::Control(START, _))));
    let mut res = Vec::new();
    loop {
        match read_frame(&mut rest).await {
            Some(Frame::Data(data)) => res.push(Fields::read(&data)),
            Some(Frame::Control(STOP, _)) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(rest.is_empty());
    res
}

async fn until_stopped(path: &Path) {
    let deadline = Instant::now() + PATIENCE;
    let stop = control(STOP, false);
    while !std::fs::read(path).is_ok_and(|octets| octets.ends_with(&stop)) {
        assert!(Instant::now() < deadline, "no STOP in {}", path.display());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_file_is_begun_anew_and_follows_a_move() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("tap.fstrm");
    std::fs::write(&path, b"of an earlier run").expect("writes");
    let gate = gate(DnstapTarget::File(path.clone()), Rules::default(), |_| {}).await;
    let answer: Answer = gate.ask("www.nofile.cn", "A").await;
    assert!(answer.is_blocked());
    let deadline = Instant::now() + PATIENCE;
    while gate.counters.dnstap_written.value() < 2 {
        assert!(Instant::now() < deadline, "nothing is written");
        tokio::task::yield_now().await;
    }
    assert_eq!(std::fs::read(dir.path().join("tap.fstrm.old")).expect("the old one"), b"of an earlier run");
    let moved = dir.path().join("moved");
    std::fs::rename(&path, &moved).expect("moves");
    until_stopped(&moved).await;
    assert_eq!(frames_of(&moved).await.len(), 2);
    gate.ask("www.far.net", "A").await;
    gate.advance(Phase::Draining);
    until_stopped(&path).await;
    assert_eq!(frames_of(&path).await.len(), 2);
}

#[tokio::test]
async fn a_gate_without_it_allocates_nothing_for_it() {
    /// The name of the query, its octets, and the answer.
    const OF_AN_ANSWER: u64 = 3;
    let gate = DnsGate::start().await;
    gate.upstream.addresses("www.far.net", &["192.0.2.1"]);
    gate.ask("www.far.net", "A").await;
    let packet = Ask::new("www.far.net", "A").octets();
    let client = Client::new((Ipv4Addr::LOCALHOST, 40_000).into(), None, Transport::Udp);
    let once = || assert!(matches!(gate.gate.take(&packet, client), Taken::Answered(_)));
    once();
    let count = allocations::count(once);
    assert!(count <= OF_AN_ANSWER, "{count} allocations");
}

#[test]
fn wrong_keys_are_told_with_what_is_right() {
    let problems = |text: &str| {
        let text = format!("version = 1\n[dns]\n{text}\n");
        icpgate::config::parse("t.toml", &text, &[]).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let expected = "expected \"unix:///PATH\", \"tcp://ADDRESS:PORT\" or \"file:///PATH\"";
    for to in ["unix://relative", "tcp://127.0.0.1", "udp://127.0.0.1:6000", "/run/tap", "file:///"] {
        let found = problems(&format!("dnstap = {{ to = \"{to}\" }}"));
        assert!(found.contains(&format!("t.toml:3:17: dns.dnstap.to = \"{to}\": {expected}")), "{to}:\n{found}");
    }
    let found = problems("dnstap = { to = \"tcp://[::1]:6000\", messages = [] }");
    assert!(found.contains("dns.dnstap.messages = \"\": nothing would be copied"), "{found}");
    for good in ["unix:///run/tap", "tcp://[::1]:6000", "file:///var/log/tap"] {
        assert_eq!(problems(&format!("dnstap = {{ to = \"{good}\" }}")), "", "{good}");
    }
}
