//! Addresses as the gate judges them: IPv6 forms that carry an IPv4 address are unwrapped first.
//!
//! A mainland server reached through `::ffff:203.0.113.1`, NAT64, 6to4, Teredo or ISATAP is the same server
//! (interception D-D9). Also here: the spellings of an IP literal that browsers and C libraries accept (D-H21).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

/// The well-known NAT64 prefix, RFC 6052 section 2.1.
pub const NAT64_WELL_KNOWN: &str = "64:ff9b::/96";
/// The local-use NAT64 prefix, RFC 8215; a /96 inside it is what deployments embed with.
const NAT64_LOCAL: (u128, u32) = (0x0064_ff9b_0001_0000_0000_0000_0000_0000, 48);

/// The IPv4 addresses that may lie inside an IPv6 address; at most two, since Teredo names a server and a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unwrapped {
    found: [Option<Ipv4Addr>; 2],
}

impl Unwrapped {
    /// The embedded addresses, outermost meaning first.
    pub fn iter(self) -> impl Iterator<Item = Ipv4Addr> {
        self.found.into_iter().flatten()
    }

    /// True when the address is what it seems.
    pub fn is_empty(self) -> bool {
        self.found[0].is_none()
    }

    fn one(addr: Ipv4Addr) -> Self {
        Self { found: [Some(addr), None] }
    }
}

/// The address that stands for a client in limits: IPv4 as it is, IPv6 by its /64, all of which one client commands
/// (RFC 4291 section 2.5.4). IPv4 clients behind the well-known NAT64 prefix are as many as their addresses.
pub fn one_client(addr: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = addr.to_canonical() else { return addr.to_canonical() };
    let bits = u128::from(v6);
    match bits >> 32 {
        0x0064_ff9b_0000_0000_0000_0000 => IpAddr::V4(Ipv4Addr::from((bits & 0xffff_ffff) as u32)),
        _ => IpAddr::V6(Ipv6Addr::from(bits >> 64 << 64)),
    }
}

/// Finds the IPv4 addresses embedded in `addr`.
///
/// Mapped (RFC 4291 section 2.5.5.2), compatible (2.5.5.1), NAT64 well-known and local (RFC 6052, RFC 8215) and the
/// configured `nat64` prefixes of any RFC 6052 length, 6to4 (RFC 3056), Teredo with the client address inverted
/// (RFC 4380 section 4), ISATAP (RFC 5214 section 6.1). Cost: a few compares, no allocation.
pub fn unwrap(addr: Ipv6Addr, nat64: &[Ipv6Net]) -> Unwrapped {
    let bits = u128::from(addr);
    let low32 = Ipv4Addr::from((bits & 0xffff_ffff) as u32);
    for prefix in nat64 {
        if prefix.contains(&addr) {
            return Unwrapped::one(nat64_embedded(bits, u32::from(prefix.prefix_len())));
        }
    }
    match bits >> 32 {
        0xffff => return Unwrapped::one(low32),
        // `::` and `::1` are the unspecified and loopback addresses, not compatible ones.
        0 if bits > 1 => return Unwrapped::one(low32),
        0x0064_ff9b_0000_0000_0000_0000 => return Unwrapped::one(low32),
        _ => {}
    }
    if bits >> (128 - NAT64_LOCAL.1) == NAT64_LOCAL.0 >> (128 - NAT64_LOCAL.1) {
        return Unwrapped { found: [Some(low32), Some(nat64_embedded(bits, 48))] };
    }
    if bits >> 112 == 0x2002 {
        return Unwrapped::one(Ipv4Addr::from((bits >> 80) as u32));
    }
    if bits >> 96 == 0x2001_0000 {
        let client = Ipv4Addr::from(!((bits & 0xffff_ffff) as u32));
        return Unwrapped { found: [Some(client), None] };
    }
    // RFC 5214 section 6.1: interface identifier 0000:5efe or 0200:5efe, then the IPv4 address.
    if matches!((bits >> 32) as u32, 0x0000_5efe | 0x0200_5efe) {
        return Unwrapped::one(low32);
    }
    Unwrapped::default()
}

/// Reads the embedded address of RFC 6052 section 2.2; bits 64 to 71 are skipped.
fn nat64_embedded(bits: u128, prefix_length: u32) -> Ipv4Addr {
    let embedded = match prefix_length {
        32 => (bits >> 64) as u32,
        40 => (((bits >> 64) as u32) << 8) | ((bits >> 48) as u32 & 0xff),
        48 => (((bits >> 64) as u32) << 16) | ((bits >> 40) as u32 & 0xffff),
        56 => (((bits >> 64) as u32) << 24) | ((bits >> 32) as u32 & 0x00ff_ffff),
        64 => (bits >> 24) as u32,
        _ => bits as u32,
    };
    Ipv4Addr::from(embedded)
}

/// Reads a host as an IP literal in any spelling that a client may resolve without DNS.
///
/// IPv4 by the WHATWG URL standard's host parser (`inet_aton` forms: octal, hexadecimal, one to four parts), IPv6 with
/// or without brackets and zone. `None` means the host is a name. A host whose last label is a number but that is no
/// valid address is `Some(Err(()))`: no client can reach it by name. Cost: one pass, no allocation.
pub fn parse_ip_literal(host: &str) -> Option<Result<IpAddr, ()>> {
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').unwrap_or("");
        let addr = inner.split_once('%').map_or(inner, |(addr, _zone)| addr);
        return Some(addr.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| ()));
    }
    if host.contains(':') {
        let addr = host.split_once('%').map_or(host, |(addr, _zone)| addr);
        return Some(addr.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| ()));
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or("");
    let looks_numeric = !last.is_empty() && (last.bytes().all(|o| o.is_ascii_digit()) || parse_number(last).is_some());
    looks_numeric.then(|| parse_inet_aton(host).map(IpAddr::V4).ok_or(()))
}

/// The WHATWG IPv4 parser: one to four numbers, the last one filling the remaining octets.
fn parse_inet_aton(host: &str) -> Option<Ipv4Addr> {
    let mut numbers = [0u64; 4];
    let mut count = 0;
    for part in host.split('.') {
        *numbers.get_mut(count)? = parse_number(part)?;
        count += 1;
    }
    let (&last, firsts) = numbers[..count].split_last()?;
    if firsts.iter().any(|&n| n > 255) || last >= 256u64.pow(u32::try_from(5 - count).ok()?) {
        return None;
    }
    let mut value = last;
    for (i, &n) in firsts.iter().enumerate() {
        value += n << (8 * (3 - i));
    }
    u32::try_from(value).ok().map(Ipv4Addr::from)
}

/// One part of an IPv4 spelling: decimal, octal with a leading zero, hexadecimal with 0x (which alone is 0).
fn parse_number(part: &str) -> Option<u64> {
    if part.is_empty() {
        return None;
    }
    if let Some(digits) = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
        if digits.is_empty() {
            return Some(0);
        }
        return digits
            .bytes()
            .all(|o| o.is_ascii_hexdigit())
            .then(|| u64::from_str_radix(digits, 16).unwrap_or(u64::MAX));
    }
    if part.len() > 1 && part.starts_with('0') {
        return part
            .bytes()
            .all(|o| matches!(o, b'0'..=b'7'))
            .then(|| u64::from_str_radix(part, 8).unwrap_or(u64::MAX));
    }
    part.bytes().all(|o| o.is_ascii_digit()).then(|| part.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedded(addr: &str) -> Vec<String> {
        unwrap(addr.parse().expect("address"), &[]).iter().map(|a| a.to_string()).collect()
    }

    #[test]
    fn one_client_is_an_ipv4_address_or_an_ipv6_64() {
        for (addr, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("64:ff9b::192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::", "2001:db8:1:2::"),
            ("::1", "::"),
        ] {
            assert_eq!(one_client(addr.parse().expect("address")).to_string(), expected, "{addr}");
        }
    }

    #[test]
    fn every_wrapping_is_seen_through() {
        for (addr, expected) in [
            ("::ffff:203.0.113.1", "203.0.113.1"),
            ("::203.0.113.1", "203.0.113.1"),
            ("64:ff9b::cb00:7101", "203.0.113.1"),
            ("64:ff9b:1::cb00:7101", "203.0.113.1"),
            ("2002:cb00:7101::1", "203.0.113.1"),
            ("2001:0:4136:e378:8000:63bf:34ff:8efe", "203.0.113.1"),
            ("fe80::5efe:203.0.113.1", "203.0.113.1"),
            ("2001:db8::200:5efe:203.0.113.1", "203.0.113.1"),
        ] {
            assert_eq!(embedded(addr).first().map(String::as_str), Some(expected), "{addr}");
        }
        for plain in ["::", "::1", "2001:db8:1::1", "2400:3200::1", "fe80::1"] {
            assert!(embedded(plain).is_empty(), "{plain}");
        }
    }

    #[test]
    fn configured_nat64_prefixes_of_every_length_are_read() {
        for (prefix, addr) in [
            ("2001:db8::/32", "2001:db8:cb00:7101::"),
            ("2001:db8:100::/40", "2001:db8:1cb:71:1::"),
            ("2001:db8:122::/48", "2001:db8:122:cb00:71:100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3cb:0:7101::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:cb:71:100:0"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::cb00:7101"),
        ] {
            let nat64 = [prefix.parse().expect("prefix")];
            let found: Vec<_> = unwrap(addr.parse().expect("address"), &nat64).iter().collect();
            assert_eq!(found, [Ipv4Addr::new(203, 0, 113, 1)], "{prefix} {addr}");
        }
    }

    #[test]
    fn ip_literals_are_read_as_clients_read_them() {
        let v4 = Some(Ok(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1))));
        for host in [
            "203.0.113.1",
            "203.0.113.1.",
            "0313.0.0161.01",
            "0xcb.0.0x71.1",
            "3405803777",
            "0xcb007101",
            "203.28929",
            "203.0.28929",
        ] {
            assert_eq!(parse_ip_literal(host), v4, "{host}");
        }
        for host in ["256.1.1.1", "1.2.3.4.5", "08.1.1.1", "1.2.3.0x1g.5", "a.b.0x"] {
            assert!(matches!(parse_ip_literal(host), Some(Err(()) | Ok(_))), "{host}");
        }
        for host in ["example.cn", "1.2.3.4.example", "203-0-113-1.sslip.io", "0xcb.cn", "1.2.3.0xg"] {
            assert_eq!(parse_ip_literal(host), None, "{host}");
        }
        for host in ["[::ffff:203.0.113.1]", "[fe80::1%eth0]", "[2001:db8::1]"] {
            assert!(matches!(parse_ip_literal(host), Some(Ok(IpAddr::V6(_)))), "{host}");
        }
        assert_eq!(parse_ip_literal("[::1"), Some(Err(())));
    }
}
