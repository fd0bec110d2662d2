//! What a target begins with: the project's own vectors in the form the target takes.
//!
//! Nothing of others is among them, so that what is found from them may be kept.

use std::path::Path;

use crate::harness::tls::{Row, Sketch};
use icpgate::dns::wire::{Section, Writer, flag, question_octets, rtype};
use icpgate::model::DomainName;
use icpgate::proxy_header::{self, ProxyVersion};

/// Writes the seeds of `target` into the directory that `ICPGATE_FUZZ_SEEDS` names, and ends the program; nothing without it.
pub fn write_if_asked(target: &str) {
    let Some(directory) = std::env::var_os("ICPGATE_FUZZ_SEEDS") else { return };
    let seeds = match target {
        "dns" => dns(),
        "head" => head(),
        "hello" => hello(),
        "initial" => initial(),
        "proxy" => proxy(),
        other => panic!("{other} is no target"),
    };
    std::fs::create_dir_all(&directory).expect("a directory");
    for (i, seed) in seeds.iter().enumerate() {
        std::fs::write(Path::new(&directory).join(format!("seed-{i:03}")), seed).expect("a seed is written");
    }
    std::process::exit(0);
}

/// The rows of a file of recorded first octets.
fn rows(name: &str) -> Vec<Row> {
    let path = format!("{}/../data/tls/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a data file");
    text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

/// The part of a recorded hello that is its list of extensions.
fn extensions(stream: &[u8]) -> Option<&[u8]> {
    // Record header, message header, version, random.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(*stream.get(at)?);
    at += 2 + usize::from(u16::from_be_bytes([*stream.get(at)?, *stream.get(at + 1)?]));
    at += 1 + usize::from(*stream.get(at)?);
    stream.get(at + 2..)
}

fn hello() -> Vec<Vec<u8>> {
    let mut res = vec![Sketch::new("here.cn").stream()];
    for row in ["own-tcp", "crafted"].into_iter().flat_map(rows) {
        if let Some(stream) = row.stream() {
            res.extend(extensions(&stream).map(<[u8]>::to_vec));
            res.push(stream);
        }
    }
    for row in rows("hello-retry") {
        let flights = [row.first_flight, row.second_flight].into_iter().flatten();
        res.push(flights.flat_map(|flight| crate::harness::tls::octets(&flight)).collect());
    }
    res.retain(|seed| seed.len() <= 4096);
    res
}

fn initial() -> Vec<Vec<u8>> {
    let mut res = Vec::new();
    for datagram in ["own-quic", "crafted"].into_iter().flat_map(rows).filter_map(|row| row.datagrams()).flatten() {
        res.push([&[0][..], &datagram].concat());
    }
    for payload in [
        &[0, 0, 1][..],
        &[2, 5, 0, 1, 0, 0, 0],
        &[3, 5, 0, 0, 0, 1, 2, 3],
        &[6, 0, 5, b'a', b'b', b'c', b'd', b'e', 6, 5, 1, b'f'],
        &[0x1c, 0x41, 0x70, 6, 2, b'n', b'o', 0],
    ] {
        res.push([&[1][..], payload].concat());
    }
    let message = Sketch::new("www.here.cn").and(16, b"\0\x03\x02h3").message();
    res.push(
        [&[1, 6, 0, 0x40 | u8::try_from(message.len() >> 8).expect("is short"), message.len() as u8][..], &message]
            .concat(),
    );
    for ways in [[0, 3, 1, 0], [1, 4, 2, 1], [0, 2, 3, 2], [1, 5, 4, 3]] {
        res.push([&[2][..], &ways, &message].concat());
    }
    for row in rows("own-tcp") {
        let stream = row.stream().expect("a stream");
        res.extend(extensions(&stream).map(|list| [&[2, 2, 3, 1, 1][..], list].concat()));
    }
    for row in rows("hello-retry") {
        let first = row.first_flight.map(|flight| crate::harness::tls::octets(&flight)).unwrap_or_default();
        res.extend(extensions(&first).map(|list| [&[2, 6, 3, 1, 1][..], list, list].concat()));
    }
    res.push([&[3][..], &[0, 4, 4], b"efgh", &[0, 2, 4], b"cdef", &[0, 0, 3], b"abc"].concat());
    res.retain(|seed| seed.len() <= 4096);
    res
}

fn head() -> Vec<Vec<u8>> {
    let requests = [
        "GET / HTTP/1.1\r\nHost: here.cn\r\n\r\n",
        "\r\nPOST /a?b#c HTTP/1.1\r\nhost:here.cn:8080\r\nContent-Length: 3\r\n\r\nabc",
        "POST http://here.cn/x HTTP/1.1\r\nHost: here.cn\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: www.here.cn.\r\nConnection: X-Own, close\r\nX-Own: 1\r\nTE: trailers\r\n\r\n",
        "GET https://[::1]:443?q HTTP/1.0\r\nX-Forwarded-For: 192.0.2.7\r\nForwarded: host=nofile.cn\r\nContent_Length: 1\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: 0x7f.1\r\nConnection: upgrade\r\nUpgrade: h2c, websocket\r\nHTTP2-Settings: A\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HEAD / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: xn--fiqs8s.cn\r\nHost: nofile.cn\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: here.cn\r\n X: folded\r\n\r\n",
    ];
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\nServer: x\r\n\r\nabc",
        "HTTP/1.0 404\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 206 \r\nTransfer-Encoding: chunked\r\nAlt-Svc: h3=\":443\", h2=\":443\"\r\nKeep-Alive: 5\r\n\r\n",
    ];
    let bodies = ["5\r\nhello\r\nA;x=\"y\"\r\n, world!!!\r\n000\r\nX: 1\r\nY:\r\n\r\nGET", "0\r\n\r\n", "fF\r\n"];
    let as_kind = |kind: u8, texts: &[&str]| -> Vec<Vec<u8>> {
        texts.iter().map(|text| [&[kind, 7][..], text.as_bytes()].concat()).collect()
    };
    [as_kind(0, &requests), as_kind(2, &answers), as_kind(3, &bodies)].concat()
}

fn proxy() -> Vec<Vec<u8>> {
    let mut res = vec![
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\nGET".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\xc6\x33\x64\x07\xcb\0\x71\x01\x9c\x40\0\x35query".to_vec(),
        b"GET / HTTP/1.1\r\n".to_vec(),
    ];
    for (client, reached) in [("198.51.100.7:40000", "203.0.113.1:443"), ("[2001:db8::1]:1", "[2001:db8::2]:2")] {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let mut out = Vec::new();
            let addr = |text: &str| text.parse().expect("an address");
            proxy_header::write(version, addr(client), addr(reached), Some("www.here.cn"), &mut out);
            res.push(out);
        }
    }
    res
}

fn dns() -> Vec<Vec<u8>> {
    let name = DomainName::from_text("www.here.cn").expect("a name");
    let question = question_octets(name.as_ref(), rtype::A, 1);
    let owner = name.wire();
    let query = |rtype: u16| Writer::new(7, flag::RD, &question_octets(name.as_ref(), rtype, 1));
    let mut edns = query(rtype::AAAA);
    edns.record(Section::Additional, &[0], rtype::OPT, 1232, 0x8000, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    let mut answer = Writer::new(7, flag::QR | flag::RD | flag::RA, &question);
    answer.record(Section::Answer, owner, rtype::CNAME, 1, 60, b"\x03cdn\x07example\0");
    answer.record(Section::Answer, b"\x03cdn\x07example\0", rtype::A, 1, 60, &[203, 0, 113, 9]);
    answer.record(Section::Answer, b"\x03cdn\x07example\0", rtype::AAAA, 1, 60, &[0x20; 16]);
    answer.record(Section::Additional, &[0], rtype::OPT, 1232, 0, &[0, 15, 0, 4, 0, 3, b'o', b'k']);
    let mut service = Writer::new(7, flag::QR, &question_octets(name.as_ref(), rtype::HTTPS, 1));
    let params = [
        &[0, 1][..],
        b"\x03cdn\x07example\0",
        &[0, 1, 0, 3, 2, b'h', b'3', 0, 4, 0, 4, 203, 0, 113, 9, 0, 5, 0, 2, 9, 9],
    ];
    let params = [&params.concat()[..], &[0, 6, 0, 16], &[0x20; 16]].concat();
    service.record(Section::Answer, owner, rtype::HTTPS, 1, 300, &params);
    let mut negative = Writer::new(7, flag::QR | 3, &question);
    let soa = [
        &b"\x02ns\x07example\0\x04root\x07example\0"[..],
        &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5],
    ]
    .concat();
    negative.record(Section::Authority, b"\x07example\0", rtype::SOA, 1, 900, &soa);
    negative.record(Section::Authority, b"\x07example\0", 15, 1, 900, b"\0\x0a\x02mx\x07example\0");
    negative.record(Section::Additional, b"\x07example\0", 33, 1, 900, b"\0\0\0\0\0\x50\x02mx\x07example\0");
    vec![query(rtype::A).finish(), edns.finish(), answer.finish(), service.finish(), negative.finish()]
}
