//! The invariants of the rule book (end of A.8) over any registry, ranges, rules, name and hop.

use std::net::IpAddr;

use icpgate::model::{Day, DomainName, Hop, Host, OriginSide, Product, Region, Status, Subject, Via};
use icpgate::policy::rules::Exempt;
use icpgate::policy::{Action, ExpiredPolicy, ForeignMainland, IpSite, Rules, Verdict, judge};
use icpgate::ranges::{CnameRow, RangeRow, Ranges};
use icpgate::registry::Filing;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::harness::fixture::{self, PROVIDER, TODAY, name};

/// Registrable domains under suffixes of every kind: plain, two labels, IDN, wildcard, exception, unknown.
const DOMAINS: [&str; 7] = ["a.cn", "b.com", "c.com.cn", "例子.中国", "www.ck", "e.d.kawasaki.jp", "f.unlisted"];
/// Prefixes of every region, each with a provider or without.
const PREFIXES: [(&str, Region, Option<&str>); 7] = [
    ("203.0.113.0/25", Region::Mainland, Some(PROVIDER)),
    ("203.0.113.128/25", Region::Mainland, Some(PROVIDER)),
    ("198.51.100.0/24", Region::Mainland, Some("other")),
    ("192.0.2.0/25", Region::HongKong, None),
    ("192.0.2.128/25", Region::Mainland, None),
    ("2001:db8:1::/48", Region::Mainland, Some(PROVIDER)),
    ("2001:db8:2::/48", Region::Overseas, Some(PROVIDER)),
];
/// Addresses inside those, outside all, and wrapped.
const ADDRESSES: [&str; 11] = [
    "203.0.113.1",
    "203.0.113.129",
    "198.51.100.1",
    "192.0.2.1",
    "192.0.2.129",
    "8.8.8.8",
    "2001:db8:1::1",
    "2001:db8:2::1",
    "::ffff:203.0.113.1",
    "64:ff9b::cb00:7101",
    "64:ff9b::808:808",
];
const TARGETS: [&str; 3] = ["x.cdn-global.self.example", "x.cdn-overseas.self.example", "x.elsewhere.example"];

/// Everything a verdict rests on but the subject.
#[derive(Clone, Debug)]
struct World {
    rows: Vec<Filing>,
    rules: Rules,
    ranges: Vec<RangeRow>,
    bind_check: bool,
}

/// A subject, owned.
#[derive(Clone, Debug)]
struct Case {
    domain: usize,
    below: Vec<String>,
    /// `None`: in line.
    addresses: Option<Vec<IpAddr>>,
    chain: Vec<DomainName>,
    via: Via,
}

impl World {
    fn judge_name(&self, name: &DomainName, case: &Case) -> Verdict {
        let snapshot =
            icpgate::registry::Snapshot::build(1, fixture::suffixes(), PROVIDER, self.bind_check, self.rows.clone());
        let cname = |suffix: &str, region| CnameRow { suffix: fixture::name(suffix), product: Product::Cdn, region };
        let cnames = vec![
            cname("cdn-global.self.example", Region::Global),
            cname("cdn-overseas.self.example", Region::Overseas),
        ];
        let ranges = Ranges::build(1, PROVIDER, self.ranges.clone(), cnames, Vec::new());
        let hop = match &case.addresses {
            None => Hop::InLine,
            Some(addresses) => Hop::Resolved { addresses, chain: &case.chain },
        };
        let subject = Subject { host: Host::Name(name.as_ref()), hop, via: case.via };
        judge(&self.rules, &snapshot, &ranges, &subject, fixture::noon(TODAY))
    }

    fn judge(&self, case: &Case) -> Verdict {
        let text = case.below.iter().map(String::as_str).chain([DOMAINS[case.domain]]).collect::<Vec<_>>().join(".");
        self.judge_name(&name(&text), case)
    }

    fn without(&self, domain: usize) -> Self {
        let rows = self.rows.iter().filter(|row| row.domain != name(DOMAINS[domain])).cloned().collect();
        Self { rows, ..self.clone() }
    }
}

/// How much is let through, more being greater; what is only reported is let through.
fn openness(verdict: &Verdict) -> (bool, bool) {
    (!verdict.blocks(), verdict.action == Action::Allow)
}

fn outcome(verdict: &Verdict) -> (Action, &'static str, bool) {
    (verdict.action, verdict.reason.label(), verdict.enforceable)
}

//--- Strategies ------------------------------------------------------------------------------------------------------

fn some_day() -> impl Strategy<Value = Option<Day>> {
    let today = Day::parse(TODAY).expect("a day").number();
    proptest::option::of((-2i32..3).prop_map(move |offset| Day::from_number(today + offset)))
}

fn row(domain: usize) -> impl Strategy<Value = Filing> {
    let status = select(Status::ALL.map(|(status, _, _)| status).to_vec());
    let status = prop_oneof![Just(Status::Active), status];
    let access = subsequence(vec!["self", "other", "third"], 0..=3);
    let bound = subsequence(vec!["203.0.113.0/25", "192.0.2.0/24"], 0..=2);
    let origin = proptest::option::of(select(vec!["self", "other"]));
    (status, access, proptest::bool::weighted(0.1), some_day(), some_day(), bound, origin).prop_map(
        move |(status, access, restricted, provisional, expires, bound, origin)| Filing {
            status,
            restricted,
            provisional_access_until: provisional,
            expires_on: expires,
            addresses: bound.iter().map(|net| net.parse().expect("a prefix")).collect(),
            origin: origin.map(str::to_owned),
            ..fixture::filed(DOMAINS[domain], &access)
        },
    )
}

fn rows() -> impl Strategy<Value = Vec<Filing>> {
    subsequence((0..DOMAINS.len()).collect::<Vec<_>>(), 0..=DOMAINS.len())
        .prop_flat_map(|domains| domains.into_iter().map(row).collect::<Vec<_>>())
}

fn rules() -> impl Strategy<Value = Rules> {
    let foreign = select(vec![ForeignMainland::Ignore, ForeignMainland::Observe, ForeignMainland::RequireFiled]);
    let expired = select(vec![ExpiredPolicy::Block, ExpiredPolicy::Report]);
    let listed = || proptest::option::weighted(0.1, select(DOMAINS.to_vec()));
    (foreign, expired, listed(), listed()).prop_map(|(foreign_mainland, expired, exempt, non_web)| Rules {
        foreign_mainland,
        expired,
        exempt: exempt.map(|suffix| Exempt { suffix: name(suffix), why: "a test".to_owned() }).into_iter().collect(),
        non_web: non_web.map(name).into_iter().collect(),
        ip_site: IpSite::Block,
        ..Rules::default()
    })
}

fn ranges() -> impl Strategy<Value = Vec<RangeRow>> {
    let product = select(Product::ALL.map(|(product, _)| product).to_vec());
    let origin = select(vec![OriginSide::Other, OriginSide::Ours, OriginSide::Unknown]);
    proptest::collection::vec((product, origin), PREFIXES.len()).prop_map(|tags| {
        let row = |(&(prefix, region, provider), (product, origin)): (&(&str, Region, Option<&str>), _)| RangeRow {
            prefix: prefix.parse().expect("a prefix"),
            region,
            provider: provider.map(str::to_owned),
            product,
            origin,
        };
        PREFIXES.iter().zip(tags).map(row).collect()
    })
}

fn world() -> impl Strategy<Value = World> {
    (rows(), rules(), ranges(), any::<bool>()).prop_map(|(rows, rules, ranges, bind_check)| World {
        rows,
        rules,
        ranges,
        bind_check,
    })
}

fn case() -> impl Strategy<Value = Case> {
    let addresses = proptest::collection::vec(select(ADDRESSES.to_vec()), 1..4);
    let addresses = addresses.prop_map(|texts| texts.iter().map(|text| text.parse().expect("an address")).collect());
    let addresses = proptest::option::weighted(0.9, addresses);
    let chain = proptest::collection::vec(select(TARGETS.to_vec()).prop_map(name), 0..2);
    let below = proptest::collection::vec("[a-z0-9]{1,5}", 0..3);
    (0..DOMAINS.len(), below, addresses, chain, select(vec![Via::Dns, Via::Http]))
        .prop_map(|(domain, below, addresses, chain, via)| Case { domain, below, addresses, chain, via })
}

//--- Properties ------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn adding_a_filing_never_closes(world in world(), case in case(), seed in 0..DOMAINS.len(), filing in row(0)) {
        // Most often the filing of the name asked for, at times another one.
        let domain = if seed % 3 == 0 { seed } else { case.domain };
        let before = world.without(domain);
        let mut after = before.clone();
        after.rows.push(Filing { domain: name(DOMAINS[domain]), ..filing });
        let (before, after) = (before.judge(&case), after.judge(&case));
        prop_assert!(openness(&after) >= openness(&before), "{before:?} became {after:?}");
    }

    #[test]
    fn a_filing_that_succeeds_never_closes(world in world(), case in case(), filing in row(0)) {
        let mut before = world.without(case.domain);
        let mut after = before.clone();
        let filing = Filing { domain: name(DOMAINS[case.domain]), restricted: false, addresses: Vec::new(), ..filing };
        before.rows.push(Filing { status: Status::Pending, ..filing.clone() });
        after.rows.push(Filing { status: Status::Active, ..filing });
        let (before, after) = (before.judge(&case), after.judge(&case));
        prop_assert!(openness(&after) >= openness(&before), "{before:?} became {after:?}");
    }

    #[test]
    fn adding_access_never_closes(world in world(), case in case(), id in select(vec!["self", "other", "new"])) {
        let mut after = world.clone();
        for row in after.rows.iter_mut().filter(|row| row.domain == name(DOMAINS[case.domain])) {
            row.access.push(id.to_owned());
        }
        let (before, after) = (world.judge(&case), after.judge(&case));
        prop_assert!(openness(&after) >= openness(&before), "{before:?} became {after:?}");
    }

    #[test]
    fn spelling_never_changes_a_verdict(world in world(), case in case(), shout in any::<u64>(), dot in any::<bool>()) {
        let plain = case.below.iter().map(String::as_str).chain([DOMAINS[case.domain]]).collect::<Vec<_>>().join(".");
        let expected = world.judge_name(&name(&plain), &case);
        let a_labels = name(&plain).to_string();
        let u_labels = name(&plain).as_ref().to_unicode();
        for text in [plain, a_labels, u_labels] {
            let cased = text.chars().enumerate().map(|(i, c)| if shout >> (i % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c });
            let spelled = format!("{}{}", cased.collect::<String>(), if dot { "." } else { "" });
            let found = world.judge_name(&name(&spelled), &case);
            prop_assert_eq!(found, expected, "{}", spelled);
            // And as a client puts it on the wire, UTF-8 labels included.
            let labels = spelled.trim_end_matches('.').split('.').map(str::as_bytes);
            let found = world.judge_name(&DomainName::from_labels(labels).expect("labels"), &case);
            prop_assert_eq!(found, expected, "{} on the wire", spelled);
        }
    }

    #[test]
    fn a_name_below_gets_the_verdict_of_its_domain(world in world(), case in case(), label in "[a-z0-9_-]{1,20}") {
        let domain = name(DOMAINS[case.domain]);
        let below = DomainName::from_labels([label.as_bytes()].into_iter().chain(domain.as_ref().labels())).expect("a name");
        let (at, below) = (world.judge_name(&domain, &case), world.judge_name(&below, &case));
        prop_assert_eq!(outcome(&at), outcome(&below));
    }

    #[test]
    fn removing_the_product_tag_never_opens(world in world(), case in case(), which in 0..PREFIXES.len()) {
        let mut after = world.clone();
        after.ranges[which] = RangeRow { product: Product::Untagged, ..after.ranges[which].clone() };
        let (before, after) = (world.judge(&case), after.judge(&case));
        prop_assert!(openness(&after) <= openness(&before), "{before:?} became {after:?}");
    }

    #[test]
    fn order_never_changes_a_verdict(world in world(), case in case(), by in 0usize..7) {
        let mut other = world.clone();
        let mut turned = case.clone();
        for _ in 0..by {
            if !other.rows.is_empty() {
                other.rows.rotate_left(1);
            }
            other.ranges.rotate_left(1);
            if let Some(addresses) = &mut turned.addresses {
                addresses.rotate_left(1);
            }
        }
        other.rows.reverse();
        prop_assert_eq!(outcome(&world.judge(&case)), outcome(&other.judge(&turned)));
    }

    #[test]
    fn one_more_mainland_address_never_opens(world in world(), case in case(), addr in select(vec!["203.0.113.1", "2001:db8:1::1"])) {
        let mut more = case.clone();
        if let Some(addresses) = &mut more.addresses {
            addresses.push(addr.parse().expect("an address"));
        }
        let (before, after) = (world.judge(&case), world.judge(&more));
        prop_assert!(openness(&after) <= openness(&before), "{before:?} became {after:?}");
    }

    #[test]
    fn a_mainland_server_of_ours_is_never_open_to_the_unfiled(world in world(), case in case(), at in any::<prop::sample::Index>()) {
        let mut world = world.without(case.domain);
        world.rules.exempt.clear();
        world.rules.non_web.clear();
        let mut more = case.clone();
        if let Some(addresses) = &mut more.addresses {
            let at = at.index(addresses.len());
            addresses[at] = "203.0.113.1".parse().expect("an address");
        }
        prop_assert!(world.judge(&more).blocks(), "{:?}", world.judge(&more));
    }
}
