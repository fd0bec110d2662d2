//! The host of a request: its text as written, split from the port, and what it names.
//!
//! Strict where browsers are: letters, digits, hyphen, underscore and dots, or a bracketed IPv6 address, and a decimal
//! port. No userinfo, no percent-encoding, no raw UTF-8, no list (D-H2, D-H5 to D-H9).

use std::net::{IpAddr, Ipv6Addr};

use thiserror::Error;

use crate::model::{self, DomainName, NameError};

/// Why text is no host. The client is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("host is not a name or address with an optional port")]
pub struct HostError;

/// Where the host ends in its text, the port split off; its octets are checked, its meaning is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostText {
    length: usize,
}

impl HostText {
    /// The host without the port.
    pub fn of(self, text: &[u8]) -> &str {
        // Only ASCII octets pass `split`.
        std::str::from_utf8(&text[..self.length]).unwrap_or_default()
    }
}

/// Splits `host[:port]` (RFC 9110 section 7.2; an empty port is allowed by RFC 3986 section 3.2.3).
pub fn split(text: &[u8]) -> Result<HostText, HostError> {
    let length = if text.first() == Some(&b'[') {
        text.iter().position(|&octet| octet == b']').ok_or(HostError)? + 1
    } else {
        text.iter().position(|&octet| octet == b':').unwrap_or(text.len())
    };
    let (host, rest) = text.split_at(length);
    let is_known = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_');
    let is_host = match host {
        [b'[', inner @ .., b']'] => inner.iter().all(|octet| octet.is_ascii_hexdigit() || matches!(octet, b':' | b'.')),
        _ => !host.is_empty() && host.iter().all(is_known),
    };
    let is_port = match rest {
        [] | [b':'] => true,
        [b':', port @ ..] => is_port(port),
        _ => false,
    };
    if is_host && is_port { Ok(HostText { length }) } else { Err(HostError) }
}

/// True for a decimal number of 16 bits in at most five digits.
fn is_port(digits: &[u8]) -> bool {
    let add = |sum: u32, octet: &u8| octet.is_ascii_digit().then(|| sum * 10 + u32::from(octet - b'0'));
    // The length first: more digits would not fit the sum.
    digits.len() <= 5 && digits.iter().try_fold(0, add).is_some_and(|port| port <= 65_535)
}

/// What the text of a host names.
#[expect(
    clippy::large_enum_variant,
    reason = "one a connection; a name is inline so that reading it allocates nothing"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// An address in any spelling (D-H21), IPv4 inside IPv6 unwrapped, or the address a client without `Host` reached.
    Address(IpAddr),
    /// Labels in order, but an A-label that IDNA refuses: no registry can hold it.
    Invalid,
    /// A name.
    Name(DomainName),
}

impl HostName {
    /// Reads the host of a text that [`split`] passed.
    ///
    /// One final dot is folded (D-H7). Errors: empty or overlong labels and names, numbers that are no address.
    pub fn read(host: &str) -> Result<Self, HostError> {
        match model::parse_ip_literal(host) {
            Some(Ok(addr)) => return Ok(Self::Address(addr.to_canonical())),
            Some(Err(())) => return Err(HostError),
            None => {}
        }
        match DomainName::from_host(host) {
            Ok(name) if name.as_ref().is_root() => Err(HostError),
            Ok(name) => Ok(Self::Name(name)),
            Err(NameError::BadIdna) => Ok(Self::Invalid),
            Err(_) => Err(HostError),
        }
    }

    /// As the judge takes it.
    pub fn as_host(&self) -> model::Host<'_> {
        match self {
            Self::Address(addr) => model::Host::Address(*addr),
            Self::Invalid => model::Host::Invalid,
            Self::Name(name) => model::Host::Name(name.as_ref()),
        }
    }

    /// The name, where it is one.
    pub fn name(&self) -> Option<&DomainName> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) | Self::Invalid => None,
        }
    }
}

/// Writes an address as the host of a URL.
pub fn address_text(addr: IpAddr, port: u16) -> String {
    match (addr.to_canonical(), port) {
        (IpAddr::V4(v4), 80) => v4.to_string(),
        (IpAddr::V6(v6), 80) => bracketed(v6),
        (IpAddr::V4(v4), port) => format!("{v4}:{port}"),
        (IpAddr::V6(v6), port) => format!("{}:{port}", bracketed(v6)),
    }
}

fn bracketed(v6: Ipv6Addr) -> String {
    format!("[{v6}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HostName, HostError> {
        HostName::read(split(text.as_bytes())?.of(text.as_bytes()))
    }

    #[test]
    fn names_are_read_without_port_case_or_final_dot() {
        let here = HostName::Name(DomainName::from_text("here.cn").expect("a name"));
        for text in ["here.cn", "HERE.cn", "here.cn.", "here.cn:80", "here.cn.:8080", "here.cn:", "here.cn:65535"] {
            assert_eq!(read(text), Ok(here.clone()), "{text}");
        }
        assert_eq!(read("xn--a.cn"), Ok(HostName::Invalid));
    }

    #[test]
    fn addresses_are_read_in_every_spelling() {
        for text in
            ["203.0.113.9", "203.0.113.9.", "0xcb007109", "3405803785", "0313.0.0161.011", "[::ffff:203.0.113.9]:80"]
        {
            assert_eq!(read(text), Ok(HostName::Address("203.0.113.9".parse().expect("an address"))), "{text}");
        }
        assert_eq!(read("[2001:db8::1]"), Ok(HostName::Address("2001:db8::1".parse().expect("an address"))));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            "here.cn..",
            ":80",
            "here.cn:65536",
            "here.cn:999999",
            "here.cn:80809999999999",
            "here.cn:+80",
            "here.cn:8 0",
            "here.cn:80:80",
            "f@u.cn",
            "f,u",
            "f u",
            "f\tu",
            "%75.cn",
            "例子.中国",
            "*.cn",
            "[::1",
            "::1",
            "[::1]x",
            "[]",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "203.0.113.256",
            "1.2.3.4.5",
            "f\0.cn",
            "here.cn/",
            "here.cn?",
            "here.cn#",
            "\"here.cn\"",
        ] {
            assert_eq!(read(text), Err(HostError), "{text:?}");
        }
        assert_eq!(read(&format!("{}.cn", "x".repeat(64))), Err(HostError));
        assert_eq!(read(&["x".repeat(60).as_str(); 5].join(".")), Err(HostError));
    }
}
