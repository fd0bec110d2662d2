//! `dnsdist` before the gate: the client that asked it is the one the gate knows, over UDP and TCP.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::ResponseCode;
use icpgate::dns::HeaderOutcome;
use icpgate::policy::{Rules, Sink};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use super::super::harness::binary::free_addr;
use super::super::harness::dns::{Answer, Ask, DnsGate, PATIENCE};
use super::super::harness::fixture;
use super::super::harness::upstream::records;
use super::upstreams::Peer;

/// Asks from one address of loopback.
async fn ask_from(client: &str, server: SocketAddr, ask: &Ask) -> Answer {
    let from: SocketAddr = SocketAddr::new(client.parse::<IpAddr>().expect("an address"), 0);
    let query = ask.octets();
    if ask.tcp {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(from).expect("binds");
        let mut stream = socket.connect(server).await.expect("connects");
        let length = u16::try_from(query.len()).expect("a message").to_be_bytes();
        stream.write_all(&[&length[..], &query].concat()).await.expect("writes");
        let length = timeout(PATIENCE, stream.read_u16()).await.expect("in time").expect("an answer");
        let mut res = vec![0; usize::from(length)];
        stream.read_exact(&mut res).await.expect("a whole message");
        return Answer(res);
    }
    let socket = UdpSocket::bind(from).await.expect("a socket");
    socket.connect(server).await.expect("connects");
    socket.send(&query).await.expect("sends");
    let mut buf = vec![0; 65_535];
    let length = timeout(PATIENCE, socket.recv(&mut buf)).await.expect("in time").expect("an answer");
    buf.truncate(length);
    Answer(buf)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dnsdist_tells_who_asks() {
    if !super::are_asked_for() {
        return;
    }
    let (sink, mut verdicts) = Sink::new();
    let gate = DnsGate::with_sink(fixture::view(Rules::default()), sink, |settings| {
        settings.proxy_protocol.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        settings.proxy_protocol.from = vec!["127.0.0.1/32".parse().expect("a prefix")];
        settings.allow_from = ["127.0.0.1/32", "127.0.0.2/32"].map(|net| net.parse().expect("a prefix")).to_vec();
    })
    .await;
    gate.upstream.addresses("www.nofile.cn", &["203.0.113.1"]).addresses("www.here.cn", &["203.0.113.2"]);
    gate.upstream.on("nofile.cn", "SOA", records(&["nofile.cn. 60 IN SOA ns. host. 1 2 3 4 60"]));
    let (proxied, addr) = (gate.proxied.expect("it listens"), free_addr());
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("dnsdist.conf");
    let text = format!(
        "setLocal(\"{addr}\")\nsetACL({{\"127.0.0.0/8\"}})\nsetSecurityPollSuffix(\"\")\n\
         newServer({{address=\"{proxied}\", useProxyProtocol=true, checkTimeout=10000, maxCheckFailures=30}})\n"
    );
    fs::write(&file, text).expect("writes");
    let file = file.display().to_string();
    let arguments = ["--supervised", "--disable-syslog", "-C", &file];
    let _dnsdist = Peer::start(addr, "dnsdist", &arguments).await;
    for tcp in [false, true] {
        let ask = |name: &str| Ask { tcp, ..Ask::new(name, "A") };
        let answer = ask_from("127.0.0.2", addr, &ask("www.nofile.cn")).await;
        assert!(answer.is_blocked(), "tcp: {tcp}");
        let record = timeout(PATIENCE, verdicts.recv()).await.expect("in time").expect("a record");
        assert_eq!(record.client, "127.0.0.2".parse::<IpAddr>().expect("an address"), "tcp: {tcp}");
        assert_eq!(ask_from("127.0.0.2", addr, &ask("www.here.cn")).await.addresses(), ["203.0.113.2"]);
        timeout(PATIENCE, verdicts.recv()).await.expect("in time").expect("a record");
        // Who may not ask may not ask through a proxy.
        let answer = ask_from("127.0.0.3", addr, &ask("www.here.cn")).await;
        assert_eq!(answer.code(), ResponseCode::Refused, "tcp: {tcp}");
    }
    let seen = HeaderOutcome::ALL.map(|outcome| (outcome.label(), gate.counters.proxy_headers(outcome)));
    assert!(seen[0].1 >= 6 && seen[1].1 >= 1, "clients, and its own checks: {seen:?}");
    assert!(seen[2..].iter().all(|(_, count)| *count == 0), "{seen:?}");
}
