//! Findings as a SARIF log (OASIS Static Analysis Results Interchange Format, version 2.1.0).

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::registry::lint::{CHECKS, Check};
use crate::registry::{Issue, Severity};

/// Where the format's schema is published (section 3.13.3).
const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// One log with one run; `message` says a finding in the language of the reader.
pub fn log(issues: &[Issue], message: impl Fn(&Issue) -> String) -> Value {
    let results: Vec<Value> = issues.iter().map(|issue| result(issue, message(issue))).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": {
                    "name": "icpgate",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": CHECKS.iter().map(rule).collect::<Vec<_>>(),
                },
            },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

/// The level of a severity (section 3.27.10).
fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

/// A check as a reporting descriptor (section 3.49).
fn rule(check: &Check) -> Value {
    json!({
        "id": check.id,
        "shortDescription": { "text": check.title() },
        "help": { "text": format!("{} · {}", check.fix_zh, check.fix_en) },
        "defaultConfiguration": { "level": level(check.severity) },
        "properties": { "source": check.source, "reads": check.reads.label() },
    })
}

/// A finding as a result (section 3.27).
fn result(issue: &Issue, message: String) -> Value {
    let mut location = json!({ "artifactLocation": { "uri": uri(&issue.file) } });
    if issue.line > 0 {
        // The column of a finding is the number of a field, which is no place in a line.
        location["region"] = json!({ "startLine": issue.line });
    }
    let mut res = json!({
        "ruleId": issue.rule,
        "level": level(issue.severity),
        "message": { "text": if issue.key.is_empty() { message } else { format!("{}: {message}", issue.key) } },
        "locations": [{ "physicalLocation": location }],
        "properties": { "key": issue.key, "value": issue.value, "field": issue.column, "fix": issue.fix },
    });
    if let Some(at) = CHECKS.iter().position(|check| check.id == issue.rule) {
        res["ruleIndex"] = at.into();
    }
    res
}

/// A path as a URI reference (section 3.4.3; RFC 3986 section 2.1): relative where it is, else of the scheme file.
fn uri(path: &str) -> String {
    let mut res = String::from(if Path::new(path).is_absolute() { "file://" } else { "" });
    for octet in path.bytes() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => res.push(char::from(octet)),
            // A string takes whatever is written.
            octet => drop(write!(res, "%{octet:02X}")),
        }
    }
    res
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri("conf/a b.csv"), "conf/a%20b.csv");
        assert_eq!(uri("/备.csv"), "file:///%E5%A4%87.csv");
    }
}
