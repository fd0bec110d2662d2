//! The listener for proxies: who asks is who a listed proxy says, and everything else is dropped and counted.

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use icpgate::dns::cookies::Cookies;
use icpgate::dns::rate::RateLimit;
use icpgate::dns::{HeaderOutcome, Settings};
use icpgate::policy::{Rules, Sink};
use icpgate::proxy_header::{ProxyVersion, write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::harness::dns::{Answer, Ask, DnsGate, PATIENCE, over_tcp, over_udp};
use crate::harness::fixture;

/// Clients that may ask, and one that may not.
const CLIENTS: [&str; 3] = ["198.51.100.7:40000", "198.51.100.8:40000", "[2001:db8:77::1]:40000"];
const STRANGER: &str = "192.0.2.77:40000";
/// `LOCAL`: the proxy asks for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn settings(settings: &mut Settings) {
    settings.proxy_protocol.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    settings.proxy_protocol.from = vec!["127.0.0.1/32".parse().expect("a prefix")];
    settings.allow_from = ["198.51.100.0/24", "2001:db8:77::/64"].map(|net| net.parse().expect("a prefix")).to_vec();
}

async fn gate_with(sink: Sink, change: impl FnOnce(&mut Settings)) -> (DnsGate, SocketAddr) {
    let with_proxies = |all: &mut Settings| {
        settings(all);
        change(all);
    };
    let gate = DnsGate::with_sink(fixture::view(Rules::default()), sink, with_proxies).await;
    gate.upstream.addresses("www.nofile.cn", &["203.0.113.1"]).addresses("www.far.net", &["192.0.2.1"]);
    let proxied = gate.proxied.expect("it listens");
    (gate, proxied)
}

async fn gate() -> (DnsGate, SocketAddr) {
    gate_with(Sink::closed(), |_| {}).await
}

/// The header of a query from `client`, by datagrams or a stream.
fn header(client: &str, is_datagram: bool) -> Vec<u8> {
    let client: SocketAddr = client.parse().expect("an address");
    let reached = if client.is_ipv4() { "203.0.113.53:53" } else { "[2001:db8::53]:53" };
    let mut res = Vec::new();
    write(ProxyVersion::V2, client, reached.parse().expect("an address"), None, &mut res);
    res[13] += u8::from(is_datagram);
    res
}

async fn ask_udp(addr: SocketAddr, client: &str, query: &[u8]) -> Answer {
    let packet = [&header(client, true), query].concat();
    Answer(over_udp(addr, &packet, PATIENCE).await.unwrap_or_else(|| panic!("no answer for {client}")))
}

/// Sends `octets` over a new connection, then these queries with their lengths; the answers until its end.
async fn ask_tcp(addr: SocketAddr, octets: &[u8], queries: &[Vec<u8>]) -> Vec<Answer> {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    let mut all = octets.to_vec();
    for query in queries {
        all.extend_from_slice(&u16::try_from(query.len()).expect("a message").to_be_bytes());
        all.extend_from_slice(query);
    }
    // In pieces, as a network may bring them; the gate may have ended the connection before the last one.
    for piece in all.chunks(5) {
        if stream.write_all(piece).await.is_err() {
            break;
        }
    }
    let mut res = Vec::new();
    while res.len() < queries.len() {
        let Ok(Ok(length)) = timeout(PATIENCE, stream.read_u16()).await else { break };
        let mut message = vec![0; usize::from(length)];
        stream.read_exact(&mut message).await.expect("a whole message");
        res.push(Answer(message));
    }
    res
}

#[tokio::test]
async fn the_client_of_the_header_is_who_asks() {
    let (gate, addr) = gate().await;
    let query = Ask::new("www.nofile.cn", "A").octets();
    for client in CLIENTS {
        for is_datagram in [true, false] {
            // The family of the other transport does no harm: it tells how the client came to the proxy.
            let packet = [&header(client, is_datagram)[..], &query].concat();
            let answer = Answer(over_udp(addr, &packet, PATIENCE).await.expect("an answer"));
            assert!(answer.is_blocked(), "{client}");
            let answers = ask_tcp(addr, &header(client, is_datagram), &[query.clone(), query.clone()]).await;
            assert_eq!(answers.iter().filter(|answer| answer.is_blocked()).count(), 2, "{client}");
        }
    }
    // The proxy itself is on no list of clients, nor is this one.
    for first in [LOCAL.to_vec(), header(STRANGER, true)] {
        let answer = Answer(over_udp(addr, &[&first[..], &query].concat(), PATIENCE).await.expect("an answer"));
        assert_eq!((answer.code(), answer.errors()[0].0), (ResponseCode::Refused, 18));
        let answers = ask_tcp(addr, &first, std::slice::from_ref(&query)).await;
        assert_eq!((answers[0].code(), answers[0].errors()[0].0), (ResponseCode::Refused, 18));
    }
    let outcomes = [HeaderOutcome::Client, HeaderOutcome::Own].map(|outcome| gate.counters.proxy_headers(outcome));
    assert_eq!(outcomes, [14, 2]);
    // The listener for clients knows no headers.
    let packet = [&header(CLIENTS[0], true)[..], &query].concat();
    let answer = over_udp(gate.addr, &packet, PATIENCE).await;
    assert!(answer.is_none_or(|octets| Answer(octets).code() != ResponseCode::NoError));
}

#[tokio::test]
async fn an_address_carried_in_another_family_is_known_as_what_it_is() {
    let (_gate, addr) = gate().await;
    let answer = ask_udp(addr, "[::ffff:198.51.100.7]:40000", &Ask::new("www.far.net", "A").octets()).await;
    assert_eq!(answer.addresses(), ["192.0.2.1"]);
}

#[tokio::test]
async fn what_has_no_header_is_dropped_and_counted() {
    let (gate, addr) = gate().await;
    let query = Ask::new("www.far.net", "A").octets();
    let whole = header(CLIENTS[0], true);
    let cut = whole[..20].to_vec();
    let unknown_version = [&whole[..12], &[0x31], &whole[13..], &query].concat();
    let text = [&b"PROXY TCP4 198.51.100.7 203.0.113.53 40000 53\r\n"[..], &query].concat();
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(addr).await.expect("connects");
    for packet in [&query, &text, &cut, &unknown_version] {
        socket.send(packet).await.expect("sends");
    }
    // The next datagram in line is answered, and the first to be.
    let mut good = [&whole[..], &query].concat();
    good[whole.len()] ^= 0x5a;
    socket.send(&good).await.expect("sends");
    let mut buf = [0; 1500];
    timeout(PATIENCE, socket.recv(&mut buf)).await.expect("an answer").expect("an answer");
    assert_eq!(buf[0], query[0] ^ 0x5a);
    let udp = [HeaderOutcome::Absent, HeaderOutcome::Malformed].map(|outcome| gate.counters.proxy_headers(outcome));
    assert_eq!(udp, [2, 2]);
    // A query without a header ends its connection, as does a header that is none.
    assert!(over_tcp(addr, &query).await.is_none());
    let huge = [&whole[..14], &[0xff, 0xff]].concat();
    for first in [&text[..47], &unknown_version[..28], &huge] {
        assert!(ask_tcp(addr, first, std::slice::from_ref(&query)).await.is_empty());
    }
    let tcp = [HeaderOutcome::Absent, HeaderOutcome::Malformed].map(|outcome| gate.counters.proxy_headers(outcome));
    assert_eq!(tcp, [4, 4]);
    assert_eq!(gate.upstream.count("www.far.net", "A"), 1);
}

#[tokio::test]
async fn who_is_no_listed_proxy_is_not_listened_to() {
    let elsewhere = |settings: &mut Settings| settings.proxy_protocol.from = vec!["192.0.2.1/32".parse().expect("one")];
    let (gate, addr) = gate_with(Sink::closed(), elsewhere).await;
    let query = Ask::new("www.far.net", "A").octets();
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.send_to(&[&header(CLIENTS[0], true), &query[..]].concat(), addr).await.expect("sends");
    let deadline = std::time::Instant::now() + PATIENCE;
    while gate.counters.proxy_headers(HeaderOutcome::Unlisted) < 1 {
        assert!(std::time::Instant::now() < deadline, "not counted");
        tokio::task::yield_now().await;
    }
    assert!(ask_tcp(addr, &header(CLIENTS[0], false), std::slice::from_ref(&query)).await.is_empty());
    assert_eq!(gate.counters.proxy_headers(HeaderOutcome::Unlisted), 2);
    assert_eq!(gate.upstream.log().len(), 0);
}

#[tokio::test]
async fn cookies_limits_and_the_journal_see_the_client() {
    let (sink, mut records) = Sink::new();
    let (gate, addr) = gate_with(sink, |settings| {
        settings.cookie_secrets = vec![[9; 16]];
        settings.rate_limit = RateLimit { responses_per_second: 2, slip: 0, ..RateLimit::default() };
        settings.tcp_connections_per_client_max = 1;
    })
    .await;
    let cookie = *b"a client";
    let ask = Ask { options: vec![(10, cookie.to_vec())], ..Ask::new("www.nofile.cn", "A") };
    let client: SocketAddr = CLIENTS[0].parse().expect("an address");
    let answer = ask_udp(addr, CLIENTS[0], &ask.octets()).await;
    let expected = Cookies::new(&[[9; 16]]).answer(cookie, client.ip(), gate.view.now());
    assert!(answer.0.windows(24).any(|octets| octets == expected), "a cookie for the client");
    let record = records.recv().await.expect("a record");
    assert_eq!(record.client, client.ip());
    // One network has used up its share, another has not.
    let query = Ask::new("www.nofile.cn", "A").octets();
    ask_udp(addr, CLIENTS[1], &query).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(addr).await.expect("connects");
    socket.send(&[&header(CLIENTS[1], true), &query[..]].concat()).await.expect("sends");
    ask_udp(addr, CLIENTS[2], &query).await;
    assert_eq!(gate.counters.limited_dropped.value(), 1);
    // Each client has its connection, over one proxy, and the second of a client is refused.
    let mut first = TcpStream::connect(addr).await.expect("connects");
    let framed = |query: &[u8]| [&u16::try_from(query.len()).expect("a message").to_be_bytes()[..], query].concat();
    first.write_all(&[header(CLIENTS[0], false), framed(&query)].concat()).await.expect("writes");
    let length = timeout(PATIENCE, first.read_u16()).await.expect("in time").expect("an answer");
    first.read_exact(&mut vec![0; usize::from(length)]).await.expect("a whole message");
    assert_eq!(ask_tcp(addr, &header(CLIENTS[1], false), std::slice::from_ref(&query)).await.len(), 1);
    assert_eq!(ask_tcp(addr, &header(CLIENTS[0], false), std::slice::from_ref(&query)).await.len(), 0);
    assert_eq!(gate.counters.connections_refused.value(), 1);
}

#[test]
fn wrong_keys_are_told_with_what_is_right() {
    let problems = |text: &str| {
        let text = format!("version = 1\n[dns]\n{text}\n");
        icpgate::config::parse("t.toml", &text, &[]).err().map(|error| error.to_string()).unwrap_or_default()
    };
    for (text, expected) in [
        (
            "proxy-protocol = { listen = [\"127.0.0.1:53\"] }",
            "dns.proxy-protocol.from = \"\": is needed by dns.proxy-protocol.listen; expected prefixes of the proxies",
        ),
        (
            "proxy-protocol = { listen = [\"127.0.0.1:53\"], from = [\"proxy\"] }",
            "t.toml:3:55: dns.proxy-protocol.from[0] = \"proxy\": expected a prefix",
        ),
        (
            "listen = [\"127.0.0.1:53\"]\nproxy-protocol = { listen = [\"127.0.0.1:53\"], from = [\"10.0.0.1\"] }",
            "t.toml:4:30: dns.proxy-protocol.listen[0] = \"127.0.0.1:53\": is another listener's of the DNS plane as well",
        ),
    ] {
        let found = problems(text);
        assert!(found.contains(expected), "{text}:\n{found}");
    }
}
