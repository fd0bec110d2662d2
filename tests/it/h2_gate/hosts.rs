//! Which host a stream asks for: rows D-H15 to D-H21 in frames.

use icpgate::http::counters::RequestOutcome;
use icpgate::http::head::HeadError;

use crate::harness::h2::{
    END_HEADERS, END_STREAM, Frame, HEADERS, PROTOCOL_ERROR, RST_STREAM, Raw, fields, frame, get_fields,
};
use crate::harness::http::{HttpGate, get};

/// How a stream was refused.
#[derive(Debug, PartialEq)]
enum Refusal {
    Status(Option<u16>),
    Reset(u32),
}

/// Sends one field block over a connection of its own.
async fn refusal(gate: &HttpGate, block: &[u8]) -> Refusal {
    let mut raw = Raw::connect(gate.addr).await;
    raw.ask(1, block).await;
    let answer = raw.first(&[HEADERS, RST_STREAM]).await.expect("an answer");
    let res = match answer {
        Frame { kind: HEADERS, .. } => Refusal::Status(answer.status()),
        _ => Refusal::Reset(answer.code()),
    };
    // A stream's mistake is no connection's: the next one is served.
    raw.ask(3, &get_fields(&[(":authority", "here.cn")])).await;
    loop {
        let frame = raw.first(&[HEADERS]).await.expect("an answer");
        if frame.stream == 3 {
            assert_eq!(frame.status(), Some(200));
            return res;
        }
    }
}

#[tokio::test]
async fn d_h16_prior_knowledge_is_read_as_http2_and_judged() {
    let gate = HttpGate::start().await;
    let mut raw = Raw::connect(gate.addr).await;
    raw.ask(1, &get_fields(&[(":authority", "here.cn")])).await;
    assert_eq!(raw.first(&[HEADERS]).await.expect("an answer").status(), Some(200));
    raw.ask(3, &get_fields(&[(":authority", "nofile.cn")])).await;
    let page = raw.first(&[HEADERS]).await.expect("an answer");
    assert_ne!(page.status(), Some(200));
    assert_eq!(gate.origin.hosts(), ["here.cn"]);
    assert_eq!(gate.counters.requests(RequestOutcome::Blocked), 1);
    assert_eq!(gate.counters.http2_connections.value(), 1);
}

#[tokio::test]
async fn d_h16_the_preface_is_read_at_any_split() {
    let gate = HttpGate::start().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let block = get_fields(&[(":authority", "here.cn")]);
    let rest = [frame(4, 0, 0, &[]), frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)].concat();
    let octets = [&preface[..], &rest].concat();
    let mut open = Vec::new();
    for cut in 1..octets.len() {
        let mut client = gate.connect().await;
        client.stream.set_nodelay(true).expect("an option");
        client.send(&octets[..cut]).await;
        tokio::task::yield_now().await;
        client.send(&octets[cut..]).await;
        // SETTINGS come first whatever the client does.
        assert_eq!(client.octets(4).await[3], 4, "{cut}");
        open.push(client);
    }
    super::until("every request is served", || gate.origin.seen().len() == octets.len() - 1).await;
}

#[tokio::test]
async fn d_h16_a_preface_anywhere_else_is_no_http2() {
    let gate = HttpGate::start().await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for before in [get("here.cn", "/"), "\r\n".to_owned()] {
        let mut client = gate.connect().await;
        client.send(format!("{before}{preface}").as_bytes()).await;
        let text = String::from_utf8_lossy(&client.rest().await).into_owned();
        assert!(text.contains("HTTP/1.1 505 "), "{before:?}: {text}");
    }
    // What only begins like it is not it.
    let mut client = gate.connect().await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    client.rest().await;
    assert_eq!(gate.counters.head_errors(HeadError::Http2), 2);
}

#[tokio::test]
async fn d_h17_authority_and_host_must_agree() {
    let gate = HttpGate::start().await;
    let bad: [(&[(&str, &str)], HeadError); 20] = [
        (&[(":authority", "here.cn"), ("host", "nofile.cn")], HeadError::AuthorityMismatch),
        (&[(":authority", "nofile.cn"), ("host", "here.cn")], HeadError::AuthorityMismatch),
        (&[(":authority", "here.cn"), ("host", "here.cn:80")], HeadError::AuthorityMismatch),
        (&[(":authority", "here.cn"), ("host", "")], HeadError::AuthorityMismatch),
        (&[(":authority", "here.cn"), ("host", "here.cn"), ("host", "nofile.cn")], HeadError::DuplicateHost),
        (&[("host", "here.cn"), ("host", "here.cn")], HeadError::DuplicateHost),
        (&[("host", "nofile.cn"), ("host", "here.cn")], HeadError::DuplicateHost),
        (&[], HeadError::MissingHost),
        (&[("host", "")], HeadError::BadHost),
        (&[("host", "here.cn, nofile.cn")], HeadError::BadHost),
        (&[("host", "here.cn\tnofile.cn")], HeadError::BadHost),
        (&[("host", "f@here.cn")], HeadError::BadHost),
        (&[(":authority", "here.cn@nofile.cn")], HeadError::BadHost),
        (&[(":authority", "nofile.cn@here.cn")], HeadError::BadHost),
        (&[(":authority", "here.cn:99999")], HeadError::BadHost),
        (&[(":authority", "here.cn..")], HeadError::BadHost),
        (&[(":authority", "here_.cn:x")], HeadError::BadHost),
        (&[("host", "%68ere.cn")], HeadError::BadHost),
        (&[("host", "例子.中国")], HeadError::BadHost),
        (&[(":authority", "[::1")], HeadError::BadHost),
    ];
    for (more, error) in bad {
        let before = gate.counters.head_errors(error);
        let refusal = refusal(&gate, &get_fields(more)).await;
        // What the library refuses itself is reset, the rest is told 400.
        let is_counted = gate.counters.head_errors(error) == before + 1;
        let is_told = refusal == Refusal::Status(Some(400)) && is_counted;
        assert!(is_told || refusal == Refusal::Reset(PROTOCOL_ERROR), "{more:?}: {refusal:?}");
    }
    assert!(gate.origin.hosts().iter().all(|host| host == "here.cn"));
    assert_eq!(gate.origin.seen().len(), bad.len(), "the good ones alone");
}

#[tokio::test]
async fn d_h17_pseudo_fields_out_of_order_or_twice_are_reset() {
    let gate = HttpGate::start().await;
    let get = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    let with = |more: &[(&str, &str)]| fields(&[&get[..], more].concat());
    for block in [
        with(&[(":authority", "here.cn"), (":authority", "nofile.cn")]),
        with(&[(":authority", "nofile.cn"), (":authority", "here.cn")]),
        with(&[("x", "y"), (":authority", "here.cn")]),
        with(&[(":authority", "here.cn"), (":method", "GET")]),
        with(&[(":authority", "here.cn"), (":path", "/")]),
        with(&[(":authority", "here.cn"), (":host", "nofile.cn")]),
        with(&[(":authority", "here.cn"), ("Host", "nofile.cn")]),
        with(&[(":authority", "here.cn"), ("connection", "close")]),
        with(&[(":authority", "here.cn"), ("transfer-encoding", "chunked")]),
        with(&[(":authority", "here.cn"), ("upgrade", "h2c")]),
        with(&[(":authority", "here.cn"), ("proxy-connection", "keep-alive")]),
        with(&[(":authority", "here.cn"), ("te", "gzip")]),
        fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "here.cn")]),
        fields(&[(":method", "GET"), (":path", "/"), (":authority", "here.cn")]),
        fields(&[(":scheme", "http"), (":path", "/"), (":authority", "here.cn")]),
        fields(&[(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "here.cn")]),
    ] {
        let mut raw = Raw::connect(gate.addr).await;
        raw.ask(1, &block).await;
        let answer = raw.first(&[RST_STREAM, HEADERS, crate::harness::h2::GOAWAY]).await.expect("an answer");
        assert!(answer.kind != HEADERS && answer.code() == PROTOCOL_ERROR, "{answer:?}");
    }
    assert!(gate.origin.seen().is_empty(), "{:?}", gate.origin.heads());
}

#[tokio::test]
async fn d_h17_host_alone_is_the_host() {
    let gate = HttpGate::start().await;
    let mut raw = Raw::connect(gate.addr).await;
    raw.ask(1, &get_fields(&[("host", "HERE.cn:80")])).await;
    assert_eq!(raw.first(&[HEADERS]).await.expect("an answer").status(), Some(200));
    raw.ask(3, &get_fields(&[("host", "nofile.cn")])).await;
    raw.first(&[HEADERS]).await.expect("an answer");
    raw.ask(5, &get_fields(&[(":authority", "Here.cn"), ("host", "here.CN")])).await;
    assert_eq!(raw.first(&[HEADERS]).await.expect("an answer").status(), Some(200));
    assert_eq!(gate.origin.hosts(), ["HERE.cn:80", "Here.cn"]);
}

#[tokio::test]
async fn targets_are_those_of_http1() {
    let gate = HttpGate::start().await;
    for (method, scheme, path) in [
        ("GET", "http", "http://nofile.cn/"),
        ("GET", "http", "nofile.cn/"),
        ("GET", "http", "*"),
        ("GET", "http", "/\u{e9}"),
        ("GET", "ftp", "/"),
        ("GET", "http", "/ HTTP/1.1"),
    ] {
        let block = fields(&[(":method", method), (":scheme", scheme), (":path", path), (":authority", "here.cn")]);
        let refusal = refusal(&gate, &block).await;
        let is_refused = matches!(refusal, Refusal::Status(Some(400)) | Refusal::Reset(PROTOCOL_ERROR));
        assert!(is_refused, "{method} {scheme} {path}: {refusal:?}");
    }
    let mut raw = Raw::connect(gate.addr).await;
    let options = [(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "here.cn")];
    raw.ask(1, &fields(&options)).await;
    assert_eq!(raw.first(&[HEADERS]).await.expect("an answer").status(), Some(200));
    assert_eq!(gate.origin.seen().last().expect("a request").line(), "OPTIONS * HTTP/1.1");
}

#[tokio::test]
async fn d_h19_extended_connect_is_refused() {
    let gate = HttpGate::start().await;
    for host in ["here.cn", "nofile.cn"] {
        let block = fields(&[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/ws"),
            (":authority", host),
        ]);
        assert_eq!(refusal(&gate, &block).await, Refusal::Reset(PROTOCOL_ERROR), "{host}");
    }
    assert!(gate.origin.seen().iter().all(|seen| seen.path() == "/"));
}

#[tokio::test]
async fn d_h20_connect_is_refused() {
    let gate = HttpGate::start().await;
    for host in ["here.cn:443", "nofile.cn:443"] {
        let refusal = refusal(&gate, &fields(&[(":method", "CONNECT"), (":authority", host)])).await;
        // 405 is no status of the static table.
        assert_eq!(refusal, Refusal::Status(None), "{host}");
    }
    assert_eq!(gate.counters.head_errors(HeadError::Connect), 2);
    assert!(gate.origin.hosts().iter().all(|host| host == "here.cn"));
}
