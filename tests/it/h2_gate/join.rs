//! TLS that ends here beside TLS that is passed on: one listener for both, and a certificate tells.

use std::net::SocketAddr;
use std::time::Duration;

use icpgate::drain::Phase;
use icpgate::http::Settings;
use icpgate::http::certificates::Certificates;
use icpgate::http::counters::{Handshake, RequestOutcome};
use icpgate::http::settings::Origin;
use icpgate::http::tls::counters::Outcome;
use icpgate::policy::Rules;
use icpgate::proxy_header::ProxyVersion;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::until;
use crate::harness::fixture::{self, filed};
use crate::harness::h2::{Answer, H2, RST_STREAM, Raw, TlsClient, certificate, get_fields, request};
use crate::harness::http::{Client, HttpGate, PATIENCE, Reply, get};
use crate::harness::tls::Sketch;
use crate::harness::tls_origin::{TlsOrigin, answer};
use crate::harness::upstream::Upstream;

/// The fatal alert `unrecognized_name`.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A gate with listeners of both kinds, a certificate, and an origin for each of plain HTTP and TLS.
async fn joined(change: impl FnOnce(&mut Settings)) -> (HttpGate, TlsOrigin) {
    let origin = TlsOrigin::start().await;
    let fixed = origin.addr;
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.tls_listen = vec!["127.0.0.1:0".parse().expect("an address")];
        settings.fixed_tls = Some(fixed);
        settings.certificates = vec![certificate("here")];
        change(settings);
    })
    .await;
    (gate, origin)
}

fn both(gate: &HttpGate) -> [SocketAddr; 2] {
    [gate.addr, gate.tls.expect("a listener for TLS")]
}

/// One request of HTTP/1.1 over TLS for the same name.
async fn ask(addr: SocketAddr, host: &str) -> String {
    let mut stream = TlsClient::new(addr).connect(host, &["http/1.1"]).await.expect("TLS");
    let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.expect("writes");
    let mut res = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut res)).await.expect("an end in time").expect("a clean end");
    String::from_utf8(res).expect("text")
}

/// What comes back for octets.
async fn octets(addr: SocketAddr, octets: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(addr).await;
    client.send(octets).await;
    let _ = client.stream.shutdown().await;
    client.rest().await
}

#[tokio::test]
async fn a_name_with_a_certificate_is_shown_the_page_on_either_listener() {
    let (gate, tls_origin) = joined(|_| {}).await;
    for addr in both(&gate) {
        let page = ask(addr, "nofile.cn").await;
        assert!(page.starts_with("HTTP/1.1 451 ") && page.contains("X-ICP-Gate: reason=not_filed"), "{page}");
        assert_eq!(TlsClient::new(addr).h2("nofile.cn").await.get("nofile.cn", "/").await.status, 451);
    }
    assert_eq!((gate.origin.connections(), tls_origin.connections()), (0, 0));
    assert_eq!(gate.counters.tls.connections(Outcome::Terminated), 4);
    assert_eq!(gate.counters.tls.connections(Outcome::Blocked), 0);
    assert_eq!(gate.counters.handshakes(Handshake::Done), 4);
}

#[tokio::test]
async fn a_filed_name_with_a_certificate_is_served_on_either_listener() {
    let (gate, tls_origin) = joined(|_| {}).await;
    for addr in both(&gate) {
        assert!(ask(addr, "here.cn").await.starts_with("HTTP/1.1 200 "));
        assert_eq!(TlsClient::new(addr).h2("www.here.cn").await.get("www.here.cn", "/").await.status, 200);
    }
    assert_eq!(gate.origin.hosts(), ["here.cn", "www.here.cn", "here.cn", "www.here.cn"]);
    assert_eq!(tls_origin.connections(), 0);
}

#[tokio::test]
async fn a_filed_name_without_a_certificate_is_passed_on_unopened() {
    let (gate, tls_origin) = joined(|_| {}).await;
    gate.publish(vec![filed("far.cn", &["self"])]);
    let hello = Sketch::new("far.cn").stream();
    for addr in both(&gate) {
        assert_eq!(octets(addr, &hello).await, [answer(), hello.clone()].concat());
    }
    assert_eq!(tls_origin.seen(), [hello.clone(), hello]);
    assert_eq!((gate.counters.tls.connections(Outcome::Passed), gate.origin.connections()), (2, 0));
    assert_eq!(gate.counters.handshakes(Handshake::Failed), 0);
}

#[tokio::test]
async fn a_blocked_name_without_a_certificate_gets_the_alert() {
    let (gate, tls_origin) = joined(|_| {}).await;
    for addr in both(&gate) {
        // One without, one a label too far from the wildcard, none at all: judged as the address, as ever.
        for hello in [Sketch::new("unfiled.cn").stream(), Sketch::with(Vec::new()).stream()] {
            assert_eq!(octets(addr, &hello).await, UNRECOGNIZED_NAME);
        }
    }
    assert_eq!((tls_origin.connections(), gate.counters.tls.connections(Outcome::Blocked)), (0, 4));
    // What the wildcard is not for is passed on, though its name is filed.
    let hello = Sketch::new("a.b.here.cn").stream();
    assert_eq!(octets(gate.addr, &hello).await, [answer(), hello].concat());
}

#[tokio::test]
async fn d_t3_a_hello_in_pieces_is_ended_as_a_whole_one_is() {
    let (gate, tls_origin) = joined(|_| {}).await;
    let client = TlsClient::new(gate.tls.expect("a listener for TLS"));
    let stream = TcpStream::connect(client.addr).await.expect("connects");
    let (near, far) = tokio::io::duplex(64 << 10);
    // Octet by octet, each in its own segment.
    let dripping = tokio::spawn(async move {
        stream.set_nodelay(true).expect("a TCP socket");
        let ((mut from_client, mut to_client), (mut from_gate, mut to_gate)) =
            (tokio::io::split(far), stream.into_split());
        let back = tokio::spawn(async move { tokio::io::copy(&mut from_gate, &mut to_client).await });
        while let Ok(octet) = from_client.read_u8().await {
            if to_gate.write_u8(octet).await.is_err() {
                break;
            }
        }
        drop(to_gate);
        let _ = back.await;
    });
    let h2 = H2::over(client.over(near, "nofile.cn", &["h2"]).await.expect("TLS")).await;
    assert_eq!(h2.get("nofile.cn", "/").await.status, 451);
    assert_eq!(h2.get("here.cn", "/").await.status, 200);
    drop(h2);
    dripping.await.expect("no panic inside");
    assert_eq!(tls_origin.connections(), 0);
}

#[tokio::test]
async fn d_h27_http2_by_prior_knowledge_is_judged_on_a_port_for_tls() {
    let (gate, tls_origin) = joined(|_| {}).await;
    for addr in both(&gate) {
        let client = H2::connect(addr).await;
        assert_eq!(client.get("here.cn", "/").await.status, 200);
        assert_eq!(client.get("nofile.cn", "/").await.status, 451);
    }
    assert_eq!((gate.origin.hosts().len(), tls_origin.connections()), (2, 0));
}

#[tokio::test]
async fn a_certificate_that_comes_or_goes_changes_the_next_connection() {
    let (gate, tls_origin) = joined(|settings| settings.certificates.clear()).await;
    let addr = gate.tls.expect("a listener for TLS");
    let (here, nofile) = (Sketch::new("here.cn").stream(), Sketch::new("nofile.cn").stream());
    let open = TlsClient::new(addr);
    assert_eq!(octets(addr, &here).await, [answer(), here.clone()].concat());
    assert_eq!(octets(addr, &nofile).await, UNRECOGNIZED_NAME);
    gate.gate.replace_certificates(Certificates::load(&[certificate("here")]).expect("loads"));
    assert!(ask(addr, "here.cn").await.starts_with("HTTP/1.1 200 "));
    assert!(ask(addr, "nofile.cn").await.starts_with("HTTP/1.1 451 "));
    let client = open.h2("here.cn").await;
    gate.gate.replace_certificates(Certificates::default());
    assert_eq!(octets(addr, &here).await, [answer(), here].concat());
    assert_eq!(octets(addr, &nofile).await, UNRECOGNIZED_NAME);
    assert_eq!(client.get("here.cn", "/").await.status, 200, "an open connection goes on");
    assert_eq!(tls_origin.connections(), 2);
}

#[tokio::test]
async fn the_client_a_proxy_names_is_the_client_inside() {
    let (mut gate, _tls_origin) = joined(|settings| {
        settings.proxy_protocol_from = vec!["127.0.0.0/8".parse().expect("a prefix")];
        settings.connections_per_client_max = 1;
    })
    .await;
    let client = TlsClient::new(gate.tls.expect("a listener for TLS"));
    let proxied = async |from: &str| {
        let mut stream = TcpStream::connect(client.addr).await.expect("connects");
        stream.write_all(format!("PROXY TCP4 {from} 203.0.113.1 40000 443\r\n").as_bytes()).await.expect("writes");
        client.over(stream, "here.cn", &["h2"]).await
    };
    let first = H2::over(proxied("198.51.100.7").await.expect("TLS")).await;
    assert_eq!(first.get("here.cn", "/").await.status, 200);
    assert_eq!(gate.origin.seen()[0].all("x-forwarded-for"), ["198.51.100.7"]);
    assert_eq!(gate.records.recv().await.expect("a record").client.to_string(), "198.51.100.7");
    assert!(proxied("198.51.100.7").await.is_err(), "a client has one connection");
    assert!(proxied("198.51.100.8").await.is_ok());
    assert_eq!(gate.counters.connections_refused.value(), 1);
}

#[tokio::test]
async fn origins_of_streams_are_told_of_the_client() {
    let origin = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let addr = origin.local_addr().expect("an address");
    let (gate, _tls_origin) = joined(|settings| {
        settings.origin = Origin::Fixed(addr);
        settings.proxy_to_origin = Some(ProxyVersion::V1);
    })
    .await;
    let serving = tokio::spawn(async move {
        let (mut stream, _) = origin.accept().await.expect("a connection");
        let mut seen = Vec::new();
        for requests in 1..=2 {
            while seen.windows(4).filter(|part| part == b"\r\n\r\n").count() < requests {
                stream.read_buf(&mut seen).await.expect("reads");
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("writes");
        }
        String::from_utf8(seen).expect("a text")
    });
    let tls = gate.tls.expect("a listener for TLS");
    let stream = TcpStream::connect(tls).await.expect("connects");
    let from = stream.local_addr().expect("an address");
    let client = H2::over(TlsClient::new(tls).over(stream, "here.cn", &["h2"]).await.expect("TLS")).await;
    for _ in 0..2 {
        assert_eq!(client.get("here.cn", "/").await.status, 204);
    }
    let seen = serving.await.expect("no panic inside");
    let header = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nGET / HTTP/1.1\r\n", from.port(), tls.port());
    assert!(seen.starts_with(&header), "{seen}");
    assert_eq!(seen.matches("PROXY ").count(), 1, "one connection, one header");
}

#[tokio::test]
async fn streams_of_one_connection_go_where_each_name_leads() {
    let upstream = Upstream::start().await;
    let servers = vec![upstream.addr];
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.origin = Origin::Resolve(servers);
        settings.resolve_to = vec!["127.0.0.0/8".parse().expect("a prefix")];
    })
    .await;
    let port = gate.addr.port();
    for (name, addr, who) in [("one.here.cn", "127.0.0.2", "1"), ("two.here.cn", "127.0.0.3", "2")] {
        upstream.addresses(name, &[addr]);
        let origin = TcpListener::bind((addr, port)).await.expect("a socket");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = origin.accept().await {
                let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{who}");
                tokio::spawn(async move {
                    while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {
                        let _ = stream.write_all(text.as_bytes()).await;
                    }
                });
            }
        });
    }
    let client = H2::connect(gate.addr).await;
    let names = ["one.here.cn", "two.here.cn", "two.here.cn", "one.here.cn", "two.here.cn"];
    for name in names {
        let who = if name.starts_with("one") { "1" } else { "2" };
        assert_eq!(client.get(name, "/").await.text(), who, "{name}");
    }
    assert_eq!(gate.counters.origin_connections.value(), 2, "each is kept for its own name");
    for _ in 0..20 {
        let answers: [Answer; 2] = tokio::join!(client.get("one.here.cn", "/"), client.get("two.here.cn", "/")).into();
        assert_eq!(answers.each_ref().map(Answer::text), ["1", "2"]);
    }
    assert_eq!(client.get("nofile.cn", "/").await.status, 451);
}

/// A gate that passes streams of F to an origin that never ends its answers.
async fn endless(grace: Option<Duration>) -> HttpGate {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| settings.blocked_tunnel_grace = grace).await;
    let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegun";
    gate.origin.on("/", Reply::Octets(begun.to_vec()));
    gate
}

/// The registry without `here.cn`.
fn unfile(gate: &HttpGate) {
    let rows = fixture::filings().into_iter().filter(|row| row.domain != fixture::name("here.cn"));
    gate.publish(rows.collect());
}

#[tokio::test]
async fn an_open_stream_ends_after_the_grace_once_its_name_is_blocked() {
    let gate = endless(Some(Duration::from_millis(100))).await;
    gate.publish([fixture::filings(), vec![filed("far.cn", &["self"])]].concat());
    let mut client = Raw::connect(gate.addr).await;
    client.ask(1, &get_fields(&[(":authority", "here.cn")])).await;
    client.ask(3, &get_fields(&[(":authority", "far.cn")])).await;
    until("both are answered", || gate.origin.seen().len() == 2).await;
    gate.publish(vec![filed("far.cn", &["self"])]);
    let reset = client.first(&[RST_STREAM]).await.expect("a reset");
    assert_eq!((reset.stream, reset.code()), (1, 8), "CANCEL");
    assert_eq!(gate.counters.requests(RequestOutcome::Blocked), 1);
    client.ask(5, &get_fields(&[(":authority", "far.cn")])).await;
    until("the connection goes on", || gate.origin.seen().len() == 3).await;
}

#[tokio::test]
async fn an_open_stream_is_kept_where_that_is_configured_or_its_name_is_filed_again() {
    for grace in [None, Some(Duration::from_secs(600))] {
        let gate = endless(grace).await;
        let client = H2::connect(gate.addr).await;
        let mut send = client.send.clone().ready().await.expect("ready");
        let (response, _) = send.send_request(request("GET", "here.cn", "/"), true).expect("sends");
        let mut body = timeout(PATIENCE, response).await.expect("in time").expect("an answer").into_body();
        let mut changes = gate.gate.changes().follow();
        unfile(&gate);
        timeout(PATIENCE, changes.changed()).await.expect("in time").expect("news");
        // Judged anew on the same connection, while the stream goes on.
        assert_eq!(client.get("here.cn", "/").await.status, 451);
        let data = timeout(PATIENCE, body.data()).await.expect("in time").expect("data").expect("no reset");
        assert_eq!(&data[..], b"begun");
        let quiet = timeout(Duration::from_millis(200), body.data()).await;
        assert!(quiet.is_err(), "{grace:?}: {quiet:?}");
    }
}

#[tokio::test]
async fn d_h31_streams_keep_to_one_registry_while_others_come_and_go() {
    let (gate, _tls_origin) = joined(|_| {}).await;
    let client = TlsClient::new(gate.tls.expect("a listener for TLS")).h2("here.cn").await;
    for round in 0..100 {
        let mut rows = fixture::filings();
        if round % 2 == 0 {
            rows.push(filed("nofile.cn", &["self"]));
        }
        gate.publish(rows);
        let expected = if round % 2 == 0 { 200 } else { 451 };
        assert_eq!(client.get("nofile.cn", "/").await.status, expected, "round {round}");
    }
    assert_eq!(gate.origin.seen().len(), 50);
}

/// Every answer is one of the two, and the origin sees the passed ones and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d_h31_a_stress_of_reloads_leaves_no_answer_in_between() {
    let (gate, tls_origin) = joined(|_| {}).await;
    let addr = gate.tls.expect("a listener for TLS");
    let mut asking = Vec::new();
    for kind in 0..3 {
        let plain = gate.addr;
        asking.push(tokio::spawn(async move {
            let mut statuses = [0, 0];
            let (h2, mut http1) = (H2::connect(plain).await, Client::connect(plain).await);
            let tls = TlsClient::new(addr).h2("nofile.cn").await;
            for _ in 0..150 {
                let status = match kind {
                    0 => h2.get("nofile.cn", "/").await.status,
                    1 => tls.get("nofile.cn", "/").await.status,
                    _ => {
                        http1.send(get("nofile.cn", "/").as_bytes()).await;
                        http1.response().await.status
                    }
                };
                assert!(matches!(status, 200 | 451), "{status}");
                statuses[usize::from(status == 451)] += 1;
            }
            statuses
        }));
    }
    let mut is_filed = true;
    while asking.iter().any(|task| !task.is_finished()) {
        let extra = is_filed.then(|| filed("nofile.cn", &["self"]));
        gate.publish(fixture::filings().into_iter().chain(extra).collect());
        let certificates =
            if is_filed { vec![certificate("here"), certificate("other")] } else { vec![certificate("here")] };
        gate.gate.replace_certificates(Certificates::load(&certificates).expect("loads"));
        is_filed = !is_filed;
        tokio::task::yield_now().await;
    }
    let mut passed = 0;
    for task in asking {
        let [ok, blocked] = task.await.expect("no panic inside");
        assert_eq!(ok + blocked, 150);
        passed += ok;
    }
    assert_eq!((gate.origin.seen().len(), tls_origin.connections()), (passed, 0));
    // The last answer may be read on one thread before the other has counted it.
    until("every answer is counted", || gate.counters.requests(RequestOutcome::Proxied) >= passed as u64).await;
    assert_eq!(gate.counters.requests(RequestOutcome::Proxied), passed as u64);
}

#[tokio::test]
async fn a_drain_lets_open_tls_finish_and_takes_no_more() {
    let (gate, _tls_origin) = joined(|_| {}).await;
    let addr = gate.tls.expect("a listener for TLS");
    let mut idle = TlsClient::new(addr).connect("here.cn", &["http/1.1"]).await.expect("TLS");
    let client = TlsClient::new(addr).h2("here.cn").await;
    assert_eq!(client.get("here.cn", "/").await.status, 200);
    gate.drain.advance(Phase::Draining);
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, idle.read_to_end(&mut rest)).await.expect("an end in time");
    assert!(rest.is_empty());
    let _ = timeout(PATIENCE, client.driving).await.expect("an end in time").expect("no panic inside");
    until("nobody listens", || std::net::TcpStream::connect(addr).is_err()).await;
}
