//! Rows D-H14 to D-H31: flows, upgrades, addresses, limits, carve-out, reloads.

use std::time::Duration;

use icpgate::http::counters::RequestOutcome;
use icpgate::http::head::HeadError;
use icpgate::policy::{IpSite, Mode, Rules};

use super::{all_refused, refused};
use crate::harness::fixture::{self, filed};
use crate::harness::http::{Client, HttpGate, Reply, get};

#[tokio::test]
async fn d_h14_expectations_pass_through_and_blocks_come_at_once() {
    let gate = HttpGate::start().await;
    let head =
        |host: &str| format!("POST /e HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    let mut client = gate.connect().await;
    client.send(head("here.cn").as_bytes()).await;
    assert_eq!(client.next_response(false).await.expect("an interim answer").status, 100);
    client.send(b"body").await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(gate.origin.seen()[0].body, b"body");
    // Unfiled: no 100, the page at once, and no doubt about what comes after.
    assert_eq!(refused(&gate, head("nofile.cn").as_bytes()).await, 451);
    // A body that is there already is a body, whatever it looks like.
    let inner = get("here.cn", "/smuggled");
    let length = format!("Content-Length: {}", inner.len());
    let mut client = gate.connect().await;
    client.send(format!("{}{inner}", head("nofile.cn").replace("Content-Length: 4", &length)).as_bytes()).await;
    assert_eq!(client.response().await.status, 451);
    client.send(get("nofile.cn", "/").as_bytes()).await;
    assert_eq!(client.response().await.status, 451, "and the next request is the next");
    assert_eq!(gate.origin.paths(), ["/e"]);
}

#[tokio::test]
async fn d_h14_an_early_answer_ends_the_connection() {
    let gate = HttpGate::start().await;
    gate.origin.on("/early", Reply::Early(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno".to_vec()));
    let mut client = gate.connect().await;
    client.send(b"POST /early HTTP/1.1\r\nHost: here.cn\r\nContent-Length: 100000\r\n\r\npart").await;
    let answer = client.response().await;
    assert_eq!((answer.status, answer.text(), answer.header("connection")), (413, "no", Some("close")));
    // What follows is the rest of the body to us, never a request.
    client.send(get("nofile.cn", "/next").as_bytes()).await;
    assert!(client.rest().await.is_empty());
    assert!(!gate.origin.paths().contains(&"/next".to_owned()));
}

#[tokio::test]
async fn d_h15_upgrade_to_h2c_is_stripped() {
    let gate = HttpGate::start().await;
    let mut client = gate.connect().await;
    let lines = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    client.send(format!("GET /h2c HTTP/1.1\r\nHost: here.cn\r\n{lines}\r\n").as_bytes()).await;
    assert_eq!(client.response().await.status, 200);
    let seen = &gate.origin.seen()[0];
    for field in ["upgrade", "connection", "http2-settings"] {
        assert!(seen.all(field).is_empty(), "{}", seen.head);
    }
    // The stream that a client of an obliging origin would go on with is refused.
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert_eq!(client.response().await.status, 505);
    // An origin that switches unasked is not followed.
    gate.origin.on(
        "/switch",
        Reply::Echo(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n".to_vec()),
    );
    assert_eq!(gate.ask(&get("here.cn", "/switch")).await.status, 502);
    let both = "GET /switch HTTP/1.1\r\nHost: here.cn\r\nConnection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n";
    assert_eq!(gate.ask(both).await.status, 502);
    assert_eq!(gate.origin.seen().last().expect("a request").all("upgrade"), ["websocket"]);
}

#[tokio::test]
async fn d_h19_websocket_is_judged_before_the_upgrade() {
    let gate = HttpGate::start().await;
    let request = |host: &str| {
        format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n\r\n"
        )
    };
    assert_eq!(gate.ask(&request("nofile.cn")).await.status, 451);
    gate.origin.on(
        "/ws",
        Reply::Echo(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec()),
    );
    let mut client = gate.connect().await;
    // Octets sent before the 101 wait for it.
    client.send(format!("{}early", request("here.cn")).as_bytes()).await;
    let answer = client.next_response(true).await.expect("an answer");
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")));
    assert_eq!(client.octets(5).await, b"early");
    client.send(b"GET / HTTP/1.1\r\nHost: nofile.cn\r\n\r\n").await;
    assert_eq!(client.octets(4).await, b"GET ", "a tunnel passes what it is given");
    assert_eq!(gate.origin.hosts(), ["here.cn"]);
}

#[tokio::test]
async fn d_h19_no_tunnel_without_the_origins_101() {
    let gate = HttpGate::start().await;
    let request = "GET /no HTTP/1.1\r\nHost: here.cn\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut client = gate.connect().await;
    client.send(format!("{request}{}", get("nofile.cn", "/smuggled")).as_bytes()).await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(client.response().await.status, 451, "what follows is a request like any");
    assert_eq!(gate.origin.paths(), ["/no"]);
}

#[tokio::test]
async fn d_h20_connect_is_refused() {
    all_refused(
        405,
        &[
            "CONNECT nofile.cn:443 HTTP/1.1\r\nHost: nofile.cn:443\r\n\r\n",
            "CONNECT nofile.cn:443 HTTP/1.1\r\nHost: here.cn\r\n\r\n",
            "CONNECT here.cn:443 HTTP/1.0\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn d_h21_address_hosts_are_told_in_every_spelling() {
    let gate = HttpGate::start().await;
    for host in [
        "203.0.113.1",
        "203.0.113.1:8080",
        "203.0.113.1.",
        "0313.0.0161.01",
        "0xcb.0.0x71.1",
        "3405803777",
        "203.28929",
        "[::ffff:203.0.113.1]",
        "[2001:db8:1::1]:80",
    ] {
        let answer = gate.ask(&get(host, "/")).await;
        assert_eq!(answer.status, 451, "{host}");
        assert_eq!(answer.header("x-icp-gate"), Some("reason=ip_site"), "{host}");
    }
    for host in ["[fe80::1%25eth0]", "[1.2.3.4]", "2001:db8::1", "256.1.1.1", "1.2.3.4.5"] {
        assert_eq!(refused(&gate, get(host, "/").as_bytes()).await, 400, "{host}");
    }
    // A name that only looks like an address is a name (D-D23).
    let answer = gate.ask(&get("203-0-113-1.sslip.io", "/")).await;
    assert!(answer.header("x-icp-gate").expect("a reason").starts_with("reason=not_filed; domain=sslip.io"));
}

#[tokio::test]
async fn d_h22_address_policy_is_configurable_and_counted() {
    let gate = HttpGate::start().await;
    assert_eq!(gate.status("203.0.113.1").await, 451);
    assert_eq!(gate.counters.address_hosts.value(), 1);
    for (ip_site, status) in [(IpSite::Observe, 200), (IpSite::Allow, 200)] {
        let rules = Rules { ip_site, ..Rules::default() };
        let mut gate = HttpGate::with(fixture::view(rules), |_| {}).await;
        assert_eq!(gate.status("203.0.113.1").await, status);
        let record = gate.records.recv().await.expect("a record");
        assert!(!record.verdict.blocks());
        assert!(record.name.is_none());
    }
}

#[tokio::test]
async fn d_h23_another_filed_name_passes_by_default() {
    let gate = HttpGate::start().await;
    assert_eq!(gate.status("both.com").await, 200);
}

#[tokio::test]
async fn d_h24_forwarding_fields_change_no_verdict() {
    let gate = HttpGate::start().await;
    for lines in [
        "X-Forwarded-Host: here.cn",
        "Forwarded: host=here.cn",
        "X-Original-Host: here.cn",
        "X-Host: here.cn",
        "X-Original-URL: http://here.cn/",
    ] {
        let lie = format!("GET / HTTP/1.1\r\nHost: nofile.cn\r\n{lines}\r\n\r\n");
        assert_eq!(gate.ask(&lie).await.status, 451, "{lines}");
        let lie = lie.replace("nofile.cn", "x.cn").replace("here.cn", "nofile.cn").replace("x.cn", "here.cn");
        assert_eq!(gate.ask(&lie).await.status, 200, "{lines}");
    }
    assert!(gate.origin.hosts().iter().all(|host| host == "here.cn"));
}

#[tokio::test]
async fn d_h25_slow_and_large_heads_meet_limits() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.head_timeout = Duration::from_millis(150);
        settings.head_bytes_max = 1000;
        settings.head_lines_max = 10;
    })
    .await;
    assert_eq!(refused(&gate, b"GET / HTTP/1.1\r\nHost: here.cn\r\nX: ").await, 408, "a head that stops");
    assert_eq!(gate.counters.slow_heads.value(), 1);
    assert!(gate.connect().await.rest().await.is_empty(), "a connection that asks nothing is closed");
    assert_eq!(refused(&gate, format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(2000)).as_bytes()).await, 431);
    assert_eq!(refused(&gate, format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(11)).as_bytes()).await, 431);
    assert!(gate.origin.seen().is_empty());
}

#[tokio::test]
async fn d_h25_connections_over_a_limit_are_closed() {
    let gate =
        HttpGate::with(fixture::view(Rules::default()), |settings| settings.connections_per_client_max = 2).await;
    let (mut first, mut second) = (gate.connect().await, gate.connect().await);
    for client in [&mut first, &mut second] {
        client.send(get("here.cn", "/").as_bytes()).await;
        assert_eq!(client.response().await.status, 200);
    }
    assert!(gate.connect().await.rest().await.is_empty());
    assert_eq!(gate.counters.connections_refused.value(), 1);
    drop(first);
    while gate.counters.connections.value() > 1 {
        tokio::task::yield_now().await;
    }
    second.send(get("here.cn", "/").as_bytes()).await;
    assert_eq!(second.response().await.status, 200);
}

#[tokio::test]
async fn d_h26_other_protocols_are_closed() {
    let gate = HttpGate::start().await;
    let mut client = gate.connect().await;
    client.send(get("here.cn", "/").as_bytes()).await;
    assert_eq!(client.response().await.status, 200);
    client.send(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03").await;
    assert!(client.rest().await.is_empty(), "TLS after a request is closed without a word");
    assert_eq!(gate.counters.head_errors(HeadError::Tls), 1);
    assert_eq!(refused(&gate, b"SSH-2.0-OpenSSH_9.6\r\n").await, 400);
    assert_eq!(refused(&gate, &[0; 32]).await, 400);
    assert_eq!(refused(&gate, b"OPTIONS rtsp://nofile.cn/ RTSP/1.0\r\nCSeq: 1\r\n\r\n").await, 400);
    assert_eq!(gate.origin.connections(), 1, "that of the request");
}

#[tokio::test]
async fn d_h28_every_port_that_is_given_judges_alike() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.listen = vec!["127.0.0.1:0".parse().expect("an address"); 3];
        settings.tls_listen = vec!["127.0.0.1:0".parse().expect("an address"); 2];
    })
    .await;
    let settings = gate.gate.settings();
    let ports: Vec<_> = settings.listen.iter().chain(&settings.tls_listen).collect();
    assert_eq!(ports.len(), 5);
    for addr in ports {
        let mut client = Client::connect(*addr).await;
        // A port that the client names changes nothing either.
        for (host, status) in [("here.cn", 200), ("nofile.cn", 451), ("nofile.cn:8088", 451), ("here.cn:8088", 200)] {
            client.send(get(host, "/").as_bytes()).await;
            assert_eq!(client.response().await.status, status, "{host} at {addr}");
        }
    }
    assert!(gate.origin.hosts().iter().all(|host| host.starts_with("here.cn")));
}

#[tokio::test]
async fn d_h29_no_method_is_exempt() {
    let gate = HttpGate::start().await;
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PURGE", "M-SEARCH", "QUERY"] {
        let request = |host: &str| format!("{method} / HTTP/1.1\r\nHost: {host}\r\nRange: bytes=0-1\r\n\r\n");
        assert_eq!(gate.ask(&request("nofile.cn")).await.status, 451, "{method}");
        assert_eq!(gate.ask(&request("here.cn")).await.status, 200, "{method}");
    }
    let asterisk = |host: &str| format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(gate.ask(&asterisk("nofile.cn")).await.status, 451);
    assert_eq!(gate.ask(&asterisk("here.cn")).await.status, 200);
    assert_eq!(gate.origin.paths().last().map(String::as_str), Some("*"));
    assert_eq!(refused(&gate, b"GET * HTTP/1.1\r\nHost: here.cn\r\n\r\n").await, 400);
}

#[tokio::test]
async fn d_h30_acme_challenges_pass_only_when_configured() {
    let path = "/.well-known/acme-challenge/abc_-9";
    let gate = HttpGate::start().await;
    assert_eq!(gate.ask(&get("nofile.cn", path)).await.status, 451, "blocked by default (N5)");
    let mut gate = HttpGate::with(fixture::view(Rules::default()), |settings| settings.acme_carve_out = true).await;
    assert_eq!(gate.ask(&get("nofile.cn", path)).await.status, 200);
    assert_eq!(gate.ask(&format!("HEAD {path} HTTP/1.1\r\nHost: nofile.cn\r\n\r\n")).await.status, 200);
    assert_eq!(gate.counters.requests(RequestOutcome::CarvedOut), 2);
    let record = gate.records.recv().await.expect("a record");
    assert!(record.verdict.blocks() && !record.enforced);
    for request in [
        get("nofile.cn", "/.well-known/acme-challenge/../../admin"),
        get("nofile.cn", "/.well-known/acme-challenge/"),
        get("nofile.cn", "/.well-known/acme-challenge/a?x"),
        get("nofile.cn", "/.well-known/acme-challenge%2fabc"),
        format!("POST {path} HTTP/1.1\r\nHost: nofile.cn\r\n\r\n"),
        get("203.0.113.1", path),
    ] {
        assert_eq!(gate.ask(&request).await.status, 451, "{request}");
    }
    let with_body = format!("GET {path} HTTP/1.1\r\nHost: nofile.cn\r\nContent-Length: 2\r\n\r\nxx");
    assert_eq!(gate.ask(&with_body).await.status, 451);
    // The answer has room for a key authorisation, not for a site.
    let large = format!("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n{}", "x".repeat(20_000));
    gate.origin.on(path, Reply::OctetsThenClose(large.into_bytes()));
    let mut client = gate.connect().await;
    client.send(get("nofile.cn", path).as_bytes()).await;
    let all = client.rest().await;
    assert!(all.len() < 20_000, "{} octets", all.len());
    // Nor for another protocol.
    gate.origin
        .on(path, Reply::Echo(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec()));
    let upgrade = get("nofile.cn", path).replace("\r\n\r\n", "\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(gate.ask(&upgrade).await.status, 502);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d_h31_one_view_a_request_while_registries_change() {
    let gate = HttpGate::start().await;
    let mut client = gate.connect().await;
    let (mut statuses, rounds) = ([0, 0], 200);
    for round in 0..rounds {
        let mut rows = fixture::filings();
        if round % 2 == 0 {
            rows.push(filed("nofile.cn", &["self"]));
        }
        gate.publish(rows);
        let generation = gate.view.load().registry.generation();
        client.send(get("nofile.cn", "/").as_bytes()).await;
        let answer = client.response().await;
        assert_eq!(answer.status, if round % 2 == 0 { 200 } else { 451 }, "generation {generation}");
        statuses[usize::from(answer.status == 451)] += 1;
    }
    assert_eq!(statuses, [100, 100]);
    assert_eq!(gate.origin.seen().len(), 100);
}

#[tokio::test]
async fn observe_and_off_change_nothing_on_the_wire() {
    for (mode, has_record) in [(Mode::Observe, true), (Mode::Off, false)] {
        let rules = Rules { mode, ..Rules::default() };
        let mut gate = HttpGate::with(fixture::view(rules), |_| {}).await;
        assert_eq!(gate.status("nofile.cn").await, 200);
        assert_eq!(gate.status("203.0.113.1").await, 200);
        match gate.records.try_recv() {
            Ok(record) => assert!(has_record && record.verdict.blocks() && !record.enforced),
            Err(_) => assert!(!has_record),
        }
    }
}
