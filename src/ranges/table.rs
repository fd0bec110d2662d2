//! The lookup table: what the rows together say of an address.
//!
//! Two layers. The lower one are the mainland lists: a prefix there says that its addresses are in the mainland, nothing
//! more. The upper one are the tags, an operator's word about prefixes, and the stronger. For one address:
//!
//! 1. Take the tag rows whose prefix holds it, from the shortest prefix to the longest, of equal prefixes in the order
//!    written. Each cell that is given replaces what was said before: the longest prefix wins, of equal ones the later
//!    row. An empty cell says nothing.
//! 2. A row that names a provider starts afresh: `product` and `origin` of other providers' rows do not shine through.
//! 3. Where no row gave a region, the lists decide: mainland if any holds the address, else overseas.
//! 4. Where no row holds the address at all, nothing is known of it ([`Ranges::lookup`] is `None`).
//!
//! So 8.128.0.0/10 tagged as ours stays ours where a list has the longer 8.128.4.0/24; a longer tag that only corrects
//! the region keeps the provider; and a tag that says Hong Kong is never turned into mainland by a list.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

use super::cascade::{Item, Providers, segments, split};
use super::level::{Level, NOTHING};
use super::span::{Family, Span};
use crate::model::{DomainName, NameRef, OriginSide, Product, Region};

/// Names a provider inside one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TagId(pub u32);

impl TagId {
    /// No provider is known.
    pub(super) const NOBODY: Self = Self(0);
}

/// One prefix with what stands there.
#[derive(Clone, Debug)]
pub struct RangeRow {
    /// The prefix.
    pub prefix: IpNet,
    /// Where it stands.
    pub region: Region,
    /// Provider id; `None` for a row that says where and not whose.
    pub provider: Option<String>,
    /// What stands there; untagged counts as an empty cell.
    pub product: Product,
    /// Where the origin sites behind it run (object storage); unknown counts as an empty cell.
    pub origin: OriginSide,
}

/// One row of a tag table; `None` is an empty cell, see the module's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRow {
    /// The prefix.
    pub prefix: IpNet,
    /// Where it stands.
    pub region: Option<Region>,
    /// Provider id.
    pub provider: Option<String>,
    /// What stands there.
    pub product: Option<Product>,
    /// Where the origin sites behind it run.
    pub origin: Option<OriginSide>,
}

/// One CNAME suffix of a product with a region setting (rule AMB-8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CnameRow {
    /// Targets at or below this name are the product's.
    pub suffix: DomainName,
    /// The product.
    pub product: Product,
    /// Its region setting.
    pub region: Region,
}

/// What a table is made of.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Prefixes of the mainland lists.
    pub mainland: Vec<IpNet>,
    /// Tag rows, overrides last.
    pub tags: Vec<TagRow>,
    /// CNAME suffixes, overrides last.
    pub cnames: Vec<CnameRow>,
    /// NAT64 prefixes beside the well-known ones.
    pub nat64: Vec<Ipv6Net>,
}

/// What the table says of an address.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RangeMatch {
    /// The longest matching prefix of a row that had a say.
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
    v4: Level<u32>,
    v6: Level<u128>,
    matches: Vec<RangeMatch>,
    providers: Vec<String>,
    cnames: HashMap<DomainName, CnameMatch>,
    nat64: Vec<Ipv6Net>,
}

impl Ranges {
    /// Builds generation `generation` from rows of the upper layer only, overrides last; `provider` is our id.
    pub fn build(
        generation: u64,
        provider: &str,
        rows: Vec<RangeRow>,
        cnames: Vec<CnameRow>,
        nat64: Vec<Ipv6Net>,
    ) -> Self {
        let tag = |row: RangeRow| TagRow {
            prefix: row.prefix,
            region: Some(row.region),
            provider: row.provider,
            product: Some(row.product).filter(|product| *product != Product::default()),
            origin: Some(row.origin).filter(|origin| *origin != OriginSide::default()),
        };
        let tags = rows.into_iter().map(tag).collect();
        Self::assemble(generation, provider, &Parts { mainland: Vec::new(), tags, cnames, nat64 })
    }

    /// Builds generation `generation` from both layers; `provider` is our id. Cost: one sort and one pass over the rows.
    pub fn assemble(generation: u64, provider: &str, parts: &Parts) -> Self {
        let lists = parts.mainland.iter().map(|prefix| Item::Mainland(*prefix));
        let (v4, v6) = split(lists.chain(parts.tags.iter().map(Item::Tag)));
        let mut providers = Providers::new();
        let ours = providers.id(provider);
        let mut matches = Vec::with_capacity(parts.mainland.len() + parts.tags.len());
        let v4 = Level::new(&segments(v4, ours, &mut providers, &mut matches));
        let v6 = Level::new(&segments(v6, ours, &mut providers, &mut matches));
        let cname = |row: &CnameRow| (row.suffix.clone(), CnameMatch { product: row.product, region: row.region });
        Self {
            generation,
            v4,
            v6,
            matches,
            providers: providers.into_names(),
            cnames: parts.cnames.iter().map(cname).collect(),
            nat64: parts.nat64.clone(),
        }
    }

    /// A table that knows nothing, generation 0.
    pub fn empty() -> Self {
        Self::assemble(0, "", &Parts::default())
    }

    /// Counts publications, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What is known of `addr`, looked up as it is (no unwrapping); `None` where no row holds it.
    ///
    /// Cost: one slot and a search by halves among the segments in it, no allocation (benches/hot_path.rs).
    pub fn lookup(&self, addr: IpAddr) -> Option<RangeMatch> {
        let id = match addr {
            IpAddr::V4(addr) => self.v4.find(addr.into()),
            IpAddr::V6(addr) => self.v6.find(addr.into()),
        };
        self.matches.get(id as usize).copied()
    }

    /// True when a whole prefix is ours and stands where a filing is needed (rule R16).
    pub fn is_ours_on_mainland(&self, net: &IpNet) -> bool {
        let is_ours = |addr| self.lookup(addr).is_some_and(|found| found.is_ours && found.region.needs_filing());
        is_ours(net.network()) && is_ours(net.broadcast())
    }

    /// The product whose CNAME suffix holds `target`; the longest suffix wins.
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

    /// How many CNAME suffixes it knows.
    pub fn cname_count(&self) -> usize {
        self.cnames.len()
    }

    /// Configured NAT64 prefixes.
    pub fn nat64(&self) -> &[Ipv6Net] {
        &self.nat64
    }

    /// The provider id of a match, where one is known.
    pub fn provider(&self, tag: TagId) -> Option<String> {
        self.provider_name(tag).map(str::to_owned)
    }

    /// See [`Ranges::provider`].
    pub fn provider_name(&self, tag: TagId) -> Option<&str> {
        self.providers.get(tag.0 as usize).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// What is found, in one line.
    pub fn describe(&self, found: &RangeMatch) -> String {
        let provider = match (self.provider_name(found.tag), found.is_ours) {
            (Some(id), true) => format!("{id} (ours)"),
            (Some(id), false) => id.to_owned(),
            (None, _) => "not known".to_owned(),
        };
        format!("{}, {}, provider {provider}, product {}", found.prefix, found.region, found.product)
    }

    /// True when some address needs a filing.
    pub fn has_mainland(&self) -> bool {
        self.matches.iter().any(|found| found.region.needs_filing())
    }

    /// One family as disjoint spans in ascending order that cover all of it; `None` where nothing is known.
    pub fn segments(&self, family: Family) -> Vec<(Span, Option<&RangeMatch>)> {
        let show = |(first, last, id): (u128, u128, u32)| {
            (Span { first, last }, (id != NOTHING).then(|| self.matches.get(id as usize)).flatten())
        };
        match family {
            Family::V4 => self.v4.segments(family.max()).map(show).collect(),
            Family::V6 => self.v6.segments(family.max()).map(show).collect(),
        }
    }
}

impl fmt::Debug for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Ranges(generation {}, {} rows, {} cname suffixes)",
            self.generation,
            self.matches.len(),
            self.cnames.len()
        )
    }
}
