//! `kdig`, `dnsperf` and `curl` as clients of the demo.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::super::harness::binary::{Binary, run};
use super::super::harness::dns::{Answer, Ask, PATIENCE, exchange};
use super::super::harness::http::{Client, get};

/// What `kdig` shows for a question.
fn kdig(server: SocketAddr, arguments: &[&str]) -> String {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    run("kdig", &[&[at.as_str(), "-p", &port], arguments].concat())
}

/// What `curl` shows of a page: head and body.
fn curl(server: SocketAddr, host: &str, more: &[&str]) -> String {
    let (host, url) = (format!("Host: {host}"), format!("http://{server}/"));
    run("curl", &[&["-s", "-i", "-H", &host, &url], more].concat())
}

#[test]
fn kdig_sees_the_demo_as_promised() {
    if !super::are_asked_for() {
        return;
    }
    let gate = Binary::demo();
    let text = kdig(gate.dns, &["+edns", "www.unfiled.example", "A"]);
    for expected in ["127.0.0.1", "EDE: 16 (Censored): 'not_filed; domain=unfiled.example; id=", "status: NOERROR"] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    let short = |arguments: &[&str]| kdig(gate.dns, &[arguments, &["+short"]].concat()).trim().to_owned();
    assert_eq!(short(&["www.filed.example", "A"]), "203.0.113.10");
    assert_eq!(short(&["www.elsewhere.example", "A"]), "127.0.0.1");
    assert_eq!(short(&["cdn.elsewhere.example", "A"]), "198.51.100.1");
    assert_eq!(short(&["www.overseas.example", "A"]), "192.0.2.10");
    assert_eq!(short(&["www.unfiled.example", "A", "+tcp"]), "127.0.0.1");
    assert_eq!(short(&["www.unfiled.example", "A"]), "127.0.0.1", "without EDNS");
    assert_eq!(short(&["www.unfiled.example", "TYPE65"]), "");
    let signed = kdig(gate.dns, &["www.unfiled.example", "A", "+dnssec"]);
    assert!(signed.contains("flags: do") && signed.contains("EDE: 16"), "{signed}");
    let many = kdig(gate.dns, &["+tcp", "+keepopen", "www.filed.example", "A", "www.unfiled.example", "A"]);
    assert!(many.contains("203.0.113.10") && many.contains("127.0.0.1"), "{many}");
    assert!(kdig(gate.dns, &["elsewhere.test", "A"]).contains("status: REFUSED"));
}

#[test]
fn curl_sees_the_demo_as_promised() {
    if !super::are_asked_for() {
        return;
    }
    let gate = Binary::demo();
    let page = curl(gate.http, "www.unfiled.example", &[]);
    for expected in ["HTTP/1.1 451", "X-ICP-Gate: reason=not_filed; domain=unfiled.example", "请先完成备案"] {
        assert!(page.contains(expected), "{expected} is not in\n{page}");
    }
    assert!(curl(gate.http, "www.filed.example", &[]).starts_with("HTTP/1.1 200"));
    let elsewhere = curl(gate.http, "www.elsewhere.example", &["-H", "Accept: application/json"]);
    assert!(elsewhere.contains("application/problem+json") && elsewhere.contains("not_accessed"), "{elsewhere}");
    let head = curl(gate.http, "www.unfiled.example", &["--head"]);
    assert!(head.starts_with("HTTP/1.1 451") && !head.contains("<html"), "{head}");
    assert!(!gate.admin_text("/healthz").trim().is_empty());
    assert!(gate.admin_text("/metrics").contains("icpgate_build_info"));
}

/// A running `dnsperf`, ended with the value.
struct Load(std::process::Child);

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Queries the demo's names at this rate for this long.
fn load(gate: &Binary, queries_per_second: u32, seconds: u32) -> Load {
    let names = ["www.filed", "www.unfiled", "www.elsewhere", "cdn.elsewhere", "www.overseas", "www.pending"];
    let lines: String = names.iter().map(|name| format!("{name}.example A\n{name}.example AAAA\n")).collect();
    std::fs::write(gate.path("queries"), lines).expect("writes");
    let (port, rate, time) = (gate.dns.port().to_string(), queries_per_second.to_string(), seconds.to_string());
    let file = gate.path("queries").display().to_string();
    let arguments =
        ["-s", "127.0.0.1", "-p", &port, "-d", &file, "-Q", &rate, "-l", &time, "-t", "5", "-e", "-q", "2000"];
    let child = Command::new("dnsperf").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    Load(child.expect("dnsperf starts"))
}

/// Queries the gate has counted so far.
fn queries(gate: &Binary) -> f64 {
    let text = gate.admin_text("/metrics");
    let lines = text.lines().filter(|line| line.starts_with("icpgate_dns_queries_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_an_appended_line_flips_both_planes_and_no_query_is_lost() {
    if !super::are_asked_for() {
        return;
    }
    /// Time from the write to the first answer by the new verdict.
    const FLIP_MAX: Duration = Duration::from_secs(1);
    /// Pause between two looks: the measurement must not be the load.
    const LOOK_AGAIN: Duration = Duration::from_millis(5);
    // A build for debugging is no measure: it is asked for a tenth.
    let fast = Binary::fast_demo();
    let rate = if fast.is_some() { 5000 } else { 500 };
    let gate = fast.unwrap_or_else(Binary::demo);
    let mut load = load(&gate, rate, 12);
    let deadline = Instant::now() + PATIENCE;
    while queries(&gate) < f64::from(rate) {
        assert!(Instant::now() < deadline, "the load does not begin");
        tokio::task::yield_now().await;
    }
    let ask = Ask::new("www.unfiled.example", "A");
    let passes_in_dns = async || {
        let answer = exchange(gate.dns, &ask).await.map(Answer).expect("an answer");
        answer.addresses() == ["203.0.113.11"]
    };
    let passes_in_http = async || {
        let mut client = Client::connect(gate.http).await;
        client.send(get("www.unfiled.example", "/").as_bytes()).await;
        client.response().await.status == 200
    };
    for (line, expected) in [
        (
            r#"{"event":"first-filing","domain":"unfiled.example","site_no":"京ICP备2026999999号-1","access":["self"]}"#,
            true,
        ),
        (r#"{"event":"cancel-access","domain":"unfiled.example","provider":"self"}"#, false),
    ] {
        gate.append_change(line);
        let begun = Instant::now();
        let dns = async {
            while passes_in_dns().await != expected {
                assert!(begun.elapsed() < PATIENCE, "DNS never follows {line}");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            begun.elapsed()
        };
        let http = async {
            while passes_in_http().await != expected {
                assert!(begun.elapsed() < PATIENCE, "HTTP never follows {line}");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            begun.elapsed()
        };
        let (dns, http) = tokio::join!(dns, http);
        eprintln!("flip to {expected} after {} ms in DNS, {} ms in HTTP", dns.as_millis(), http.as_millis());
        assert!(dns < FLIP_MAX && http < FLIP_MAX, "DNS {dns:?}, HTTP {http:?}");
    }
    let still_running = load.0.try_wait().expect("a child").is_none();
    assert!(still_running, "the flips happened under load");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut load.0.stdout.take().expect("a pipe"), &mut text).expect("reads");
    eprintln!("asked for {rate} queries a second:\n{text}");
    assert!(text.contains("Queries lost:         0"), "{text}");
}
