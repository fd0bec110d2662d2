//! Row D-H25 in frames: what costs without asking for a page ends the connection, and is told so.

use std::time::Duration;

use icpgate::http::counters::{Flood, RequestOutcome};
use icpgate::policy::Rules;

use super::until;
use crate::harness::fixture;
use crate::harness::h2::{
    CALM, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, H2, HEADERS, PING, PRIORITY, RST_STREAM, Raw, SETTINGS,
    WINDOW_UPDATE, fields, frame, get_fields,
};
use crate::harness::http::HttpGate;

/// Sends octets without reading; then what the gate said last.
async fn flooded(gate: &HttpGate, kind: Flood, octets: Vec<u8>) {
    let before = gate.counters.floods(kind);
    let raw = Raw::connect(gate.addr).await;
    let (mut reader, mut writer) = split(raw);
    let pouring = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let _ = writer.write_all(&octets).await;
        writer
    });
    assert_eq!(reader.goaway().await, Some(CALM), "{kind:?}");
    drop(pouring.await);
    until("the flood is counted", || gate.counters.floods(kind) == before + 1).await;
    // Everybody else is served.
    assert_eq!(H2::connect(gate.addr).await.get("here.cn", "/").await.status, 200);
}

/// Reading and writing apart.
fn split(raw: Raw) -> (Reading, tokio::net::tcp::OwnedWriteHalf) {
    let (reader, writer) = raw.stream.into_split();
    (Reading { reader, buf: Vec::new() }, writer)
}

/// The reading half of a connection of frames.
struct Reading {
    reader: tokio::net::tcp::OwnedReadHalf,
    buf: Vec<u8>,
}

impl Reading {
    /// The error code of the last GOAWAY; the connection must end.
    async fn goaway(&mut self) -> Option<u32> {
        use tokio::io::AsyncReadExt;
        let read = async { while matches!(self.reader.read_buf(&mut self.buf).await, Ok(1..)) {} };
        tokio::time::timeout(crate::harness::http::PATIENCE, read).await.expect("an end in time");
        let (mut at, mut res) = (0, None);
        while let Some(head) = self.buf.get(at..at + 9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let payload = self.buf.get(at + 9..at + 9 + length)?;
            if head[3] == GOAWAY {
                res = Some(u32::from_be_bytes(payload[4..8].try_into().expect("four octets")));
            }
            at += 9 + length;
        }
        res
    }
}

/// Requests that are reset at once.
fn rapid_resets(host: &str, count: u32) -> Vec<u8> {
    let block = get_fields(&[(":authority", host)]);
    let one = |stream| {
        [frame(HEADERS, END_HEADERS | END_STREAM, stream, &block), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())]
            .concat()
    };
    (0..count).flat_map(|n| one(2 * n + 1)).collect()
}

#[tokio::test]
async fn d_h25_rapid_reset_ends_the_connection() {
    let gate = HttpGate::start().await;
    for host in ["here.cn", "nofile.cn"] {
        let raw = Raw::connect(gate.addr).await;
        let (mut reader, mut writer) = split(raw);
        let octets = rapid_resets(host, 5000);
        let pouring = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let _ = writer.write_all(&octets).await;
            writer
        });
        assert_eq!(reader.goaway().await, Some(CALM), "{host}");
        drop(pouring.await);
    }
    // Either the meter or the library sees it first.
    until("both are counted", || gate.counters.floods(Flood::Reset) + gate.counters.floods(Flood::Malformed) == 2)
        .await;
    assert!(gate.counters.origin_connections.value() < 1000, "most reach no origin");
}

#[tokio::test]
async fn d_h25_rapid_reset_one_by_one_ends_the_connection() {
    // Each request is on its way to the origin before it is reset, so that the library has nothing to count.
    let gate = HttpGate::start().await;
    gate.origin.on("/", crate::harness::http::Reply::Hang);
    let mut raw = Raw::connect(gate.addr).await;
    let block = get_fields(&[(":authority", "here.cn")]);
    let mut stream = 1;
    while gate.counters.floods(Flood::Reset) == 0 {
        assert!(stream < 4000, "never counted");
        let before = gate.counters.http2_resets_by_client.value();
        raw.ask(stream, &block).await;
        raw.send(&frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())).await;
        until("the reset is seen", || gate.counters.http2_resets_by_client.value() > before).await;
        stream += 2;
    }
    assert_eq!(raw.goaway().await, Some(CALM));
}

#[tokio::test]
async fn d_h25_resets_that_the_gate_is_made_to_send_end_the_connection() {
    let gate = HttpGate::start().await;
    let block = get_fields(&[(":authority", "here.cn")]);
    // A window beyond all bounds is a mistake of the stream (RFC 9113 section 6.9.1).
    let one = |stream| {
        let update = frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
        [frame(HEADERS, END_HEADERS | END_STREAM, stream, &block), update].concat()
    };
    flooded(&gate, Flood::Malformed, (0..1000).flat_map(|n| one(2 * n + 1)).collect()).await;
    // So are field blocks that are no request.
    let bad = fields(&[(":method", "GET")]);
    let octets = (0..1000).flat_map(|n| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &bad)).collect();
    flooded(&gate, Flood::Malformed, octets).await;
}

#[tokio::test]
async fn d_h25_frames_that_ask_for_nothing_end_the_connection() {
    let gate = HttpGate::start().await;
    for (what, one) in [
        ("ping", frame(PING, 0, 0, &[7; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
        ("empty settings", frame(SETTINGS, 0, 0, &[])),
        ("window update", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("priority", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9])),
        ("unknown", frame(0xbb, 0, 0, &[1, 2, 3])),
    ] {
        eprintln!("{what}");
        flooded(&gate, Flood::Control, one.repeat(3000)).await;
    }
}

#[tokio::test]
async fn d_h25_a_field_block_without_end_ends_the_connection() {
    let gate = HttpGate::start().await;
    let first = frame(HEADERS, END_STREAM, 1, &get_fields(&[(":authority", "here.cn")]));
    // Empty ones, small ones, and such that grow what is to be kept.
    for (one, count) in [(vec![], 3000), (fields(&[("a", "b")]), 3000), (fields(&[("a", &"b".repeat(16_000))]), 200)] {
        let raw = Raw::connect(gate.addr).await;
        let (mut reader, mut writer) = split(raw);
        let octets = [first.clone(), frame(CONTINUATION, 0, 1, &one).repeat(count)].concat();
        let pouring = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let _ = writer.write_all(&octets).await;
            writer
        });
        assert!(reader.goaway().await.is_some_and(|code| code != 0), "{count}");
        drop(pouring.await);
    }
    assert!(gate.origin.seen().is_empty());
    until("all are counted", || gate.counters.floods(Flood::Malformed) + gate.counters.floods(Flood::Control) >= 2)
        .await;
}

#[tokio::test]
async fn d_h25_data_that_holds_nothing_ends_the_connection() {
    let gate = HttpGate::start().await;
    let post = fields(&[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "here.cn")]);
    let octets = [frame(HEADERS, END_HEADERS, 1, &post), frame(DATA, 0, 1, &[]).repeat(2000)].concat();
    flooded(&gate, Flood::Malformed, octets).await;
}

#[tokio::test]
async fn d_h25_field_blocks_beyond_the_limits_are_refused() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.head_bytes_max = 4096;
        settings.head_lines_max = 16;
    })
    .await;
    let line = "x".repeat(1020);
    let many: Vec<(&str, &str)> = vec![("a", "b"); 17];
    let with = |more: &[(&str, &str)]| get_fields(&[&[(":authority", "here.cn")], more].concat());
    let cases = [
        (with(&many[..16]), true),
        (with(&many), false),
        (with(&[("a", &line), ("b", &line), ("c", &line)]), true),
        (with(&[("a", &line), ("b", &line), ("c", &line), ("d", &line), ("e", "f")]), false),
        (with(&[("a", &line.repeat(6))]), false),
    ];
    for (n, (block, passes)) in cases.into_iter().enumerate() {
        let mut raw = Raw::connect(gate.addr).await;
        raw.ask(1, &block).await;
        let answer = raw.first(&[HEADERS]).await.expect("an answer");
        assert_eq!(answer.status() == Some(200), passes, "case {n}");
    }
    assert_eq!(gate.origin.seen().len(), 2);
    assert!(gate.counters.requests(RequestOutcome::Refused) >= 2);
}

#[tokio::test]
async fn d_h25_a_bomb_of_references_is_refused() {
    let gate = HttpGate::start().await;
    // One large field into the table (RFC 7541 section 6.2.1), then a reference to it thousands of times.
    let mut block = get_fields(&[(":authority", "here.cn")]);
    block.extend([0x40, 1, b'a', 127, 0xa1, 0x1e]);
    block.extend(vec![b'b'; 127 + 0x21 + (0x1e << 7)]);
    block.extend(vec![0xbe; 8000]);
    let mut raw = Raw::connect(gate.addr).await;
    raw.ask(1, &block).await;
    let answer = raw.first(&[HEADERS, RST_STREAM, GOAWAY]).await.expect("an answer");
    assert!(answer.kind != HEADERS || answer.status() != Some(200), "{answer:?}");
    assert!(gate.origin.seen().is_empty());
}

#[tokio::test]
async fn d_h25_a_field_block_in_drops_ends_the_connection() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.head_timeout = Duration::from_millis(200);
    })
    .await;
    let block = get_fields(&[(":authority", "here.cn")]);
    let octets = frame(HEADERS, END_STREAM | END_HEADERS, 3, &block);
    for cut in [&octets[..9], &octets[..20], &frame(HEADERS, END_STREAM, 3, &block)] {
        let mut raw = Raw::connect(gate.addr).await;
        // A stream that was served is no excuse.
        raw.ask(1, &block).await;
        raw.first(&[HEADERS]).await.expect("an answer");
        raw.send(cut).await;
        assert_eq!(raw.goaway().await, Some(0));
    }
    assert_eq!(gate.counters.slow_heads.value(), 3);
}
