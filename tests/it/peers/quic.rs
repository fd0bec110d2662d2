//! aioquic as server and client, and Chromium, with the gate between them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::binary::run;
use crate::harness::fixture;
use crate::harness::http::HttpGate;
use crate::harness::quic_gate::{FILED, UNFILED};

/// CRYPTO_ERROR with unrecognized_name.
const REFUSED: u64 = 0x170;
/// Seconds within which a refused client has its answer: what a browser's user does not notice.
const SOON: f64 = 2.0;

/// The Python that has aioquic and curl_cffi.
pub fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin/python3");
    std::env::var_os("ICPGATE_TEST_PYTHON").map_or(own, PathBuf::from)
}

/// True when the peers are asked for and there is an aioquic among them: no package of Debian 12 has it.
pub fn is_there() -> bool {
    if !super::are_asked_for() {
        return false;
    }
    let is_there = Command::new(python()).args(["-c", "import aioquic"]).status().is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("left out: no aioquic in {}", python().display());
    }
    is_there
}

fn script(name: &str) -> String {
    format!("{}/tests/data/quic/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A site behind a gate.
struct Site {
    gate: HttpGate,
    dir: TempDir,
    server: Child,
}

impl Drop for Site {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Site {
    /// A server that is started with these options, and a gate before it.
    async fn start(options: &[&str]) -> Self {
        let dir = TempDir::new().expect("a directory");
        let (key, certificate) = (dir.path().join("key.pem"), dir.path().join("certificate.pem"));
        let (key, certificate) = (key.display().to_string(), certificate.display().to_string());
        let names = format!("subjectAltName=DNS:{FILED},DNS:{UNFILED}");
        let asked =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
        let more = ["-subj", "/CN=site", "-addext", &names, "-keyout", &key, "-out", &certificate];
        run("openssl", &[&asked[..], &more].concat());
        let mut command = Command::new(python());
        command.args([&script("server.py"), "--certificate", &certificate, "--key", &key]).args(options);
        let mut server = command.stdout(Stdio::piped()).spawn().expect("python starts");
        let mut line = String::new();
        BufReader::new(server.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let origin = SocketAddr::from(([127, 0, 0, 1], line.trim().parse().expect("a port")));
        let gate = HttpGate::with(fixture::view(Default::default()), |settings| {
            settings.quic_listen = vec!["127.0.0.1:0".parse().expect("an address")];
            settings.fixed_quic = Some(origin);
        })
        .await;
        Self { gate, dir, server }
    }

    /// What a client gets.
    fn ask(&self, name: &str, options: &[&str]) -> Value {
        let port = self.gate.quic[0].port().to_string();
        let python = python().display().to_string();
        let text = run(&python, &[&[script("client.py").as_str(), &port, name], options].concat());
        serde_json::from_str(&text).expect("JSON")
    }
}

/// The port of the client as the server saw it.
fn port_seen(answer: &Value) -> &str {
    let body = answer["body"].as_str().unwrap_or_else(|| panic!("no body: {answer}"));
    assert!(body.starts_with("site here.cn to port "), "{body}");
    body.split_whitespace().last().expect("a word")
}

/// The refusal of an unfiled name, quick.
fn assert_refused(site: &Site, options: &[&str]) {
    let got = site.ask(UNFILED, options);
    assert_eq!(got["answers"][0]["close"], REFUSED, "{options:?}: {got}");
    assert!(got["seconds"].as_f64().expect("a number") < SOON, "{options:?}: {got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aioquic_in_both_versions_gets_what_is_filed_and_a_close_otherwise() {
    if !is_there() {
        return;
    }
    let site = Site::start(&[]).await;
    // 1, 2, and 1 that goes on in 2.
    for (versions, expected) in [("1", 1), ("2", 0x6b33_43cf_u32), ("1,2", 0x6b33_43cf)] {
        let options = ["--versions", versions];
        let got = site.ask(FILED, &options);
        port_seen(&got["answers"][0]);
        assert_eq!(got["answers"][0]["version"], expected, "{got}");
        assert_refused(&site, &options);
    }
    // A long answer, in runs.
    let got = site.ask(FILED, &["--path", "/3000000"]);
    assert!(got["answers"][0]["body"].as_str().is_some_and(|body| body.len() > 3_000_000), "{:?}", got["seconds"]);
    assert!(site.gate.counters.quic.datagrams_out.value() > 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn aioquic_is_retried_and_resumes_with_early_data() {
    if !is_there() {
        return;
    }
    let site = Site::start(&["--retry"]).await;
    for version in ["1", "2"] {
        port_seen(&site.ask(FILED, &["--versions", version])["answers"][0]);
    }
    assert_refused(&site, &[]);
    let site = Site::start(&[]).await;
    let got = site.ask(FILED, &["--resume"]);
    port_seen(&got["answers"][1]);
    assert_eq!(got["answers"][1]["early"], true, "{got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aioquic_may_change_its_port() {
    if !is_there() {
        return;
    }
    let site = Site::start(&[]).await;
    let got = site.ask(FILED, &["--rebind"]);
    let [before, after] = [0, 1].map(|at| port_seen(&got["answers"][at]));
    assert_ne!(before, after, "the server sees the change");
    // Pinned: a connection ID that the server gave under keys, from an address that is new as well, belongs to nobody.
    let got = site.ask(FILED, &["--rebind", "--new-cid"]);
    assert_eq!(got["answers"][1]["timeout"], true, "{got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aioquic_is_told_when_the_server_does_not_read_its_version() {
    if !is_there() {
        return;
    }
    let site = Site::start(&["--versions", "2"]).await;
    let got = site.ask(FILED, &["--versions", "1,2"]);
    port_seen(&got["answers"][0]);
    assert_eq!(got["answers"][0]["version"], 0x6b33_43cf_u32, "{got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_gets_the_site_over_quic_and_an_error_for_an_unfiled_one() {
    if !is_there() {
        return;
    }
    let site = Site::start(&[]).await;
    let certificate = site.dir.path().join("certificate.pem");
    let hash = format!(
        "openssl x509 -in {} -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64",
        certificate.display()
    );
    let hash = run("sh", &["-c", &hash]);
    let port = site.gate.quic[0].port();
    let text = |host: &str| {
        let profile = format!("--user-data-dir={}", site.dir.path().join(host).display());
        let forced = format!("--origin-to-force-quic-on={host}:{port}");
        let known = format!("--ignore-certificate-errors-spki-list={}", hash.trim());
        let url = format!("https://{host}:{port}/0");
        let fixed = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-quic",
            "--host-resolver-rules=MAP * 127.0.0.1",
            "--dump-dom",
        ];
        run("chromium", &[&fixed[..], &[&profile, &forced, &known, &url]].concat())
    };
    let filed = text(FILED);
    assert!(filed.contains("site here.cn"), "{filed}");
    assert!(!text(UNFILED).contains("site nofile.cn"));
    let quic = &site.gate.counters.quic;
    use icpgate::http::flows::counters::FlightOutcome;
    assert!(quic.flights(FlightOutcome::Passed) > 0 && quic.flights(FlightOutcome::Blocked) > 0, "{quic:?}");
}
