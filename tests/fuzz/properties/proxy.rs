//! The PROXY header: whole with its last octet, the same however it arrives, and written as it was read.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use icpgate::proxy_header::{ProxyHeader, ProxyHeaderError, ProxyVersion, read, read_binary, write};

/// The 12 octets of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest line of version 1, by the specification.
const LINE_OCTETS_MAX: usize = 107;

/// Reads `octets` as the start of a connection from a listed proxy.
pub fn check(octets: &[u8]) {
    let whole = read(octets);
    prefixes(octets, whole);
    match whole {
        Ok(ProxyHeader::Whole { octets: length, addrs }) => {
            assert!((1..=octets.len()).contains(&length), "{length} of {}", octets.len());
            let header = &octets[..length];
            assert_eq!(read(header), whole, "what follows changes nothing");
            match header.strip_prefix(SIGNATURE) {
                Some(rest) => {
                    assert_eq!(binary(rest), Some(addrs));
                    assert_eq!(read_binary(octets), whole, "version 2 alone is read alike");
                }
                None => {
                    assert_eq!(read_binary(octets), Ok(ProxyHeader::Absent));
                    line(header, addrs);
                }
            }
            if let Some((client, reached)) = addrs {
                written_again(client, reached);
            }
        }
        Ok(ProxyHeader::Absent) => {
            assert!(!octets.starts_with(b"PROXY ") && !octets.starts_with(SIGNATURE));
        }
        Ok(ProxyHeader::Partial) => {}
        Err(ProxyHeaderError) => assert!(octets.starts_with(b"PROXY ") || octets.starts_with(SIGNATURE)),
    }
}

/// Every shorter input needs more, until one has the outcome that all of it has.
fn prefixes(octets: &[u8], whole: Result<ProxyHeader, ProxyHeaderError>) {
    for end in 0..octets.len() {
        let found = read(&octets[..end]);
        if found != Ok(ProxyHeader::Partial) {
            assert_eq!(found, whole, "after {end} octets");
            if let Ok(ProxyHeader::Whole { octets: length, .. }) = found {
                assert_eq!(length, end, "whole with its last octet");
            }
            return;
        }
    }
}

/// Version 2 behind its signature, by the table of the specification's section 2.2.
fn binary(rest: &[u8]) -> Option<Option<(SocketAddr, SocketAddr)>> {
    let &[command, family, high, low, ref body @ ..] = rest else { return None };
    assert_eq!(body.len(), usize::from(high) << 8 | usize::from(low), "the length is that of the header");
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match (command, family) {
        (0x20, _) => Some(None),
        (0x21, 0x11 | 0x12) => {
            let addr = |at: usize| <[u8; 4]>::try_from(&body[at..at + 4]).map(Ipv4Addr::from).ok();
            Some(Some(((addr(0)?, port(8)).into(), (addr(4)?, port(10)).into())))
        }
        (0x21, 0x21 | 0x22) => {
            let addr = |at: usize| <[u8; 16]>::try_from(&body[at..at + 16]).map(Ipv6Addr::from).ok();
            Some(Some(((addr(0)?, port(32)).into(), (addr(16)?, port(34)).into())))
        }
        (0x21, _) => Some(None),
        _ => None,
    }
}

/// Version 1: one line, with ports as the specification's section 2.1 writes them.
fn line(header: &[u8], addrs: Option<(SocketAddr, SocketAddr)>) {
    assert!(header.len() <= LINE_OCTETS_MAX);
    let text = std::str::from_utf8(header).expect("a line of text");
    let text = text.strip_suffix("\r\n").expect("a line end");
    assert!(!text.contains("\r\n"), "one line");
    let Some((client, reached)) = addrs else {
        assert!(text.starts_with("PROXY UNKNOWN"));
        return;
    };
    let family = if client.is_ipv4() { "PROXY TCP4 " } else { "PROXY TCP6 " };
    assert!(text.starts_with(family) && client.is_ipv4() == reached.is_ipv4(), "{text}");
    let end = format!(" {} {}", client.port(), reached.port());
    assert!(text.ends_with(&end), "{text:?} ends in {end:?}");
}

fn written_again(client: SocketAddr, reached: SocketAddr) {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut out = Vec::new();
        write(version, client, reached, Some("www.here.cn"), &mut out);
        let expected = ProxyHeader::Whole { octets: out.len(), addrs: Some((client, reached)) };
        assert_eq!(read(&out), Ok(expected), "{version:?}");
    }
}
