//! Rows in memory, each with one fault: which check finds it, and how bad it says it is.

use std::sync::Arc;

use super::*;
use crate::model::{DomainName, Status, SuffixTable};
use crate::registry::Filing;

fn day(text: &str) -> Day {
    Day::parse(text).expect(text)
}

fn row(domain: &str, site_no: &str) -> Filing {
    Filing {
        site_no: Some(site_no.to_owned()),
        access: vec!["self".to_owned()],
        ..Filing::new(DomainName::from_text(domain).expect(domain))
    }
}

fn rules(rows: Vec<Filing>) -> Vec<(&'static str, Severity)> {
    let snapshot = Snapshot::build(1, Arc::new(SuffixTable::built_in()), "self", false, rows);
    lint(&snapshot, day("2026-11-24")).into_iter().map(|issue| (issue.rule, issue.severity)).collect()
}

#[test]
fn sound_rows_have_no_findings() {
    let other = Filing { province: Some("粤".to_owned()), ..row("b.com.cn", "粤ICP备2021000002号-1") };
    assert_eq!(rules(vec![row("a.cn", "京ICP备2021000001号-1"), other, row("a.example", "京ICP备2021000003号-1")]), []);
}

#[test]
fn each_rule_finds_its_rows() {
    let subject = |name: &str, row: Filing| Filing { subject: Some(name.to_owned()), ..row };
    let plain = || row("a.cn", "京ICP备2021000001号-1");
    let second = || row("b.cn", "京ICP备2021000001号-2");
    for (rows, rule, severity) in [
        (vec![row("a.io", "京ICP备2021000001号-1")], "R1", Severity::Warning),
        (
            vec![Filing { filed_on: Some(day("2023-01-01")), ..row("a.io", "京ICP备2021000001号-1") }],
            "R1",
            Severity::Error,
        ),
        (vec![Filing { expires_on: Some(day("2026-11-23")), ..plain() }], "R3", Severity::Error),
        (vec![Filing { real_name: Some(false), ..plain() }], "R4", Severity::Error),
        (vec![Filing { access: Vec::new(), ..plain() }], "R23", Severity::Warning),
        (vec![Filing { province: Some("沪".to_owned()), ..plain() }], "R15a", Severity::Error),
        (vec![Filing { filed_on: Some(day("2027-01-01")), ..plain() }], "dates", Severity::Warning),
        (
            vec![Filing { filed_on: Some(day("2020-01-01")), updated_on: Some(day("2019-01-01")), ..plain() }],
            "dates",
            Severity::Warning,
        ),
        (vec![subject("甲", plain()), subject("乙", second())], "R20", Severity::Error),
        (
            vec![plain(), Filing { filed_on: Some(day("2020-01-01")), ..row("b.cn", "京ICP备2021000001号-1") }],
            "R6a",
            Severity::Error,
        ),
        (vec![plain(), row("b.cn", "京ICP备2021000001号-1")], "R6b", Severity::Info),
        (
            [plain(), second()].map(|row| Filing { service_code: Some("s".to_owned()), ..row }).to_vec(),
            "R17",
            Severity::Error,
        ),
        (
            [subject("甲", plain()), subject("乙", row("c.cn", "沪ICP备2021000009号-1"))]
                .map(|row| Filing { account: Some("x".to_owned()), ..row })
                .to_vec(),
            "R14a",
            Severity::Error,
        ),
    ] {
        assert_eq!(rules(rows), [(rule, severity)]);
        assert!(!title(rule).is_empty(), "{rule}");
    }
}

#[test]
fn rows_that_are_not_active_are_left_alone() {
    assert_eq!(rules(vec![Filing { status: Status::Cancelled, access: Vec::new(), ..row("a.io", "x") }]), []);
}
