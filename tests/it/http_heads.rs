//! The request parser against recorded and crafted streams, and against octets at random.

use icpgate::http::body::{BodyReader, Framing, push_piece};
use icpgate::http::head::{Field, HeadError, HeadLimits, Hop, Progress, RequestParser};

use icpgate::http::host::HostName;
use proptest::prelude::*;
use serde_json::Value;

use super::harness::shared;

const HOP: Hop<'static> = Hop { client: "192.0.2.1", via: "gate", is_listed: false, is_secure: false };
const LIMITS: HeadLimits = HeadLimits { octets_max: 64 << 10, lines_max: 128 };

/// What a stream of octets comes to, one event a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Host(String),
    Ip(String),
    NoHost,
    InvalidName,
    Reject(u16),
    NeedMore,
    H2Preface,
    Tls,
}

/// Reads `octets` as one connection's, `step` octets at a time, until it would be closed or more is needed.
fn walk(octets: &[u8], step: usize) -> Vec<Event> {
    let mut parser = RequestParser::new(LIMITS);
    let (mut res, mut start, mut seen) = (Vec::new(), 0, 0);
    let more = |seen: &mut usize| {
        let had = *seen;
        *seen = (*seen + step).min(octets.len());
        *seen > had
    };
    'requests: while start < octets.len() {
        parser.reset();
        loop {
            match parser.advance(&octets[start..seen]) {
                Ok(Progress::Whole) => break,
                Ok(Progress::Partial) if more(&mut seen) => {}
                Ok(Progress::Partial) => {
                    res.push(Event::NeedMore);
                    break 'requests;
                }
                Err(error) => {
                    res.push(refusal(error));
                    break 'requests;
                }
            }
        }
        let head = parser.head();
        let host = head.host.map(|host| HostName::read(head.host_text.of(host.of(&octets[start..seen]))));
        res.push(match host {
            None => Event::NoHost,
            Some(Ok(HostName::Address(addr))) => Event::Ip(addr.to_string()),
            Some(Ok(HostName::Invalid)) => Event::InvalidName,
            Some(Ok(HostName::Name(name))) => Event::Host(name.to_string()),
            Some(Err(_)) => {
                res.push(Event::Reject(400));
                break;
            }
        });
        let keeps = head.keeps_alive();
        let mut body = BodyReader::new(head.framing);
        start += head.octets;
        while !body.is_done() {
            if start == seen && !more(&mut seen) {
                res.push(Event::NeedMore);
                break 'requests;
            }
            match body.take(&octets[start..seen]) {
                Ok(taken) => start += taken.consumed,
                Err(_) => {
                    res.push(Event::Reject(400));
                    break 'requests;
                }
            }
        }
        if !keeps {
            break;
        }
    }
    res
}

fn refusal(error: HeadError) -> Event {
    match error {
        HeadError::Http2 => Event::H2Preface,
        HeadError::Tls => Event::Tls,
        other => Event::Reject(other.status()),
    }
}

/// True when `event` is what a row expects, or what it allows as well (`also_ok`).
fn is_met(event: Option<&Event>, expected: &Value, also_ok: &[String]) -> bool {
    let host = expected["host"].as_str().unwrap_or_default();
    let met = match (event, expected["action"].as_str().unwrap_or_default()) {
        (Some(Event::Host(name)), "host") => name == host,
        (Some(Event::Ip(addr)), "ip") => addr == host,
        (Some(Event::NoHost), "no_host") | (Some(Event::NeedMore), "need_more") => true,
        (Some(Event::H2Preface), "h2_preface") | (Some(Event::Tls), "tls") => true,
        (Some(Event::Reject(status)), "reject") => Some(u64::from(*status)) == expected["status"].as_u64(),
        _ => false,
    };
    met || also_ok.iter().any(|other| match event {
        Some(Event::Reject(_)) => other == "reject",
        Some(Event::NeedMore) => other == "need_more",
        Some(Event::Host(name)) => other.strip_prefix("host:") == Some(name),
        _ => false,
    })
}

/// Rows whose expectation is not met, each with the reason: none at present.
const DIVERGENCES: [(&str, &str); 0] = [];

fn check_rows(file: &str) {
    let Some(text) = shared::text(file) else { return };
    let mut failures = Vec::new();
    assert!(text.lines().count() > 100, "{file} is whole");
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).expect("a JSON line");
        let id = row["id"].as_str().expect("an id");
        let raw: Vec<u8> = row["raw"]
            .as_str()
            .expect("octets")
            .chars()
            .map(|c| u8::try_from(u32::from(c)).expect("Latin-1"))
            .collect();
        let also_ok: Vec<String> =
            row["also_ok"].as_array().into_iter().flatten().map(|v| v.as_str().expect("text").to_owned()).collect();
        let events = walk(&raw, raw.len());
        let expected = row["expect"].as_array().expect("a list");
        let mut is_good = true;
        for (i, expectation) in expected.iter().enumerate() {
            is_good &= is_met(events.get(i), expectation, &also_ok);
            if matches!(events.get(i), Some(Event::Reject(_))) {
                break;
            }
        }
        // Nothing beyond what is expected, but for a refusal or an unfinished request after it.
        let extra = events.get(expected.len()..).unwrap_or_default();
        is_good &= extra.iter().all(|event| matches!(event, Event::Reject(_) | Event::NeedMore));
        if is_good == DIVERGENCES.iter().any(|(known, _)| *known == id) {
            failures.push(format!("{id}: expected {}, got {events:?}", row["expect"]));
        }
        let steps = if raw.len() <= 2048 { vec![1, 2, 3, 7, 64] } else { vec![1, 509] };
        for step in steps {
            assert_eq!(walk(&raw, step), events, "{id} in steps of {step}");
        }
    }
    assert!(failures.is_empty(), "{} rows:\n{}", failures.len(), failures.join("\n"));
}

/// Feeds the first `cut` octets, then the rest.
fn walk_cut(octets: &[u8], cut: usize) -> Result<Progress, HeadError> {
    let mut parser = RequestParser::new(LIMITS);
    match parser.advance(&octets[..cut])? {
        Progress::Partial => parser.advance(octets),
        Progress::Whole => Ok(Progress::Whole),
    }
}

#[test]
fn crafted_streams_are_read_as_expected() {
    check_rows("http/crafted.jsonl.zst");
}

#[test]
fn streams_of_parser_tests_are_read_as_expected() {
    check_rows("http/from-parser-tests.jsonl.zst");
}

#[test]
fn captured_streams_are_read_as_expected() {
    check_rows("http/captured.jsonl.zst");
}

#[test]
fn every_cut_of_a_head_gives_the_same_result() {
    for head in [
        "GET /a?b HTTP/1.1\r\nHost: here.cn\r\nAccept: */*\r\nX:\t y \r\n\r\n",
        "\r\nPOST http://here.cn/x HTTP/1.1\r\nhost:here.cn\r\nContent-Length: 3\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: here.cn\r\nHost: nofile.cn\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: here.cn\rX: y\r\n\r\n",
        "GET / HTTP/1.1\nHost: here.cn\n\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let whole = walk_cut(head.as_bytes(), head.len());
        for cut in 0..head.len() {
            assert_eq!(walk_cut(head.as_bytes(), cut), whole, "{head:?} cut at {cut}");
        }
    }
}

#[test]
fn limits_hold_at_their_octet() {
    let limits = HeadLimits { octets_max: 100, lines_max: 3 };
    let advance = |text: &str| RequestParser::new(limits).advance(text.as_bytes());
    let fits = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(100 - 32));
    assert_eq!((fits.len(), advance(&fits)), (100, Ok(Progress::Whole)));
    let over = fits.replace("X: ", "X:  ");
    assert_eq!(advance(&over), Err(HeadError::TooLarge));
    assert_eq!(advance("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n"), Err(HeadError::TooManyLines));
    assert_eq!(advance(&"A".repeat(100)), Err(HeadError::TooLarge));
}

#[test]
fn connection_options_are_heeded_and_bounded() {
    let read = |lines: &str| {
        let text = format!("GET / HTTP/1.1\r\nHost: here.cn\r\n{lines}\r\n");
        let mut parser = RequestParser::new(LIMITS);
        parser.advance(text.as_bytes()).map(|_| {
            let mut out = Vec::new();
            parser.head().write(text.as_bytes(), b"here.cn", &HOP, &mut out);
            String::from_utf8(out).expect("text")
        })
    };
    let out =
        read("Connection: X-Own, close\r\nX-Own: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: X\r\nX-End: 2\r\n");
    assert_eq!(
        out.as_deref(),
        Ok("GET / HTTP/1.1\r\nHost: here.cn\r\nX-End: 2\r\nX-Forwarded-For: 192.0.2.1\r\nVia: 1.1 gate\r\n\r\n")
    );
    for name in ["Host", "content-length", "Transfer-Encoding"] {
        assert_eq!(read(&format!("Connection: {name}\r\n")), Err(HeadError::BadConnection), "{name}");
    }
    assert_eq!(read(&format!("Connection: {}\r\n", "a,".repeat(33))), Err(HeadError::BadConnection));
}

/// Request lines and fields as clients write them, and as attackers do.
fn any_head() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("Host: here.cn".to_owned()),
        Just("Host: nofile.cn".to_owned()),
        Just("Host : nofile.cn".to_owned()),
        Just(" Host: nofile.cn".to_owned()),
        Just("Content-Length: 5".to_owned()),
        Just("Transfer-Encoding: chunked".to_owned()),
        Just("Transfer-Encoding:\tchunked ".to_owned()),
        Just("Connection: close, upgrade".to_owned()),
        Just("Upgrade: h2c, websocket".to_owned()),
        "[A-Za-z-]{1,12}: {0,2}[ -~]{0,20}",
    ];
    let first = prop_oneof![
        Just("GET / HTTP/1.1".to_owned()),
        Just("GET http://here.cn/ HTTP/1.1".to_owned()),
        Just("POST /x?y HTTP/1.0".to_owned()),
        "[A-Z]{1,8} /[!-~]{0,12} HTTP/1\\.[01]",
    ];
    (first, proptest::collection::vec(line, 0..8)).prop_map(|(first, lines)| {
        let mut res = format!("{first}\r\n");
        lines.iter().for_each(|line| res.extend([line.as_str(), "\r\n"]));
        res + "\r\n"
    })
}

proptest! {
    #[test]
    fn no_octets_make_the_parser_panic(octets in proptest::collection::vec(any::<u8>(), 0..400), step in 1usize..50) {
        prop_assert_eq!(walk(&octets, step), walk(&octets, octets.len()));
    }

    #[test]
    fn heads_are_read_alike_however_they_arrive(head in any_head(), step in 1usize..40) {
        prop_assert_eq!(walk(head.as_bytes(), step), walk(head.as_bytes(), head.len()));
    }

    #[test]
    fn a_written_head_reads_as_the_same_request(head in any_head()) {
        let mut parser = RequestParser::new(LIMITS);
        let Ok(Progress::Whole) = parser.advance(head.as_bytes()) else { return Ok(()) };
        let (first, octets) = (parser.head(), head.as_bytes());
        let host = first.host.map_or(&b"203.0.113.1"[..], |host| host.of(octets)).to_vec();
        let mut out = Vec::new();
        first.write(octets, &host, &HOP, &mut out);
        let mut again = RequestParser::new(LIMITS);
        prop_assert_eq!(again.advance(&out), Ok(Progress::Whole), "{}", String::from_utf8_lossy(&out));
        let second = again.head();
        prop_assert_eq!(second.octets, out.len(), "nothing is left behind the head");
        prop_assert_eq!(second.framing, first.framing);
        prop_assert_eq!(second.path(&out), first.path(octets));
        prop_assert_eq!(second.method_text.of(&out), first.method_text.of(octets));
        prop_assert_eq!(second.host.expect("a host").of(&out), &host[..]);
        let upgrades: Vec<&[u8]> = first.upgrades(octets).collect();
        prop_assert!(!upgrades.contains(&&b"h2c"[..]));
        let others = |head: &icpgate::http::head::RequestHead, octets: &[u8]| {
            head.lines().iter().filter(|l| l.field == Field::Other).map(|l| (l.name.of(octets).to_vec(), l.value.of(octets).to_vec())).collect::<Vec<_>>()
        };
        prop_assert_eq!(others(second, &out), others(first, octets));
        // Writing what was written changes nothing but the fields that each hop adds to.
        let mut third = Vec::new();
        second.write(&out, &host, &HOP, &mut third);
        let appended = third.len() - out.len();
        prop_assert_eq!(appended, ", 192.0.2.1Via: 1.1 gate\r\n".len());
    }

    #[test]
    fn chunks_come_out_as_they_went_in(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8), step in 1usize..30) {
        let mut wire = Vec::new();
        pieces.iter().for_each(|piece| push_piece(true, piece, &mut wire));
        wire.extend_from_slice(b"0\r\n\r\nREST");
        let (mut reader, mut out, mut at, mut seen) = (BodyReader::new(Framing::Chunked), Vec::new(), 0, 0);
        while !reader.is_done() {
            if at == seen {
                seen = (seen + step).min(wire.len());
            }
            let taken = reader.take(&wire[at..seen]).expect("chunks");
            out.extend_from_slice(&wire[at..seen][taken.data]);
            at += taken.consumed;
        }
        prop_assert_eq!(out, pieces.concat());
        prop_assert_eq!(&wire[at..], b"REST");
    }

    #[test]
    fn no_octets_make_the_chunk_reader_panic(octets in proptest::collection::vec(any::<u8>(), 0..200), step in 1usize..20) {
        let mut reader = BodyReader::new(Framing::Chunked);
        let (mut at, mut seen) = (0, 0);
        while !reader.is_done() && (at < seen || seen < octets.len()) {
            if at == seen {
                seen = (seen + step).min(octets.len());
            }
            let Ok(taken) = reader.take(&octets[at..seen]) else { break };
            at += taken.consumed;
        }
    }

    #[test]
    fn no_text_makes_the_host_reader_panic(text in "\\PC{0,40}") {
        if let Ok(host) = icpgate::http::host::split(text.as_bytes()) {
            let _ = HostName::read(host.of(text.as_bytes()));
        }
    }
}
