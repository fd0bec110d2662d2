//! Alerts: new unfiled domains reach a real HTTP server and real syslog sockets, and what cannot be told is counted.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use icpgate::config::alert::webhook;
use icpgate::credentials::{Credential, provider};
use icpgate::ops::alert::{AlertSettings, SyslogPlace, WebhookSettings};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket, UnixDatagram};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::harness::app::App;
use super::harness::binary::nobody;
use super::harness::dns::PATIENCE;
use super::harness::h2::certificate;

const UNFILED: &str = "www.unfiled.example";

/// A request as the server saw it.
#[derive(Clone, Debug)]
struct Posted {
    head: String,
    body: Value,
}

impl Posted {
    fn domains(&self) -> Vec<String> {
        let rows = self.body["domains"].as_array().expect("domains").iter();
        rows.map(|row| row["domain"].as_str().expect("a domain").to_owned()).collect()
    }
}

/// An HTTP server that answers with these statuses in turn, the last of them for good.
#[derive(Clone)]
struct Hook {
    addr: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
    statuses: Arc<Mutex<Vec<u16>>>,
}

impl Hook {
    async fn start(statuses: &[u16]) -> Self {
        Self::with(statuses, None).await
    }

    async fn with(statuses: &[u16], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let addr = listener.local_addr().expect("an address");
        let res = Self { addr, posted: Arc::default(), statuses: Arc::new(Mutex::new(statuses.to_vec())) };
        let hook = res.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match &tls {
                    None => hook.serve(stream).await,
                    // Who does not trust it goes away in the handshake.
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            hook.serve(stream).await;
                        }
                    }
                }
            }
        });
        res
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut octets = Vec::new();
        let (head, body) = loop {
            if stream.read_buf(&mut octets).await.expect("reads") == 0 {
                return;
            }
            let text = String::from_utf8_lossy(&octets);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
            if body.len() == length.parse::<usize>().expect("a number") {
                break (head.to_owned(), serde_json::from_str(body).expect("JSON"));
            }
        };
        self.posted.lock().expect("no panic inside").push(Posted { head, body });
        let status = {
            let mut statuses = self.statuses.lock().expect("no panic inside");
            if statuses.len() > 1 { statuses.remove(0) } else { statuses[0] }
        };
        let answer = format!("HTTP/1.1 {status} Some\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    fn posted(&self) -> Vec<Posted> {
        self.posted.lock().expect("no panic inside").clone()
    }

    fn settings(&self) -> WebhookSettings {
        webhook(&format!("http://{}/hook?k=1", self.addr)).expect("an address")
    }
}

async fn gate(webhook: Option<WebhookSettings>, syslog: Option<SyslogPlace>) -> App {
    App::with(|config, _| config.alert = AlertSettings { webhook, syslog }).await
}

async fn count(app: &App, what: &str, sink: &str) -> f64 {
    app.metric(&format!("icpgate_alert_{what}{{sink=\"{sink}\"}}")).await
}

#[tokio::test]
async fn new_domains_are_posted_once_and_together() {
    let hook = Hook::start(&[204]).await;
    let settings = WebhookSettings { token: Some("0123456789abcdef".to_owned()), ..hook.settings() };
    let app = gate(Some(settings), None).await;
    app.upstream.addresses("a.nofile.cn", &["203.0.113.11"]).addresses("b.nofile.cn", &["203.0.113.11"]);
    for name in [UNFILED, "a.nofile.cn", "www.filed.example", "b.nofile.cn", UNFILED] {
        app.ask(name, "A").await;
    }
    app.until("both told", async |app| (count(app, "domains_sent_total", "webhook").await >= 2.0).then_some(())).await;
    let posted = hook.posted();
    let mut domains: Vec<String> = posted.iter().flat_map(Posted::domains).collect();
    domains.sort();
    assert_eq!(domains, ["nofile.cn", "unfiled.example"]);
    let Posted { head, body } = &posted[0];
    assert!(head.starts_with("POST /hook?k=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("Host: {}\r\n", hook.addr)), "{head}");
    assert!(head.contains("Authorization: Bearer 0123456789abcdef\r\n"), "{head}");
    assert_eq!((&body["version"], &body["event"], &body["dropped"]), (&1.into(), &"unfiled_domains".into(), &0.into()));
    let row = &body["domains"][0];
    assert_eq!((&row["host"], &row["reason"], &row["plane"]), (&UNFILED.into(), &"not_filed".into(), &"dns".into()));
    assert_eq!((&row["first_seen"], &row["enforced"]), (&"2026-11-24T04:00:00.000Z".into(), &true.into()));
    assert!(!body.to_string().contains("127.0.0.1"), "who asked is nobody else's business");
    app.drain().await;
    assert_eq!(hook.posted().len(), posted.len(), "told once");
}

#[tokio::test]
async fn a_server_that_fails_is_tried_again_and_one_that_refuses_is_not() {
    let hook = Hook::start(&[503, 204]).await;
    let app = gate(Some(hook.settings()), None).await;
    app.ask(UNFILED, "A").await;
    app.until("told", async |app| (count(app, "domains_sent_total", "webhook").await >= 1.0).then_some(())).await;
    assert_eq!(hook.posted().len(), 2);
    assert!((count(&app, "failures_total", "webhook").await - 1.0).abs() < f64::EPSILON);
    let hook = Hook::start(&[404, 200]).await;
    let app = gate(Some(hook.settings()), None).await;
    app.upstream.addresses("nofile.cn", &["203.0.113.11"]);
    app.ask(UNFILED, "A").await;
    app.until("dropped", async |app| (count(app, "domains_dropped_total", "webhook").await >= 1.0).then_some(())).await;
    app.ask("nofile.cn", "A").await;
    app.until("told", async |app| (count(app, "domains_sent_total", "webhook").await >= 1.0).then_some(())).await;
    let posted = hook.posted();
    assert_eq!((posted.len(), posted[1].body["dropped"].as_u64()), (2, Some(1)), "the loss is told");
}

#[tokio::test]
async fn a_server_that_is_away_costs_nobody_anything() {
    // Bound and never listening: connections are refused.
    let (_nobody, addr) = nobody();
    let app = gate(Some(webhook(&format!("http://{addr}/")).expect("an address")), None).await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
    app.until("a failure", async |app| (count(app, "failures_total", "webhook").await >= 1.0).then_some(())).await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
    app.drain().await;
}

#[tokio::test]
async fn what_is_met_last_is_told_before_the_end() {
    let hook = Hook::start(&[204]).await;
    let app = gate(Some(hook.settings()), None).await;
    app.ask(UNFILED, "A").await;
    app.drain().await;
    assert_eq!(hook.posted().iter().flat_map(Posted::domains).collect::<Vec<_>>(), ["unfiled.example"]);
}

#[tokio::test]
async fn tls_is_verified() {
    let server = || {
        let credential = Credential::read(&certificate("here"), &provider()).expect("a certificate");
        let resolver = rustls::sign::SingleCertAndKey::from(credential.key);
        let builder = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = builder.expect("versions").with_no_client_auth().with_cert_resolver(Arc::new(resolver));
        TlsAcceptor::from(Arc::new(config))
    };
    let hook = Hook::with(&[200], Some(server())).await;
    let trusting = |name: &str, roots: bool| WebhookSettings {
        roots: roots.then(|| certificate("here").chain),
        ..webhook(&format!("https://{}/hook#{name}", hook.addr)).expect("an address")
    };
    let app = gate(Some(trusting("here.cn", true)), None).await;
    app.ask(UNFILED, "A").await;
    app.until("told", async |app| (count(app, "domains_sent_total", "webhook").await >= 1.0).then_some(())).await;
    assert!(hook.posted()[0].head.contains(&format!("Host: here.cn:{}\r\n", hook.addr.port())));
    for settings in [trusting("other.cn", true), trusting("here.cn", false)] {
        let app = gate(Some(settings), None).await;
        app.ask(UNFILED, "A").await;
        app.until("a failure", async |app| (count(app, "failures_total", "webhook").await >= 1.0).then_some(())).await;
    }
    assert_eq!(hook.posted().len(), 1, "nobody else is told");
}

#[tokio::test]
async fn syslog_gets_a_message_a_domain() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    let unix = UnixDatagram::bind(&path).expect("a socket");
    let app = gate(None, Some(SyslogPlace::Unix(path))).await;
    app.ask(UNFILED, "A").await;
    let mut buf = [0; 4096];
    let length = timeout(PATIENCE, unix.recv(&mut buf)).await.expect("in time").expect("a message");
    check(&buf[..length]);
    app.until("counted", async |app| (count(app, "domains_sent_total", "syslog").await >= 1.0).then_some(())).await;
    let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let app = gate(None, Some(SyslogPlace::Udp(udp.local_addr().expect("an address")))).await;
    app.browse(UNFILED).await;
    let length = timeout(PATIENCE, udp.recv(&mut buf)).await.expect("in time").expect("a message");
    check(&buf[..length]);
}

/// A message of RFC 5424 about the unfiled domain.
fn check(octets: &[u8]) {
    let text = std::str::from_utf8(octets).expect("text");
    let fields: Vec<&str> = text.splitn(8, ' ').collect();
    assert_eq!(
        (fields[0], fields[1], fields[3], fields[5], fields[6]),
        ("<28>1", "2026-11-24T04:00:00.000Z", "icpgate", "unfiled", "-"),
        "{text}"
    );
    assert!(fields[7].contains("domain=unfiled.example host=www.unfiled.example reason=not_filed"), "{text}");
}

#[tokio::test]
async fn a_syslog_receiver_that_comes_later_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    let app = gate(None, Some(SyslogPlace::Unix(path.clone()))).await;
    app.ask(UNFILED, "A").await;
    app.until("a failure", async |app| (count(app, "failures_total", "syslog").await >= 1.0).then_some(())).await;
    let unix = UnixDatagram::bind(&path).expect("a socket");
    let mut buf = [0; 4096];
    let length = timeout(PATIENCE, unix.recv(&mut buf)).await.expect("in time").expect("a message");
    check(&buf[..length]);
}

#[test]
fn wrong_keys_are_told_with_what_is_right() {
    let parse = |text: &str| icpgate::config::parse("t.toml", &format!("version = 1\n[alert]\n{text}\n"), &[]);
    for (text, part) in [
        (
            "webhook = \"https://hooks.example/x\"",
            "alert.webhook = \"https://hooks.example/x\": hooks.example is a host name",
        ),
        ("syslog = \"log\"", "alert.syslog = \"log\": expected the path of a Unix socket"),
        ("webhook-ca = \"/none.pem\"", "alert.webhook-ca = \"/none.pem\""),
        ("webhook-token-file = \"/none\"", "alert.webhook-token-file = \"/none\": cannot be read"),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(part), "{error}");
    }
    let loaded = parse("webhook = \"http://192.0.2.1/\"\nsyslog = \"/dev/log\"").expect("good");
    assert!(loaded.warnings.iter().any(|warning| warning.contains("is http")), "{:?}", loaded.warnings);
    assert!(loaded.warnings.iter().any(|warning| warning.contains("journal.unfiled")), "{:?}", loaded.warnings);
}
