//! The PROXY protocol, versions 1 and 2, as a listed proxy sends it before anything else, and as the gate sends it to origins.
//!
//! Source: the PROXY protocol specification of HAProxy, sections 2.1 and 2.2. From any other peer the same octets are a
//! bad request (D-T19) or a bad query: this module is not asked then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// The 12 octets every version 2 header begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest version 1 header with its CRLF, by the specification.
const TEXT_OCTETS_MAX: usize = 107;
/// Longest version 2 header behind its fixed part: addresses and a few kilobytes of TLVs, which are skipped.
pub const BINARY_OCTETS_MAX: usize = 4096;
/// Octets of a version 2 header before the addresses: signature, version and command, family, length.
pub const BINARY_FIXED_OCTETS: usize = 16;

/// Stream over IPv4, and over IPv6, as a version 2 header says it; datagrams likewise.
const TCP_4: u8 = 0x11;
const TCP_6: u8 = 0x21;
const UDP_4: u8 = 0x12;
const UDP_6: u8 = 0x22;

/// Version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Octets that begin like a PROXY header and are none. The proxy is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a PROXY header of version 1 or 2")]
pub struct ProxyHeaderError;

/// What stands at the start of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// Something else.
    Absent,
    /// The beginning of a header; more octets are needed.
    Partial,
    /// A header.
    Whole {
        /// How many octets it takes.
        octets: usize,
        /// Source and destination; `None` for the proxy's own connections (`LOCAL`, `UNKNOWN`).
        addrs: Option<(SocketAddr, SocketAddr)>,
    },
}

/// Looks for a header at the start of `input`.
pub fn read(input: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    const TEXT_START: &[u8] = b"PROXY ";
    let begins = |with: &[u8]| {
        let length = input.len().min(with.len());
        input[..length] == with[..length]
    };
    if begins(SIGNATURE) {
        return read_binary(input);
    }
    if begins(TEXT_START) {
        return if input.len() < TEXT_START.len() { Ok(ProxyHeader::Partial) } else { read_text(input) };
    }
    Ok(ProxyHeader::Absent)
}

/// Version 1: `PROXY TCP4 source destination port port CRLF`.
fn read_text(input: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let seen = &input[..input.len().min(TEXT_OCTETS_MAX)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return if seen.len() == TEXT_OCTETS_MAX { Err(ProxyHeaderError) } else { Ok(ProxyHeader::Partial) };
    };
    let line = std::str::from_utf8(&seen[..end]).map_err(|_| ProxyHeaderError)?;
    let fields: Vec<&str> = line.split(' ').collect();
    let addrs = match fields[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, source_port, destination_port] => {
            let addr = |text: &str, port: &str| {
                let addr: IpAddr = text.parse().ok()?;
                let is_family = addr.is_ipv4() == (family == "TCP4");
                is_family.then(|| Some(SocketAddr::new(addr, read_port(port)?))).flatten()
            };
            addr(source, source_port).zip(addr(destination, destination_port)).ok_or(ProxyHeaderError).map(Some)?
        }
        _ => return Err(ProxyHeaderError),
    };
    Ok(ProxyHeader::Whole { octets: end + 2, addrs })
}

/// A decimal number without sign; "heading zeroes are not permitted in front of numbers" (section 2.1).
fn read_port(text: &str) -> Option<u16> {
    let is_plain = text == "0" || text.starts_with(|c: char| matches!(c, '1'..='9'));
    text.parse().ok().filter(|_| is_plain)
}

/// Looks for a version 2 header alone: signature, version and command, family, length, addresses, TLVs.
///
/// The family may be one of datagrams or of streams, whatever it came by: it says how the client came to the proxy.
pub fn read_binary(input: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let seen = input.len().min(SIGNATURE.len());
    if input[..seen] != SIGNATURE[..seen] {
        return Ok(ProxyHeader::Absent);
    }
    let Some((fixed, rest)) = input.split_at_checked(BINARY_FIXED_OCTETS) else { return Ok(ProxyHeader::Partial) };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > BINARY_OCTETS_MAX {
        return Err(ProxyHeaderError);
    }
    let Some(body) = rest.get(..length) else { return Ok(ProxyHeader::Partial) };
    let addrs = match (fixed[12], fixed[13]) {
        // LOCAL: the receiver must take the connection's real addresses.
        (0x20, _) => None,
        (0x21, TCP_4 | UDP_4) => Some(v4_addrs(body).ok_or(ProxyHeaderError)?),
        (0x21, TCP_6 | UDP_6) => Some(v6_addrs(body).ok_or(ProxyHeaderError)?),
        // Families that carry nothing of ours: accepted, and their addresses ignored, as section 2.2 asks.
        (0x21, _) => None,
        _ => return Err(ProxyHeaderError),
    };
    Ok(ProxyHeader::Whole { octets: BINARY_FIXED_OCTETS + length, addrs })
}

fn v4_addrs(body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let octets = body.first_chunk::<12>()?;
    let [a, b, c, d, e, f, g, h, ports @ ..] = *octets;
    let addr =
        |octets: [u8; 4], port: [u8; 2]| SocketAddr::new(IpAddr::V4(Ipv4Addr::from(octets)), u16::from_be_bytes(port));
    Some((addr([a, b, c, d], [ports[0], ports[1]]), addr([e, f, g, h], [ports[2], ports[3]])))
}

fn v6_addrs(body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (source, rest) = body.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    let ports = rest.first_chunk::<4>()?;
    let addr = |octets: &[u8; 16], port: [u8; 2]| {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::from(*octets)), u16::from_be_bytes(port))
    };
    Some((addr(source, [ports[0], ports[1]]), addr(destination, [ports[2], ports[3]])))
}

//--- Writing ---------------------------------------------------------------------------------------------------------

/// Appends the header that tells an origin who the client is and what it reached; version 2 also which name it asked for.
///
/// Both addresses are of one family in either version: where they are not, as behind a proxy that translates, the IPv4 one
/// is written as IPv6 carries it.
pub fn write(version: ProxyVersion, client: SocketAddr, reached: SocketAddr, name: Option<&str>, out: &mut Vec<u8>) {
    match version {
        ProxyVersion::V1 => write_text(client, reached, out),
        ProxyVersion::V2 => write_binary(client, reached, name, out),
    }
}

fn write_text(client: SocketAddr, reached: SocketAddr, out: &mut Vec<u8>) {
    let (family, source, destination) = match (client.ip(), reached.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => ("TCP4", source.to_string(), destination.to_string()),
        (source, destination) => ("TCP6", as_v6(source).to_string(), as_v6(destination).to_string()),
    };
    let ports = (client.port(), reached.port());
    out.extend_from_slice(format!("PROXY {family} {source} {destination} {} {}\r\n", ports.0, ports.1).as_bytes());
}

fn write_binary(client: SocketAddr, reached: SocketAddr, name: Option<&str>, out: &mut Vec<u8>) {
    /// TLV of the name that the client asked for, as in the server name extension (section 2.2.2).
    const AUTHORITY: u8 = 0x02;
    const VERSION_AND_COMMAND: u8 = 0x21;
    let mut body = Vec::with_capacity(64);
    let family = match (client.ip(), reached.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            body.extend_from_slice(&source.octets());
            body.extend_from_slice(&destination.octets());
            TCP_4
        }
        (source, destination) => {
            body.extend_from_slice(&as_v6(source).octets());
            body.extend_from_slice(&as_v6(destination).octets());
            TCP_6
        }
    };
    body.extend_from_slice(&client.port().to_be_bytes());
    body.extend_from_slice(&reached.port().to_be_bytes());
    if let Some((name, length)) = name.and_then(|name| Some((name, u16::try_from(name.len()).ok()?))) {
        body.push(AUTHORITY);
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[VERSION_AND_COMMAND, family]);
    let length = u16::try_from(body.len()).expect("two addresses and a name of at most 255 octets");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&body);
}

fn as_v6(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (client, reached, expected) in [
            ("198.51.100.7:40000", "203.0.113.1:443", ("198.51.100.7:40000", "203.0.113.1:443")),
            ("[2001:db8::1]:1", "[2001:db8::2]:2", ("[2001:db8::1]:1", "[2001:db8::2]:2")),
            ("198.51.100.7:1", "[2001:db8::2]:2", ("[::ffff:198.51.100.7]:1", "[2001:db8::2]:2")),
        ] {
            for version in [ProxyVersion::V1, ProxyVersion::V2] {
                let mut out = Vec::new();
                let (client, reached) = addrs(client, reached).expect("addresses");
                write(version, client, reached, Some("www.here.cn"), &mut out);
                let whole = ProxyHeader::Whole { octets: out.len(), addrs: addrs(expected.0, expected.1) };
                assert_eq!(read(&out), Ok(whole), "{version:?} {client}");
                let has_name = out.windows(14).any(|part| part == b"\x02\0\x0bwww.here.cn");
                assert_eq!(has_name, version == ProxyVersion::V2);
            }
        }
    }

    fn addrs(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
        Some((source.parse().expect("an address"), destination.parse().expect("an address")))
    }

    /// The outcome with all octets, after checking that no shorter input says anything else than `Partial`.
    fn read_at_every_split(input: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
        let whole = read(input);
        if let Ok(ProxyHeader::Whole { octets, .. }) = whole {
            for end in 0..octets {
                assert_eq!(read(&input[..end]), Ok(ProxyHeader::Partial), "{end}");
            }
        }
        whole
    }

    #[test]
    fn both_versions_are_read() {
        let text = b"PROXY TCP4 198.51.100.7 203.0.113.1 40000 80\r\nGET /";
        let expected = addrs("198.51.100.7:40000", "203.0.113.1:80");
        assert_eq!(read_at_every_split(text), Ok(ProxyHeader::Whole { octets: 46, addrs: expected }));
        let binary = [&SIGNATURE[..], &[0x21, 0x11, 0, 12, 198, 51, 100, 7, 203, 0, 113, 1, 0x9c, 0x40, 0, 80], b"GET"];
        assert_eq!(read_at_every_split(&binary.concat()), Ok(ProxyHeader::Whole { octets: 28, addrs: expected }));
        let six = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n";
        let expected = addrs("[2001:db8::1]:1", "[2001:db8::2]:2");
        assert_eq!(read_at_every_split(six), Ok(ProxyHeader::Whole { octets: six.len(), addrs: expected }));
        let local = [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat();
        assert_eq!(read_at_every_split(&local), Ok(ProxyHeader::Whole { octets: 16, addrs: None }));
        let unknown = b"PROXY UNKNOWN\r\n";
        assert_eq!(read_at_every_split(unknown), Ok(ProxyHeader::Whole { octets: 15, addrs: None }));
    }

    #[test]
    fn datagrams_have_families_of_their_own_and_version_2_alone_can_be_asked_for() {
        let four = [&SIGNATURE[..], &[0x21, 0x12, 0, 12, 198, 51, 100, 7, 203, 0, 113, 1, 0x9c, 0x40, 0, 53], b"query"];
        let four = four.concat();
        let expected = addrs("198.51.100.7:40000", "203.0.113.1:53");
        assert_eq!(read_at_every_split(&four), Ok(ProxyHeader::Whole { octets: 28, addrs: expected }));
        let mut six = Vec::new();
        let (client, reached) = addrs("[2001:db8::1]:1", "[2001:db8::2]:53").expect("addresses");
        write(ProxyVersion::V2, client, reached, None, &mut six);
        six[13] = UDP_6;
        assert_eq!(read_binary(&six), Ok(ProxyHeader::Whole { octets: 52, addrs: Some((client, reached)) }));
        let local = [&SIGNATURE[..], &[0x20, 0x12, 0, 0]].concat();
        assert_eq!(read_binary(&local), Ok(ProxyHeader::Whole { octets: 16, addrs: None }));
        for absent in [&b"PROXY UNKNOWN\r\n"[..], b"\0\x1dquery"] {
            assert_eq!(read_binary(absent), Ok(ProxyHeader::Absent));
        }
        assert_eq!(read_binary(b""), Ok(ProxyHeader::Partial));
    }

    #[test]
    fn anything_else_is_told_apart() {
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Ok(ProxyHeader::Absent));
        assert_eq!(read(b"\r\nGET"), Ok(ProxyHeader::Absent));
        for bad in [
            &b"PROXY TCP4 2001:db8::1 203.0.113.1 1 2\r\n"[..],
            b"PROXY TCP4 203.0.113.1 203.0.113.1 1 99999\r\n",
            b"PROXY TCP4 203.0.113.1 203.0.113.1 1 080\r\n",
            b"PROXY TCP4 203.0.113.1 203.0.113.1 +1 80\r\n",
            b"PROXY TCP4 203.0.113.1\r\n",
            b"PROXY SCTP\r\n",
        ] {
            assert_eq!(read(bad), Err(ProxyHeaderError));
        }
        assert_eq!(read(&[&b"PROXY "[..], &[b'x'; 200]].concat()), Err(ProxyHeaderError));
        assert_eq!(read(&[&SIGNATURE[..], &[0x31, 0x11, 0, 0]].concat()), Err(ProxyHeaderError));
        assert_eq!(read(&[&SIGNATURE[..], &[0x21, 0x11, 0, 2, 1, 2]].concat()), Err(ProxyHeaderError));
        assert_eq!(read(&[&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat()), Err(ProxyHeaderError));
    }
}
