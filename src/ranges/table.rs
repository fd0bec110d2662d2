//! The lookup table: longest prefix wins.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use std::collections::HashMap;

use crate::model::{DomainName, NameRef, OriginSide, Product, Region};

/// Names a provider and product text inside one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TagId(pub u32);

/// One prefix with what stands there.
#[derive(Clone, Debug)]
pub struct RangeRow {
    /// The prefix.
    pub prefix: IpNet,
    /// Where it stands.
    pub region: Region,
    /// Provider id; `None` for a row of a mainland list, which says where and not whose.
    pub provider: Option<String>,
    /// What stands there.
    pub product: Product,
    /// Where the origin sites behind it run (object storage).
    pub origin: OriginSide,
}

/// One CNAME suffix of a product with a region setting (rule AMB-8).
#[derive(Clone, Debug)]
pub struct CnameRow {
    /// Targets at or below this name are the product's.
    pub suffix: DomainName,
    /// The product.
    pub product: Product,
    /// Its region setting.
    pub region: Region,
}

/// What the table says of an address.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RangeMatch {
    /// The longest matching prefix.
    pub prefix: IpNet,
    /// Where it stands.
    pub region: Region,
    /// What stands there.
    pub product: Product,
    /// True when the provider is us.
    pub is_ours: bool,
    /// Where the origin sites behind it run.
    pub origin: OriginSide,
    /// For [`Ranges::provider`].
    pub tag: TagId,
}

/// What the table says of a CNAME target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CnameMatch {
    /// The product.
    pub product: Product,
    /// Its region setting.
    pub region: Region,
}

/// One immutable state of the ranges.
pub struct Ranges {
    generation: u64,
    rows: Vec<(RangeMatch, Option<String>)>,
    cnames: HashMap<DomainName, CnameMatch>,
    nat64: Vec<Ipv6Net>,
}

impl Ranges {
    /// Builds generation `generation`. Of equal prefixes the last row counts, so overrides come last.
    pub fn build(
        generation: u64,
        provider: &str,
        rows: Vec<RangeRow>,
        cnames: Vec<CnameRow>,
        nat64: Vec<Ipv6Net>,
    ) -> Self {
        let rows = rows
            .into_iter()
            .enumerate()
            .map(|(i, row)| {
                let tag = TagId(u32::try_from(i).expect("the loader limits rows to fewer than 2^32"));
                let found = RangeMatch {
                    prefix: row.prefix,
                    region: row.region,
                    product: row.product,
                    is_ours: row.provider.as_deref() == Some(provider),
                    origin: row.origin,
                    tag,
                };
                (found, row.provider)
            })
            .collect();
        let cnames = cnames
            .into_iter()
            .map(|row| (row.suffix, CnameMatch { product: row.product, region: row.region }))
            .collect();
        Self { generation, rows, cnames, nat64 }
    }

    /// A table that knows nothing, generation 0.
    pub fn empty() -> Self {
        Self::build(0, "", Vec::new(), Vec::new(), Vec::new())
    }

    /// Counts publications, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The longest prefix that holds `addr`, looked up as it is (no unwrapping).
    pub fn lookup(&self, addr: IpAddr) -> Option<RangeMatch> {
        let best = self
            .rows
            .iter()
            .filter(|(row, _)| row.prefix.contains(&addr))
            .max_by_key(|(row, _)| row.prefix.prefix_len());
        best.map(|(row, _)| *row)
    }

    /// The product whose CNAME suffix holds `target`.
    pub fn cname(&self, target: NameRef<'_>) -> Option<CnameMatch> {
        let mut at = Some(target);
        while let Some(name) = at {
            if let Some(found) = self.cnames.get(name.wire()) {
                return Some(*found);
            }
            at = name.parent();
        }
        None
    }

    /// Configured NAT64 prefixes.
    pub fn nat64(&self) -> &[Ipv6Net] {
        &self.nat64
    }

    /// The provider id of a match.
    pub fn provider(&self, tag: TagId) -> Option<String> {
        self.rows.get(tag.0 as usize).and_then(|(_, provider)| provider.clone())
    }
}
