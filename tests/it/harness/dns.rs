//! A DNS plane on port 0 before a scripted upstream, and a client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RData, RecordType};
use icpgate::dns::settings::{UpstreamGroup, UpstreamPolicy, UpstreamServer, UpstreamTransport};
use icpgate::dns::{Counters, Plane, Settings, wire};
use icpgate::drain::{DrainSignal, Phase};
use icpgate::model::DomainName;
use icpgate::policy::{Clock, Rules, SharedView, Sink, View};
use icpgate::sockets::Sockets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::fixture;
use super::upstream::Upstream;

/// Long enough for any answer on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A running plane.
pub struct DnsGate {
    pub addr: SocketAddr,
    /// The encrypted listeners: TLS, HTTPS, QUIC.
    pub secure: [Option<SocketAddr>; 3],
    /// The listener for proxies.
    pub proxied: Option<SocketAddr>,
    pub upstream: Upstream,
    pub view: SharedView,
    pub clock: Arc<AtomicU64>,
    pub counters: Arc<Counters>,
    pub gate: Arc<icpgate::dns::handler::Gate>,
    drain: DrainSignal,
}

impl DnsGate {
    /// The fixture under default rules.
    pub async fn start() -> Self {
        Self::with(fixture::view(Rules::default()), |_| {}).await
    }

    /// `view` before a scripted upstream, with settings changed by `change`.
    pub async fn with(view: View, change: impl FnOnce(&mut Settings)) -> Self {
        Self::with_sink(view, Sink::closed(), change).await
    }

    /// The same, with verdicts handed to `sink`.
    pub async fn with_sink(view: View, sink: Sink, change: impl FnOnce(&mut Settings)) -> Self {
        let upstream = Upstream::start().await;
        let mut settings = Settings::new();
        settings.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        settings.upstream_timeout = Duration::from_millis(800);
        settings.resolve_timeout = Duration::from_secs(2);
        settings.block.ipv4 = vec!["192.0.2.200".parse().expect("an address")];
        settings.block.ipv6 = vec!["2001:db8:ffff::1".parse().expect("an address")];
        settings.upstreams = vec![group("", &[upstream.addr])];
        change(&mut settings);
        let clock = Arc::new(AtomicU64::new(fixture::seconds(fixture::noon(fixture::TODAY))));
        let view = SharedView::with_clock(view, Clock::Manual(clock.clone()));
        let counters = Arc::new(Counters::default());
        let plane =
            Plane::bind(settings, view.clone(), sink, counters.clone(), &Sockets::default()).await.expect("binds");
        let (addr, gate) = (plane.addrs()[0], plane.gate());
        let secure = [plane.tls_addrs(), plane.https_addrs(), plane.quic_addrs()].map(|addrs| addrs.first().copied());
        let proxied = plane.proxied_addrs().first().copied();
        let (drain, watch) = DrainSignal::new();
        tokio::spawn(plane.run(watch));
        Self { addr, secure, proxied, upstream, view, clock, counters, gate, drain }
    }

    /// Asks over UDP with OPT.
    pub async fn ask(&self, name: &str, qtype: &str) -> Answer {
        self.ask_as(&Ask::new(name, qtype)).await
    }

    /// Asks in a chosen way.
    pub async fn ask_as(&self, ask: &Ask) -> Answer {
        Answer(exchange(self.addr, ask).await.unwrap_or_else(|| panic!("no answer to {} {}", ask.name, ask.qtype)))
    }

    /// Goes on to `phase`.
    pub fn advance(&self, phase: Phase) {
        self.drain.advance(phase);
    }

    /// Makes it noon of `day` for the gate.
    pub fn set_day(&self, day: &str) {
        self.clock.store(fixture::seconds(fixture::noon(day)), Ordering::Relaxed);
    }

    /// Replaces the registry by these rows.
    pub fn publish(&self, filings: Vec<icpgate::registry::Filing>) {
        let generation = self.view.load().registry.generation() + 1;
        let snapshot = Arc::new(fixture::snapshot(generation, filings));
        self.view.update(|view| view.registry = snapshot.clone());
    }
}

impl Drop for DnsGate {
    fn drop(&mut self) {
        self.drain.advance(Phase::Stopped);
    }
}

/// A group of UDP servers.
pub fn group(suffix: &str, servers: &[SocketAddr]) -> UpstreamGroup {
    let server =
        |&addr: &SocketAddr| UpstreamServer { text: format!("udp://{addr}"), addr, transport: UpstreamTransport::Udp };
    let suffix = if suffix.is_empty() { DomainName::root() } else { fixture::name(suffix) };
    UpstreamGroup {
        suffix,
        servers: servers.iter().map(server).collect(),
        policy: UpstreamPolicy::Fastest,
        hedges: true,
    }
}

/// How to ask.
#[derive(Clone, Debug)]
pub struct Ask {
    pub name: String,
    pub qtype: String,
    pub edns: bool,
    pub udp_octets: u16,
    pub dnssec_ok: bool,
    pub authentic_data: bool,
    pub checking_disabled: bool,
    pub recursion_desired: bool,
    pub tcp: bool,
    pub options: Vec<(u16, Vec<u8>)>,
}

impl Ask {
    pub fn new(name: &str, qtype: &str) -> Self {
        Self {
            name: name.to_owned(),
            qtype: qtype.to_owned(),
            edns: true,
            udp_octets: 1232,
            dnssec_ok: false,
            authentic_data: false,
            checking_disabled: false,
            recursion_desired: true,
            tcp: false,
            options: Vec::new(),
        }
    }

    pub fn octets(&self) -> Vec<u8> {
        let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.authentic_data = self.authentic_data;
        let name = Name::from_ascii(&self.name).expect("a name");
        message.add_query(Query::query(name, rtype(&self.qtype)));
        if self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(self.udp_octets).set_dnssec_ok(self.dnssec_ok);
            for (code, data) in &self.options {
                edns.options_mut().insert(EdnsOption::Unknown(*code, data.clone()));
            }
            message.edns = Some(edns);
        }
        message.to_vec().expect("encodes")
    }
}

/// A query packet with these labels, type and class as they are, and an OPT.
pub fn packet(labels: &[&[u8]], qtype: u16) -> Vec<u8> {
    let mut res = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in labels {
        res.push(u8::try_from(label.len()).expect("a label"));
        res.extend_from_slice(label);
    }
    res.push(0);
    res.extend_from_slice(&qtype.to_be_bytes());
    res.extend_from_slice(&[0, 1, 0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
    res
}

/// A record type by its name, or as `TYPE65400` (RFC 3597 section 5).
pub fn rtype(text: &str) -> RecordType {
    let number = text.strip_prefix("TYPE").and_then(|number| number.parse::<u16>().ok());
    number.map_or_else(|| text.parse().expect(text), RecordType::from)
}

/// Sends one question and waits for its answer's octets.
pub async fn exchange(addr: SocketAddr, ask: &Ask) -> Option<Vec<u8>> {
    if ask.tcp { over_tcp(addr, &ask.octets()).await } else { over_udp(addr, &ask.octets(), PATIENCE).await }
}

/// One datagram there, one back; `None` for silence and where nobody listens.
pub async fn over_udp(addr: SocketAddr, packet: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(addr).await.expect("connects");
    socket.send(packet).await.expect("sends");
    let mut buf = vec![0; 65_535];
    // A port where nobody listens is an error here.
    let length = timeout(patience, socket.recv(&mut buf)).await.ok()?.ok()?;
    buf.truncate(length);
    Some(buf)
}

/// One message there, one back, over a new connection.
pub async fn over_tcp(addr: SocketAddr, packet: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    let length = u16::try_from(packet.len()).expect("a message");
    stream.write_all(&[&length.to_be_bytes()[..], packet].concat()).await.expect("writes");
    let length = timeout(PATIENCE, stream.read_u16()).await.ok()?.ok()?;
    let mut res = vec![0; usize::from(length)];
    stream.read_exact(&mut res).await.ok()?;
    Some(res)
}

/// An answer's octets with ways to read them.
pub struct Answer(pub Vec<u8>);

impl Answer {
    pub fn message(&self) -> Message {
        Message::from_vec(&self.0).expect("a well-formed answer")
    }

    pub fn code(&self) -> ResponseCode {
        self.message().metadata.response_code
    }

    /// Addresses in the answer section, as text, sorted.
    pub fn addresses(&self) -> Vec<String> {
        let mut res: Vec<String> = self
            .message()
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::A(a) => Some(IpAddr::from(a.0).to_string()),
                RData::AAAA(a) => Some(IpAddr::from(a.0).to_string()),
                _ => None,
            })
            .collect();
        res.sort();
        res
    }

    /// The extended errors.
    pub fn errors(&self) -> Vec<(u16, String)> {
        let message = self.message();
        let Some(edns) = &message.edns else { return Vec::new() };
        let options = edns.options().as_ref().iter();
        options
            .filter_map(|(code, option)| match option {
                EdnsOption::Unknown(15, data) if u16::from(*code) == 15 => {
                    Some((u16::from_be_bytes([data[0], data[1]]), String::from_utf8_lossy(&data[2..]).into_owned()))
                }
                _ => None,
            })
            .collect()
    }

    /// True when the name was blocked, by the fixture's block addresses or the lack of any, with its error.
    pub fn is_blocked(&self) -> bool {
        let has_error = self.errors().iter().any(|(code, _)| *code == 16);
        let only_page = self.addresses().iter().all(|addr| addr == "192.0.2.200" || addr == "2001:db8:ffff::1");
        has_error && only_page
    }

    /// The text of the block's error.
    pub fn reason(&self) -> String {
        let errors = self.errors();
        errors.iter().find(|(code, _)| *code == 16).map_or_else(String::new, |(_, text)| text.clone())
    }

    /// The octets with ID and every TTL zero: what two answers to one question must agree in.
    pub fn without_ttls(&self) -> Vec<u8> {
        let mut res = self.0.clone();
        res[..2].fill(0);
        for record in wire::records(&self.0).expect("a well-formed answer") {
            if record.rtype != wire::rtype::OPT {
                res[record.ttl_at..record.ttl_at + 4].fill(0);
            }
        }
        res
    }

    pub fn ttls(&self) -> Vec<u32> {
        self.message().answers.iter().map(|record| record.ttl).collect()
    }
}
