//! The fixture of the rule book's vector table (rules A.9): ranges and registry.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use icpgate::model::{Day, DomainName, OriginSide, Product, Region, SuffixTable};
use icpgate::policy::{Rules, View};
use icpgate::ranges::{CnameRow, RangeRow, Ranges};
use icpgate::registry::{Filing, Loaded, Settings, Snapshot, load_paths};

/// Our id in the fixture.
pub const PROVIDER: &str = "self";
/// "Today" of the fixture; `prov.cn` has provisional access until the day after.
pub const TODAY: &str = "2026-11-24";

/// A name from text that the test knows to be one.
pub fn name(text: &str) -> DomainName {
    DomainName::from_text(text).expect(text)
}

/// The compiled-in suffix table, parsed once.
pub fn suffixes() -> Arc<SuffixTable> {
    static TABLE: OnceLock<Arc<SuffixTable>> = OnceLock::new();
    TABLE.get_or_init(|| Arc::new(SuffixTable::built_in())).clone()
}

/// A filed row.
pub fn filed(domain: &str, access: &[&str]) -> Filing {
    Filing {
        site_no: Some("京ICP备2021000001号-1".to_owned()),
        access: access.iter().map(|&id| id.to_owned()).collect(),
        file: "fixture.csv".into(),
        ..Filing::new(name(domain))
    }
}

/// The registry of rules A.9 as a file.
pub const REGISTRY: &str = include_str!("../../data/fixture/registry.csv");

/// The registry of rules A.9.
pub fn filings() -> Vec<Filing> {
    static ROWS: OnceLock<Vec<Filing>> = OnceLock::new();
    ROWS.get_or_init(|| loaded(&[]).snapshot.rows().collect()).clone()
}

/// The registry of rules A.9 from its file, with these lines in a changes file beside it.
pub fn loaded(events: &[String]) -> Arc<Loaded> {
    let dir = tempfile::TempDir::new().expect("a directory");
    write_registry(dir.path(), events);
    load_paths(&Settings::new(PROVIDER, vec![dir.path().to_owned()]), noon(TODAY)).expect("the fixture loads")
}

/// Puts the registry of rules A.9 into `dir`, and a changes file if there are events.
pub fn write_registry(dir: &Path, events: &[String]) {
    std::fs::write(dir.join("registry.csv"), REGISTRY).expect("a writable directory");
    if !events.is_empty() {
        let lines: String = events.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(dir.join("z.changes.jsonl"), lines).expect("a writable directory");
    }
}

/// Noon of a day, in the authority's time zone.
pub fn noon(day: &str) -> SystemTime {
    Day::parse(day).expect(day).begins_at() + Duration::from_secs(12 * 3600)
}

/// A moment as seconds since 1970.
pub fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

fn range(prefix: &str, region: Region, provider: Option<&str>, product: Product) -> RangeRow {
    RangeRow {
        prefix: prefix.parse().expect("a prefix"),
        region,
        provider: provider.map(str::to_owned),
        product,
        origin: OriginSide::Unknown,
    }
}

/// The ranges of rules A.9; `oss_origin` tells vectors 18 and 19 apart.
pub fn ranges(generation: u64, oss_origin: OriginSide) -> Ranges {
    let ours = Some(PROVIDER);
    let rows = vec![
        range("203.0.113.0/25", Region::Mainland, ours, Product::Ecs),
        range("203.0.113.128/25", Region::Mainland, ours, Product::Slb),
        range("198.51.100.0/26", Region::Mainland, ours, Product::Cdn),
        RangeRow { origin: oss_origin, ..range("198.51.100.64/26", Region::Mainland, ours, Product::Oss) },
        range("198.51.100.128/26", Region::Mainland, ours, Product::Waf),
        range("198.51.100.192/26", Region::Mainland, ours, Product::Ddos),
        range("192.0.2.0/26", Region::HongKong, None, Product::Untagged),
        range("192.0.2.64/26", Region::Taiwan, None, Product::Untagged),
        range("192.0.2.128/26", Region::Mainland, Some("other"), Product::Untagged),
        range("2001:db8:1::/48", Region::Mainland, ours, Product::Ecs),
        range("2001:db8:2::/48", Region::Overseas, None, Product::Untagged),
    ];
    let cnames = vec![
        CnameRow { suffix: name("cdn-global.self.example"), product: Product::Cdn, region: Region::Global },
        CnameRow { suffix: name("cdn-overseas.self.example"), product: Product::Cdn, region: Region::Overseas },
    ];
    Ranges::build(generation, PROVIDER, rows, cnames, Vec::new())
}

/// A snapshot of `filings`.
pub fn snapshot(generation: u64, filings: Vec<Filing>) -> Snapshot {
    Snapshot::build(generation, suffixes(), PROVIDER, false, filings)
}

/// The whole fixture under `rules`.
pub fn view(rules: Rules) -> View {
    View {
        rules: Arc::new(rules),
        registry: Arc::new(snapshot(1, filings())),
        ranges: Arc::new(ranges(1, OriginSide::Other)),
        faults: Vec::new(),
        shadow: None,
    }
}
