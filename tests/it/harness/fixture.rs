//! The fixture of the rule book's vector table (rules A.9): ranges and registry.

use std::sync::Arc;
use std::sync::OnceLock;

use icpgate::model::{Day, DomainName, OriginSide, Product, Region, Status, SuffixTable};
use icpgate::policy::{Rules, View};
use icpgate::ranges::{CnameRow, RangeRow, Ranges};
use icpgate::registry::{Filing, Snapshot};

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

/// The registry of rules A.9.
pub fn filings() -> Vec<Filing> {
    let mut res = vec![
        filed("here.cn", &["self"]),
        filed("else.com", &["other"]),
        filed("both.com", &["self", "other"]),
        filed("shell.cn", &[]),
        Filing { status: Status::Pending, site_no: None, ..filed("pend.cn", &["self"]) },
        Filing { status: Status::Cancelled, ..filed("dereg.cn", &["self"]) },
        filed("old-a.com", &["self"]),
        filed("old-b.com", &["self"]),
        filed("例子.中国", &["self"]),
        filed("here.com.cn", &["self"]),
    ];
    let until = Day::parse(TODAY).expect("a day").next();
    res.push(Filing { provisional_access_until: Some(until), ..filed("prov.cn", &["other"]) });
    for (i, filing) in res.iter_mut().enumerate() {
        filing.line = u32::try_from(i).expect("few rows") + 2;
    }
    res
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
    }
}
