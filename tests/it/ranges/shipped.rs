//! The shipped lists: what they hold, and how they agree with the probe addresses.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use icpgate::policy::judge::needs_filing;
use icpgate::ranges::{Family, Loaded, Settings, Span, load_paths, special, stat};
use ipnet::IpNet;

use crate::harness::shared;

fn conf(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conf/ranges").join(file)
}

fn shipped() -> Arc<Loaded> {
    let mut settings = Settings::new("self");
    settings.mainland = vec![conf("mainland-v4.txt"), conf("mainland-v6.txt")];
    load_paths(&settings, SystemTime::now()).expect("the shipped lists load")
}

/// The spans of both families that a filing is needed in.
fn mainland(loaded: &Loaded) -> Vec<(Family, Span)> {
    let of =
        |family: Family| loaded.ranges.segments(family).into_iter().map(move |(span, found)| (family, span, found));
    let all = Family::ALL.into_iter().flat_map(of);
    all.filter(|(_, _, found)| found.is_some()).map(|(family, span, _)| (family, span)).collect()
}

#[test]
fn the_lists_load_without_a_finding_and_name_their_origin() {
    let loaded = shipped();
    assert!(loaded.issues.is_empty(), "{:?}", loaded.issues);
    let (v4, v6) = stat(&loaded.ranges).mainland();
    assert!((340_000_000..360_000_000).contains(&v4), "{v4} IPv4 addresses");
    assert!((4_400_000_000..4_600_000_000).contains(&v6), "{v6} IPv6 /48");
    for file in ["mainland-v4.txt", "mainland-v6.txt"] {
        let text = std::fs::read_to_string(conf(file)).expect(file);
        for mark in [
            "# Date of the data: ",
            "# Sources: ",
            "# Licence: CC BY 4.0",
            "IP Geolocation by DB-IP (https://db-ip.com)",
        ] {
            assert!(text.contains(mark), "{file}: {mark}");
        }
    }
    for (family, span) in mainland(&loaded) {
        assert_eq!(special::special_reason(family, span), None, "{span:?}");
    }
}

#[test]
fn the_lists_agree_with_the_probes() {
    let Some(probes) = shared::text("ranges/probes.csv.zst") else { return };
    let loaded = shipped();
    let (mut expected_mainland, mut missed, mut wrong) = (0, Vec::new(), Vec::new());
    for line in probes.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let addr: IpAddr = cells[0].parse().expect(line);
        let is_mainland = needs_filing(&loaded.ranges, addr);
        match cells[1] {
            "mainland" => {
                expected_mainland += 1;
                missed.extend((!is_mainland).then_some(line));
            }
            "outside" => wrong.extend(is_mainland.then_some(line)),
            _ => {}
        }
    }
    assert!(expected_mainland > 5000, "{expected_mainland} probes");
    assert!(wrong.is_empty(), "outside, found mainland: {wrong:#?}");
    assert!(missed.len() * 100 <= expected_mainland, "{} of {expected_mainland} missed: {missed:#?}", missed.len());
}

#[test]
fn hong_kong_macau_and_taiwan_are_never_inside() {
    let Some(table) = shared::text("ranges/hk-mo-tw.csv") else { return };
    let found = mainland(&shipped());
    let mut rows = 0;
    for line in table.lines().skip(1) {
        let prefix: IpNet = line.split(',').next().unwrap_or("").parse().expect(line);
        let (family, span) = Span::of(prefix);
        let inside: Vec<_> = found.iter().filter(|(of, other)| *of == family && other.overlaps(span)).collect();
        assert!(inside.is_empty(), "{line}: {inside:?}");
        rows += 1;
    }
    assert!(rows > 5000, "{rows} rows");
}
