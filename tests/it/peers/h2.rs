//! HTTP/2 and TLS that ends at the gate, to other people's clients: `curl`, python's `h2`, `h2load`, Chromium.

use std::net::SocketAddr;
use std::path::Path;

use icpgate::http::counters::{Flood, RequestOutcome};
use icpgate::policy::Rules;

use super::super::harness::binary::{Binary, run};
use super::super::harness::fixture;
use super::super::harness::h2::{TlsClient, certificate};
use super::super::harness::http::HttpGate;
use super::super::harness::until;

/// Runs a program beside the gate.
async fn beside(program: &'static str, arguments: Vec<String>) -> String {
    let running = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(program, &arguments)
    });
    running.await.expect("no panic inside")
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
}

/// A gate that ends TLS by the tests' certificate.
async fn terminated() -> (HttpGate, TlsClient) {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.certificates = vec![certificate("here")];
    })
    .await;
    let tls = TlsClient::new(gate.addr);
    (gate, tls)
}

#[test]
fn curl_by_prior_knowledge_sees_the_demo() {
    if !super::are_asked_for() {
        return;
    }
    let gate = Binary::demo();
    let curl = |host: &str, more: &[&str]| {
        let (header, url) = (format!("Host: {host}"), format!("http://{}/", gate.http));
        run("curl", &[&["-s", "-i", "--http2-prior-knowledge", "-H", &header, &url], more].concat())
    };
    let page = curl("www.unfiled.example", &[]);
    for expected in ["HTTP/2 451", "x-icp-gate: reason=not_filed; domain=unfiled.example", "请先完成备案"] {
        assert!(page.contains(expected), "{expected} is not in\n{page}");
    }
    assert!(curl("www.filed.example", &[]).starts_with("HTTP/2 200"));
    let body = "x".repeat(200_000);
    std::fs::write(gate.path("body"), &body).expect("writes");
    let file = format!("@{}", gate.path("body").display());
    let posted = curl("www.filed.example", &["--data-binary", &file]);
    assert!(posted.starts_with("HTTP/2 200") && posted.contains("200000"), "{posted}");
    let refused = curl("www.unfiled.example", &["--data-binary", &file]);
    assert!(refused.starts_with("HTTP/2 451"), "{refused}");
    let grpc = curl("www.unfiled.example", &["-H", "Content-Type: application/grpc", "-d", "x"]);
    assert!(grpc.starts_with("HTTP/2 200") && grpc.contains("grpc-status: 7"), "{grpc}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_sees_the_page_over_tls_by_both_versions() {
    if !super::are_asked_for() {
        return;
    }
    let (gate, tls) = terminated().await;
    let (port, trusted) = (tls.addr.port(), certificate("here").chain.display().to_string());
    for (version, first) in [("--http2", "HTTP/2 "), ("--http1.1", "HTTP/1.1 ")] {
        for (host, status) in [("nofile.cn", "451"), ("www.here.cn", "200")] {
            let (to, url) = (format!("::127.0.0.1:{port}"), format!("https://{host}/"));
            let text = beside("curl", owned(&["-s", "-i", version, "--cacert", &trusted, "--connect-to", &to, &url]));
            let text = text.await;
            assert!(text.starts_with(&format!("{first}{status}")), "{version} {host}: {text}");
        }
        // Fronting: the handshake names what is filed, the request what is not.
        let to = format!("::127.0.0.1:{port}");
        let front = ["-H", "Host: nofile.cn", "https://here.cn/"];
        let arguments = [&["-s", "-i", version, "--cacert", &trusted, "--connect-to", &to][..], &front].concat();
        let text = beside("curl", owned(&arguments)).await;
        assert!(text.starts_with(&format!("{first}451")), "{text}");
    }
    assert!(gate.origin.hosts().iter().all(|host| host == "www.here.cn"));
}

/// Sends frames by python's `h2` with its own checks off, and prints what came back, one event a line.
const SCRIPT: &str = r#"
import socket, sys
import h2.config, h2.connection, h2.events
config = h2.config.H2Configuration(client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False)
c = h2.connection.H2Connection(config)
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
c.initiate_connection()
for sid, spec in zip(range(1, 1000, 2), sys.argv[3:]):
    pairs = [tuple(p.split('=', 1)) for p in spec.split('|')]
    c.send_headers(sid, [(':method', 'GET'), (':scheme', 'http'), (':path', '/')] + pairs, end_stream=True)
s.sendall(c.data_to_send())
left = len(sys.argv) - 3
while left:
    data = s.recv(65536)
    if not data:
        break
    for e in c.receive_data(data):
        if isinstance(e, h2.events.ResponseReceived):
            print('status', e.stream_id, dict(e.headers)[b':status'].decode())
            left -= 1
        elif isinstance(e, h2.events.StreamReset) and e.error_code != 0:
            print('reset', e.stream_id, int(e.error_code))
            left -= 1
        elif isinstance(e, h2.events.ConnectionTerminated):
            print('goaway', int(e.error_code))
    s.sendall(c.data_to_send())
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d_h17_frames_of_pythons_h2_are_judged() {
    if !super::are_asked_for() {
        return;
    }
    let gate = HttpGate::start().await;
    let cases = [
        (":authority=here.cn", "status 1 200"),
        (":authority=nofile.cn", "status 3 451"),
        (":authority=here.cn|host=nofile.cn", "status 5 400"),
        (":authority=nofile.cn|host=here.cn", "status 7 400"),
        ("host=here.cn", "status 9 200"),
        ("host=nofile.cn", "status 11 451"),
        ("x=y", "status 13 400"),
        (":authority=f@here.cn", "status 15 400"),
        ("host=here.cn|host=nofile.cn", "status 17 400"),
        (":authority=here.cn|:authority=nofile.cn", "reset 19 1"),
        (":authority=here.cn|connection=close", "reset 21 1"),
        (":authority=here.cn|te=gzip", "reset 23 1"),
    ];
    let (ip, port) = (gate.addr.ip().to_string(), gate.addr.port().to_string());
    let mut arguments = owned(&["-c", SCRIPT, &ip, &port]);
    arguments.extend(cases.iter().map(|(spec, _)| (*spec).to_owned()));
    let said = beside("/usr/bin/python3", arguments).await;
    for (spec, expected) in cases {
        assert!(said.lines().any(|line| line == expected), "{spec}: {expected} is not in\n{said}");
    }
    assert_eq!(gate.origin.hosts(), ["here.cn", "here.cn"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_is_served_and_taken_for_no_flood() {
    if !super::are_asked_for() {
        return;
    }
    let gate = HttpGate::start().await;
    // It takes a code of 400 and above for a failure, but for no error.
    let ways = [
        ("here.cn", RequestOutcome::Proxied, " 5000 succeeded, 0 failed, 0 errored"),
        ("nofile.cn", RequestOutcome::Blocked, " 0 succeeded, 5000 failed, 0 errored"),
    ];
    for (host, outcome, expected) in ways {
        let (authority, url) = (format!(":authority: {host}"), format!("http://{}/", gate.addr));
        let arguments = ["-n", "5000", "-c", "5", "-m", "20", "-H", &authority, &url];
        let said = beside("h2load", owned(&arguments)).await;
        assert!(said.contains("5000 done") && said.contains(expected), "{said}");
        // The last answer is there a moment before it is counted.
        until("all are counted", || gate.counters.requests(outcome) >= 5000).await;
        assert_eq!(gate.counters.requests(outcome), 5000, "{said}");
    }
    assert!([Flood::Control, Flood::Malformed, Flood::Reset].iter().all(|kind| gate.counters.floods(*kind) == 0));
}

/// A real browser's way over TLS to `host`.
fn chromium(addr: SocketAddr, profile: &Path, host: &str, more: &[&str]) -> String {
    let key = certificate("here").chain.display().to_string();
    let pin = format!(
        "openssl x509 -in {key} -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64"
    );
    let pin = run("sh", &["-c", &pin]);
    let pin = format!("--ignore-certificate-errors-spki-list={}", pin.trim());
    let (profile, url) = (format!("--user-data-dir={}", profile.display()), format!("https://{host}:{}/", addr.port()));
    let fixed = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * 127.0.0.1",
        "--accept-lang=zh-CN",
        &pin,
        &profile,
    ];
    run("chromium", &[&fixed[..], more, &[&url]].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_shows_the_page_on_https() {
    if !super::are_asked_for() {
        return;
    }
    let (gate, tls) = terminated().await;
    let artefacts = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/artefacts");
    std::fs::create_dir_all(&artefacts).expect("a directory");
    let file = artefacts.join("block-page-https.png");
    let _ = std::fs::remove_file(&file);
    let (addr, shot) = (tls.addr, format!("--screenshot={}", file.display()));
    let browsing = tokio::task::spawn_blocking(move || {
        let profile = tempfile::TempDir::new().expect("a directory");
        chromium(addr, profile.path(), "nofile.cn", &[&shot, "--window-size=1200,900"]);
        let page = chromium(addr, profile.path(), "nofile.cn", &["--dump-dom"]);
        let filed = chromium(addr, profile.path(), "www.here.cn", &["--dump-dom"]);
        (page, filed)
    });
    let (page, filed) = browsing.await.expect("no panic inside");
    assert!(std::fs::metadata(&file).expect("a picture").len() > 5000);
    assert!(page.contains("nofile.cn") && page.contains("备案"), "{page}");
    assert!(filed.contains("www.here.cn"), "{filed}");
    assert!(gate.counters.http2_connections.value() >= 3, "it speaks HTTP/2");
    assert!(gate.origin.hosts().iter().all(|host| host.starts_with("www.here.cn")), "{:?}", gate.origin.hosts());
}
