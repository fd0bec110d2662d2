//! `openssl` on both sides of the gate, and `curl`: sessions pass unopened, refusals are clean errors.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use icpgate::http::tls::counters::{Outcome, Retry};
use icpgate::policy::Rules;
use tempfile::TempDir;

use super::super::harness::binary::run;
use super::super::harness::fixture;
use super::super::harness::http::HttpGate;

/// A web server over TLS; ends with the value.
struct Server {
    child: Child,
    addr: SocketAddr,
    dir: TempDir,
    /// What it says; it ends where nobody listens.
    _said: BufReader<ChildStdout>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// `openssl s_server` with a certificate of its own for F and U.
    fn start(more: &[&str]) -> Self {
        let dir = TempDir::new().expect("a directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (key, certificate) = (path("key.pem"), path("certificate.pem"));
        let names = "subjectAltName=DNS:here.cn,DNS:nofile.cn";
        let request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let files = ["-subj", "/CN=here.cn", "-addext", names, "-keyout", &key, "-out", &certificate];
        run("openssl", &[&request[..], &files].concat());
        let arguments = ["s_server", "-accept", "127.0.0.1:0", "-key", &key, "-cert", &certificate, "-www"];
        let mut command = Command::new("openssl");
        command.args(arguments).args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("openssl starts");
        let mut said = BufReader::new(child.stdout.take().expect("is piped"));
        // The port is the system's choice, and said once it is open.
        let mut line = String::new();
        let addr = loop {
            line.clear();
            assert!(said.read_line(&mut line).expect("a text") > 0, "openssl does not listen");
            if let Some(addr) = line.strip_prefix("ACCEPT ") {
                break addr.trim().parse().expect("an address");
            }
        };
        Self { child, addr, dir, _said: said }
    }

    async fn gate(&self) -> HttpGate {
        let origin = self.addr;
        HttpGate::with(fixture::view(Rules::default()), |settings| {
            settings.tls_listen = vec!["127.0.0.1:0".parse().expect("an address")];
            settings.fixed_tls = Some(origin);
        })
        .await
    }

    fn certificate(&self) -> String {
        self.dir.path().join("certificate.pem").display().to_string()
    }
}

/// Runs a client to its end, away from the gate's threads.
async fn ask(program: &'static str, arguments: Vec<String>) -> Output {
    let running = tokio::task::spawn_blocking(move || {
        Command::new(program).args(arguments).stdin(Stdio::null()).output().expect("the client runs")
    });
    running.await.expect("no panic inside")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn s_client(gate: &HttpGate, more: &[&str]) -> String {
    let to = gate.tls.expect("a listener for TLS").to_string();
    let arguments = ["s_client", "-connect", &to, "-tlsextdebug"].into_iter().chain(more.iter().copied());
    text(&ask("openssl", arguments.map(str::to_owned).collect()).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_with_and_without_a_name() {
    if !super::are_asked_for() {
        return;
    }
    let server = Server::start(&[]);
    let gate = server.gate().await;
    for version in ["-tls1_2", "-tls1_3"] {
        let passed = s_client(&gate, &["-servername", "here.cn", version]).await;
        assert!(passed.contains("subject=CN = here.cn") || passed.contains("subject=CN=here.cn"), "{passed}");
        for refused in [&["-servername", "nofile.cn"][..], &["-noservername"]] {
            let refused = s_client(&gate, &[refused, &[version]].concat()).await;
            assert!(refused.contains("unrecognized name"), "{refused}");
            assert!(refused.contains("no peer certificate available"), "{refused}");
        }
    }
    assert_eq!(gate.counters.tls.connections(Outcome::Passed), 2);
    assert_eq!(gate.counters.tls.without_name.value(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_resumes_only_with_a_name_that_passes() {
    if !super::are_asked_for() {
        return;
    }
    let server = Server::start(&["-tls1_2"]);
    let gate = server.gate().await;
    let session = server.dir.path().join("session").display().to_string();
    let first = s_client(&gate, &["-servername", "here.cn", "-tls1_2", "-sess_out", &session]).await;
    assert!(first.contains("New, "), "{first}");
    let again = s_client(&gate, &["-servername", "here.cn", "-tls1_2", "-sess_in", &session]).await;
    assert!(again.contains("Reused, "), "{again}");
    let nameless = s_client(&gate, &["-noservername", "-tls1_2", "-sess_in", &session]).await;
    assert!(nameless.contains("unrecognized name"), "{nameless}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_is_asked_for_another_hello() {
    if !super::are_asked_for() {
        return;
    }
    let server = Server::start(&["-groups", "P-384"]);
    let gate = server.gate().await;
    let passed = s_client(&gate, &["-servername", "here.cn", "-groups", "P-256:P-384", "-tls1_3"]).await;
    assert!(passed.contains("here.cn") && passed.contains("TLSv1.3"), "{passed}");
    assert_eq!(gate.counters.tls.retries(Retry::SameName), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_the_page_or_a_clean_error() {
    if !super::are_asked_for() {
        return;
    }
    let server = Server::start(&[]);
    let gate = server.gate().await;
    let to = gate.tls.expect("a listener for TLS");
    let curl = async |name: &str| {
        let (resolve, url) = (format!("{name}:{}:{}", to.port(), to.ip()), format!("https://{name}:{}/", to.port()));
        let certificate = server.certificate();
        let arguments = ["-sS", "--http1.1", "--cacert", &certificate, "--resolve", &resolve, &url];
        ask("curl", arguments.map(str::to_owned).to_vec()).await
    };
    let passed = curl("here.cn").await;
    assert!(passed.status.success() && text(&passed).contains("s_server"), "{}", text(&passed));
    let refused = curl("nofile.cn").await;
    assert_eq!(refused.status.code(), Some(35), "{}", text(&refused));
    assert!(text(&refused).to_lowercase().contains("unrecognized"), "{}", text(&refused));
}
