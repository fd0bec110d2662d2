//! `registry.bind-check`: a filing that lists addresses is good at those, in whatever form an answer carries them.

use std::net::IpAddr;

use icpgate::model::{Hop, Host, OriginSide, Subject, Via};
use icpgate::policy::{Action, Reason, Rules, judge};
use icpgate::ranges::Ranges;
use icpgate::registry::{Filing, Snapshot};

use super::harness::fixture::{PROVIDER, TODAY, filed, name, noon, ranges, suffixes};

fn reason(listed: &[&str], addr: &str, ranges: &Ranges) -> Reason {
    let addresses = listed.iter().map(|net| net.parse().expect("a prefix")).collect();
    let rows = vec![Filing { addresses, ..filed("here.cn", &[PROVIDER]) }];
    let snapshot = Snapshot::build(1, suffixes(), PROVIDER, true, rows);
    let addresses = [addr.parse::<IpAddr>().expect("an address")];
    let domain = name("here.cn");
    let hop = Hop::Resolved { addresses: &addresses, chain: &[] };
    let subject = Subject { host: Host::Name(domain.as_ref()), hop, via: Via::Dns };
    let res = judge(&Rules::default(), &snapshot, ranges, &subject, noon(TODAY));
    assert_eq!(res.action == Action::Block, res.reason == Reason::NotBound, "{listed:?} {addr}: {res:?}");
    res.reason
}

#[test]
fn a_listed_address_is_listed_in_every_form() {
    let ranges = ranges(1, OriginSide::Unknown);
    let v4 = &["203.0.113.1/32"][..];
    for (listed, addr, is_bound) in [
        (v4, "203.0.113.1", true),
        (v4, "203.0.113.2", false),
        (v4, "::ffff:203.0.113.1", true),
        (v4, "64:ff9b::203.0.113.1", true),
        (v4, "2002:cb00:7101::1", true),
        (v4, "64:ff9b::203.0.113.2", false),
        (v4, "2001:db8:1::1", false),
        (&["64:ff9b::203.0.113.1/128"], "64:ff9b::203.0.113.1", true),
        (&["64:ff9b::203.0.113.1/128"], "203.0.113.1", false),
        (&["2001:db8:1::/64"], "2001:db8:1::1", true),
        (&[], "64:ff9b::203.0.113.1", true),
    ] {
        let expected = if is_bound { Reason::Filed } else { Reason::NotBound };
        assert_eq!(reason(listed, addr, &ranges), expected, "{listed:?} {addr}");
    }
}
