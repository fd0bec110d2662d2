//! TLS that ends here: the handshake, every request by its own host, what the origin is told.

use std::time::Duration;

use icpgate::credentials::CertificateFiles;
use icpgate::drain::Phase;
use icpgate::http::certificates::Certificates;
use icpgate::http::counters::{Handshake, RequestOutcome};
use icpgate::http::head::HeadError;
use icpgate::http::host::HostName;
use icpgate::policy::Rules;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::until;
use crate::harness::fixture::{self, filed};
use crate::harness::h2::{TlsClient, certificate, request};
use crate::harness::http::{HttpGate, PATIENCE, Reply};

/// A gate with a certificate, and a client that trusts it.
async fn terminated() -> (HttpGate, TlsClient) {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.certificates = vec![certificate("here")];
        settings.hello_timeout = Duration::from_millis(500);
    })
    .await;
    let tls = TlsClient::new(gate.addr);
    (gate, tls)
}

/// One exchange of HTTP/1 over a TLS connection for `name`.
async fn ask(client: &TlsClient, name: &str, text: &str) -> String {
    let mut stream = client.connect(name, &["http/1.1"]).await.expect("TLS");
    stream.write_all(text.as_bytes()).await.expect("writes");
    let mut res = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut res)).await.expect("an end in time").expect("a clean end");
    String::from_utf8(res).expect("text")
}

fn closing(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn the_page_is_shown_on_https() {
    let (gate, tls) = terminated().await;
    let page = ask(&tls, "nofile.cn", &closing("nofile.cn", "/")).await;
    assert!(page.starts_with("HTTP/1.1 451 ") && page.contains("X-ICP-Gate: reason=not_filed"), "{page}");
    for never in ["Strict-Transport-Security", "Alt-Svc", "Set-Cookie"] {
        assert!(!page.contains(never), "{page}");
    }
    let answer = tls.h2("nofile.cn").await.get("nofile.cn", "/").await;
    assert_eq!((answer.status, answer.header("strict-transport-security")), (451, None));
    assert!(gate.origin.seen().is_empty());
    assert_eq!(gate.counters.handshakes(Handshake::Done), 2);
}

#[tokio::test]
async fn filed_requests_pass_as_plain_http_and_the_origin_knows() {
    let (gate, tls) = terminated().await;
    let text = "GET /one HTTP/1.1\r\nHost: here.cn\r\nX-Forwarded-Proto: http\r\nX_Forwarded_Proto: http\r\n\
        Connection: close\r\n\r\n";
    assert!(ask(&tls, "here.cn", text).await.starts_with("HTTP/1.1 200 "));
    let client = tls.h2("www.here.cn").await;
    assert_eq!(client.get("www.here.cn", "/two").await.status, 200);
    let body = vec![b'x'; 500_000];
    assert_eq!(client.ask(request("POST", "here.cn", "/three"), &body).await.expect("an answer").status, 200);
    let seen = gate.origin.seen();
    assert_eq!(gate.origin.paths(), ["/one", "/two", "/three"]);
    for seen in &seen {
        assert_eq!(seen.all("x-forwarded-proto"), ["https"], "{}", seen.head);
        assert!(!seen.head.to_lowercase().contains("x_forwarded_proto"), "{}", seen.head);
    }
    assert_eq!(seen[2].body, body);
    // Over plain HTTP a proxy's word passes as it came.
    gate.ask("GET / HTTP/1.1\r\nHost: here.cn\r\nX-Forwarded-Proto: https\r\n\r\n").await;
    assert_eq!(gate.origin.seen().last().expect("a request").all("x-forwarded-proto"), ["https"]);
}

#[tokio::test]
async fn idle_connections_end_with_a_close_notify() {
    for is_drained in [false, true] {
        let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
            settings.certificates = vec![certificate("here")];
            settings.idle_timeout = if is_drained { PATIENCE } else { Duration::from_millis(200) };
        })
        .await;
        let mut stream = TlsClient::new(gate.addr).connect("here.cn", &["http/1.1"]).await.expect("TLS");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: here.cn\r\n\r\n").await.expect("writes");
        let mut answer = Vec::new();
        while !answer.ends_with(b"here.cn") {
            let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("in time");
            assert!(read.expect("an answer") > 0);
        }
        if is_drained {
            gate.drain.advance(Phase::Draining);
        }
        // Without the alert the library takes the end for a cut.
        let end = timeout(PATIENCE, stream.read(&mut [0; 16])).await.expect("an end in time");
        assert_eq!(end.expect("a clean end"), 0, "drained: {is_drained}");
    }
}

#[tokio::test]
async fn d_t17_d_q10_every_request_is_judged_by_its_own_host() {
    let (gate, tls) = terminated().await;
    gate.publish(vec![filed("here.cn", &["self"]), filed("far.cn", &["self"])]);
    let client = tls.h2("here.cn").await;
    for (host, status) in
        [("here.cn", 200), ("www.here.cn", 200), ("nofile.cn", 451), ("unfiled.cn", 451), ("far.cn", 421)]
    {
        assert_eq!(client.get(host, "/").await.status, status, "{host}");
        let text = ask(&tls, "here.cn", &closing(host, "/")).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {text}");
    }
    // Fronting the other way round: a blocked name's handshake, a filed host inside.
    assert_eq!(tls.h2("nofile.cn").await.get("here.cn", "/").await.status, 200);
    assert_eq!(tls.h2("nofile.cn").await.get("far.cn", "/").await.status, 421);
    assert_eq!(gate.counters.head_errors(HeadError::Misdirected), 3);
    assert!(gate.origin.hosts().iter().all(|host| host.ends_with("here.cn")), "{:?}", gate.origin.hosts());
    // Without TLS there is no name to differ from.
    assert_eq!(gate.status("far.cn").await, 200);
}

#[tokio::test]
async fn d_h18_a_coalesced_stream_is_judged_for_itself() {
    let (gate, tls) = terminated().await;
    // One certificate is for both, so that a browser uses one connection for both.
    let client = tls.h2("here.cn").await;
    let answers = [client.get("here.cn", "/a").await, client.get("nofile.cn", "/b").await];
    assert_eq!(answers.map(|answer| answer.status), [200, 451]);
    assert_eq!(gate.origin.paths(), ["/a"]);
}

#[tokio::test]
async fn d_q12_offers_of_http3_do_not_pass_while_nothing_gates_it() {
    let reply = "HTTP/1.1 200 OK\r\nAlt-Svc: h3=\":443\"; ma=1\r\nALT-SVC: h2=\"x:1\", H3-29=\":8443\"\r\n\
        Alt-Svc: h2=\"y:1\"\r\nContent-Length: 0\r\n\r\n";
    for is_gated in [false, true] {
        let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
            settings.certificates = vec![certificate("here")];
            if is_gated {
                settings.quic_listen = vec!["127.0.0.1:0".parse().expect("an address")];
            }
        })
        .await;
        gate.origin.on("/", Reply::Octets(reply.as_bytes().to_vec()));
        let tls = TlsClient::new(gate.addr);
        let count = if is_gated { 3 } else { 1 };
        let answer = tls.h2("here.cn").await.get("here.cn", "/").await;
        assert_eq!(answer.headers.get_all("alt-svc").iter().count(), count);
        let text = ask(&tls, "here.cn", &closing("here.cn", "/")).await.to_lowercase();
        assert_eq!(text.matches("alt-svc: ").count(), count, "{text}");
    }
}

#[tokio::test]
async fn d_h16_a_preface_inside_http1_over_tls_is_refused() {
    let (gate, tls) = terminated().await;
    let text = ask(&tls, "here.cn", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 505 "), "the handshake agreed on HTTP/1.1: {text}");
    assert_eq!(gate.counters.head_errors(HeadError::Http2), 1);
}

#[tokio::test]
async fn d_h19_websockets_pass_over_tls() {
    let (gate, tls) = terminated().await;
    gate.origin.on(
        "/ws",
        Reply::Echo(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec()),
    );
    let upgrade =
        |host: &str| format!("GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let mut stream = tls.connect("here.cn", &[]).await.expect("TLS");
    stream.write_all(upgrade("here.cn").as_bytes()).await.expect("writes");
    stream.write_all(b"ping").await.expect("writes");
    let mut text = String::new();
    while !text.ends_with("ping") {
        let mut buf = [0; 1024];
        let count = timeout(PATIENCE, stream.read(&mut buf)).await.expect("in time").expect("octets");
        assert!(count > 0, "{text}");
        text.push_str(std::str::from_utf8(&buf[..count]).expect("text"));
    }
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    let mut stream = tls.connect("here.cn", &[]).await.expect("TLS");
    stream.write_all(upgrade("nofile.cn").as_bytes()).await.expect("writes");
    let mut buf = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut buf)).await.expect("in time").expect("octets");
    assert_eq!(&buf, b"HTTP/1.1 451");
}

#[tokio::test]
async fn large_answers_and_bodies_pass_over_tls() {
    let (gate, tls) = terminated().await;
    let body = "y".repeat(3 << 20);
    let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    gate.origin.on("/", Reply::Octets(reply.into_bytes()));
    let text = ask(&tls, "here.cn", &closing("here.cn", "/")).await;
    assert!(text.ends_with(&body));
    assert_eq!(tls.h2("here.cn").await.get("here.cn", "/").await.body.len(), body.len());
}

#[tokio::test]
async fn handshakes_that_fail_or_never_end_are_counted() {
    let (gate, tls) = terminated().await;
    // A protocol that is not spoken, and a client that trusts somebody else.
    assert!(tls.connect("here.cn", &["acme-tls/1"]).await.is_err());
    assert!(TlsClient::trusting(gate.addr, "other").connect("here.cn", &["h2"]).await.is_err());
    until("two failed", || gate.counters.handshakes(Handshake::Failed) == 2).await;
    // A hello and no more.
    let name = ServerName::try_from("here.cn").expect("a name");
    let mut hello = Vec::new();
    let mut session = rustls::ClientConnection::new(tls.config(&["h2"]), name).expect("a client");
    session.write_tls(&mut hello).expect("a hello");
    let mut stream = TcpStream::connect(tls.addr).await.expect("connects");
    stream.write_all(&hello).await.expect("writes");
    let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("an end in time");
    until("one was slow", || gate.counters.handshakes(Handshake::Slow) == 1).await;
    assert_eq!(gate.counters.requests(RequestOutcome::Proxied), 0);
}

#[tokio::test]
async fn another_certificate_is_used_from_the_next_handshake_on() {
    let (gate, tls) = terminated().await;
    let open = tls.h2("www.here.cn").await;
    gate.gate.replace_certificates(Certificates::load(&[certificate("other")]).expect("loads"));
    assert!(TlsClient::trusting(gate.addr, "other").connect("www.here.cn", &["h2"]).await.is_ok());
    assert!(tls.connect("here.cn", &["h2"]).await.is_err());
    assert_eq!(open.get("www.here.cn", "/").await.status, 200, "open connections go on");
}

#[test]
fn certificates_cover_the_names_in_them() {
    let both = Certificates::load(&[certificate("here"), certificate("other")]).expect("loads");
    assert_eq!(both.len(), 2);
    let covers = |text: &str| both.covers(&HostName::read(text).expect("a host"));
    for name in ["here.cn", "HERE.cn.", "www.here.cn", "a.here.cn", "nofile.cn", "other.cn"] {
        assert!(covers(name), "{name}");
    }
    for name in ["a.b.here.cn", "www.nofile.cn", "cn", "there.cn", "203.0.113.1", "xhere.cn"] {
        assert!(!covers(name), "{name}");
    }
    assert!(!Certificates::default().covers(&HostName::read("here.cn").expect("a host")));
}

#[test]
fn a_certificate_that_cannot_be_used_says_why() {
    let (here, other) = (certificate("here"), certificate("other"));
    let cases = [
        (CertificateFiles { key: other.key.clone(), ..here.clone() }, "expected the key of"),
        (CertificateFiles { chain: here.key.clone(), ..here.clone() }, "holds no certificate; expected PEM"),
        (CertificateFiles { key: here.chain.clone(), ..here.clone() }, "expected a private key in PEM"),
        (CertificateFiles { chain: "/nowhere.pem".into(), ..here.clone() }, "certificate /nowhere.pem: cannot be read"),
        (CertificateFiles { key: "/nowhere.key".into(), ..here }, "key /nowhere.key: cannot be read"),
    ];
    for (files, expected) in cases {
        let error = Certificates::load(&[files]).expect_err("is refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}
