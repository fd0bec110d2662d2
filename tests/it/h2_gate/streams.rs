//! Streams as requests: verdicts, answers of the gate's own, what goes to the origin.

use std::sync::Arc;

use http::Request;
use icpgate::http::counters::RequestOutcome;
use icpgate::policy::{Fault, Mode, Outcome, Rules};
use tokio::task::JoinSet;

use super::until;
use crate::harness::fixture::{self, filed};
use crate::harness::h2::{
    DATA, END_HEADERS, END_STREAM, H2, HEADERS, PROTOCOL_ERROR, RST_STREAM, Raw, fields, frame, get_fields, request,
};
use crate::harness::http::{HttpGate, Reply};

#[tokio::test]
async fn d_h11_every_stream_is_judged_for_itself() {
    let gate = HttpGate::start().await;
    let client = Arc::new(H2::connect(gate.addr).await);
    let hosts = ["here.cn", "nofile.cn", "www.here.cn", "here.cn.nofile.cn", "203.0.113.1", "NOFILE.cn", "HERE.cn"];
    // All at once, so that they interleave.
    let mut asking = JoinSet::new();
    for host in hosts.into_iter().cycle().take(70) {
        let client = client.clone();
        asking.spawn(async move { (host, client.ask(request("GET", host, "/"), b"").await) });
    }
    while let Some(asked) = asking.join_next().await {
        let (host, answer) = asked.expect("no panic inside");
        let answer = answer.expect("an answer");
        let is_filed = host.to_lowercase().ends_with("here.cn");
        assert_eq!(answer.status, if is_filed { 200 } else { 451 }, "{host}");
        assert_eq!(answer.text().contains("HTTP/1.1"), is_filed, "{host}: {}", answer.text());
    }
    let seen = gate.origin.hosts();
    assert_eq!(seen.len(), 30);
    assert!(seen.iter().all(|host| host.to_lowercase().ends_with("here.cn") && !host.contains("nofile")), "{seen:?}");
    assert_eq!(gate.counters.requests(RequestOutcome::Blocked), 40);
    assert_eq!(gate.counters.requests(RequestOutcome::Proxied), 30);
}

#[tokio::test]
async fn d_h11_a_stream_follows_the_registry_of_its_moment() {
    let gate = HttpGate::start().await;
    let client = H2::connect(gate.addr).await;
    assert_eq!(client.get("here.cn", "/").await.status, 200);
    gate.publish(vec![filed("nofile.cn", &["self"])]);
    assert_eq!(client.get("here.cn", "/").await.status, 451);
    assert_eq!(client.get("nofile.cn", "/").await.status, 200);
}

#[tokio::test]
async fn d_h29_no_method_is_exempt() {
    let gate = HttpGate::start().await;
    let client = H2::connect(gate.addr).await;
    for method in ["GET", "HEAD", "POST", "OPTIONS", "TRACE", "PURGE", "DELETE", "PRI"] {
        let answer = client.ask(request(method, "nofile.cn", "/"), b"").await.expect("an answer");
        assert_eq!((answer.status, answer.body.is_empty()), (451, method == "HEAD"), "{method}");
    }
    assert!(gate.origin.seen().is_empty());
}

#[tokio::test]
async fn pages_are_those_of_http1() {
    let gate = HttpGate::start().await;
    let client = H2::connect(gate.addr).await;
    for (accept, language) in [("text/html", "zh-CN"), ("application/json", "en"), ("text/plain", "en-GB")] {
        let text =
            format!("GET / HTTP/1.1\r\nHost: www.nofile.cn\r\nAccept: {accept}\r\nAccept-Language: {language}\r\n\r\n");
        let one = gate.ask(&text).await;
        let request = Request::get("http://www.nofile.cn/").header("accept", accept);
        let request = request.header("accept-language", language).body(()).expect("a request");
        let two = client.ask(request, b"").await.expect("an answer");
        assert_eq!((one.status, &one.body), (two.status, &two.body));
        for (name, value) in one.headers.iter().filter(|(name, _)| name != "Date") {
            assert_eq!(two.header(name), Some(value.as_str()), "{name}");
        }
        assert_eq!(one.headers.len(), two.headers.len());
    }
}

#[tokio::test]
async fn redirects_and_missing_data_are_answered_as_in_http1() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.block.status = 302;
        settings.block.redirect = "https://beian.example/?n={name}".to_owned();
    })
    .await;
    let answer = H2::connect(gate.addr).await.get("nofile.cn", "/").await;
    assert_eq!((answer.status, answer.header("location")), (302, Some("https://beian.example/?n=nofile.cn")));
    let mut view = fixture::view(Rules::default());
    view.faults = vec![(Fault::RegistryMissing, Outcome::Block)];
    let gate = HttpGate::with(view, |_| {}).await;
    let answer = H2::connect(gate.addr).await.get("here.cn", "/").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert!(gate.origin.seen().is_empty());
}

#[tokio::test]
async fn observe_mode_passes_streams() {
    let rules = Rules { mode: Mode::Observe, ..Rules::default() };
    let gate = HttpGate::with(fixture::view(rules), |_| {}).await;
    assert_eq!(H2::connect(gate.addr).await.get("nofile.cn", "/").await.status, 200);
}

#[tokio::test]
async fn a_blocked_grpc_call_is_told_permission_denied() {
    let gate = HttpGate::start().await;
    let client = H2::connect(gate.addr).await;
    for kind in ["application/grpc", "application/grpc+proto"] {
        let call = Request::post("http://nofile.cn/pkg.Service/Call").header("content-type", kind);
        let answer = client.ask(call.body(()).expect("a request"), b"\0\0\0\0\0").await.expect("an answer");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/grpc")));
        assert_eq!(answer.header("grpc-status"), Some("7"), "PERMISSION_DENIED");
        assert!(answer.header("grpc-message").expect("why").contains("reason=not_filed; domain=nofile.cn"));
        assert!(answer.body.is_empty() && answer.trailers.is_none(), "a head alone");
        assert!(answer.header("x-icp-gate").is_some());
    }
}

#[tokio::test]
async fn d_h30_acme_challenges_pass_where_configured() {
    let path = "/.well-known/acme-challenge/abc";
    let gate = HttpGate::start().await;
    assert_eq!(H2::connect(gate.addr).await.get("nofile.cn", path).await.status, 451);
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| settings.acme_carve_out = true).await;
    let client = H2::connect(gate.addr).await;
    assert_eq!(client.get("nofile.cn", path).await.status, 200);
    assert_eq!(client.get("nofile.cn", "/").await.status, 451);
    let posted = client.ask(request("POST", "nofile.cn", path), b"x").await.expect("an answer");
    assert_eq!(posted.status, 451);
    gate.origin.on(path, Reply::Octets(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n".to_vec()));
    assert_eq!(gate.counters.requests(RequestOutcome::CarvedOut), 1);
}

#[tokio::test]
async fn heads_are_written_anew_for_the_origin() {
    let gate = HttpGate::start().await;
    let client = H2::connect(gate.addr).await;
    let request = Request::get("http://here.cn:8080/a?b=c")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-forwarded-for", "192.0.2.7")
        .header("x-forwarded-host", "nofile.cn")
        .header("x_forwarded_for", "192.0.2.8")
        .header("content_length", "9")
        .header("te", "trailers")
        .header("trailer", "x")
        .header("http2-settings", "AAMAAABk")
        .header("x-mine", "  kept ")
        .header("via", "1.1 other");
    assert_eq!(client.ask(request.body(()).expect("a request"), b"").await.expect("an answer").status, 200);
    let seen = &gate.origin.seen()[0];
    assert_eq!(seen.line(), "GET /a?b=c HTTP/1.1");
    assert_eq!(seen.all("host"), ["here.cn:8080"]);
    assert_eq!(seen.all("cookie"), ["a=1; b=2"], "RFC 9113 section 8.2.3");
    assert_eq!(seen.all("x-forwarded-for"), ["192.0.2.7, 127.0.0.1"]);
    assert_eq!(seen.all("x-mine"), ["kept"]);
    let via = seen.all("via");
    assert!(via.len() == 2 && via[0] == "1.1 other" && via[1].starts_with("2.0 icpgate-"), "{via:?}");
    for gone in
        ["x-forwarded-host", "x_forwarded_for", "content_length", "te", "trailer", "http2-settings", "connection"]
    {
        assert!(seen.all(gone).is_empty(), "{}", seen.head);
    }
    // What comes round is refused.
    let round = Request::get("http://here.cn/").header("via", via[1]).body(()).expect("a request");
    assert_eq!(client.ask(round, b"").await.expect("an answer").status, 508);
}

#[tokio::test]
async fn each_client_connection_has_its_own_origin_connections() {
    let gate = HttpGate::start().await;
    let (one, two) = (H2::connect(gate.addr).await, H2::connect(gate.addr).await);
    for client in [&one, &one, &two, &one, &two] {
        assert_eq!(client.get("here.cn", "/").await.status, 200);
    }
    assert_eq!(gate.origin.seen().iter().map(|seen| seen.connection).collect::<Vec<_>>(), [0, 0, 1, 0, 1]);
    assert_eq!(gate.counters.origin_connections.value(), 2);
}

#[tokio::test]
async fn a_blocked_body_is_taken_so_that_no_reset_overtakes_the_page() {
    let gate = HttpGate::start().await;
    let mut raw = Raw::connect(gate.addr).await;
    let call = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "nofile.cn"),
        ("content-type", "application/grpc"),
    ];
    raw.send(&frame(HEADERS, END_HEADERS, 1, &fields(&call))).await;
    let answer = raw.first(&[HEADERS, RST_STREAM]).await.expect("an answer");
    assert_eq!((answer.kind, answer.status(), answer.flags & END_STREAM), (HEADERS, Some(200), END_STREAM));
    raw.send(&frame(DATA, END_STREAM, 1, b"late")).await;
    raw.ask(3, &get_fields(&[(":authority", "here.cn")])).await;
    let next = raw.first(&[HEADERS, RST_STREAM]).await.expect("an answer");
    assert_eq!((next.kind, next.stream), (HEADERS, 3));
    // Who does not end a body is not waited for.
    raw.send(&frame(HEADERS, END_HEADERS, 5, &fields(&call))).await;
    let reset = raw.first(&[RST_STREAM]).await.expect("a reset");
    assert_eq!((reset.stream, reset.code()), (5, 0), "NO_ERROR");
}

#[tokio::test]
async fn every_stream_that_is_opened_is_counted_once() {
    let gate = HttpGate::start().await;
    let counted = |outcome| gate.counters.requests(outcome);
    let mut raw = Raw::connect(gate.addr).await;
    // Malformed for the library, which resets it.
    for stream in [1, 3] {
        raw.ask(stream, &get_fields(&[(":authority", "here.cn"), ("connection", "close")])).await;
        let reset = raw.first(&[RST_STREAM]).await.expect("a reset");
        assert_eq!((reset.stream, reset.code()), (stream, PROTOCOL_ERROR));
    }
    until("both are counted", || counted(RequestOutcome::Refused) == 2).await;
    // Malformed for the gate, which answers 400.
    raw.ask(5, &get_fields(&[(":authority", "here.cn"), ("host", "nofile.cn")])).await;
    raw.first(&[HEADERS]).await.expect("an answer");
    // A body that is shorter than it said, in one go with its head.
    let post = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "here.cn")];
    let head = fields(&[&post[..], &[("content-length", "5")]].concat());
    let short = [frame(HEADERS, END_HEADERS, 7, &head), frame(DATA, END_STREAM, 7, b"x")].concat();
    raw.send(&short).await;
    raw.first(&[RST_STREAM]).await.expect("a reset");
    for (stream, host) in [(9, "here.cn"), (11, "nofile.cn")] {
        raw.ask(stream, &get_fields(&[(":authority", host)])).await;
        raw.first(&[HEADERS]).await.expect("an answer");
    }
    drop(raw);
    until("the connection is gone", || gate.counters.connections.value() == 0).await;
    let all = [
        RequestOutcome::Blocked,
        RequestOutcome::ClientFailed,
        RequestOutcome::OriginFailed,
        RequestOutcome::Proxied,
        RequestOutcome::Refused,
    ];
    assert_eq!(all.map(counted), [1, 1, 0, 1, 3], "of six");
}
