//! An explanation for people.

use super::super::text::Text;
use crate::policy::explain::Explanation;

/// Prints it, the verdict first.
pub fn explanation(found: &Explanation, text: &mut Text) {
    let report = &found.report;
    let action = if report.action == "allow" { text.good("ALLOW") } else { text.bad("BLOCK") };
    let name = text.strong(&report.name);
    text.line(format_args!("{name}  {action} {}", report.reason));
    text.line(format_args!("  rule {}, {}", report.rule, report.source));
    text.line(format_args!("  {}", found.sentence.zh));
    text.line(format_args!("  {}", found.sentence.en));
    if report.enforced == Some(false) {
        text.line(text.doubtful("  not enforced: the verdict is reported and nothing is changed on the wire"));
    }
    text.gap();
    facts(found, text);
    if !found.steps.is_empty() {
        text.gap();
        text.line(text.strong("steps (rules A.8)"));
        let width = found.steps.iter().map(|step| step.question.len()).max().unwrap_or(0);
        for (i, step) in found.steps.iter().enumerate() {
            text.line(format_args!("  {} {:width$}  {}", i + 1, step.question, step.found));
        }
    }
    if !found.what_would_change_it.is_empty() {
        text.gap();
        text.line(text.strong("what would change it"));
        for change in &found.what_would_change_it {
            text.line(format_args!("  {}: {}", change.with, change.verdict));
        }
    }
    for note in &found.notes {
        text.gap();
        text.line(format_args!("note: {note}"));
    }
}

fn facts(found: &Explanation, text: &mut Text) {
    let report = &found.report;
    let mut fact = |key: &str, value: &str| text.line(format_args!("{key:<10} {value}"));
    if !found.spelling.is_empty() && found.spelling != report.name {
        fact("spelling", &found.spelling);
    }
    match (&report.domain, &found.suffix) {
        (Some(domain), Some(suffix)) => fact("domain", &format!("{domain}, below {suffix}")),
        (Some(domain), None) => fact("domain", domain),
        (None, _) => fact("domain", "none"),
    }
    for target in &found.cnames {
        fact("cname", target);
    }
    for place in &found.places {
        fact("address", &format!("{}: {}", place.address, place.found));
        if found.places.len() > 1 {
            fact("", &format!("alone: {}", place.alone));
        }
    }
    match &report.filing {
        Some(row) => {
            let number = row.site_no.as_deref().unwrap_or("no number");
            let access = if row.access.is_empty() { "nobody (空壳)".to_owned() } else { row.access.join(", ") };
            fact("filing", &format!("{number}, {}, access {access}", row.status));
            fact("", &format!("{}:{}", row.file, row.line));
        }
        None => fact("filing", "none"),
    }
    fact("mode", found.mode);
    fact(
        "data",
        &format!("registry generation {}, ranges generation {}", report.registry_generation, report.ranges_generation),
    );
    if !report.id.is_empty() {
        fact("id", &report.id);
    }
}
