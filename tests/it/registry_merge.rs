//! Rows of one domain that contradict each other: the one that counts lets no more through than any of them alone.

use std::net::IpAddr;

use icpgate::model::{DomainName, Hop, Host, OriginSide, Subject, Via};
use icpgate::policy::{Action, Reason, Rules, Verdict, judge};
use icpgate::ranges::Ranges;
use icpgate::registry::{Loaded, Settings, Snapshot, load_text};
use proptest::prelude::*;
use proptest::sample::select;

use super::harness::fixture::{PROVIDER, TODAY, name, noon, ranges, suffixes};

const HEADER: &str = "domain,site_no,access,status,restricted,origin\n";
/// One address of every product, of another provider, and of a region that needs no filing.
const ADDRESSES: [&str; 8] = [
    "203.0.113.1",
    "203.0.113.129",
    "198.51.100.1",
    "198.51.100.65",
    "198.51.100.129",
    "198.51.100.193",
    "192.0.2.129",
    "192.0.2.1",
];

fn load(rows: &[&str]) -> Loaded {
    let text = format!("{HEADER}{}", rows.iter().map(|row| format!("{row}\n")).collect::<String>());
    let settings = Settings::new(PROVIDER, Vec::new());
    load_text(&settings, suffixes(), "t.csv", text.into(), noon(TODAY)).expect("a sound table")
}

fn verdict(snapshot: &Snapshot, ranges: &Ranges, domain: &DomainName, addr: IpAddr) -> Verdict {
    let hop = Hop::Resolved { addresses: &[addr], chain: &[] };
    let subject = Subject { host: Host::Name(domain.as_ref()), hop, via: Via::Dns };
    judge(&Rules::default(), snapshot, ranges, &subject, noon(TODAY))
}

#[test]
fn a_row_of_another_provider_takes_ours_away() {
    let server = ADDRESSES[0].parse().expect("an address");
    for rows in [["tencent", "self"], ["self", "tencent"], ["self", "p1;p2"], ["p1;p2", "self"]] {
        let rows = rows.map(|access| format!("two.cn,京ICP备2021000001号-1,{access},active,,"));
        let loaded = load(&[&rows[0], &rows[1]]);
        let res = verdict(&loaded.snapshot, &ranges(1, OriginSide::Unknown), &name("two.cn"), server);
        assert_eq!((res.action, res.reason), (Action::Block, Reason::NotAccessed), "{rows:?}");
        assert_eq!(loaded.issues.iter().filter(|issue| issue.rule == "R21").count(), 1, "{rows:?}");
    }
}

fn row() -> impl Strategy<Value = String> {
    let access = select(vec!["self", "other", "self;other", "p1;p2", ""]);
    let status = select(vec!["active", "active", "active", "pending", "cancelled", "expired", "rejected"]);
    (access, status, prop::bool::weighted(0.2), select(vec!["", "self", "other"]), 1..3u8).prop_map(
        |(access, status, restricted, origin, site)| {
            format!("two.cn,京ICP备2021000001号-{site},{access},{status},{},{origin}", u8::from(restricted))
        },
    )
}

proptest! {
    #[test]
    fn what_counts_is_never_laxer_than_a_row_alone(
        rows in proptest::collection::vec(row(), 2..5),
        side in select(vec![OriginSide::Ours, OriginSide::Other, OriginSide::Unknown]),
    ) {
        let lines: Vec<&str> = rows.iter().map(String::as_str).collect();
        let reversed: Vec<&str> = lines.iter().rev().copied().collect();
        let (merged, backwards) = (load(&lines), load(&reversed));
        let (ranges, domain) = (ranges(1, side), name("two.cn"));
        for addr in ADDRESSES.map(|text| text.parse().expect("an address")) {
            let res = verdict(&merged.snapshot, &ranges, &domain, addr);
            let again = verdict(&backwards.snapshot, &ranges, &domain, addr);
            prop_assert_eq!((res.action, res.reason, res.rule), (again.action, again.reason, again.rule));
            for line in &lines {
                let alone = verdict(&load(&[line]).snapshot, &ranges, &domain, addr);
                prop_assert!(res.action >= alone.action, "{} at {}: {:?} beside {:?}", line, addr, res, alone);
            }
        }
    }
}
