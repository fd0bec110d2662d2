//! Upstream servers as text: `udp://223.5.5.5`, `tls://1.12.12.12:853#dot.pub`, `https://1.12.12.12/dns-query#doh.pub`.

use std::net::{IpAddr, SocketAddr};

use crate::dns::settings::{UpstreamServer, UpstreamTransport};

/// What a server text looks like, for messages.
const FORM: &str = "expected udp://ADDRESS, tcp://ADDRESS, tls://ADDRESS#NAME or https://ADDRESS/PATH#NAME";

/// Reads one server. An address, never a host name: asking for it would need the upstream itself.
pub fn parse(text: &str) -> Result<UpstreamServer, String> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("no scheme; {FORM}"))?;
    let (rest, name) = match rest.split_once('#') {
        Some((rest, name)) => (rest, Some(name)),
        None => (rest, None),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => (&rest[..at], &rest[at..]),
        None => (rest, ""),
    };
    let port = match scheme {
        "udp" | "tcp" => 53,
        "tls" => 853,
        "https" => 443,
        "quic" | "h3" => return Err(format!("{scheme} is not in this release; {FORM}")),
        _ => return Err(format!("unknown scheme {scheme:?}; {FORM}")),
    };
    let addr = read_authority(authority, port, scheme, FORM)?;
    let server_name = read_server_name(scheme, name, addr.ip())?;
    if !path.is_empty() && scheme != "https" {
        return Err(format!("{scheme} has no path; expected {scheme}://{authority}"));
    }
    let transport = match scheme {
        "udp" => UpstreamTransport::Udp,
        "tcp" => UpstreamTransport::Tcp,
        "tls" => UpstreamTransport::Tls { server_name },
        _ if path.len() > 1 => UpstreamTransport::Https { path: path.to_owned(), server_name },
        // RFC 8484 section 4.1.1 leaves the path open; everybody uses this one.
        _ => UpstreamTransport::Https { path: "/dns-query".to_owned(), server_name },
    };
    Ok(UpstreamServer { text: text.to_owned(), addr, transport })
}

/// An address with its port or this one; `form` is what would have been right.
pub(super) fn read_authority(authority: &str, port: u16, scheme: &str, form: &str) -> Result<SocketAddr, String> {
    if let Ok(addr) = authority.parse::<SocketAddr>() {
        return if addr.port() == 0 { Err("port 0 cannot be asked".to_owned()) } else { Ok(addr) };
    }
    if let Ok(addr) = authority.parse::<std::net::Ipv4Addr>() {
        return Ok((addr, port).into());
    }
    if let Some(addr) = authority.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let addr = addr.parse::<std::net::Ipv6Addr>();
        return addr.map(|addr| (addr, port).into()).map_err(|_| format!("{authority} is no IPv6 address"));
    }
    if authority.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(format!("an IPv6 address stands in brackets; expected {scheme}://[{authority}]"));
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let is_name = !host.is_empty() && host.bytes().any(|o| o.is_ascii_alphabetic());
    if is_name {
        let secure = matches!(scheme, "tls" | "https");
        let suffix = if secure { format!("#{host}") } else { String::new() };
        return Err(format!("{host} is a host name; expected its address, as in {scheme}://ADDRESS{suffix}"));
    }
    Err(format!("{authority:?} is no address; {form}"))
}

/// The name in the certificate: after `#`, else the address itself.
pub(super) fn read_server_name(scheme: &str, name: Option<&str>, addr: IpAddr) -> Result<String, String> {
    let is_secure = matches!(scheme, "tls" | "https");
    match name {
        Some(_) if !is_secure => Err(format!("{scheme} has no certificate and so no #name")),
        Some(name) => rustls::pki_types::ServerName::try_from(name.to_owned())
            .map(|_| name.to_owned())
            .map_err(|_| format!("{name:?} is not a name a certificate can hold")),
        None => Ok(addr.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let name = |text: &str| text.to_owned();
        for (text, addr, transport) in [
            ("udp://223.5.5.5", "223.5.5.5:53", UpstreamTransport::Udp),
            ("udp://223.5.5.5:5353", "223.5.5.5:5353", UpstreamTransport::Udp),
            ("tcp://[2001:db8::1]", "[2001:db8::1]:53", UpstreamTransport::Tcp),
            ("tls://1.12.12.12#dot.pub", "1.12.12.12:853", UpstreamTransport::Tls { server_name: name("dot.pub") }),
            (
                "tls://[2001:db8::1]:8853",
                "[2001:db8::1]:8853",
                UpstreamTransport::Tls { server_name: name("2001:db8::1") },
            ),
            (
                "https://1.12.12.12/dns-query#doh.pub",
                "1.12.12.12:443",
                UpstreamTransport::Https { path: name("/dns-query"), server_name: name("doh.pub") },
            ),
            (
                "https://1.12.12.12:8443/q?x=1#doh.pub",
                "1.12.12.12:8443",
                UpstreamTransport::Https { path: name("/q?x=1"), server_name: name("doh.pub") },
            ),
            (
                "https://1.12.12.12",
                "1.12.12.12:443",
                UpstreamTransport::Https { path: name("/dns-query"), server_name: name("1.12.12.12") },
            ),
        ] {
            let found = parse(text).expect(text);
            assert_eq!((found.addr.to_string().as_str(), &found.transport), (addr, &transport), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_what_would_be_right() {
        for (text, part) in [
            ("223.5.5.5", "no scheme"),
            ("quic://223.5.5.5", "not in this release"),
            ("dot://223.5.5.5", "unknown scheme"),
            ("udp://2001:db8::1", "udp://[2001:db8::1]"),
            ("tls://dot.pub", "tls://ADDRESS#dot.pub"),
            ("https://doh.pub/dns-query", "https://ADDRESS#doh.pub"),
            ("udp://dns.example", "udp://ADDRESS"),
            ("udp://223.5.5.5#x", "no #name"),
            ("udp://223.5.5.5/x", "no path"),
            ("udp://223.5.5.5:0", "port 0"),
            ("tls://223.5.5.5#a b", "certificate"),
            ("udp://", "no address"),
            ("udp://[::g]", "no IPv6 address"),
        ] {
            let message = parse(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
