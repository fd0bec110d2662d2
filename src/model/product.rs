//! Products and regions: what stands at an address, and where it serves (rules A.4).

use std::fmt;

use serde::Serialize;

/// What the provider runs at an address or behind a CNAME suffix; decides whether 接入 is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Product {
    /// Content delivery (seed section 2.4): filing yes, 接入 no.
    Cdn,
    /// Anti-DDoS front (seed section 2.6): filing yes, 接入 no.
    Ddos,
    /// Virtual server (seed section 2.1): filing and 接入.
    Ecs,
    /// Object storage with a custom domain (seed section 2.3): 接入 only where the origin site is ours.
    Oss,
    /// 旺铺 / 企业官网 (seed section 2.7): filing and 接入.
    SiteBuilder,
    /// Load balancer (seed section 2.2): filing and 接入.
    Slb,
    /// No tag: judged like a server.
    #[default]
    Untagged,
    /// Web application firewall (seed section 2.5): filing yes, 接入 no.
    Waf,
}

impl Product {
    /// Every product with its spelling in files.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Cdn, "cdn"),
        (Self::Ddos, "ddos"),
        (Self::Ecs, "ecs"),
        (Self::Oss, "oss"),
        (Self::SiteBuilder, "site-builder"),
        (Self::Slb, "slb"),
        (Self::Untagged, "untagged"),
        (Self::Waf, "waf"),
    ];

    /// Reads a spelling; empty means untagged.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::Untagged);
        }
        Self::ALL.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)).map(|&(product, _)| product)
    }

    /// The spelling in files, metrics and JSON.
    pub fn label(self) -> &'static str {
        Self::ALL.iter().find(|&&(product, _)| product == self).map_or("untagged", |&(_, name)| name)
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Where an address stands, or for a product with a region setting, where it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Region {
    /// A product that serves mainland and other visitors; needs a filing (seed section 2.4).
    Global,
    /// Hong Kong: not mainland.
    HongKong,
    /// Macau: not mainland.
    Macau,
    /// 中国内地.
    Mainland,
    /// Abroad: not mainland.
    Overseas,
    /// Taiwan: not mainland.
    Taiwan,
}

impl Region {
    /// Every region with its spelling in files, then its accepted short form.
    pub const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::Global, "global", "global"),
        (Self::HongKong, "hong-kong", "hk"),
        (Self::Macau, "macau", "mo"),
        (Self::Mainland, "mainland", "cn"),
        (Self::Overseas, "overseas", "abroad"),
        (Self::Taiwan, "taiwan", "tw"),
    ];

    /// Reads a long or short spelling in any case.
    pub fn parse(text: &str) -> Option<Self> {
        let is = |name: &str| name.eq_ignore_ascii_case(text);
        Self::ALL.iter().find(|(_, long, short)| is(long) || is(short)).map(|&(region, _, _)| region)
    }

    /// The long spelling.
    pub fn label(self) -> &'static str {
        Self::ALL.iter().find(|&&(region, _, _)| region == self).map_or("overseas", |&(_, long, _)| long)
    }

    /// True where a web service needs a filing (rules N1, N2; seed section 2.4 for `Global`).
    pub fn needs_filing(self) -> bool {
        matches!(self, Self::Mainland | Self::Global)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_round_trip() {
        for (product, text) in Product::ALL {
            assert_eq!(Product::parse(text), Some(product));
            assert_eq!(product.label(), text);
        }
        for (region, long, short) in Region::ALL {
            assert_eq!(Region::parse(long), Some(region));
            assert_eq!(Region::parse(&short.to_uppercase()), Some(region));
        }
        assert_eq!(Product::parse("vps"), None);
        assert_eq!(Region::parse(""), None);
    }
}
