//! Address space as sorted disjoint spans, the arithmetic under importers, statistics and differences.
//!
//! Both families are counted in `u128`; an IPv4 address is its 32-bit value. Functions of their arguments.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, in order.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The label in output and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// The greatest address as a number.
    pub fn max(self) -> u128 {
        match self {
            Self::V4 => u128::from(u32::MAX),
            Self::V6 => u128::MAX,
        }
    }

    /// The family and number of an address.
    pub fn of(addr: IpAddr) -> (Self, u128) {
        match addr {
            IpAddr::V4(addr) => (Self::V4, u128::from(u32::from(addr))),
            IpAddr::V6(addr) => (Self::V6, u128::from(addr)),
        }
    }

    /// The address of a number; numbers above [`Family::max`] are cut.
    pub fn addr(self, value: u128) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::from(value as u32)),
            Self::V6 => IpAddr::V6(Ipv6Addr::from(value)),
        }
    }
}

/// Addresses from `first` to `last`, both included; `first` is not above `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The lowest.
    pub first: u128,
    /// The highest.
    pub last: u128,
}

impl Span {
    /// The family and span of a prefix.
    pub fn of(prefix: IpNet) -> (Family, Self) {
        let (family, first) = Family::of(prefix.network());
        let (_, last) = Family::of(prefix.broadcast());
        (family, Self { first, last })
    }

    /// How many addresses; all of IPv6 counts one less than it has.
    pub fn count(self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    /// True when both share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The fewest prefixes that make up the span.
    pub fn cidrs(self, family: Family) -> Vec<IpNet> {
        match (family.addr(self.first), family.addr(self.last)) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect(),
            (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
        }
    }
}

/// Spans of one family: sorted, disjoint, neighbours merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(Vec<Span>);

impl Spans {
    /// Sorts and merges.
    pub fn new(mut spans: Vec<Span>) -> Self {
        spans.sort_unstable();
        let mut res: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            match res.last_mut() {
                Some(old) if span.first <= old.last.saturating_add(1) => old.last = old.last.max(span.last),
                _ => res.push(span),
            }
        }
        Self(res)
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.0.iter().copied()
    }

    /// How many spans.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there is no address.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many addresses.
    pub fn count(&self) -> u128 {
        self.0.iter().fold(0, |sum, span| sum.saturating_add(span.count()))
    }

    /// True when `value` lies in a span.
    pub fn contains(&self, value: u128) -> bool {
        let at = self.0.partition_point(|span| span.first <= value);
        at > 0 && value <= self.0[at - 1].last
    }

    /// What is here and not in `other`.
    pub fn minus(&self, other: &Self) -> Self {
        let mut res = Vec::new();
        let mut cuts = other.0.iter().peekable();
        for &span in &self.0 {
            let mut first = Some(span.first);
            while cuts.next_if(|cut| cut.last < span.first).is_some() {}
            let mut ahead = cuts.clone();
            while let (Some(at), Some(cut)) = (first, ahead.next_if(|cut| cut.first <= span.last)) {
                if cut.first > at {
                    res.push(Span { first: at, last: cut.first - 1 });
                }
                first = cut.last.checked_add(1).filter(|&next| next <= span.last);
            }
            res.extend(first.map(|first| Span { first, last: span.last }));
        }
        Self(res)
    }

    /// The fewest prefixes that make up the whole.
    pub fn cidrs(&self, family: Family) -> Vec<IpNet> {
        self.0.iter().flat_map(|span| span.cidrs(family)).collect()
    }
}

/// Space of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// IPv4.
    pub v4: Spans,
    /// IPv6.
    pub v6: Spans,
}

impl Space {
    /// Sorts and merges spans of both families.
    pub fn new(spans: impl IntoIterator<Item = (Family, Span)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (family, span) in spans {
            match family {
                Family::V4 => v4.push(span),
                Family::V6 => v6.push(span),
            }
        }
        Self { v4: Spans::new(v4), v6: Spans::new(v6) }
    }

    /// The spans of one family.
    pub fn family(&self, family: Family) -> &Spans {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// True when there is no address.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// What is here and not in `other`.
    pub fn minus(&self, other: &Self) -> Self {
        Self { v4: self.v4.minus(&other.v4), v6: self.v6.minus(&other.v6) }
    }

    /// The fewest prefixes that make up the whole, IPv4 first.
    pub fn cidrs(&self) -> Vec<IpNet> {
        Family::ALL.into_iter().flat_map(|family| self.family(family).cidrs(family)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_are_merged_and_cut() {
        let span = |first, last| Span { first, last };
        let whole = Spans::new(vec![span(10, 19), span(0, 4), span(5, 9), span(30, 40)]);
        assert_eq!(whole.iter().collect::<Vec<_>>(), [span(0, 19), span(30, 40)]);
        assert_eq!(whole.count(), 31);
        assert!(whole.contains(0) && whole.contains(40) && !whole.contains(20) && !whole.contains(41));
        let cut = whole.minus(&Spans::new(vec![span(0, 0), span(5, 6), span(15, 33)]));
        assert_eq!(cut.iter().collect::<Vec<_>>(), [span(1, 4), span(7, 14), span(34, 40)]);
        let all = Spans::new(vec![span(0, u128::MAX)]);
        assert_eq!(all.minus(&all), Spans::default());
        assert_eq!(all.cidrs(Family::V6), ["::/0".parse().expect("a prefix")]);
        assert_eq!(Span { first: 1, last: 6 }.cidrs(Family::V4).len(), 4);
    }

    proptest! {
        #[test]
        fn minus_is_what_membership_says(
            left in prop::collection::vec((0u128..64, 0u128..9), 0..9),
            right in prop::collection::vec((0u128..64, 0u128..9), 0..9),
        ) {
            let spans = |pairs: Vec<(u128, u128)>| {
                Spans::new(pairs.into_iter().map(|(first, more)| Span { first, last: first + more }).collect())
            };
            let (left, right) = (spans(left), spans(right));
            let cut = left.minus(&right);
            for value in 0..80 {
                prop_assert_eq!(cut.contains(value), left.contains(value) && !right.contains(value), "{}", value);
            }
        }
    }
}
