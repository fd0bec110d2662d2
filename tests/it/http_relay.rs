//! The relay between client and origin: bodies, persistence, failures, limits, upgrades, proxies, the drain.

use std::time::Duration;

use icpgate::drain::{DrainSignal, Phase};
use icpgate::http::DemoOrigin;
use icpgate::http::counters::RequestOutcome;
use icpgate::policy::{Fault, Outcome, Rules};
use icpgate::sockets::Sockets;
use tokio::io::AsyncWriteExt;

use super::harness::fixture;
use super::harness::http::{Client, HttpGate, PATIENCE, Reply, get};

async fn with_reply(reply: &str) -> HttpGate {
    let gate = HttpGate::start().await;
    gate.origin.on("/", Reply::OctetsThenClose(reply.as_bytes().to_vec()));
    gate
}

#[tokio::test]
async fn bodies_of_every_framing_arrive_whole() {
    for (reply, framing) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", "length"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
            "chunked",
        ),
        ("HTTP/1.1 200\r\n\r\nhello", "chunked"),
        ("HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nhello", "chunked"),
    ] {
        let gate = with_reply(reply).await;
        let mut client = gate.connect().await;
        client.send(get("here.cn", "/").as_bytes()).await;
        let answer = client.response().await;
        assert_eq!((answer.status, answer.text()), (200, "hello"), "{reply:?}");
        assert_eq!(answer.header("content-length").is_some(), framing == "length", "{reply:?}");
        assert_eq!(answer.header("trailer"), None);
        client.send(get("here.cn", "/again").as_bytes()).await;
        assert_eq!(client.response().await.status, 200, "the client's connection stays: {reply:?}");
        // A client of HTTP/1.0 gets no chunks.
        let mut client = gate.connect().await;
        client.send(b"GET / HTTP/1.0\r\nHost: here.cn\r\n\r\n").await;
        let all = String::from_utf8(client.rest().await).expect("text");
        assert!(all.ends_with("\r\n\r\nhello") && !all.contains("chunked"), "{all:?}");
    }
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    for (method, reply, length) in [
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", Some("7")),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", Some("9")),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
    ] {
        let gate = HttpGate::start().await;
        gate.origin.on("/", Reply::Octets(reply.as_bytes().to_vec()));
        let request = format!("{method} / HTTP/1.1\r\nHost: here.cn\r\n\r\n");
        let mut client = gate.connect().await;
        client.send([request.clone(), get("here.cn", "/next")].concat().as_bytes()).await;
        assert_eq!(client.response_to(&request).await.header("content-length"), length, "{reply:?}");
        assert_eq!(client.response().await.text(), "GET /next HTTP/1.1 here.cn");
        assert_eq!(gate.origin.connections(), 1);
    }
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let gate = HttpGate::start().await;
    let body: Vec<u8> = (0..3_000_000u32).map(|n| u8::try_from(n % 251).expect("an octet")).collect();
    let reply = [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
    gate.origin.on("/big", Reply::Octets(reply));
    for framing in ["length", "chunked"] {
        let mut client = gate.connect().await;
        let mut request = Vec::new();
        if framing == "length" {
            request.extend_from_slice(
                format!("POST /big HTTP/1.1\r\nHost: here.cn\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
            );
            request.extend_from_slice(&body);
        } else {
            request.extend_from_slice(b"POST /big HTTP/1.1\r\nHost: here.cn\r\nTransfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(70_001) {
                request.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                request.extend_from_slice(chunk);
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(b"0\r\n\r\n");
        }
        client.send(&request).await;
        let answer = client.response().await;
        assert!(answer.body == body, "{framing}: {} octets", answer.body.len());
        assert!(gate.origin.seen().last().expect("a request").body == body, "{framing}");
    }
}

#[tokio::test]
async fn hop_by_hop_fields_end_here_and_others_pass() {
    let gate = with_reply("HTTP/1.1 200 OK\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n").await;
    let lines =
        "Connection: X-Mine\r\nX-Mine: 1\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nCookie: c\r\nX-Empty:\r\n";
    let answer = gate.ask(&format!("GET / HTTP/1.1\r\nHost: here.cn:80\r\n{lines}\r\n")).await;
    let names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Set-Cookie", "Set-Cookie", "Content-Length"]);
    let seen = &gate.origin.seen()[0];
    let added = format!("X-Forwarded-For: 127.0.0.1\r\nVia: 1.1 {}\r\n\r\n", gate.gate.via());
    assert_eq!(seen.head, format!("GET / HTTP/1.1\r\nHost: here.cn:80\r\nCookie: c\r\nX-Empty: \r\n{added}"));
}

#[tokio::test]
async fn forwarded_for_is_appended_to() {
    let gate = HttpGate::start().await;
    gate.ask("GET / HTTP/1.1\r\nHost: here.cn\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 192.0.2.8\r\n\r\n")
        .await;
    assert_eq!(gate.origin.seen()[0].all("x-forwarded-for"), ["192.0.2.7, 192.0.2.8, 127.0.0.1"]);
}

#[tokio::test]
async fn interim_answers_pass_to_those_who_know_them() {
    let reply = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let gate = with_reply(reply).await;
    let mut client = gate.connect().await;
    client.send(get("here.cn", "/").as_bytes()).await;
    assert_eq!(client.response().await.status, 103);
    assert_eq!(client.response().await.text(), "ok");
    let old = gate.ask("GET / HTTP/1.0\r\nHost: here.cn\r\n\r\n").await;
    assert_eq!((old.status, old.text()), (200, "ok"));
    let flood = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
    let gate = with_reply(&flood).await;
    let mut client = gate.connect().await;
    client.send(get("here.cn", "/").as_bytes()).await;
    assert!(client.rest().await.len() < flood.len(), "a flood of them is cut");
}

#[tokio::test]
async fn persistence_follows_version_and_wish() {
    let gate = HttpGate::start().await;
    for (request, connection) in [
        ("GET / HTTP/1.1\r\nHost: here.cn\r\nConnection: close\r\n\r\n", Some("close")),
        ("GET / HTTP/1.0\r\nHost: here.cn\r\n\r\n", Some("close")),
        ("GET / HTTP/1.0\r\nHost: here.cn\r\nConnection: keep-alive\r\n\r\n", Some("keep-alive")),
        ("GET / HTTP/1.1\r\nHost: here.cn\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: nofile.cn\r\nConnection: close\r\n\r\n", Some("close")),
        ("GET / HTTP/1.0\r\nHost: nofile.cn\r\nConnection: keep-alive\r\n\r\n", Some("keep-alive")),
    ] {
        let mut client = gate.connect().await;
        client.send(request.as_bytes()).await;
        assert_eq!(client.response().await.header("connection"), connection, "{request:?}");
        if connection == Some("close") {
            assert!(client.rest().await.is_empty());
        } else {
            client.send(get("here.cn", "/").as_bytes()).await;
            assert_eq!(client.response().await.status, 200);
        }
    }
}

#[tokio::test]
async fn requests_per_connection_are_limited() {
    let gate =
        HttpGate::with(fixture::view(Rules::default()), |settings| settings.requests_per_connection_max = 2).await;
    let mut client = gate.connect().await;
    client.send([get("here.cn", "/1"), get("nofile.cn", "/2"), get("here.cn", "/3")].concat().as_bytes()).await;
    assert_eq!(client.response().await.header("connection"), None);
    assert_eq!(client.response().await.header("connection"), Some("close"));
    assert!(client.rest().await.is_empty());
    assert_eq!(gate.origin.paths(), ["/1"]);
}

#[tokio::test]
async fn a_stale_origin_connection_is_replaced() {
    let gate = HttpGate::start().await;
    gate.origin.on("/stale", Reply::AnswerThenGoStale);
    let mut client = gate.connect().await;
    for request in [
        get("here.cn", "/stale"),
        get("here.cn", "/stale"),
        "POST /p HTTP/1.1\r\nHost: here.cn\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
    ] {
        client.send(request.as_bytes()).await;
        assert_eq!(client.response().await.status, 200, "{request:?}");
        // The end of the origin's connection has arrived before the next request does.
        tokio::task::yield_now().await;
    }
    assert_eq!(gate.origin.paths(), ["/stale", "/stale", "/p"]);
}

#[tokio::test]
async fn an_unanswered_request_is_sent_again_only_if_that_is_harmless() {
    let gate = HttpGate::start().await;
    let mut client = gate.connect().await;
    gate.origin.on("/gone", Reply::Close);
    client.send(get("here.cn", "/").as_bytes()).await;
    assert_eq!(client.response().await.status, 200);
    client.send(get("here.cn", "/gone").as_bytes()).await;
    assert_eq!(client.response().await.status, 502);
    assert_eq!(gate.origin.paths(), ["/", "/gone", "/gone"], "once more, on a new connection");
    assert_eq!(gate.counters.origin_retries.value(), 1);
    client.send(get("here.cn", "/").as_bytes()).await;
    assert_eq!(client.response().await.status, 200);
    client.send(b"POST /gone HTTP/1.1\r\nHost: here.cn\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 502);
    assert_eq!(gate.origin.paths().iter().filter(|path| *path == "/gone").count(), 3, "a POST is not repeated");
}

#[tokio::test]
async fn failures_of_the_origin_are_told_apart() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.response_timeout = Duration::from_millis(100);
    })
    .await;
    gate.origin
        .on("/silent", Reply::Close)
        .on("/slow", Reply::Hang)
        .on("/http09", Reply::OctetsThenClose(b"hello".to_vec()))
        .on(
            "/two",
            Reply::Octets(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        )
        .on("/lengths", Reply::Octets(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec()))
        .on("/lf", Reply::Octets(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n".to_vec()));
    for (path, status) in
        [("/silent", 502), ("/slow", 504), ("/http09", 502), ("/two", 502), ("/lengths", 502), ("/lf", 502)]
    {
        let answer = gate.ask(&get("here.cn", path)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (status, Some("5")), "{path}");
    }
    assert_eq!(gate.counters.requests(RequestOutcome::OriginFailed), 6);
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        // Nobody listens on the discard port of this address.
        settings.origin = icpgate::http::settings::Origin::Fixed("127.0.0.1:9".parse().expect("an address"));
    })
    .await;
    let mut client = gate.connect().await;
    client.send(get("here.cn", "/").as_bytes()).await;
    assert_eq!(client.response().await.status, 502);
    client.send(get("nofile.cn", "/").as_bytes()).await;
    assert_eq!(client.response().await.status, 451, "the page needs no origin");
}

#[tokio::test]
async fn a_cut_answer_is_seen_to_be_cut() {
    for reply in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nX\r\n",
    ] {
        let gate = with_reply(reply).await;
        let mut client = gate.connect().await;
        client.send(b"GET / HTTP/1.1\r\nHost: here.cn\r\nConnection: close\r\n\r\n").await;
        let all = String::from_utf8(client.rest().await).expect("text");
        assert!(!all.ends_with("\r\n0\r\n\r\n"), "{all:?}");
        assert!(!all.contains(" 502 ") || !all.contains(" 200 "), "{all:?}");
        assert_eq!(gate.counters.requests(RequestOutcome::OriginFailed), 1, "{reply:?}");
    }
}

#[tokio::test]
async fn an_answer_nobody_asked_for_is_given_to_nobody() {
    let gate = HttpGate::start().await;
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    gate.origin.on("/two", Reply::Octets(two.as_bytes().to_vec()));
    let mut client = gate.connect().await;
    client.send(get("here.cn", "/two").as_bytes()).await;
    assert_eq!(client.response().await.text(), "ok");
    client.send(get("here.cn", "/next").as_bytes()).await;
    assert_eq!(client.response().await.text(), "GET /next HTTP/1.1 here.cn");
    assert_eq!(gate.origin.connections(), 2);
}

#[tokio::test]
async fn half_closed_clients_get_their_answer() {
    let gate = HttpGate::start().await;
    let mut client = gate.connect().await;
    client.send([get("here.cn", "/1"), get("nofile.cn", "/2")].concat().as_bytes()).await;
    client.stream.shutdown().await.expect("closes its side");
    assert_eq!(client.response().await.status, 200);
    assert_eq!(client.response().await.status, 451);
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn without_data_the_gate_answers_503() {
    let mut view = fixture::view(Rules::default());
    view.faults = vec![(Fault::RegistryMissing, Outcome::Block)];
    let gate = HttpGate::with(view, |_| {}).await;
    let mut client = gate.connect().await;
    client.send(get("here.cn", "/").as_bytes()).await;
    let answer = client.response().await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert!(gate.origin.seen().is_empty());
    gate.view.update(|view| view.faults.clear());
    client.send(get("here.cn", "/").as_bytes()).await;
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn the_drain_finishes_what_is_in_work() {
    let gate = HttpGate::start().await;
    let (mut idle, mut busy) = (gate.connect().await, gate.connect().await);
    idle.send(get("here.cn", "/").as_bytes()).await;
    assert_eq!(idle.response().await.status, 200);
    busy.send(b"POST /busy HTTP/1.1\r\nHost: here.cn\r\nContent-Length: 4\r\n\r\nbo").await;
    while gate.origin.connections() < 2 {
        tokio::task::yield_now().await;
    }
    gate.drain.advance(Phase::Draining);
    assert!(idle.rest().await.is_empty(), "an idle connection is closed");
    busy.send(b"dy").await;
    assert_eq!(busy.response().await.status, 200);
    drop(busy);
    let addr = gate.addr;
    let mut gate = gate;
    tokio::time::timeout(PATIENCE, &mut gate.running).await.expect("ends in time").expect("without a panic");
    assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn proxies_are_believed_only_when_listed() {
    let start = b"PROXY TCP4 198.51.100.7 203.0.113.1 40000 80\r\n";
    let gate = HttpGate::start().await;
    let mut client = gate.connect().await;
    client.send(&[&start[..], get("here.cn", "/").as_bytes()].concat()).await;
    assert_eq!(client.response().await.status, 400, "from anyone else it is a bad request");
    let mut gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.proxy_protocol_from = vec!["127.0.0.0/8".parse().expect("a prefix")];
    })
    .await;
    let mut client = gate.connect().await;
    client.send(&[&start[..], get("here.cn", "/").as_bytes()].concat()).await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(gate.origin.seen()[0].all("x-forwarded-for"), ["198.51.100.7"]);
    assert_eq!(gate.records.recv().await.expect("a record").client.to_string(), "198.51.100.7");
    client.send(get("nofile.cn", "/").as_bytes()).await;
    assert!(client.response().await.text().contains("198.51.100.7"), "the page shows the client");
    let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    binary.extend([198, 51, 100, 8, 203, 0, 113, 1, 0, 1, 0, 80]);
    binary.extend(b"GET / HTTP/1.0\r\n\r\n");
    let mut client = gate.connect().await;
    client.send(&binary).await;
    assert!(client.response().await.text().contains("198.51.100.8"));
    // Without a PROXY header, the last address that no listed proxy added.
    let mut client = gate.connect().await;
    client
        .send(b"GET / HTTP/1.1\r\nHost: nofile.cn\r\nX-Forwarded-For: 192.0.2.1, 192.0.2.66, 127.0.0.9\r\n\r\n")
        .await;
    assert!(client.response().await.text().contains("192.0.2.66"));
    let mut client = gate.connect().await;
    client.send(b"PROXY TCP4 nonsense\r\nGET / HTTP/1.1\r\n\r\n").await;
    assert!(client.rest().await.is_empty(), "a broken header is closed");
    assert_eq!(gate.counters.proxy_header_errors.value(), 1);
}

#[tokio::test]
async fn records_carry_the_decision() {
    let mut gate = HttpGate::start().await;
    let answer = gate.ask(&get("www.nofile.cn", "/")).await;
    let record = gate.records.recv().await.expect("a record");
    let name = record.name.expect("a name");
    assert_eq!(name.to_string(), "www.nofile.cn");
    let id = record.verdict.id(name.as_ref()).to_string();
    assert!(answer.header("x-icp-gate").expect("a reason").ends_with(&id));
    assert!(record.enforced);
}

#[tokio::test]
async fn counters_close() {
    use icpgate::count::{Observe, Sample};
    let gate = HttpGate::start().await;
    for host in ["here.cn", "nofile.cn", "here.cn@x", "203.0.113.1"] {
        gate.status(host).await;
    }
    let (mut requests, mut verdicts, mut errors) = (0, 0, 0);
    gate.counters.observe(&mut |family, labels, sample| {
        let Sample::Count(count) = sample else { return };
        match family {
            "http_requests_total" => requests += count,
            "verdicts_total" if labels[0] == ("plane", "http") => verdicts += count,
            "verdicts_total" => assert_eq!(count, 0, "{labels:?}"),
            "http_parse_errors_total" => errors += count,
            _ => {}
        }
    });
    assert_eq!((requests, verdicts, errors), (4, 3, 1));
}

#[tokio::test]
async fn the_demo_origin_shows_what_arrived() {
    let origin =
        DemoOrigin::bind("127.0.0.1:0".parse().expect("an address"), &Sockets::default()).await.expect("binds");
    let addr = origin.addr().expect("an address");
    let (signal, watch) = DrainSignal::new();
    let running = tokio::spawn(origin.run(watch));
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.origin = icpgate::http::settings::Origin::Fixed(addr);
    })
    .await;
    let mut client = Client::connect(gate.addr).await;
    for request in [
        get("www.here.cn", "/<x>"),
        "POST /p HTTP/1.1\r\nHost: www.here.cn\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(),
    ] {
        client.send(request.as_bytes()).await;
        let answer = client.response().await;
        assert_eq!(answer.status, 200);
        assert!(
            answer.text().contains("www.here.cn") && answer.text().contains("已备案") && !answer.text().contains("<x>")
        );
    }
    signal.advance(Phase::Stopped);
    tokio::time::timeout(PATIENCE, running).await.expect("ends in time").expect("without a panic");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let gate = HttpGate::start().await;
    let mut settings = gate.gate.settings().clone();
    settings.listen = vec![gate.addr];
    let (view, sink, counters) = (gate.view.clone(), icpgate::policy::Sink::closed(), gate.counters.clone());
    let bound = icpgate::http::Plane::bind(settings, view, sink, counters, &Sockets::default()).await;
    let error = bound.map(|_| ()).expect_err("the port is taken").to_string();
    assert!(error.contains(&gate.addr.to_string()), "{error}");
}
