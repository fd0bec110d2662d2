//! The alert rules and the dashboard's expressions, read and run by Prometheus' own tool.

use std::fs;

use super::super::harness::binary::run;
use super::super::observing::{dashboard_expressions, path};

/// What Grafana puts into the dashboard's expressions, with something to stand for it.
const VARIABLES: [(&str, &str); 4] =
    [("$__rate_interval", "5m"), ("$__range", "1h"), ("$job", ".*"), ("$instance", ".*")];

#[test]
fn alert_rules_are_rules_and_notice_what_they_are_to_notice() {
    if !super::are_asked_for() {
        return;
    }
    let text = |name: &str| path(name).display().to_string();
    run("promtool", &["check", "rules", &text("conf/prometheus/alerts.yml")]);
    let said = run("promtool", &["test", "rules", &text("tests/data/prometheus/alerts.test.yml")]);
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
fn expressions_of_the_dashboard_are_expressions() {
    if !super::are_asked_for() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("rules.yml");
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (i, (_, expression)) in dashboard_expressions().into_iter().enumerate() {
        let expression = VARIABLES.iter().fold(expression, |text, (name, value)| text.replace(name, value));
        rules += &format!("      - record: panel_{i}\n        expr: |-\n          {expression}\n");
    }
    fs::write(&file, rules).expect("writes");
    run("promtool", &["check", "rules", &file.display().to_string()]);
}

#[test]
fn the_scrape_job_is_one() {
    if !super::are_asked_for() {
        return;
    }
    run("promtool", &["check", "config", "--syntax-only", &path("conf/prometheus/scrape.yml").display().to_string()]);
}
