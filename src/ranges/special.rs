//! Address space that no provider's public server stands in and that no list may call mainland.
//!
//! Sources: the IANA special-purpose address registries (RFC 6890 and its updates), RFC 1112 section 4 for 240.0.0.0/4,
//! RFC 4291 section 2.4 for what lies outside 2000::/3. The documentation prefixes (RFC 5737, RFC 3849) are left out:
//! examples and tests put servers there.

use super::span::{Family, Span};

/// First and last address with the reason; ascending in each family.
const V4: [(u32, u32, &str); 12] = [
    (0x0000_0000, 0x00ff_ffff, "0.0.0.0/8 is this network (RFC 791)"),
    (0x0a00_0000, 0x0aff_ffff, "10.0.0.0/8 is private (RFC 1918)"),
    (0x6440_0000, 0x647f_ffff, "100.64.0.0/10 is shared between carriers (RFC 6598)"),
    (0x7f00_0000, 0x7fff_ffff, "127.0.0.0/8 is loopback (RFC 1122)"),
    (0xa9fe_0000, 0xa9fe_ffff, "169.254.0.0/16 is link-local (RFC 3927)"),
    (0xac10_0000, 0xac1f_ffff, "172.16.0.0/12 is private (RFC 1918)"),
    (0xc000_0000, 0xc000_00ff, "192.0.0.0/24 is for protocols (RFC 6890)"),
    (0xc058_6300, 0xc058_63ff, "192.88.99.0/24 was the 6to4 relay (RFC 7526)"),
    (0xc0a8_0000, 0xc0a8_ffff, "192.168.0.0/16 is private (RFC 1918)"),
    (0xc612_0000, 0xc613_ffff, "198.18.0.0/15 is for benchmarks (RFC 2544)"),
    (0xe000_0000, 0xefff_ffff, "224.0.0.0/4 is multicast (RFC 5771)"),
    (0xf000_0000, 0xffff_ffff, "240.0.0.0/4 is reserved (RFC 1112)"),
];

/// As [`V4`].
const V6: [(u128, u128, &str); 4] = [
    (0, (0x2000 << 112) - 1, "0000::/3 holds no public server (RFC 4291)"),
    (0x2001 << 112, (0x2001_0200 << 96) - 1, "2001::/23 is for protocols (RFC 2928)"),
    (0x2002 << 112, (0x2003 << 112) - 1, "2002::/16 stands for IPv4 addresses (RFC 3056)"),
    (0x4000 << 112, u128::MAX, "4000:: and above hold no public server (RFC 4291)"),
];

/// The special-purpose spans of a family, ascending.
pub fn special_spans(family: Family) -> Vec<Span> {
    match family {
        Family::V4 => V4.iter().map(|&(first, last, _)| Span { first: first.into(), last: last.into() }).collect(),
        Family::V6 => V6.iter().map(|&(first, last, _)| Span { first, last }).collect(),
    }
}

/// Why `span` can be no provider's, if it touches such space.
pub fn special_reason(family: Family, span: Span) -> Option<&'static str> {
    match family {
        Family::V4 => {
            let widen = |first: u32, last: u32| Span { first: first.into(), last: last.into() };
            V4.iter().find(|&&(first, last, _)| widen(first, last).overlaps(span)).map(|&(_, _, why)| why)
        }
        Family::V6 => V6.iter().find(|&&(first, last, _)| Span { first, last }.overlaps(span)).map(|&(_, _, why)| why),
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;

    #[test]
    fn special_space_is_told_from_public_space() {
        let reason = |text: &str| {
            let (family, span) = Span::of(text.parse::<IpNet>().expect(text));
            special_reason(family, span)
        };
        for text in ["0.0.0.0/0", "10.1.0.0/16", "8.0.0.0/5", "255.255.255.255/32", "fe80::/10", "::ffff:1.0.1.0/120"] {
            assert!(reason(text).is_some(), "{text}");
        }
        for text in ["::/0", "2000::/3", "2002:cb00:7101::/48", "2001::/32", "64:ff9b::/96", "fd00::/8"] {
            assert!(reason(text).is_some(), "{text}");
        }
        for text in
            ["1.0.1.0/24", "203.0.113.0/24", "223.255.255.0/24", "2400:3200::/32", "2001:db8::/32", "2001:250::/32"]
        {
            assert_eq!(reason(text), None, "{text}");
        }
    }
}
