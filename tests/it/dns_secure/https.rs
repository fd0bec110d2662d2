//! DNS over HTTPS: requests, refusals, caching, ends, over HTTP/2 and HTTP/1.1.

use std::time::Duration;

use http::{Method, Request};
use icpgate::drain::Phase;
use icpgate::meter::Flood;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{base64url, gate_with, https};
use crate::harness::dns::{Answer, Ask, DnsGate, PATIENCE};
use crate::harness::h2::{H2, PING, frame};
use crate::harness::upstream::Reply;

const TYPE: &str = "application/dns-message";

fn get(path: &str) -> Request<()> {
    Request::get(format!("https://here.cn{path}")).body(()).expect("a request")
}

fn post(media_type: &str) -> Request<()> {
    Request::post("https://here.cn/dns-query").header("content-type", media_type).body(()).expect("a request")
}

fn query(packet: &[u8]) -> String {
    format!("/dns-query?dns={}", base64url(packet))
}

async fn far(change: impl FnOnce(&mut icpgate::dns::Settings)) -> (DnsGate, Vec<u8>) {
    let gate = gate_with(change).await;
    gate.upstream.addresses("www.far.net", &["192.0.2.1"]);
    let packet = Ask::new("www.far.net", "A").octets();
    (gate, packet)
}

/// The status line, the head and the body of each response on a connection of HTTP/1.1 until its end.
async fn over_http1(gate: &DnsGate, octets: &[u8]) -> String {
    let mut stream = https(gate).connect("here.cn", &["http/1.1"]).await.expect("TLS");
    stream.write_all(octets).await.expect("writes");
    let mut res = Vec::new();
    // An end without close_notify is one as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut res)).await.expect("an end in time");
    String::from_utf8_lossy(&res).into_owned()
}

#[tokio::test]
async fn answers_may_be_kept_as_long_as_their_records() {
    let (gate, packet) = far(|_| {}).await;
    gate.upstream.addresses("www.nofile.cn", &["203.0.113.1"]);
    let client = https(&gate).h2("here.cn").await;
    let answer = client.get("here.cn", &query(&packet)).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(TYPE)));
    let ttls = Answer(answer.body.clone()).ttls();
    assert_eq!(answer.header("cache-control"), Some(format!("max-age={}", ttls[0]).as_str()));
    let blocked = client.ask(post(TYPE), &Ask::new("www.nofile.cn", "A").octets()).await.expect("an answer");
    assert_eq!(blocked.header("cache-control"), Some("max-age=30"), "as short as the block's TTL");
    let failed = client.get("here.cn", &query(&Ask::new("unknown.far.net", "A").octets())).await;
    assert_eq!(failed.status, 200);
    // What is wrong in DNS is told in DNS.
    let mut malformed = packet.clone();
    malformed[5] = 2;
    let answer = client.get("here.cn", &query(&malformed)).await;
    assert_eq!((answer.status, answer.header("cache-control"), answer.body[3] & 15), (200, Some("max-age=0"), 1));
}

#[tokio::test]
async fn what_carries_no_query_is_refused() {
    let (gate, packet) = far(|_| {}).await;
    let client = https(&gate).h2("here.cn").await;
    let mut response = packet.clone();
    response[2] |= 0x80;
    let with_method = |method: Method| Request::builder().method(method).uri("https://here.cn/dns-query");
    let too_long = vec![0; 65_536];
    let table: Vec<(Request<()>, &[u8], u16, &str)> = vec![
        (get("/"), b"", 404, "nothing is here"),
        (get("/dns-query/"), b"", 404, "nothing is here"),
        (get("/dns-query"), b"", 400, "base64url"),
        (get("/dns-query?dns=****"), b"", 400, "base64url"),
        (get("/dns-query?dns=AAAA"), b"", 400, "no DNS query"),
        (get(&query(&response)), b"", 400, "no DNS query"),
        (with_method(Method::PUT).body(()).expect("a request"), b"x", 405, "GET or POST"),
        (with_method(Method::HEAD).body(()).expect("a request"), b"", 405, ""),
        (post("text/plain"), &packet, 415, TYPE),
        (with_method(Method::POST).body(()).expect("a request"), &packet, 415, TYPE),
        (post(TYPE), b"", 400, "no DNS query"),
        (post(TYPE), &too_long, 413, "65535"),
    ];
    for (request, body, status, text) in table {
        let shown = format!("{request:?}");
        let answer = match client.ask(request, body).await {
            Ok(answer) => answer,
            // Refused before all of it was sent.
            Err(error) => panic!("{shown}: {error}"),
        };
        assert_eq!(answer.status, status, "{shown}");
        assert!(answer.text().contains(text), "{shown}: {}", answer.text());
        assert_eq!(answer.header("allow").is_some(), status == 405, "{shown}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{shown}");
    }
    // The connection is good for more.
    assert_eq!(client.get("here.cn", &query(&packet)).await.status, 200);
    assert!(gate.upstream.log().iter().all(|asked| asked.name.starts_with("www.far.net")), "and for nothing else");
}

#[tokio::test]
async fn the_path_is_the_operators() {
    let (gate, packet) = far(|settings| settings.https_path = "/resolve/x".to_owned()).await;
    let client = https(&gate).h2("here.cn").await;
    assert_eq!(client.get("here.cn", &query(&packet)).await.status, 404);
    let path = format!("/resolve/x?ct&dns={}", base64url(&packet));
    assert_eq!(client.get("here.cn", &path).await.status, 200);
}

#[tokio::test]
async fn http1_is_answered_on_kept_connections() {
    let (gate, packet) = far(|_| {}).await;
    let path = query(&packet);
    let head = format!("POST /dns-query HTTP/1.1\r\nHost: here.cn\r\nContent-Type: {TYPE}\r\n");
    let length = format!("Content-Length: {}\r\n\r\n", packet.len());
    let mut octets = format!("GET {path} HTTP/1.1\r\nHost: here.cn\r\n\r\n").into_bytes();
    octets.extend_from_slice(format!("{head}{length}").as_bytes());
    octets.extend_from_slice(&packet);
    octets.extend_from_slice(b"GET / HTTP/1.1\r\nHost: here.cn\r\nConnection: close\r\n\r\n");
    let text = over_http1(&gate, &octets).await;
    assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{text}");
    assert_eq!(text.matches("cache-control: max-age=").count(), 2, "{text}");
    assert_eq!(text.matches("HTTP/1.1 404 ").count(), 1, "{text}");
    // Without a protocol agreed on it is HTTP/1.1 as well.
    let mut stream = https(&gate).connect("here.cn", &[]).await.expect("TLS");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: here.cn\r\nConnection: close\r\n\r\n").await.expect("writes");
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end in time");
    assert!(rest.starts_with(b"HTTP/1.1 404 "));
}

#[tokio::test]
async fn bodies_that_do_not_come_or_are_too_large_are_refused() {
    let (gate, _) = far(|settings| settings.tcp_idle = Duration::from_millis(300)).await;
    let head = format!("POST /dns-query HTTP/1.1\r\nHost: here.cn\r\nContent-Type: {TYPE}\r\n");
    let slow = over_http1(&gate, format!("{head}Content-Length: 30\r\n\r\nabc").as_bytes()).await;
    assert!(slow.starts_with("HTTP/1.1 408 "), "{slow}");
    let large = over_http1(&gate, format!("{head}Content-Length: 65536\r\n\r\n").as_bytes()).await;
    assert!(large.starts_with("HTTP/1.1 413 "), "{large}");
    // A head of any length is not read to its end.
    let long = over_http1(&gate, format!("{head}X: {}", "x".repeat(40_000)).as_bytes()).await;
    assert!(!long.contains("200 OK"), "{long}");
}

#[tokio::test]
async fn idle_and_drained_connections_end() {
    let (gate, packet) = far(|settings| settings.tcp_idle = Duration::from_millis(300)).await;
    let client = https(&gate).h2("here.cn").await;
    assert_eq!(client.get("here.cn", &query(&packet)).await.status, 200);
    let ended = timeout(PATIENCE, client.driving).await.expect("an end in time").expect("no panic inside");
    assert!(ended.is_ok(), "{ended:?}");
    assert!(over_http1(&gate, b"").await.is_empty());

    let (gate, packet) = far(|_| {}).await;
    gate.upstream.on("slow.far.net", "A", Reply { silent: true, ..Reply::default() });
    let H2 { send, driving } = https(&gate).h2("here.cn").await;
    let slow = query(&Ask::new("slow.far.net", "A").octets());
    let (response, _) = send.clone().ready().await.expect("ready").send_request(get(&slow), true).expect("sent");
    while gate.upstream.log().is_empty() {
        tokio::task::yield_now().await;
    }
    gate.advance(Phase::Draining);
    let answer = timeout(PATIENCE, response).await.expect("an answer in time").expect("the answer in work");
    assert_eq!(H2::whole(answer).await.expect("whole").status, 200);
    let ended = timeout(PATIENCE, driving).await.expect("an end in time").expect("no panic inside");
    assert!(ended.is_ok(), "{ended:?}");
    drop((send, packet));
}

#[tokio::test]
async fn floods_end_the_connection() {
    let (gate, packet) = far(|_| {}).await;
    let mut stream = https(&gate).connect("here.cn", &["h2"]).await.expect("TLS");
    let mut octets = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    octets.extend_from_slice(&frame(4, 0, 0, &[]));
    octets.extend_from_slice(&frame(PING, 0, 0, &[0; 8]).repeat(5000));
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let flood = async {
        let _ = writer.write_all(&octets).await;
    };
    let reading = async {
        let mut waste = vec![0; 4096];
        while reader.read(&mut waste).await.is_ok_and(|count| count > 0) {}
    };
    timeout(PATIENCE, async { tokio::join!(flood, reading) }).await.expect("an end in time");
    assert_eq!(gate.counters.floods(Flood::Control), 1);
    assert_eq!(https(&gate).h2("here.cn").await.get("here.cn", &query(&packet)).await.status, 200);
}
