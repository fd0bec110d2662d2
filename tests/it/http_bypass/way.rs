//! The way of a request through the gate: what it may bring along, whose it is, how long it may take.

use std::time::Duration;

use icpgate::http::head::HeadError;
use icpgate::policy::{Fault, IpSite, Outcome, Rules};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::harness::fixture;
use crate::harness::http::{HttpGate, PATIENCE, get};

/// The heads the origin saw, as text.
fn heads(gate: &HttpGate) -> String {
    gate.origin.seen().into_iter().map(|seen| seen.head).collect()
}

#[tokio::test]
async fn d_h24_only_a_listed_proxy_may_name_another_host() {
    let request = "GET / HTTP/1.1\r\nHost: here.cn\r\nForwarded: host=nofile.cn\r\nX-Forwarded-Host: nofile.cn\r\n\
        X-Original-URL: http://nofile.cn/\r\nContent_Length: 9\r\nTransfer_Encoding: chunked\r\nX_y: 1\r\n\r\n";
    let gate = HttpGate::start().await;
    assert_eq!(gate.ask(request).await.status, 200);
    let seen = heads(&gate);
    assert!(!seen.contains("nofile.cn") && !seen.contains("_Length") && !seen.contains("_Encoding"), "{seen}");
    assert!(seen.contains("X_y: 1\r\n"), "an underscore alone does no harm: {seen}");
    let listed = |settings: &mut icpgate::http::Settings| {
        settings.proxy_protocol_from = vec!["127.0.0.0/8".parse().expect("a prefix")];
    };
    let gate = HttpGate::with(fixture::view(Rules::default()), listed).await;
    assert_eq!(gate.ask(request).await.status, 200);
    assert!(heads(&gate).contains("X-Forwarded-Host: nofile.cn\r\n"));
}

#[tokio::test]
async fn a_request_that_comes_round_is_refused() {
    let gate = HttpGate::start().await;
    assert_eq!(gate.status("here.cn").await, 200);
    let seen = heads(&gate);
    let via = seen.lines().find_map(|line| line.strip_prefix("Via: ")).expect("a Via line").to_owned();
    let again = format!("GET / HTTP/1.1\r\nHost: here.cn\r\nVia: 1.1 other, {via}\r\n\r\n");
    assert_eq!(gate.ask(&again).await.status, 508);
    assert_eq!(gate.counters.head_errors(HeadError::Loop), 1);
    let other = "GET / HTTP/1.1\r\nHost: here.cn\r\nVia: 1.1 other\r\n\r\n";
    assert_eq!(gate.ask(other).await.status, 200);
}

#[tokio::test]
async fn clients_of_a_listed_proxy_are_counted_one_by_one() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.proxy_protocol_from = vec!["127.0.0.0/8".parse().expect("a prefix")];
        settings.connections_per_client_max = 1;
    })
    .await;
    let mut open = Vec::new();
    for n in 1..=4 {
        let mut client = gate.connect().await;
        client
            .send(format!("PROXY TCP4 198.51.100.{n} 203.0.113.1 4711 80\r\n{}", get("here.cn", "/")).as_bytes())
            .await;
        assert_eq!(client.response_to("GET").await.status, 200, "client {n}");
        open.push(client);
    }
    let mut second = gate.connect().await;
    second.send(format!("PROXY TCP4 198.51.100.1 203.0.113.1 4712 80\r\n{}", get("here.cn", "/")).as_bytes()).await;
    assert!(second.rest().await.is_empty(), "the first client's second connection");
}

#[tokio::test]
async fn a_page_shows_the_address_that_was_reached() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.proxy_protocol_from = vec!["127.0.0.0/8".parse().expect("a prefix")];
    })
    .await;
    for reached in ["203.0.113.1", "203.0.113.2"] {
        let mut client = gate.connect().await;
        client.send(format!("PROXY TCP4 198.51.100.1 {reached} 4711 80\r\nGET / HTTP/1.0\r\n\r\n").as_bytes()).await;
        let answer = client.response_to("GET").await;
        let page = answer.text();
        assert!(page.contains(reached), "{reached}: {page}");
    }
}

#[tokio::test]
async fn a_block_that_is_only_reported_says_so() {
    let rules = Rules { ip_site: IpSite::Observe, ..Rules::default() };
    let mut gate = HttpGate::with(fixture::view(rules), |_| {}).await;
    assert_eq!(gate.status("203.0.113.1").await, 200);
    let record = gate.records.recv().await.expect("a record");
    assert!(!record.enforced, "it was let through");
}

#[tokio::test]
async fn observe_mode_changes_nothing_whatever_is_missing() {
    let rules = Rules { mode: icpgate::policy::Mode::Observe, ..Rules::default() };
    let mut view = fixture::view(rules);
    view.faults = vec![(Fault::RegistryMissing, Outcome::Block)];
    let gate = HttpGate::with(view, |_| {}).await;
    assert_eq!(gate.status("here.cn").await, 200);
}

#[tokio::test]
async fn an_origin_that_reads_nothing_ends_the_request() {
    let stuck = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = stuck.local_addr().expect("an address");
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.origin = icpgate::http::settings::Origin::Fixed(origin);
        settings.stream_timeout = Duration::from_millis(200);
        settings.response_timeout = Duration::from_millis(200);
    })
    .await;
    let held = tokio::spawn(async move { stuck.accept().await });
    let size = 64 << 20;
    let head = format!("POST / HTTP/1.1\r\nHost: here.cn\r\nContent-Length: {size}\r\n\r\n");
    let (mut reader, mut writer) = gate.connect().await.stream.into_split();
    let pouring = tokio::spawn(async move {
        let _ = writer.write_all(head.as_bytes()).await;
        let piece = vec![b'x'; 64 << 10];
        while writer.write_all(&piece).await.is_ok() {}
    });
    let mut answered = [0; 13];
    timeout(PATIENCE, reader.read_exact(&mut answered)).await.expect("in time").expect("an answer");
    assert_eq!(&answered, b"HTTP/1.1 504 ");
    pouring.abort();
    drop(held);
}

#[tokio::test]
async fn a_body_in_drops_ends_the_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.origin = icpgate::http::settings::Origin::Fixed(addr);
        settings.stream_timeout = Duration::from_millis(100);
    })
    .await;
    let mut client = gate.connect().await.stream;
    client.write_all(b"POST / HTTP/1.1\r\nHost: here.cn\r\nContent-Length: 1000000\r\n\r\n").await.expect("writes");
    let (mut origin, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a connection");
    let mut buf = [0; 4096];
    // Each octet is followed by the next one as soon as it arrived: there is never silence.
    let dripping = async {
        while let Ok(1..) = origin.read(&mut buf).await {
            if client.write_all(b"x").await.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE, dripping).await.expect("it ends");
}

#[tokio::test]
async fn d_h23_a_bound_filing_is_good_at_its_addresses_only() {
    let addresses = vec!["203.0.113.1/32".parse().expect("a prefix")];
    let rows = vec![icpgate::registry::Filing { addresses, ..fixture::filed("here.cn", &["self"]) }];
    let mut view = fixture::view(Rules::default());
    view.registry =
        std::sync::Arc::new(icpgate::registry::Snapshot::build(1, fixture::suffixes(), fixture::PROVIDER, true, rows));
    let gate = HttpGate::with(view, |settings| {
        settings.proxy_protocol_from = vec!["127.0.0.0/8".parse().expect("a prefix")];
    })
    .await;
    for (reached, status) in [("203.0.113.1", 200), ("203.0.113.2", 451)] {
        let mut client = gate.connect().await;
        client.send(format!("PROXY TCP4 198.51.100.1 {reached} 4711 80\r\n{}", get("here.cn", "/")).as_bytes()).await;
        let answer = client.response_to("GET").await;
        assert_eq!(answer.status, status, "{reached}");
        if status == 451 {
            assert!(answer.header("x-icp-gate").expect("a reason").starts_with("reason=not_bound"));
        }
    }
}

#[tokio::test]
async fn a_label_that_idna_refuses_is_covered_by_its_domain() {
    let gate = HttpGate::start().await;
    for (host, status) in [("xn--a.here.cn", 200), ("xn--a.nofile.cn", 451), ("xn--a.cn", 451)] {
        assert_eq!(gate.status(host).await, status, "{host}");
    }
}
