//! What operators watch a gate with: alert rules, their runbook and their own tests, and the dashboard. Every metric and
//! label they name is one that the gate shows; `peers/promtool.rs` runs the rules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use icpgate::ops::metrics::{Kind, family};
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

/// Labels that Prometheus adds, or makes of buckets.
const OUTSIDE_LABELS: [&str; 3] = ["job", "instance", "le"];

pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn yaml(name: &str) -> Yaml {
    let mut documents = YamlLoader::load_from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0)
}

/// The alerts of the shipped rules, each with its definition.
fn alerts() -> Vec<(String, Yaml)> {
    let rules = yaml("conf/prometheus/alerts.yml");
    let groups = rules["groups"].as_vec().expect("groups").iter();
    let rules = groups.flat_map(|group| group["rules"].as_vec().expect("rules").clone());
    rules.map(|rule| (rule["alert"].as_str().expect("a name").to_owned(), rule)).collect()
}

/// The expressions of the dashboard, each with its panel.
pub fn dashboard_expressions() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let mut res = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap_or_default();
        for target in panel["targets"].as_array().into_iter().flatten() {
            res.push((title.to_owned(), target["expr"].as_str().expect("an expression").to_owned()));
        }
    }
    res
}

fn dashboard() -> Value {
    serde_json::from_str(&text("conf/grafana/icpgate.json")).expect("JSON")
}

/// The gate's metrics that a text names, with the labels it selects them by.
fn metrics_in(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut res = Vec::new();
    for (at, _) in text.match_indices("icpgate_") {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        let labels = labels.split(',').filter_map(|label| label.split(['=', '!']).next());
        res.push((name, labels.map(str::trim).filter(|label| !label.is_empty()).collect()));
    }
    res
}

/// Panics where a text names a metric, or selects by a label, that the gate does not show.
fn names_are_the_gates(place: &str, text: &str) {
    for (name, labels) in metrics_in(text) {
        let plain = name.strip_prefix("icpgate_").unwrap_or(name);
        let of_histogram = || ["_bucket", "_count", "_sum"].iter().find_map(|end| family(plain.strip_suffix(end)?));
        let known = family(plain).or_else(|| of_histogram().filter(|family| family.kind == Kind::Histogram));
        let known = known.unwrap_or_else(|| panic!("{place}: {name}: no such metric"));
        for label in labels {
            let is_known = known.labels.contains(&label) || OUTSIDE_LABELS.contains(&label);
            assert!(is_known, "{place}: {name} has no label {label}; available: {:?}", known.labels);
        }
    }
}

#[test]
fn names_and_labels_of_an_expression_are_found() {
    let found = metrics_in("sum(rate(icpgate_a_total{x=\"1\",y!~\"2\"}[5m])) > icpgate_b or icpgate_c{}");
    let expected = vec![("icpgate_a_total", vec!["x", "y"]), ("icpgate_b", vec![]), ("icpgate_c", vec![])];
    assert_eq!(found, expected);
}

#[test]
fn alert_rules_name_metrics_and_labels_that_exist() {
    names_are_the_gates("alerts.yml", &text("conf/prometheus/alerts.yml"));
    names_are_the_gates("alerts.test.yml", &text("tests/data/prometheus/alerts.test.yml"));
}

#[test]
fn every_alert_tells_what_how_bad_and_where_to_read_on() {
    let runbook = text("conf/README.md");
    let sections: BTreeSet<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### Icpgate"))
        .map(|rest| format!("Icpgate{rest}"))
        .collect();
    let alerts = alerts();
    assert!(alerts.len() >= 30, "{}", alerts.len());
    for (name, rule) in &alerts {
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity:?}");
        let annotation = |key: &str| rule["annotations"][key].as_str().unwrap_or_default().to_owned();
        for key in ["summary", "description"] {
            let is_chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
            assert!(!annotation(key).is_empty() && !is_chinese(&annotation(key)), "{name}: {key} is English");
            assert!(is_chinese(&annotation(&format!("{key}_zh"))), "{name}: {key}_zh is Chinese");
        }
        assert_eq!(annotation("runbook_url"), format!("conf/README.md#{}", name.to_lowercase()));
        assert!(sections.contains(name), "{name}: no section in conf/README.md");
    }
    let named: BTreeSet<String> = alerts.into_iter().map(|(name, _)| name).collect();
    assert_eq!(sections, named, "the runbook has no other sections");
}

#[test]
fn every_alert_has_a_case_of_its_own() {
    let cases = yaml("tests/data/prometheus/alerts.test.yml");
    let cases: BTreeSet<&str> =
        cases["tests"].as_vec().expect("cases").iter().filter_map(|case| case["name"].as_str()).collect();
    for (name, _) in alerts() {
        assert!(cases.contains(name.as_str()), "{name}: no case");
    }
}

#[test]
fn dashboard_names_metrics_and_labels_that_exist() {
    let expressions = dashboard_expressions();
    assert!(expressions.len() >= 50, "{}", expressions.len());
    for (title, expression) in &expressions {
        names_are_the_gates(title, expression);
        assert!(expression.contains("instance=~\"$instance\""), "{title}: {expression} is of all instances");
    }
    names_are_the_gates("the rest", &dashboard().to_string().replace("\\\"", "\""));
}

#[test]
fn panels_are_told_apart_and_have_title_and_unit() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap_or_default();
        assert!(!title.is_empty(), "{panel}");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: its id is another's");
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
        assert!(!unit.is_empty(), "{title}: no unit");
        let references: Vec<&str> = panel["targets"]
            .as_array()
            .expect("targets")
            .iter()
            .filter_map(|target| target["refId"].as_str())
            .collect();
        assert_eq!(
            references.iter().collect::<BTreeSet<_>>().len(),
            references.len(),
            "{title}: two targets of one name"
        );
    }
    let rows = panels.iter().filter(|panel| panel["type"] == "row").count();
    assert_eq!(rows, 7);
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
        .iter()
        .filter_map(|variable| variable["name"].as_str())
        .collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);
}
