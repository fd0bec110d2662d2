//! TLS of the admin listener: a client's certificate is as good as the token, and one nobody vouches for is no good.

use std::path::PathBuf;
use std::sync::Arc;

use icpgate::credentials::{CertificateFiles, provider};
use icpgate::ops::AdminTlsSettings;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::harness::app::App;
use super::harness::h2::certificate;

const TOKEN: &str = "0123456789abcdef";

/// A copy of a certificate of the tests in `dir`, which a test may replace.
fn copied(dir: &TempDir, name: &str, to: &str) -> CertificateFiles {
    let at = |end: &str| dir.path().join(format!("{to}.{end}"));
    let from = certificate(name);
    std::fs::copy(from.chain, at("pem")).expect("copies");
    std::fs::copy(from.key, at("key")).expect("copies");
    CertificateFiles { chain: at("pem"), key: at("key") }
}

/// A gate whose admin listener is `here` and takes the certificate `other`.
pub async fn gate(token: Option<&str>) -> App {
    App::with(|config, dir| {
        let client_ca: PathBuf = copied(dir, "other", "clients").chain;
        config.admin.tls = Some(AdminTlsSettings { files: copied(dir, "here", "admin"), client_ca: Some(client_ca) });
        config.admin.token = token.map(str::to_owned);
    })
    .await
}

/// The status of an answer, with a certificate of ours or without, to a server that `trusted` is for.
async fn ask(app: &App, own: Option<&str>, trusted: (&str, &'static str), request: &str) -> std::io::Result<u16> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate(trusted.0).chain).expect("a certificate")).expect("a root");
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_root_certificates(roots);
    let config = match own.map(certificate) {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let chain = vec![CertificateDer::from_pem_file(files.chain).expect("a certificate")];
            let key = PrivateKeyDer::from_pem_file(files.key).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("they fit")
        }
    };
    let name = ServerName::try_from(trusted.1).expect("a name");
    let stream = TcpStream::connect(app.admin()).await?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let head = format!("{request} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    // Some end without a word of TLS.
    let ended = stream.read_to_end(&mut answer).await;
    let status = std::str::from_utf8(answer.get(9..12).unwrap_or_default()).ok().and_then(|code| code.parse().ok());
    status.ok_or_else(|| ended.err().unwrap_or_else(|| std::io::Error::other("no answer")))
}

const HERE: (&str, &str) = ("here", "here.cn");

#[tokio::test]
async fn a_certificate_lets_in_and_its_lack_does_not() {
    let app = gate(None).await;
    assert_eq!(ask(&app, Some("other"), HERE, "GET /v1/status").await.expect("an answer"), 200);
    assert_eq!(ask(&app, Some("other"), HERE, "POST /v1/reload").await.expect("an answer"), 200);
    for (request, status) in [
        ("GET /healthz", 200),
        ("GET /", 200),
        ("GET /metrics", 401),
        ("GET /v1/status", 401),
        ("POST /v1/reload", 401),
        ("POST /v1/drain", 401),
        ("GET /no/such/path", 401),
    ] {
        assert_eq!(ask(&app, None, HERE, request).await.expect("an answer"), status, "{request}");
    }
    // One that no root vouches for does not come through.
    ask(&app, Some("here"), HERE, "GET /healthz").await.expect_err("an alert");
    // Nor does HTTP in the open.
    let mut plain = TcpStream::connect(app.admin()).await.expect("connects");
    plain.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.expect("writes");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
}

#[tokio::test]
async fn a_certificate_and_the_token_are_as_good_as_each_other() {
    let app = gate(Some(TOKEN)).await;
    let with = |token: &str| format!("GET /v1/status HTTP/1.1\r\nAuthorization: Bearer {token}\r\nX:");
    assert_eq!(ask(&app, Some("other"), HERE, "GET /v1/status").await.expect("an answer"), 200);
    assert_eq!(ask(&app, None, HERE, &with(TOKEN)).await.expect("an answer"), 200);
    assert_eq!(ask(&app, None, HERE, &with("another-token-0123")).await.expect("an answer"), 401);
    assert_eq!(ask(&app, None, HERE, "GET /v1/status").await.expect("an answer"), 401);
}

#[tokio::test]
async fn files_that_change_are_taken_without_a_restart() {
    let app = gate(None).await;
    assert_eq!(ask(&app, Some("other"), HERE, "GET /v1/status").await.expect("an answer"), 200);
    // The other way round: the server is `other`, and vouches for `here`.
    copied(&app.dir, "here", "clients");
    copied(&app.dir, "other", "admin");
    let other = ("other", "other.cn");
    app.until("the new files", async |app| {
        (ask(app, Some("here"), other, "GET /v1/status").await.ok() == Some(200)).then_some(())
    })
    .await;
    ask(&app, Some("other"), other, "GET /v1/status").await.expect_err("nobody vouches for it any more");
    // What cannot be read leaves what there is.
    app.write("admin.key", "none");
    app.until("a warning", async |app| {
        let asked = ask(app, Some("here"), other, "POST /v1/reload").await.expect("an answer");
        (asked == 409).then_some(())
    })
    .await;
    assert_eq!(ask(&app, Some("here"), other, "GET /v1/status").await.expect("an answer"), 200);
}

#[tokio::test]
async fn files_that_cannot_be_used_stop_the_start() {
    let started = App::try_with(|config, dir| {
        let files = copied(dir, "here", "admin");
        config.admin.tls = Some(AdminTlsSettings { client_ca: Some(files.key.clone()), files });
    });
    let error = started.await.err().expect("no start").to_string();
    assert!(error.contains("admin.tls: certificate") && error.contains("holds no certificate"), "{error}");
}

#[test]
fn others_come_in_with_a_token_or_a_certificate_only() {
    let parse = |text: &str| {
        icpgate::config::parse("t.toml", &format!("version = 1\n[admin]\nlisten = \"192.0.2.1:9153\"\n{text}\n"), &[])
    };
    let tls = "certificate = \"a\", key = \"b\"";
    for (text, part) in [
        ("", "expected admin.token-file or admin.tls.client-ca as well"),
        (&*format!("tls = {{ {tls} }}"), "expected admin.token-file or admin.tls.client-ca as well"),
        ("tls = { client-ca = \"c\" }", "admin.tls.certificate = \"\": is needed by admin.tls"),
        ("tls = { certificate = \"a\", client-ca = \"c\" }", "admin.tls.key = \"\": is needed by admin.tls"),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let loaded = parse(&format!("tls = {{ {tls}, client-ca = \"c\" }}")).expect("guarded");
    assert!(loaded.config.admin.is_guarded() && loaded.config.admin.token.is_none());
    assert!(loaded.warnings.iter().any(|warning| warning.contains("admin.socket")), "{:?}", loaded.warnings);
}
