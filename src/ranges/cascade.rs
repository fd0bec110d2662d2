//! Nested rows to disjoint segments: which cell of which row holds where.
//!
//! The rule is in the text of [`super::table`]; here is its one implementation, a sweep over rows sorted by first address
//! with the stack of those that cover the current one.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::level::{Key, NOTHING};
use super::table::{RangeMatch, TagId, TagRow};
use crate::model::{OriginSide, Product, Region};

/// A row of either layer.
#[derive(Clone, Copy)]
pub(super) enum Item<'a> {
    /// A prefix of a mainland list.
    Mainland(IpNet),
    /// A row of a tag table.
    Tag(&'a TagRow),
}

impl Item<'_> {
    /// Its prefix.
    pub(super) fn prefix(self) -> IpNet {
        match self {
            Self::Mainland(prefix) => prefix,
            Self::Tag(row) => row.prefix,
        }
    }
}

/// What the rows so far say of the addresses they all cover.
#[derive(Clone, Copy, Default)]
struct State {
    mainland: Option<IpNet>,
    tag: Option<IpNet>,
    region: Option<Region>,
    provider: TagId,
    product: Product,
    origin: OriginSide,
}

impl State {
    /// What holds inside `item`, which lies inside everything applied before.
    fn with(mut self, item: Item<'_>, providers: &mut Providers) -> Self {
        let row = match item {
            Item::Mainland(prefix) => return Self { mainland: Some(prefix), ..self },
            Item::Tag(row) => row,
        };
        self.tag = Some(row.prefix);
        self.region = row.region.or(self.region);
        if let Some(provider) = &row.provider {
            self.provider = providers.id(provider);
            (self.product, self.origin) = (Product::default(), OriginSide::default());
        }
        self.product = row.product.unwrap_or(self.product);
        self.origin = row.origin.unwrap_or(self.origin);
        self
    }

    /// The finished match; the prefix is the longest of a row that had a say.
    fn found(self, ours: TagId) -> RangeMatch {
        let longest = |a: IpNet, b: IpNet| if a.prefix_len() > b.prefix_len() { a } else { b };
        let listed = self.mainland.filter(|_| self.region.is_none());
        let prefix = match (listed, self.tag) {
            (Some(list), Some(tag)) => longest(list, tag),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => IpNet::default(),
        };
        let by_list = if self.mainland.is_some() { Region::Mainland } else { Region::Overseas };
        RangeMatch {
            prefix,
            region: self.region.unwrap_or(by_list),
            product: self.product,
            is_ours: self.provider == ours && ours != TagId::NOBODY,
            origin: self.origin,
            tag: self.provider,
        }
    }
}

/// Provider ids of one table, each once; the first is nobody's.
pub(super) struct Providers {
    names: Vec<String>,
    ids: HashMap<String, TagId>,
}

impl Providers {
    /// Nobody only.
    pub(super) fn new() -> Self {
        Self { names: vec![String::new()], ids: HashMap::from([(String::new(), TagId::NOBODY)]) }
    }

    /// The id of a name, new or known.
    pub(super) fn id(&mut self, name: &str) -> TagId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = TagId(u32::try_from(self.names.len()).expect("the loader limits rows to far fewer than 2^31"));
        self.names.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        id
    }

    /// Names by id.
    pub(super) fn into_names(self) -> Vec<String> {
        self.names
    }
}

/// One covering row during the sweep.
struct Open<K> {
    last: K,
    state: State,
    id: u32,
}

/// Makes segments of one family's rows, given as first address, last address and row, in order of strength.
///
/// Appends to `matches`; ids index into it. Cost: one sort and one pass.
pub(super) fn segments<K: Key + Step>(
    mut items: Vec<(K, K, Item<'_>)>,
    ours: TagId,
    providers: &mut Providers,
    matches: &mut Vec<RangeMatch>,
) -> Vec<(K, u32)> {
    // Shorter prefixes first; the sort is stable, so that of equal ones the later row is the inner one.
    items.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    let mut res: Vec<(K, u32)> = Vec::with_capacity(items.len() * 2);
    let mut open: Vec<Open<K>> = Vec::new();
    for (first, last, item) in items {
        close(&mut open, Some(first), &mut res);
        let outer = open.last().map(|outer| outer.state).unwrap_or_default();
        let state = outer.with(item, providers);
        let id = u32::try_from(matches.len()).expect("the loader limits rows to far fewer than 2^31");
        matches.push(state.found(ours));
        emit(&mut res, first, id);
        open.push(Open { last, state, id });
    }
    close(&mut open, None, &mut res);
    res
}

/// Ends the rows that end before `next`, or all.
fn close<K: Key + Step>(open: &mut Vec<Open<K>>, next: Option<K>, res: &mut Vec<(K, u32)>) {
    while let Some(inner) = open.pop_if(|inner| next.is_none_or(|next| inner.last < next)) {
        let outer = open.last().map_or(NOTHING, |outer| outer.id);
        if let Some(start) = inner.last.following() {
            emit(res, start, outer);
        }
    }
}

/// Begins a segment; one that would be empty is replaced.
fn emit<K: Key>(res: &mut Vec<(K, u32)>, start: K, id: u32) {
    match res.last_mut() {
        Some(last) if last.0 == start => last.1 = id,
        _ => res.push((start, id)),
    }
}

/// The address after this one.
pub(super) trait Step: Sized {
    /// `None` after the last of the family.
    fn following(self) -> Option<Self>;
}

impl Step for u32 {
    fn following(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Step for u128 {
    fn following(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// The rows of each family with first and last address.
pub(super) type Split<'a> = (Vec<(u32, u32, Item<'a>)>, Vec<(u128, u128, Item<'a>)>);

/// Parts rows by family, keeping their order.
pub(super) fn split<'a>(items: impl Iterator<Item = Item<'a>>) -> Split<'a> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for item in items {
        let prefix = item.prefix();
        match (prefix.network(), prefix.broadcast()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.into(), last.into(), item)),
            (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((first.into(), last.into(), item)),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
        }
    }
    (v4, v6)
}
