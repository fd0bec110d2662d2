//! Which addresses a host may lead to where names are resolved.
//!
//! Whoever holds a filed name also says where it leads, and a client may write any address for a host. Neither must reach
//! through the gate what stands behind it: private networks, the metadata service of a cloud, the machine itself. Public
//! addresses pass, others where the operator lists them (`http.resolve-to`), and what is no host's address never does.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::Ends;
use crate::http::host::HostName;
use crate::http::settings::Settings;
use crate::ranges::Span;
use crate::ranges::special::special_reason;

/// Public by the registries, and a cloud's service for its own machines: Azure answers there in every virtual network.
const SERVICES: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16))];
/// Octets that stand before an IPv4 address in one of IPv6 that a translator turns into it (RFC 6052 section 2.1).
const NAT64_PREFIX: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];

/// True for an address, in canonical form, that a request for `host` may be sent to.
///
/// An address for a host says nothing that was looked up: it leads where the client came to, or nowhere.
pub fn may_lead_to(settings: &Settings, host: &HostName, ends: &Ends, addr: IpAddr) -> bool {
    let is_meant = match host {
        HostName::Address(_) => addr == ends.reached.ip().to_canonical(),
        HostName::Invalid | HostName::Name(_) => true,
    };
    let is_listed = || settings.resolve_to.iter().any(|net| net.contains(&addr));
    is_meant && is_a_hosts(addr) && (is_public(addr) || is_listed())
}

/// False for addresses that no list makes a host's.
fn is_a_hosts(addr: IpAddr) -> bool {
    let is_broadcast = matches!(addr, IpAddr::V4(v4) if v4.is_broadcast());
    !addr.is_unspecified() && !addr.is_multicast() && !is_broadcast
}

/// True for addresses of the public Internet.
fn is_public(addr: IpAddr) -> bool {
    let inner = match addr {
        IpAddr::V6(v6) => v6.octets().strip_prefix(&NAT64_PREFIX).and_then(|rest| <[u8; 4]>::try_from(rest).ok()),
        IpAddr::V4(_) => None,
    };
    let addr = inner.map_or(addr, IpAddr::from);
    let (family, span) = Span::of(IpNet::from(addr));
    special_reason(family, span).is_none() && !SERVICES.contains(&addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(reached: &str) -> Ends {
        let addr = |text: &str| text.parse().expect("an address");
        Ends { client: addr("192.0.2.1:1"), reached: addr(reached), socket: addr(reached), meant: None }
    }

    fn may(listed: &[&str], host: &str, addr: &str) -> bool {
        let mut settings = Settings::new("192.0.2.9:80".parse().expect("an address"));
        settings.resolve_to = listed.iter().map(|net| net.parse().expect("a prefix")).collect();
        let host = HostName::read(host).expect("a host");
        may_lead_to(&settings, &host, &ends("203.0.113.1:80"), addr.parse().expect("an address"))
    }

    #[test]
    fn names_lead_to_public_addresses_and_listed_ones() {
        for public in ["1.0.1.1", "203.0.113.9", "100.63.255.255", "100.128.0.0", "172.32.0.1", "2400:3200::1"] {
            assert!(may(&[], "here.cn", public), "{public}");
        }
        // What a translator makes of a public address is one.
        assert!(may(&[], "here.cn", "64:ff9b::1.0.1.1"));
        for (inner, listed) in [
            ("10.0.0.1", "10.0.0.0/8"),
            ("172.16.0.1", "172.16.0.0/12"),
            ("192.168.0.1", "192.168.0.0/24"),
            ("100.64.0.1", "100.64.0.0/10"),
            ("100.100.100.200", "100.100.100.200/32"),
            ("169.254.169.254", "169.254.169.254/32"),
            ("168.63.129.16", "168.63.129.16/32"),
            ("192.0.0.192", "192.0.0.192/32"),
            ("127.0.0.1", "127.0.0.0/8"),
            ("198.18.0.1", "198.18.0.0/15"),
            ("::1", "::1/128"),
            ("fd00:ec2::254", "fd00::/8"),
            ("fc00::1", "fc00::/7"),
            ("fe80::1", "fe80::/10"),
            ("fec0::1", "fec0::/10"),
            ("64:ff9b::10.0.0.1", "64:ff9b::/96"),
            ("64:ff9b:1::1", "64:ff9b:1::/48"),
            ("2002:a00:1::1", "2002:a00::/24"),
        ] {
            assert!(!may(&[], "here.cn", inner), "{inner}");
            assert!(!may(&["192.0.2.0/24", "2001:db8::/32"], "here.cn", inner), "{inner}");
            assert!(may(&[listed], "here.cn", inner), "{inner}");
        }
        for never in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1"] {
            assert!(!may(&["0.0.0.0/0", "::/0"], "here.cn", never), "{never}");
        }
    }

    #[test]
    fn an_address_for_a_host_leads_where_the_client_came_to() {
        assert!(may(&[], "203.0.113.1", "203.0.113.1"));
        for other in ["203.0.113.2", "10.0.0.1", "127.0.0.1"] {
            assert!(!may(&["0.0.0.0/0"], other, other), "{other}");
        }
    }
}
