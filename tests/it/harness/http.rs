//! An HTTP plane on port 0 before a scripted origin that records what it saw, and a client that speaks octets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use icpgate::drain::{DrainSignal, Phase};
use icpgate::http::settings::ProviderText;
use icpgate::http::{Counters, Gate, Plane, Settings};
use icpgate::policy::{Clock, Rules, SharedView, Sink, VerdictRecord, View};
use icpgate::sockets::Sockets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::fixture;

/// Long enough for any answer on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A running plane.
pub struct HttpGate {
    pub addr: SocketAddr,
    /// The first listener for TLS, where there is one.
    pub tls: Option<SocketAddr>,
    /// Where it listens for QUIC.
    pub quic: Vec<SocketAddr>,
    pub origin: Origin,
    pub view: SharedView,
    pub clock: Arc<AtomicU64>,
    pub counters: Arc<Counters>,
    pub gate: Arc<Gate>,
    pub records: mpsc::Receiver<VerdictRecord>,
    pub drain: DrainSignal,
    pub running: tokio::task::JoinHandle<()>,
}

impl HttpGate {
    /// The fixture under default rules.
    pub async fn start() -> Self {
        Self::with(fixture::view(Rules::default()), |_| {}).await
    }

    /// `view` before a scripted origin, with settings changed by `change`.
    pub async fn with(view: View, change: impl FnOnce(&mut Settings)) -> Self {
        let clock = Arc::new(AtomicU64::new(fixture::seconds(fixture::noon(fixture::TODAY))));
        let view = SharedView::with_clock(view, Clock::Manual(clock.clone()));
        let mut res = Self::sharing(view, change).await;
        res.clock = clock;
        res
    }

    /// The same over a view that another plane has too; its clock is not this gate's to set.
    pub async fn sharing(view: SharedView, change: impl FnOnce(&mut Settings)) -> Self {
        let origin = Origin::start().await;
        let mut settings = Settings::new(origin.addr);
        settings.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        settings.provider = provider();
        settings.response_timeout = Duration::from_secs(2);
        change(&mut settings);
        let counters = Arc::new(Counters::default());
        let (sink, records) = Sink::new();
        let plane =
            Plane::bind(settings, view.clone(), sink, counters.clone(), &Sockets::default()).await.expect("binds");
        let (addr, tls, gate) = (plane.addrs()[0], plane.tls_addrs().first().copied(), plane.gate());
        let quic = plane.quic_addrs();
        let (drain, watch) = DrainSignal::new();
        let running = tokio::spawn(plane.run(watch));
        Self { addr, tls, quic, origin, view, clock: Arc::default(), counters, gate, records, drain, running }
    }

    /// A new connection.
    pub async fn connect(&self) -> Client {
        Client::connect(self.addr).await
    }

    /// One request over a new connection, and the answer.
    pub async fn ask(&self, request: &str) -> Response {
        let mut client = self.connect().await;
        client.send(request.as_bytes()).await;
        client.response_to(request).await
    }

    /// The status of a GET for `host`.
    pub async fn status(&self, host: &str) -> u16 {
        self.ask(&get(host, "/")).await.status
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

impl Drop for HttpGate {
    fn drop(&mut self) {
        self.drain.advance(Phase::Stopped);
    }
}

/// The provider of the tests' pages.
pub fn provider() -> ProviderText {
    ProviderText {
        id: fixture::PROVIDER.to_owned(),
        name: "示例云".to_owned(),
        url: "https://cloud.example/".to_owned(),
        filing_url: "https://beian.example/".to_owned(),
        contact: "icp@beian.example".to_owned(),
    }
}

/// A plain GET.
pub fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

//--- Client ----------------------------------------------------------------------------------------------------------

/// A connection that sends what it is told.
pub struct Client {
    pub stream: TcpStream,
    buf: Vec<u8>,
}

impl Client {
    pub async fn connect(addr: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(addr).await.expect("connects"), buf: Vec::new() }
    }

    /// Over a connection that is there.
    pub fn connect_as(stream: TcpStream) -> Self {
        Self { stream, buf: Vec::new() }
    }

    /// Sends octets; a connection that is closed meanwhile is no error here.
    pub async fn send(&mut self, octets: &[u8]) {
        let _ = self.stream.write_all(octets).await;
    }

    /// The answer to a GET or like.
    pub async fn response(&mut self) -> Response {
        self.next_response(false).await.expect("an answer")
    }

    /// The answer to `request`, whose method tells whether a body follows.
    pub async fn response_to(&mut self, request: &str) -> Response {
        self.next_response(request.starts_with("HEAD ")).await.expect("an answer")
    }

    /// The next answer; `None` when the connection ends first.
    pub async fn next_response(&mut self, to_head: bool) -> Option<Response> {
        let end = loop {
            if let Some(at) = find(&self.buf, b"\r\n\r\n") {
                break at;
            }
            self.more().await?;
        };
        let head = String::from_utf8(self.buf.drain(..end + 4).collect()).expect("a text head");
        let mut res = Response::parse(&head);
        let has_body = !to_head && res.status >= 200 && !matches!(res.status, 204 | 304);
        if !has_body {
            return Some(res);
        }
        if res.header("transfer-encoding") == Some("chunked") {
            res.body = self.chunks().await?;
        } else if let Some(length) = res.header("content-length") {
            let length: usize = length.parse().expect("a length");
            while self.buf.len() < length {
                self.more().await?;
            }
            res.body = self.buf.drain(..length).collect();
        } else {
            res.body = self.rest().await;
        }
        Some(res)
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut res = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = find(&self.buf, b"\r\n") {
                    break at;
                }
                self.more().await?;
            };
            let size = std::str::from_utf8(&self.buf[..end]).expect("a size");
            let size = usize::from_str_radix(size, 16).expect("a size");
            while self.buf.len() < end + 2 + size + 2 {
                self.more().await?;
            }
            let chunk: Vec<u8> = self.buf.drain(..end + 2 + size + 2).collect();
            assert!(chunk.ends_with(b"\r\n"), "a chunk ends in CRLF");
            if size == 0 {
                return Some(res);
            }
            res.extend_from_slice(&chunk[end + 2..end + 2 + size]);
        }
    }

    /// Everything until the end of the connection; a reset ends it too.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await.is_some() {}
        std::mem::take(&mut self.buf)
    }

    /// Exactly `count` octets.
    pub async fn octets(&mut self, count: usize) -> Vec<u8> {
        while self.buf.len() < count {
            self.more().await.expect("more octets");
        }
        self.buf.drain(..count).collect()
    }

    async fn more(&mut self) -> Option<()> {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buf)).await.expect("octets or an end in time");
        read.is_ok_and(|count| count > 0).then_some(())
    }
}

fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    octets.windows(what.len()).position(|window| window == what)
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    fn parse(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
        let headers =
            lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        Self { status, headers, body: Vec::new() }
    }

    /// The only value of a field; its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let res = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} stands twice");
        res
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text body")
    }
}

//--- Origin ----------------------------------------------------------------------------------------------------------

/// What the origin does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Sends these octets and waits for the next request.
    Octets(Vec<u8>),
    /// Sends these octets and closes.
    OctetsThenClose(Vec<u8>),
    /// Sends these octets as soon as the head is there, then reads the body.
    Early(Vec<u8>),
    /// Closes without a word.
    Close,
    /// Says nothing.
    Hang,
    /// Sends these octets, then echoes whatever comes.
    Echo(Vec<u8>),
    /// Answers, then closes the connection while it is idle.
    AnswerThenGoStale,
}

/// A request as the origin saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub connection: usize,
    pub head: String,
    pub body: Vec<u8>,
    /// The body's octets as they came, chunk sizes included.
    pub raw_body: Vec<u8>,
}

impl Seen {
    /// Method and target.
    pub fn line(&self) -> &str {
        self.head.split("\r\n").next().unwrap_or_default()
    }

    pub fn path(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    /// The values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub fn host(&self) -> &str {
        self.all("host").first().copied().unwrap_or_default()
    }
}

/// An origin that answers by path and keeps what it saw.
#[derive(Clone)]
pub struct Origin {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    replies: Arc<Mutex<HashMap<String, Reply>>>,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let res = Self {
            addr: listener.local_addr().expect("an address"),
            seen: Arc::default(),
            replies: Arc::default(),
            connections: Arc::default(),
        };
        let origin = res.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = origin.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(origin.clone().serve(stream, connection));
            }
        });
        res
    }

    /// Scripts the answer for a path.
    pub fn on(&self, path: &str, reply: Reply) -> &Self {
        self.replies.lock().expect("no panic inside").insert(path.to_owned(), reply);
        self
    }

    /// What it saw so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic inside").clone()
    }

    /// Paths it saw, in order.
    pub fn paths(&self) -> Vec<String> {
        self.seen().iter().map(|seen| seen.path().to_owned()).collect()
    }

    /// Hosts it saw, in order.
    pub fn hosts(&self) -> Vec<String> {
        self.seen().iter().map(|seen| seen.host().to_owned()).collect()
    }

    /// Heads it saw, as text.
    pub fn heads(&self) -> String {
        self.seen().into_iter().map(|seen| seen.head).collect()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    async fn serve(self, mut stream: TcpStream, connection: usize) {
        let mut buf = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = find(&buf, b"\r\n\r\n") {
                    break at + 4;
                }
                if !matches!(stream.read_buf(&mut buf).await, Ok(1..)) {
                    return;
                }
            };
            let head: Vec<u8> = buf.drain(..end).collect();
            let head = String::from_utf8_lossy(&head).into_owned();
            let mut seen = Seen { connection, head, body: Vec::new(), raw_body: Vec::new() };
            let reply = self.replies.lock().expect("no panic inside").get(seen.path()).cloned();
            if let Some(Reply::Early(octets)) = &reply {
                let _ = stream.write_all(octets).await;
            }
            if seen.all("expect") == ["100-continue"] && !matches!(reply, Some(Reply::Early(_))) {
                let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
            }
            let is_whole = read_body(&mut stream, &mut buf, &mut seen).await;
            self.seen.lock().expect("no panic inside").push(seen.clone());
            if !is_whole || !answer(&mut stream, &mut buf, &seen, reply).await {
                return;
            }
        }
    }
}

/// Reads the body a head announces; false when it is cut.
async fn read_body(stream: &mut TcpStream, buf: &mut Vec<u8>, seen: &mut Seen) -> bool {
    if seen.all("transfer-encoding") == ["chunked"] {
        loop {
            if let Some((body, octets)) = unchunk(buf) {
                seen.raw_body = buf.drain(..octets).collect();
                seen.body = body;
                return true;
            }
            if !matches!(stream.read_buf(buf).await, Ok(1..)) {
                seen.raw_body = std::mem::take(buf);
                return false;
            }
        }
    }
    let length = seen.all("content-length").first().and_then(|text| text.parse().ok()).unwrap_or(0usize);
    while buf.len() < length {
        if !matches!(stream.read_buf(buf).await, Ok(1..)) {
            seen.body = std::mem::take(buf);
            return false;
        }
    }
    seen.raw_body = buf.drain(..length).collect();
    seen.body = seen.raw_body.clone();
    true
}

fn unchunk(octets: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut res, mut at) = (Vec::new(), 0);
    loop {
        let end = at + find(&octets[at..], b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&octets[at..end]).ok()?, 16).ok()?;
        let chunk = octets.get(end + 2..end + 2 + size + 2)?;
        res.extend_from_slice(&chunk[..size]);
        at = end + 2 + size + 2;
        if size == 0 {
            return Some((res, at));
        }
    }
}

async fn answer(stream: &mut TcpStream, buf: &mut Vec<u8>, seen: &Seen, reply: Option<Reply>) -> bool {
    match reply {
        None | Some(Reply::AnswerThenGoStale) => {
            let body = format!("{} {}", seen.line(), seen.host());
            let length = body.len();
            let body = if seen.line().starts_with("HEAD ") { "" } else { &body };
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nServer: origin\r\n\r\n{body}");
            stream.write_all(text.as_bytes()).await.is_ok() && reply.is_none()
        }
        Some(Reply::Octets(octets)) => stream.write_all(&octets).await.is_ok(),
        Some(Reply::OctetsThenClose(octets)) => {
            let _ = stream.write_all(&octets).await;
            let _ = stream.shutdown().await;
            false
        }
        Some(Reply::Early(_)) => true,
        Some(Reply::Close) => false,
        Some(Reply::Hang) => {
            while matches!(stream.read_buf(buf).await, Ok(1..)) {}
            false
        }
        Some(Reply::Echo(octets)) => {
            let _ = stream.write_all(&octets).await;
            loop {
                let _ = stream.write_all(buf).await;
                buf.clear();
                if !matches!(stream.read_buf(buf).await, Ok(1..)) {
                    return false;
                }
            }
        }
    }
}
