//! nginx, HAProxy and Apache behind the gate: odd requests, sent as others recorded and crafted them, never make one of
//! them see a host that is not filed.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use icpgate::http::settings::Origin;
use icpgate::policy::Rules;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::super::harness::binary::free_addr;
use super::super::harness::http::{Client, HttpGate, PATIENCE, get};
use super::super::harness::{fixture, shared};

/// The streams of others, and those crafted for this.
const FILES: [&str; 3] = ["crafted", "captured", "from-parser-tests"];
/// Connections at a time; a backend may have few threads.
const TOGETHER: usize = 16;
/// Ways in which a stream is sent.
const WAYS: usize = 3;
/// Requests for filed hosts that stand in the streams, read strictly, at least.
const FILED_MIN: usize = 40;
/// How long the gate waits for the rest of what is unfinished.
const UNFINISHED: Duration = Duration::from_millis(500);
/// Path of the request before a stream.
const BEFORE: &str = "/before";
/// Path of the request that is sent last, so that the log is whole up to it.
const LAST: &str = "/the-last-of-all";

/// A server of somebody else's that logs every request it reads: its host, a tab, its first line.
pub struct Backend {
    child: Child,
    pub addr: SocketAddr,
    pub dir: TempDir,
}

impl Drop for Backend {
    fn drop(&mut self) {
        // By its wish, so that it ends its own children too.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

impl Backend {
    /// Starts a program with a configuration of its own, and waits until it accepts connections.
    pub async fn start(program: &str, arguments: &[&str], config: impl FnOnce(&Path, SocketAddr) -> String) -> Self {
        let (dir, addr) = (TempDir::new().expect("a directory"), free_addr());
        fs::write(dir.path().join("config"), config(dir.path(), addr)).expect("writes");
        fs::write(dir.path().join("seen"), "").expect("writes");
        let file = fs::OpenOptions::new().append(true).open(dir.path().join("seen")).expect("opens");
        let mut command = Command::new(program);
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        command.args(arguments).arg(dir.path().join("config")).env("PATH", path).stdin(Stdio::null());
        command.stdout(file).stderr(fs::File::create(dir.path().join("errors")).expect("creates"));
        let child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut res = Self { child, addr, dir };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(addr).await.is_err() {
            let has_ended = res.child.try_wait().expect("a child").is_some();
            assert!(!has_ended && Instant::now() < deadline, "{program} does not start: {}", res.read("errors"));
            tokio::task::yield_now().await;
        }
        res
    }

    async fn nginx() -> Self {
        Self::start("nginx", &["-e", "stderr", "-c"], |dir, addr| {
            let temporary = nginx_paths(dir);
            format!(
                "daemon off; master_process off; pid {dir}/pid;\nevents {{ worker_connections 256; }}\nhttp {{\n\
                 {temporary}log_format seen escape=none '$http_host\t$request';\naccess_log {dir}/seen seen;\n\
                 server {{ listen {addr} default_server; server_name _; underscores_in_headers on; \
                 location / {{ return 200 \"nginx\\n\"; }} }}\n}}\n",
                dir = dir.display()
            )
        })
        .await
    }

    async fn haproxy() -> Self {
        Self::start("haproxy", &["-db", "-f"], |_, addr| {
            format!(
                "global\n  log stdout len 4096 format raw local0\ndefaults\n  mode http\n  log global\n  option dontlognull\n\
                 \x20 timeout client 5s\n  timeout server 5s\n  timeout connect 5s\n  timeout http-request 5s\n\
                 frontend seen\n  bind {addr}\n  http-request set-var(txn.host) req.hdr(host)\n\
                 \x20 log-format \"%[var(txn.host)]\\t%r\"\n\
                 \x20 http-request return status 200 content-type text/plain string haproxy\n"
            )
        })
        .await
    }

    async fn apache() -> Self {
        Self::start("apache2", &["-DFOREGROUND", "-f"], |dir, addr| {
            let modules: String = ["mpm_event", "authz_core", "rewrite"]
                .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
                .concat();
            format!(
                "ServerRoot {dir}\nPidFile {dir}/pid\nDefaultRuntimeDir {dir}\nListen {addr}\nServerName backend\n{modules}\
                 User www-data\nGroup www-data\nErrorLog {dir}/errors\nLogFormat \"%{{Host}}i\\t%r\" seen\n\
                 CustomLog {dir}/seen seen\nStartServers 1\n\
                 RewriteEngine on\nRewriteRule ^ - [R=204,L]\n",
                dir = dir.display()
            )
        })
        .await
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join(name)).unwrap_or_default()).into_owned()
    }

    /// Host and first line of every request it read, once the last one is among them.
    async fn seen(&self) -> Vec<(String, String)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.read("seen");
            if text.contains(LAST) {
                let lines = text.lines().filter_map(|line| line.split_once('\t'));
                return lines.map(|(host, line)| (host.to_owned(), line.to_owned())).collect();
            }
            assert!(Instant::now() < deadline, "no last request in\n{text}\n{}", self.read("errors"));
            tokio::task::yield_now().await;
        }
    }
}

/// Where nginx keeps what does not fit its buffers.
pub fn nginx_paths(dir: &Path) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    kinds.map(|kind| format!("{kind}_temp_path {}/{kind};\n", dir.display())).concat()
}

/// The streams of all files; empty, with a line that says so, where they are absent.
fn streams() -> Vec<Vec<u8>> {
    let texts = FILES.iter().filter_map(|name| shared::text(&format!("http/{name}.jsonl.zst")));
    let octet = |c: char| u8::try_from(u32::from(c)).expect("Latin-1");
    let octets = |line: &str| {
        let row: Value = serde_json::from_str(line).expect("a row");
        row["raw"].as_str().expect("octets").chars().map(octet).collect()
    };
    texts.flat_map(|text| text.lines().map(octets).collect::<Vec<_>>()).collect()
}

/// True for what the fixture's registry has as filed and accessed here, and what is below it; said once more, so that the
/// gate is not its own judge.
fn is_filed(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let host = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|o| o.is_ascii_digit()))
        .map_or(&*host, |(host, _)| host);
    let host = host.strip_suffix('.').unwrap_or(host);
    let filed = ["here.cn", "both.com", "old-a.com", "old-b.com", "xn--fsqu00a.xn--fiqs8s", "here.com.cn", "prov.cn"];
    filed.iter().any(|name| host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

#[test]
fn filed_hosts_are_told_in_any_spelling() {
    for host in ["here.cn", "WWW.here.cn.:80", "here.cn:", "_dmarc.here.cn"] {
        assert!(is_filed(host), "{host}");
    }
    for host in ["nofile.cn", "where.cn", "here.cn.nofile.cn", "203.0.113.9", "", "here.cn@nofile.cn", "else.com"] {
        assert!(!is_filed(host), "{host}");
    }
}

/// Sends a stream as one connection's, in these pieces, and reads until the gate ends it.
async fn send(gate: SocketAddr, pieces: Vec<Vec<u8>>) {
    let mut client = Client::connect(gate).await;
    for piece in pieces {
        client.send(&piece).await;
        tokio::task::yield_now().await;
    }
    let _ = client.stream.shutdown().await;
    client.rest().await;
}

/// A stream alone, cut in the middle, and behind a filed request on the same connection.
fn ways(stream: &[u8]) -> [Vec<Vec<u8>>; WAYS] {
    let (first, second) = stream.split_at(stream.len() / 2);
    let behind = [get("here.cn", BEFORE).as_bytes(), stream].concat();
    [vec![stream.to_vec()], vec![first.to_vec(), second.to_vec()], vec![behind]]
}

/// Sends all streams in all ways through a gate to this backend; what it saw, each host and line with its count.
async fn seen_by(backend: &Backend, streams: &[Vec<u8>]) -> BTreeMap<(String, String), usize> {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.origin = Origin::Fixed(backend.addr);
        settings.head_timeout = UNFINISHED;
        settings.idle_timeout = UNFINISHED;
        settings.stream_timeout = UNFINISHED;
    })
    .await;
    let together = Arc::new(Semaphore::new(TOGETHER));
    let mut running = Vec::new();
    for pieces in streams.iter().flat_map(|stream| ways(stream)) {
        let turn = together.clone().acquire_owned().await.expect("is open");
        let addr = gate.addr;
        running.push(tokio::spawn(async move {
            send(addr, pieces).await;
            drop(turn);
        }));
    }
    for one in running {
        one.await.expect("no panic inside");
    }
    // Through a gate that waits for a backend which has much behind it.
    let last = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.origin = Origin::Fixed(backend.addr);
        settings.response_timeout = PATIENCE;
    })
    .await;
    assert!(matches!(last.ask(&get("here.cn", LAST)).await.status, 200 | 204));
    let mut res = BTreeMap::new();
    for request in backend.seen().await {
        *res.entry(request).or_default() += 1;
    }
    res
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_requests_show_backends_no_unfiled_host_and_all_of_them_the_same() {
    if !super::are_asked_for() {
        return;
    }
    let streams = streams();
    if streams.is_empty() {
        return;
    }
    let mut all = Vec::new();
    for (name, backend) in
        [("nginx", Backend::nginx().await), ("haproxy", Backend::haproxy().await), ("apache", Backend::apache().await)]
    {
        let seen = seen_by(&backend, &streams).await;
        for (host, line) in seen.keys() {
            assert!(is_filed(host), "{name} saw {host:?} in {line:?}");
        }
        let (total, before) = (seen.values().sum::<usize>(), seen[&("here.cn".to_owned(), line_of(BEFORE))]);
        eprintln!("{name}: {} streams in {WAYS} ways, {total} requests", streams.len());
        assert_eq!(before, streams.len(), "every stream came once behind a request that passes, to {name}");
        assert!(total > before + WAYS * FILED_MIN, "filed requests reach {name}: {total}, {before} of them before");
        all.push((name, seen));
    }
    // Three readers, one reading: nothing that the gate writes is understood in two ways.
    for (name, seen) in &all[1..] {
        assert_eq!(seen, &all[0].1, "{name} and {}", all[0].0);
    }
}

fn line_of(path: &str) -> String {
    format!("GET {path} HTTP/1.1")
}
