//! Streams passed on: bodies both ways, trailers, interim answers, windows, and origins that fail.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use icpgate::http::counters::RequestOutcome;
use icpgate::policy::Rules;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::until;
use crate::harness::fixture;
use crate::harness::h2::{
    DATA, END_HEADERS, END_STREAM, Frame, H2, HEADERS, RST_STREAM, Raw, WINDOW_UPDATE, fields, frame, get_fields,
    request,
};
use crate::harness::http::{HttpGate, PATIENCE, Reply};

fn octets(text: &str) -> Reply {
    Reply::Octets(text.as_bytes().to_vec())
}

#[tokio::test]
async fn request_bodies_arrive_whole() {
    let gate = HttpGate::start().await;
    let client = H2::connect(gate.addr).await;
    let body: Vec<u8> = (0..3_000_000u32).map(|n| u8::try_from(n % 251).expect("an octet")).collect();
    for length in [1, 100, 16_384, 16_385, 3_000_000] {
        for is_announced in [true, false] {
            let mut head = Request::post("http://here.cn/");
            if is_announced {
                head = head.header("content-length", length);
            }
            let answer = client.ask(head.body(()).expect("a request"), &body[..length]).await.expect("an answer");
            assert_eq!(answer.status, 200);
            let seen = gate.origin.seen().pop().expect("a request");
            assert_eq!(seen.body, body[..length], "{length} {is_announced}");
            let framing = (seen.all("content-length").len(), seen.all("transfer-encoding").len());
            assert_eq!(framing, if is_announced { (1, 0) } else { (0, 1) });
        }
    }
    assert_eq!(gate.counters.origin_connections.value(), 1, "one after the other over one connection");
}

#[tokio::test]
async fn requests_without_a_body_say_so_where_one_has_a_meaning() {
    let gate = HttpGate::start().await;
    let client = H2::connect(gate.addr).await;
    for (method, lengths) in [("GET", vec![]), ("POST", vec!["0"]), ("DELETE", vec![])] {
        assert_eq!(client.ask(request(method, "here.cn", "/"), b"").await.expect("an answer").status, 200);
        assert_eq!(gate.origin.seen().pop().expect("a request").all("content-length"), lengths, "{method}");
    }
}

#[tokio::test]
async fn d_h13_a_body_that_is_not_as_announced_reaches_no_origin_as_a_request() {
    let gate = HttpGate::start().await;
    let post = |length: &str| {
        fields(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "here.cn"),
            ("content-length", length),
        ])
    };
    let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: nofile.cn\r\n\r\n";
    for (length, body) in
        [("0", &smuggled[..]), ("5", smuggled), ("100", smuggled), ("+5", smuggled), ("5, 5", smuggled)]
    {
        let mut raw = Raw::connect(gate.addr).await;
        raw.send(&frame(HEADERS, END_HEADERS, 1, &post(length))).await;
        raw.send(&frame(DATA, END_STREAM, 1, body)).await;
        let answer = raw.first(&[RST_STREAM, HEADERS]).await.expect("an answer");
        assert!(answer.kind == RST_STREAM || answer.status() == Some(400), "{length}: {answer:?}");
    }
    // Two lengths, and one with no body at all.
    let mut two = post("5");
    two.extend(fields(&[("content-length", "6")]));
    for block in [two, post("5")] {
        let mut raw = Raw::connect(gate.addr).await;
        raw.ask(1, &block).await;
        let answer = raw.first(&[RST_STREAM, HEADERS]).await.expect("an answer");
        assert!(answer.kind == RST_STREAM || answer.status() == Some(400), "{answer:?}");
    }
    assert!(!gate.origin.heads().contains("smuggled"), "{}", gate.origin.heads());
}

#[tokio::test]
async fn answers_of_every_framing_arrive_whole() {
    for (reply, length) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Some("5")),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", None),
        ("HTTP/1.1 200\r\n\r\nhello", None),
        ("HTTP/1.0 200 OK\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\r\nhello", None),
    ] {
        let gate = HttpGate::start().await;
        gate.origin.on("/", Reply::OctetsThenClose(reply.as_bytes().to_vec()));
        let client = H2::connect(gate.addr).await;
        for _ in 0..2 {
            let answer = client.get("here.cn", "/").await;
            assert_eq!((answer.status, answer.text(), answer.header("content-length")), (200, "hello", length));
            for gone in ["connection", "keep-alive", "x-hop", "transfer-encoding"] {
                assert!(answer.header(gone).is_none(), "{reply}");
            }
        }
    }
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    for (method, reply, status, length) in [
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, Some("7")),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, Some("0")),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 200, Some("9")),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, None),
    ] {
        let gate = HttpGate::start().await;
        gate.origin.on("/", octets(reply));
        let client = H2::connect(gate.addr).await;
        for _ in 0..2 {
            let answer = client.ask(request(method, "here.cn", "/"), b"").await.expect("an answer");
            assert_eq!((answer.status, answer.header("content-length")), (status, length), "{reply}");
            assert!(answer.body.is_empty() && answer.trailers.is_none());
        }
        assert_eq!(gate.origin.connections(), 1, "{reply}");
    }
}

#[tokio::test]
async fn trailers_of_an_answer_arrive() {
    let gate = HttpGate::start().await;
    let trailers = "Grpc-Status: 0\r\ngrpc-message: fine\r\nContent-Length: 9\r\nConnection: x\r\nHost: nofile.cn\r\n";
    let reply = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{trailers}\r\n");
    gate.origin.on("/", octets(&reply));
    let client = H2::connect(gate.addr).await;
    for _ in 0..2 {
        let answer = client.get("here.cn", "/").await;
        let trailers = answer.trailers.as_ref().expect("trailers");
        assert_eq!((answer.text(), trailers.len()), ("hello", 2), "{trailers:?}");
        assert_eq!(trailers.get("grpc-status").map(|value| value.as_bytes()), Some(&b"0"[..]));
    }
    assert_eq!(gate.origin.connections(), 1);
}

#[tokio::test]
async fn interim_answers_have_the_room_of_one_head() {
    let gate = HttpGate::start().await;
    let interim = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(30_000));
    for (count, failed) in [(2, 0), (3, 1)] {
        let reply = interim.repeat(count) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        gate.origin.on("/", octets(&reply));
        let mut raw = Raw::connect(gate.addr).await;
        raw.ask(1, &get_fields(&[(":authority", "here.cn")])).await;
        let mut last = Frame::default();
        while last.flags & END_STREAM == 0 {
            last = raw.first(&[HEADERS, DATA]).await.expect("an answer");
        }
        assert_eq!(gate.counters.requests(RequestOutcome::OriginFailed), failed, "{count}");
    }
}

#[tokio::test]
async fn interim_answers_arrive_before_the_final_one() {
    let gate = HttpGate::start().await;
    gate.origin.on(
        "/early",
        octets("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    );
    let mut raw = Raw::connect(gate.addr).await;
    let path = [(":method", "GET"), (":scheme", "http"), (":path", "/early"), (":authority", "here.cn")];
    raw.ask(1, &fields(&path)).await;
    let [interim, last] = [raw.first(&[HEADERS]).await, raw.first(&[HEADERS]).await].map(Option::unwrap_or_default);
    assert_eq!((interim.status(), interim.flags & END_STREAM), (None, 0));
    assert_eq!(last.status(), Some(200));
    // An expectation passes, and what the origin says to it.
    let client = H2::connect(gate.addr).await;
    let head = Request::post("http://here.cn/e").header("expect", "100-continue").body(()).expect("a request");
    assert_eq!(client.ask(head, b"body").await.expect("an answer").status, 200);
    assert_eq!(gate.origin.seen().pop().expect("a request").body, b"body");
    // What switches protocols unasked is no answer.
    gate.origin.on("/", octets("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"));
    assert_eq!(client.get("here.cn", "/").await.status, 502);
}

#[tokio::test]
async fn a_slow_reader_slows_the_origin_down_and_gets_everything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.origin = icpgate::http::settings::Origin::Fixed(addr);
    })
    .await;
    const WHOLE: usize = 32 << 20;
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = sent.clone();
    tokio::spawn(async move {
        let (mut origin, _) = listener.accept().await.expect("a connection");
        // A connection that is closed with a request unread is reset, and what was sent is lost.
        assert!(origin.read(&mut [0; 4096]).await.expect("reads") > 0);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {WHOLE}\r\n\r\n");
        origin.write_all(head.as_bytes()).await.expect("writes");
        let piece = vec![7; 64 << 10];
        for _ in 0..WHOLE / piece.len() {
            origin.write_all(&piece).await.expect("writes");
            counted.fetch_add(piece.len(), std::sync::atomic::Ordering::Relaxed);
        }
    });
    // A window for each stream, and room for others beside one that is not read.
    let io = TcpStream::connect(gate.addr).await.expect("connects");
    let mut builder = h2::client::Builder::new();
    let (send, connection) = builder.initial_connection_window_size(1 << 20).handshake(io).await.expect("a handshake");
    let client = H2 { send, driving: tokio::spawn(connection) };
    let mut send = client.send.clone().ready().await.expect("ready");
    let (response, _) = send.send_request(request("GET", "here.cn", "/"), true).expect("sends");
    let mut stream = timeout(PATIENCE, response).await.expect("in time").expect("an answer").into_body();
    // Other streams go on meanwhile.
    assert_eq!(client.get("nofile.cn", "/").await.status, 451);
    let waiting = sent.load(std::sync::atomic::Ordering::Relaxed);
    assert!(waiting < WHOLE, "the windows are closed, and not everything is buffered here");
    let mut got = 0;
    while let Some(piece) = timeout(PATIENCE, stream.data()).await.expect("in time") {
        let piece = piece.expect("octets");
        got += piece.len();
        stream.flow_control().release_capacity(piece.len()).expect("a window");
    }
    assert_eq!(got, WHOLE);
}

#[tokio::test]
async fn d_h25_a_window_that_never_opens_ends_the_stream() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.stream_timeout = Duration::from_millis(200);
    })
    .await;
    let body = "x".repeat(200_000);
    let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    gate.origin.on("/", octets(&reply));
    let mut raw = Raw::connect(gate.addr).await;
    for (stream, host) in [(1, "here.cn"), (3, "nofile.cn")] {
        // The page is larger than no window at all, the answer than the first.
        raw.send(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
        raw.ask(stream, &get_fields(&[(":authority", host)])).await;
        let reset = raw.first(&[RST_STREAM]).await.expect("a reset");
        assert_eq!(reset.stream, stream);
    }
    until("the stream is counted", || gate.counters.requests(RequestOutcome::ClientFailed) == 1).await;
    // A window of one octet opens only so much.
    raw.ask(5, &get_fields(&[(":authority", "here.cn")])).await;
    raw.send(&frame(WINDOW_UPDATE, 0, 5, &[0, 0, 0, 1])).await;
    assert_eq!(raw.first(&[DATA]).await.expect("an octet").payload, b"x");
    assert_eq!(raw.first(&[RST_STREAM]).await.expect("a reset").stream, 5);
}

#[tokio::test]
async fn origins_that_fail_are_told_by_status_and_cut_answers_by_reset() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.response_timeout = Duration::from_millis(200);
    })
    .await;
    let client = H2::connect(gate.addr).await;
    for (path, reply, status) in [
        ("/close", Reply::Close, 502),
        ("/hang", Reply::Hang, 504),
        ("/garbage", Reply::OctetsThenClose(b"SSH-2.0-x\r\n\r\n".to_vec()), 502),
        ("/cut", Reply::OctetsThenClose(b"HTTP/1.1 200 O".to_vec()), 502),
    ] {
        gate.origin.on(path, reply);
        assert_eq!(client.get("here.cn", path).await.status, status, "{path}");
    }
    for (path, reply) in [
        ("/short", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"),
        ("/chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        ("/bad", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX"),
    ] {
        gate.origin.on(path, Reply::OctetsThenClose(reply.as_bytes().to_vec()));
        let answer = client.ask(request("GET", "here.cn", path), b"").await;
        let reason = answer.expect_err("a cut answer").reason();
        assert_eq!(reason, Some(h2::Reason::INTERNAL_ERROR), "{path}");
    }
    assert_eq!(gate.counters.requests(RequestOutcome::OriginFailed), 7);
    assert_eq!(client.get("here.cn", "/").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn a_kept_connection_that_went_stale_is_replaced_once() {
    let gate = HttpGate::start().await;
    gate.origin.on("/", Reply::AnswerThenGoStale);
    let client = H2::connect(gate.addr).await;
    for _ in 0..5 {
        assert_eq!(client.get("here.cn", "/").await.status, 200);
    }
    assert_eq!(gate.origin.connections(), 5);
}

#[tokio::test]
async fn an_early_answer_is_whole_and_the_stream_reset() {
    let gate = HttpGate::start().await;
    gate.origin.on("/early", Reply::Early(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno".to_vec()));
    let client = H2::connect(gate.addr).await;
    let mut send = client.send.clone().ready().await.expect("ready");
    let (response, mut stream) = send.send_request(request("POST", "here.cn", "/early"), false).expect("sends");
    stream.send_data(Bytes::from_static(b"part"), false).expect("sends");
    let answer = timeout(PATIENCE, response).await.expect("in time").expect("an answer");
    let answer = H2::whole(answer).await.expect("a whole answer");
    assert_eq!((answer.status, answer.text()), (413, "no"));
    assert_eq!(client.get("here.cn", "/next").await.status, 200);
    let connections: Vec<usize> = gate.origin.seen().iter().map(|seen| seen.connection).collect();
    assert!(!connections.contains(&0) || gate.origin.connections() == 2, "the rest of a body is no request");
}

#[tokio::test]
async fn a_stream_that_the_client_resets_leaves_the_origin() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.origin = icpgate::http::settings::Origin::Fixed(addr);
        settings.response_timeout = Duration::from_secs(60);
    })
    .await;
    let mut raw = Raw::connect(gate.addr).await;
    raw.ask(1, &get_fields(&[(":authority", "here.cn")])).await;
    let (mut origin, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a connection");
    let mut buf = [0; 4096];
    assert!(timeout(PATIENCE, origin.read(&mut buf)).await.expect("in time").expect("a head") > 0);
    raw.send(&frame(RST_STREAM, 0, 1, &8u32.to_be_bytes())).await;
    assert_eq!(timeout(PATIENCE, origin.read(&mut buf)).await.expect("in time").expect("an end"), 0);
    until("the request is counted", || gate.counters.requests(RequestOutcome::ClientFailed) == 1).await;
    assert_eq!(gate.counters.http2_resets_by_client.value(), 1);
}
