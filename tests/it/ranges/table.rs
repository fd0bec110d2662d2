//! How rows combine, against a reference that walks all rows for every address.

use std::net::IpAddr;

use icpgate::model::{OriginSide, Product, Region};
use icpgate::ranges::{CnameRow, Family, Parts, RangeMatch, RangeRow, Ranges, TagRow, diff, stat};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use crate::harness::fixture::name;

fn net(text: &str) -> IpNet {
    text.parse().expect(text)
}

fn addr(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// A tag row from its five cells.
pub fn tag(cells: &str) -> TagRow {
    let cells: Vec<&str> = cells.split(',').collect();
    let text = |i: usize| Some(cells[i]).filter(|text| !text.is_empty());
    TagRow {
        prefix: net(cells[0]),
        region: text(1).map(|text| Region::parse(text).expect(text)),
        provider: text(2).map(str::to_owned),
        product: text(3).map(|text| Product::parse(text).expect(text)),
        origin: text(4).map(|text| if text == "self" { OriginSide::Ours } else { OriginSide::Other }),
    }
}

fn parts(mainland: &[&str], tags: &[&str]) -> Parts {
    let mainland = mainland.iter().map(|text| net(text)).collect();
    Parts { mainland, tags: tags.iter().map(|cells| tag(cells)).collect(), ..Parts::default() }
}

/// What a match says, in one line.
fn show(ranges: &Ranges, found: Option<RangeMatch>) -> String {
    let Some(found) = found else { return "nothing".to_owned() };
    let ours = if found.is_ours { " ours" } else { "" };
    let provider = ranges.provider(found.tag).unwrap_or_else(|| "-".to_owned());
    format!("{} {} {provider} {} {:?}{ours}", found.prefix, found.region, found.product, found.origin)
}

#[test]
fn layers_combine_as_stated() {
    let mainland = ["8.128.4.0/24", "1.0.0.0/16", "2408:4000:10::/48"];
    let tags = [
        "8.128.0.0/10,mainland,self,ecs,",
        "8.130.0.0/16,hk,,,",
        "8.131.0.0/16,,other,,",
        "8.132.0.0/16,,,oss,self",
        "1.0.2.0/24,,self,slb,",
        "1.0.3.0/24,overseas,,,",
        "1.0.3.0/24,,self,,",
        "1.1.0.0/16,,self,waf,",
        "2408:4000::/22,,self,,",
    ];
    let ranges = Ranges::assemble(1, "self", &parts(&mainland, &tags));
    for (at, expected) in [
        ("8.128.4.1", "8.128.0.0/10 mainland self ecs Unknown ours"),
        ("8.129.0.1", "8.128.0.0/10 mainland self ecs Unknown ours"),
        ("8.130.0.1", "8.130.0.0/16 hong-kong self ecs Unknown ours"),
        ("8.131.0.1", "8.131.0.0/16 mainland other untagged Unknown"),
        ("8.132.0.1", "8.132.0.0/16 mainland self oss Ours ours"),
        ("1.0.0.1", "1.0.0.0/16 mainland - untagged Unknown"),
        ("1.0.2.1", "1.0.2.0/24 mainland self slb Unknown ours"),
        ("1.0.3.1", "1.0.3.0/24 overseas self untagged Unknown ours"),
        ("1.1.0.1", "1.1.0.0/16 overseas self waf Unknown ours"),
        ("1.2.0.1", "nothing"),
        ("2408:4000:10::1", "2408:4000:10::/48 mainland self untagged Unknown ours"),
        ("2408:4000:11::1", "2408:4000::/22 overseas self untagged Unknown ours"),
        ("::ffff:1.0.0.1", "nothing"),
    ] {
        assert_eq!(show(&ranges, ranges.lookup(addr(at))), expected, "{at}");
    }
}

#[test]
fn of_equal_prefixes_the_later_row_counts() {
    let row = |region, provider: Option<&str>| RangeRow {
        prefix: net("203.0.113.0/24"),
        region,
        provider: provider.map(str::to_owned),
        product: Product::Untagged,
        origin: OriginSide::Unknown,
    };
    let rows = vec![row(Region::Mainland, Some("other")), row(Region::Taiwan, Some("self"))];
    let ranges = Ranges::build(3, "self", rows, Vec::new(), Vec::new());
    let found = ranges.lookup(addr("203.0.113.255")).expect("a row");
    assert_eq!((found.region, found.is_ours, ranges.generation()), (Region::Taiwan, true, 3));
    assert_eq!(ranges.provider(found.tag).as_deref(), Some("self"));
    assert!(Ranges::empty().lookup(addr("203.0.113.1")).is_none());
    assert!(Ranges::empty().lookup(addr("2400:3200::1")).is_none());
}

#[test]
fn nobody_is_us_where_no_provider_is_named() {
    let ranges = Ranges::assemble(1, "", &parts(&["1.0.0.0/24"], &["1.0.1.0/24,mainland,,,"]));
    for at in ["1.0.0.1", "1.0.1.1"] {
        let found = ranges.lookup(addr(at)).expect(at);
        assert!(!found.is_ours, "{at}");
        assert_eq!(ranges.provider(found.tag), None, "{at}");
    }
}

#[test]
fn the_longest_cname_suffix_wins() {
    let row = |suffix: &str, region| CnameRow { suffix: name(suffix), product: Product::Cdn, region };
    let cnames = vec![row("cdn.example", Region::Global), row("hk.cdn.example", Region::HongKong)];
    let ranges = Ranges::build(1, "self", Vec::new(), cnames, Vec::new());
    let region = |target: &str| ranges.cname(name(target).as_ref()).map(|found| found.region);
    assert_eq!(region("a.b.cdn.example"), Some(Region::Global));
    assert_eq!(region("CDN.example"), Some(Region::Global));
    assert_eq!(region("x.hk.cdn.example"), Some(Region::HongKong));
    assert_eq!(region("xcdn.example"), None);
}

//--- Statistics and differences --------------------------------------------------------------------------------------

#[test]
fn statistics_count_by_region_provider_and_product() {
    let tags = ["1.0.1.0/24,,self,ecs,", "1.0.3.0/24,hk,,,"];
    let ranges = Ranges::assemble(1, "self", &parts(&["1.0.0.0/22", "2400:3200::/32"], &tags));
    let stat = stat(&ranges);
    assert_eq!(stat.mainland(), (768, 1 << 16));
    let rows: Vec<_> = stat.rows.iter().map(|row| (row.region, row.product, row.is_ours, row.prefixes)).collect();
    let expected =
        [("hong-kong", "untagged", false, 1), ("mainland", "untagged", false, 3), ("mainland", "ecs", true, 1)];
    assert_eq!(rows, expected);
    assert!(stat.to_string().contains("self (ours)"), "{stat}");
}

#[test]
fn differences_are_given_as_prefixes() {
    let old = Ranges::assemble(1, "self", &parts(&["1.0.0.0/22", "2400:3200::/32"], &["1.0.1.0/24,,self,ecs,"]));
    let new =
        Ranges::assemble(2, "self", &parts(&["1.0.1.0/24", "1.0.2.0/23", "1.0.4.0/24"], &["1.0.1.0/24,,self,slb,"]));
    let found = diff(&old, &new);
    assert_eq!(found.to_string(), "+ 1.0.4.0/24\n- 1.0.0.0/24\n- 2400:3200::/32\n~ 1.0.1.0/24\n");
    let losses: Vec<_> = found.losses.iter().map(|loss| (loss.what, loss.percent())).collect();
    assert_eq!(losses, [("mainland ipv4", 25), ("mainland ipv6", 100), ("our own ipv4", 0), ("our own ipv6", 0)]);
    assert!(diff(&new, &new).is_empty());
}

//--- Properties ------------------------------------------------------------------------------------------------------

/// What every row that holds `addr` says in turn: the rule as it is stated, in the plainest way.
fn reference(parts: &Parts, addr: IpAddr) -> Option<(Region, Option<String>, Product, OriginSide)> {
    let is_listed = parts.mainland.iter().any(|prefix| prefix.contains(&addr));
    let mut rows: Vec<&TagRow> = parts.tags.iter().filter(|row| row.prefix.contains(&addr)).collect();
    if rows.is_empty() && !is_listed {
        return None;
    }
    rows.sort_by_key(|row| row.prefix.prefix_len());
    let mut region = if is_listed { Region::Mainland } else { Region::Overseas };
    let (mut provider, mut product, mut origin) = (None, Product::Untagged, OriginSide::Unknown);
    for row in rows {
        region = row.region.unwrap_or(region);
        if row.provider.is_some() {
            provider.clone_from(&row.provider);
            (product, origin) = (Product::Untagged, OriginSide::Unknown);
        }
        product = row.product.unwrap_or(product);
        origin = row.origin.unwrap_or(origin);
    }
    Some((region, provider, product, origin))
}

/// Prefixes that nest and touch: few distinct bits, near the ends of each family and across slots of the first level.
fn prefixes() -> impl Strategy<Value = IpNet> {
    let bases = prop::sample::select(vec![0, 0x0880_0000, 0x0880_ff00, 0xffff_0000u32]);
    let v4 = (bases, 0u32..1 << 18, 0u8..=32).prop_map(|(base, low, length)| {
        IpNet::V4(Ipv4Net::new((base ^ low).into(), length).expect("a length of at most 32").trunc())
    });
    let bases = prop::sample::select(vec![0, 0x1fff << 112, 0x2408 << 112, 0x3fff << 112, 0x4000 << 112, u128::MAX]);
    let v6 = (bases, 0u128..1 << 20, 0u32..=109, 0u8..=128).prop_map(|(base, low, shift, length)| {
        IpNet::V6(Ipv6Net::new((base ^ (low << shift)).into(), length).expect("a length of at most 128").trunc())
    });
    prop_oneof![v4, v6]
}

fn tags() -> impl Strategy<Value = TagRow> {
    let region = prop::option::of(prop::sample::select(Region::ALL.map(|(region, _, _)| region).to_vec()));
    let provider = prop::option::of(prop::sample::select(vec!["self", "other", "third"]).prop_map(str::to_owned));
    let product = prop::option::of(prop::sample::select(Product::ALL.map(|(product, _)| product).to_vec()));
    let origin = prop::option::of(prop::sample::select(vec![OriginSide::Ours, OriginSide::Other]));
    (prefixes(), region, provider, product, origin).prop_map(|(prefix, region, provider, product, origin)| TagRow {
        prefix,
        region,
        provider,
        product,
        origin,
    })
}

/// The ends of every prefix and the addresses just outside.
fn boundaries(parts: &Parts) -> Vec<IpAddr> {
    let prefixes = parts.mainland.iter().copied().chain(parts.tags.iter().map(|row| row.prefix));
    let mut res = vec![addr("0.0.0.0"), addr("255.255.255.255"), addr("::"), addr("2000::"), addr("4000::")];
    for prefix in prefixes {
        let (family, first) = Family::of(prefix.network());
        let (_, last) = Family::of(prefix.broadcast());
        let near =
            [Some(first), first.checked_sub(1), Some(last), last.checked_add(1), Some(first + (last - first) / 2)];
        res.extend(near.into_iter().flatten().filter(|at| *at <= family.max()).map(|at| family.addr(at)));
    }
    res
}

proptest! {
    #[test]
    fn every_address_is_as_the_reference_says(
        mainland in prop::collection::vec(prefixes(), 0..12),
        tags in prop::collection::vec(tags(), 0..12),
        more_v4 in prop::collection::vec(any::<u32>(), 8),
        more_v6 in prop::collection::vec(any::<u128>(), 8),
    ) {
        let parts = Parts { mainland, tags, ..Parts::default() };
        let ranges = Ranges::assemble(1, "self", &parts);
        let more = more_v4.into_iter().map(|at| IpAddr::V4(at.into())).chain(more_v6.into_iter().map(|at| IpAddr::V6(at.into())));
        for at in boundaries(&parts).into_iter().chain(more) {
            let found = ranges.lookup(at);
            let said = found.map(|found| (found.region, ranges.provider(found.tag), found.product, found.origin));
            prop_assert_eq!(&said, &reference(&parts, at), "{}", at);
            if let Some(found) = found {
                prop_assert!(found.prefix.contains(&at), "{} {}", at, found.prefix);
                prop_assert_eq!(found.is_ours, ranges.provider(found.tag).as_deref() == Some("self"), "{}", at);
            }
        }
    }

    #[test]
    fn segments_cover_each_family_and_differ_from_nothing_in_themselves(
        mainland in prop::collection::vec(prefixes(), 0..9),
        tags in prop::collection::vec(tags(), 0..9),
    ) {
        let ranges = Ranges::assemble(1, "self", &Parts { mainland, tags, ..Parts::default() });
        for family in Family::ALL {
            let mut next = Some(0);
            for (span, found) in ranges.segments(family) {
                prop_assert_eq!(Some(span.first), next);
                prop_assert_eq!(ranges.lookup(family.addr(span.last)), found.copied());
                next = span.last.checked_add(1);
            }
            prop_assert!(next.is_none_or(|next| next == family.max() + 1));
        }
        prop_assert!(diff(&ranges, &ranges).is_empty());
    }
}
