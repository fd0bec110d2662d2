//! How much of what a table holds.

use std::collections::BTreeMap;
use std::fmt;

use super::span::{Family, Span, Spans};
use super::table::Ranges;

/// Bits of an IPv6 site: what counts of IPv6 space are given in, /48.
const SITE_BITS: u32 = 128 - 48;

/// Space of one region, provider and product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatRow {
    /// The region's label.
    pub region: &'static str,
    /// The provider's id, where known.
    pub provider: Option<String>,
    /// The product's label.
    pub product: &'static str,
    /// True when the provider is us.
    pub is_ours: bool,
    /// The fewest prefixes that hold it.
    pub prefixes: usize,
    /// IPv4 addresses.
    pub v4_addresses: u128,
    /// IPv6 space in units of /48, rounded down.
    pub v6_sites: u128,
}

/// A whole table's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// By region, provider and product, in their order.
    pub rows: Vec<StatRow>,
    /// CNAME suffixes.
    pub cnames: usize,
}

impl Stat {
    /// IPv4 addresses and IPv6 sites that need a filing.
    pub fn mainland(&self) -> (u128, u128) {
        let needs = |row: &&StatRow| matches!(row.region, "mainland" | "global");
        let rows = self.rows.iter().filter(needs);
        rows.fold((0, 0), |(v4, v6), row| (v4 + row.v4_addresses, v6 + row.v6_sites))
    }
}

/// Region, provider and product of a row, and whether it is ours.
type Group<'a> = (&'static str, Option<&'a str>, &'static str, bool);

/// Counts `ranges`. Cost: one pass.
pub fn stat(ranges: &Ranges) -> Stat {
    let mut groups: BTreeMap<Group<'_>, [Vec<Span>; 2]> = BTreeMap::new();
    for (i, family) in Family::ALL.into_iter().enumerate() {
        for (span, found) in ranges.segments(family) {
            let Some(found) = found else { continue };
            let provider = ranges.provider_name(found.tag);
            let key = (found.region.label(), provider, found.product.label(), found.is_ours);
            groups.entry(key).or_default()[i].push(span);
        }
    }
    let rows = groups.into_iter().map(|((region, provider, product, is_ours), [v4, v6])| {
        let (v4, v6) = (Spans::new(v4), Spans::new(v6));
        StatRow {
            region,
            provider: provider.map(str::to_owned),
            product,
            is_ours,
            prefixes: v4.cidrs(Family::V4).len() + v6.cidrs(Family::V6).len(),
            v4_addresses: v4.count(),
            v6_sites: v6.count() >> SITE_BITS,
        }
    });
    Stat { rows: rows.collect(), cnames: ranges.cname_count() }
}

impl fmt::Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12} {:<16} {:<14} {:>9} {:>15} {:>17}",
            "region", "provider", "product", "prefixes", "ipv4 addresses", "ipv6 in /48"
        )?;
        for row in &self.rows {
            let provider = row.provider.as_deref().unwrap_or("-");
            let provider = if row.is_ours { format!("{provider} (ours)") } else { provider.to_owned() };
            writeln!(
                f,
                "{:<12} {:<16} {:<14} {:>9} {:>15} {:>17}",
                row.region, provider, row.product, row.prefixes, row.v4_addresses, row.v6_sites
            )?;
        }
        writeln!(f, "{} cname suffixes", self.cnames)
    }
}
