//! A whole gate on ports chosen by the system, in a scratch directory with the demo's kind of data, before a scripted
//! upstream, with a client for each of its faces.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icpgate::app::{Running, StartError, start_at};
use icpgate::config::Config;
use icpgate::dns::zones::files_in;
use icpgate::drain::Phase;
use icpgate::http::settings::ProviderText;
use icpgate::model::Day;
use icpgate::ops::alert::AlertSettings;
use icpgate::ops::{AdminSettings, FaultSettings, JournalSettings};
use icpgate::policy::{Clock, Rules};
use icpgate::{dns, http, ranges, registry};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::dns::{Answer, Ask, PATIENCE, exchange, group};
use super::fixture::TODAY;
use super::upstream::Upstream;

/// Filings: one ours, one elsewhere.
pub const FILINGS: &str = "domain,site_no,access,status\n\
    filed.example,京ICP备2021000001号-1,self,active\n\
    elsewhere.example,京ICP备2021000002号-1,other,active\n";
/// Mainland prefixes.
pub const MAINLAND: &str = "203.0.113.0/24\n198.51.100.0/24\n";
/// Tags.
pub const TAGS: &str = "prefix,region,provider,product,origin\n\
    203.0.113.0/25,mainland,self,ecs,\n\
    198.51.100.0/24,mainland,self,cdn,\n\
    192.0.2.0/24,overseas,,,\n";
/// The zone `example`.
pub const ZONE: &str = "$TTL 300\n\
    @ IN SOA ns.example. host.example. 1 3600 600 86400 60\n\
    @ IN NS ns.example.\n\
    ns IN A 192.0.2.1\n\
    www.filed IN A 203.0.113.10\n\
    www.unfiled IN A 203.0.113.11\n\
    www.elsewhere IN A 203.0.113.12\n\
    cdn.elsewhere IN A 198.51.100.1\n\
    www.overseas IN A 192.0.2.10\n";

/// A running gate with its directory.
pub struct App {
    pub dir: TempDir,
    pub upstream: Upstream,
    pub clock: Arc<AtomicU64>,
    pub running: Running,
}

impl App {
    /// The gate with default settings.
    pub async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    /// The gate with settings changed by `change`, which also gets the directory to change files in.
    pub async fn with(change: impl FnOnce(&mut Config, &TempDir)) -> Self {
        Self::try_with(change).await.expect("the gate starts")
    }

    /// As [`App::with`], for gates that may refuse to start.
    pub async fn try_with(change: impl FnOnce(&mut Config, &TempDir)) -> Result<Self, StartError> {
        let dir = TempDir::new().expect("a scratch directory");
        let upstream = Upstream::start().await;
        lay_out(&dir);
        let mut config = config(&dir, upstream.addr);
        change(&mut config, &dir);
        // Zones are listed when the configuration is read.
        config.dns.zones = config.dns.zone_directories.iter().flat_map(|path| files_in(path).expect("zones")).collect();
        let noon = Day::parse(TODAY).expect("a day").begins_at() + Duration::from_secs(12 * 3600);
        let clock = Arc::new(AtomicU64::new(noon.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs()));
        let running = start_at(config, Clock::Manual(clock.clone())).await?;
        Ok(Self { dir, upstream, clock, running })
    }

    pub fn dns(&self) -> SocketAddr {
        self.running.addrs.dns[0]
    }

    pub fn http(&self) -> SocketAddr {
        self.running.addrs.http[0]
    }

    pub fn admin(&self) -> SocketAddr {
        self.running.addrs.admin.expect("an admin listener")
    }

    /// A path below the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces a file below the directory as careful writers do: a new file is renamed over it.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        let new = path.with_extension("new~");
        fs::write(&new, text).expect("a writable directory");
        fs::rename(&new, &path).expect("a rename");
    }

    /// Appends to a file below the directory.
    pub fn append(&self, name: &str, text: &str) {
        use std::io::Write;
        let file = fs::OpenOptions::new().append(true).create(true).open(self.path(name));
        file.expect("a writable file").write_all(text.as_bytes()).expect("appends");
    }

    /// Moves the time of day, and not the monotonic clock.
    pub fn move_clock(&self, seconds: i64) {
        self.clock.fetch_add(seconds.cast_unsigned(), Ordering::Relaxed);
    }

    /// Asks the DNS plane over UDP with OPT.
    pub async fn ask(&self, name: &str, qtype: &str) -> Answer {
        self.ask_as(&Ask::new(name, qtype)).await
    }

    /// Asks the DNS plane in a chosen way.
    pub async fn ask_as(&self, ask: &Ask) -> Answer {
        Answer(exchange(self.dns(), ask).await.unwrap_or_else(|| panic!("no answer to {} {}", ask.name, ask.qtype)))
    }

    /// A GET request to the HTTP plane for this host.
    pub async fn browse(&self, host: &str) -> Response {
        request(self.http(), &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
    }

    /// A GET request to the admin listener.
    pub async fn get(&self, path: &str) -> Response {
        self.admin_request("GET", path, "").await
    }

    /// A POST request to the admin listener.
    pub async fn post(&self, path: &str) -> Response {
        self.admin_request("POST", path, "").await
    }

    /// A request to the admin listener with more header lines, each ended by CRLF.
    pub async fn admin_request(&self, method: &str, path: &str, headers: &str) -> Response {
        let addr = self.admin();
        let has_host = headers.to_ascii_lowercase().contains("host:");
        let host = if has_host { String::new() } else { format!("Host: {addr}\r\n") };
        request(addr, &format!("{method} {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n")).await
    }

    /// The value of one series in `/metrics`.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").await.body;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no series {series}")).parse().expect("a number")
    }

    /// Asks again until the answer is as wanted, or patience ends.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(res) = look(self).await {
                return res;
            }
            assert!(begun.elapsed() < PATIENCE, "waited for: {what}");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the gate is ready and nothing needs an operator.
    pub async fn until_ready(&self) {
        self.until("ready without warnings", async |app| {
            let response = app.get("/readyz").await;
            (response.status == 200 && response.causes("warnings").is_empty()).then_some(())
        })
        .await;
    }

    /// Drains the gate and waits for its end.
    pub async fn drain(self) -> TempDir {
        self.running.drain.advance(Phase::Draining);
        timeout(2 * PATIENCE, self.running.wait()).await.expect("ends in time").expect("ends in good order");
        self.dir
    }
}

fn lay_out(dir: &TempDir) {
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a writable directory");
    };
    write("registry/filings.csv", FILINGS);
    write("registry/live.changes.jsonl", "");
    write("ranges/mainland.txt", MAINLAND);
    write("ranges/provider.csv", TAGS);
    write("zones/example.zone", ZONE);
}

/// Settings with every default, in `dir`, on port 0 of loopback, forwarding to `upstream`.
pub fn config(dir: &TempDir, upstream: SocketAddr) -> Config {
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let path = |name: &str| dir.path().join(name);
    let mut dns = dns::Settings::new();
    dns.listen = vec![any];
    dns.zone_directories = vec![path("zones")];
    dns.upstreams = vec![group("", &[upstream])];
    dns.upstream_timeout = Duration::from_millis(800);
    dns.resolve_timeout = Duration::from_secs(2);
    dns.block.ipv4 = vec!["192.0.2.200".parse().expect("an address")];
    dns.block.ipv6 = vec!["2001:db8:ffff::1".parse().expect("an address")];
    let mut http = http::Settings::new(any);
    http.listen = vec![any];
    http.demo_origin = Some(any);
    let mut ranges = ranges::Settings::new("self");
    ranges.mainland = vec![path("ranges/mainland.txt")];
    ranges.tags = vec![path("ranges/provider.csv")];
    Config {
        provider: ProviderText { id: "self".to_owned(), ..ProviderText::default() },
        rules: Rules::default(),
        registry: registry::Settings::new("self", vec![path("registry")]),
        ranges,
        dns,
        http,
        admin: AdminSettings { listen: Some(any), ..AdminSettings::default() },
        journal: JournalSettings::default(),
        shadow: None,
        alert: AlertSettings::default(),
        faults: FaultSettings::default(),
    }
}

/// An HTTP response.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// The head's lines, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The causes in a list of `/readyz`.
    pub fn causes(&self, list: &str) -> Vec<String> {
        let body = self.json();
        let notes = body[list].as_array().expect("a list").iter();
        notes.map(|note| note["cause"].as_str().expect("a cause").to_owned()).collect()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends a request whose connection is closed after the answer, and reads that answer to its end.
pub async fn request(addr: SocketAddr, text: &str) -> Response {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    stream.write_all(text.as_bytes()).await.expect("writes");
    let mut octets = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut octets)).await.expect("answers in time").expect("reads");
    parse_response(&octets)
}

fn parse_response(octets: &[u8]) -> Response {
    let text = String::from_utf8_lossy(octets);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no whole head: {text}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let is_chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if is_chunked { unchunk(body) } else { body.to_owned() };
    Response { status: status.expect("a status line"), headers, body }
}

fn unchunk(mut body: &str) -> String {
    let mut res = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        res.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    res
}
