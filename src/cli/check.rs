//! `icpgate check`: what a gate would read, read and linted; nothing is bound and nothing is written.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use clap::Args;
use serde::Serialize;

use super::text::Text;
use super::{Common, Status};
use crate::config::{self, ConfigError, Loaded};
use crate::count::plural;
use crate::credentials::CertificateError;
use crate::dns::secure::Servers;
use crate::dns::zones::Zones;
use crate::http::certificates::Certificates;
use crate::http::page::Pages;
use crate::model::Day;
use crate::ops::Missing;
use crate::ops::admin::tls::AdminTls;
use crate::ops::load_line::LoadLine;
use crate::ranges;
use crate::registry;
use crate::registry::lint::{Lists, Options, lint_loaded, title};
use crate::registry::{Issue, LoadError, Settings, Severity, Store, load_store};

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  icpgate check --config /etc/icpgate/icpgate.toml
  icpgate check --all | less
  icpgate check --json | jq .sections[1].groups

Exit status: 0 nothing but notes, 1 errors or warnings in the data, 2 a gate would not start.";

/// Findings of one rule that are printed unless told `--all`.
const SHOWN_PER_RULE: usize = 3;

/// What `check` takes.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    form: Form,
}

/// How findings are printed.
#[derive(Args)]
pub struct Form {
    /// Print every finding, not the first few of each rule
    #[arg(long)]
    all: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// All findings of one rule and severity.
#[derive(Serialize)]
struct Group {
    severity: Severity,
    rule: &'static str,
    title: String,
    count: usize,
    /// The first few, or all.
    findings: Vec<Issue>,
}

/// One part of what a gate reads.
#[derive(Serialize)]
struct Section {
    name: &'static str,
    /// What was read.
    summary: String,
    /// Why it cannot be used, one line a reason.
    failures: Vec<String>,
    /// Doubts that are about no row.
    warnings: Vec<String>,
    groups: Vec<Group>,
}

impl Section {
    fn new(name: &'static str, summary: String) -> Self {
        Self { name, summary, failures: Vec::new(), warnings: Vec::new(), groups: Vec::new() }
    }

    fn failed(name: &'static str, failures: Vec<String>) -> Self {
        Self { failures, ..Self::new(name, "cannot be used".to_owned()) }
    }

    fn with_issues(mut self, issues: impl IntoIterator<Item = Issue>, form: &Form) -> Self {
        let mut groups: BTreeMap<(std::cmp::Reverse<Severity>, &'static str), Group> = BTreeMap::new();
        for issue in issues {
            let (severity, rule) = (issue.severity, issue.rule);
            let empty = || Group { severity, rule, title: title(rule), count: 0, findings: Vec::new() };
            let group = groups.entry((std::cmp::Reverse(severity), rule)).or_insert_with(empty);
            group.count += 1;
            if form.all || group.findings.len() < SHOWN_PER_RULE {
                group.findings.push(issue);
            }
        }
        self.groups = groups.into_values().collect();
        self
    }
}

/// The whole outcome.
#[derive(Serialize)]
struct Report {
    status: &'static str,
    errors: usize,
    warnings: usize,
    notes: usize,
    seconds: f64,
    sections: Vec<Section>,
}

/// Checks everything the configuration leads to.
pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Status> {
    let (begun, now) = (Instant::now(), SystemTime::now());
    let form = &arguments.form;
    let sections = match config::load(common.config.as_deref()) {
        Ok(loaded) => vec![
            check_configuration(&loaded),
            check_registry(&loaded.config.registry, form, now),
            check_ranges(&loaded, form, now),
            check_zones(&loaded),
            check_pages(&loaded),
            check_certificates(&loaded),
        ],
        Err(ConfigError::Invalid(problems)) => {
            vec![Section::failed("configuration", problems.iter().map(ToString::to_string).collect())]
        }
        Err(error) => vec![Section::failed("configuration", vec![error.to_string()])],
    };
    print(sections, form, begun)
}

fn check_configuration(loaded: &Loaded) -> Section {
    let set = config::show::effective(loaded).iter().filter(|key| key.origin != "default").count();
    let name = loaded.file.as_ref().map_or(config::demo::NAME.to_owned(), |file| file.display().to_string());
    let mut res = Section::new("configuration", format!("{name}, {set} keys set"));
    res.warnings.clone_from(&loaded.warnings);
    let settings = &loaded.config;
    if settings.dns.listen.is_empty() && settings.http.listen.is_empty() {
        res.warnings.push("neither dns.listen nor http.listen: nothing would be served".to_owned());
    }
    for (key, is_empty, missing) in [
        ("registry.paths", settings.registry.paths.is_empty(), settings.faults.on_missing_registry),
        ("ranges.mainland and ranges.tags", settings.ranges.paths().is_empty(), settings.faults.on_missing_ranges),
    ] {
        if is_empty && missing == Missing::Refuse {
            res.failures.push(format!("{key}: empty; a gate would not start without data (policy.on-missing-…)"));
        }
    }
    res
}

fn check_registry(settings: &Settings, form: &Form, now: SystemTime) -> Section {
    const NAME: &str = "registry";
    if settings.paths.is_empty() {
        return Section::new(NAME, "not configured".to_owned());
    }
    let store = Store::new(settings.clone());
    let line = LoadLine::begin(store.progress());
    let loaded = load_store(&store, now);
    drop(line);
    match (loaded, Lists::load(&settings.lint)) {
        (Err(LoadError { reasons }), lists) => {
            Section::failed(NAME, reasons.into_iter().chain(lists.err().map(|error| error.to_string())).collect())
        }
        (Ok(_), Err(error)) => Section::failed(NAME, vec![error.to_string()]),
        (Ok(loaded), Ok(lists)) => {
            let registry::Loaded { snapshot, files, digest, issues, .. } = &*loaded;
            let summary =
                format!("{} of {}, digest {digest:016x}", plural(snapshot.len(), "row"), plural(files.len(), "file"));
            let options = Options::new(Day::at(now), &lists);
            let (found, reasons) = lint_loaded(settings, &loaded, &options, now).unwrap_or_default();
            let all = issues.iter().cloned().chain(found.issues);
            let mut res = Section::new(NAME, summary).with_issues(all, form);
            res.warnings.extend(reasons);
            // A copy of its own the gate writes anew; one that was signed for it somebody must bring.
            let refused = store.copy_refused().filter(|_| settings.snapshot_keys.is_some());
            res.warnings.extend(refused.map(|reason| format!("registry.snapshot: not used: {reason}")));
            res
        }
    }
}

fn check_ranges(loaded: &Loaded, form: &Form, now: SystemTime) -> Section {
    const NAME: &str = "ranges";
    let settings = &loaded.config.ranges;
    if settings.paths().is_empty() {
        return Section::new(NAME, "not configured".to_owned());
    }
    match ranges::load_paths(settings, now) {
        Err(LoadError { reasons }) => Section::failed(NAME, reasons),
        Ok(loaded) => {
            let stat = ranges::stat(&loaded.ranges);
            let (v4, v6) = stat.mainland();
            let summary = format!(
                "{}, {v4} IPv4 addresses and {v6} IPv6 /48 need a filing, {} CNAME suffixes",
                plural(loaded.files.len(), "file"),
                stat.cnames
            );
            let mut res = Section::new(NAME, summary).with_issues(loaded.issues.iter().cloned(), form);
            if !stat.rows.iter().any(|row| row.is_ours) {
                res.warnings.push(format!("no range is ours: no tag has provider {:?}", settings.provider));
            }
            res
        }
    }
}

fn check_zones(loaded: &Loaded) -> Section {
    let files = &loaded.config.dns.zones;
    match Zones::load_blocking(files) {
        Ok(zones) => Section::new("zones", plural(zones.len(), "zone")),
        Err(error) => Section::failed("zones", vec![error.to_string()]),
    }
}

fn check_pages(loaded: &Loaded) -> Section {
    let directory = loaded.config.http.block.pages.as_deref();
    let summary = directory.map_or("compiled in".to_owned(), |directory| directory.display().to_string());
    match Pages::load(directory) {
        Ok(_) => Section::new("pages", summary),
        Err(error) => Section::failed("pages", vec![error.to_string()]),
    }
}

fn check_certificates(loaded: &Loaded) -> Section {
    let config = &loaded.config;
    let all = || {
        let admin = config.admin.tls.as_ref().map(AdminTls::load).transpose()?;
        let (servers, certificates) = (Servers::load(&config.dns)?, Certificates::load(&config.http.certificates)?);
        Ok::<_, CertificateError>(servers.len() + certificates.len() + usize::from(admin.is_some()))
    };
    match all() {
        Ok(count) => Section::new("certificates", plural(count, "certificate")),
        Err(error) => Section::failed("certificates", vec![error.to_string()]),
    }
}

fn print(sections: Vec<Section>, form: &Form, begun: Instant) -> anyhow::Result<Status> {
    let count = |severity| -> usize {
        let groups = sections.iter().flat_map(|section| &section.groups);
        groups.filter(|group| group.severity == severity).map(|group| group.count).sum()
    };
    let failures: usize = sections.iter().map(|section| section.failures.len()).sum();
    let doubts: usize = sections.iter().map(|section| section.warnings.len()).sum();
    let (errors, warnings) = (failures + count(Severity::Error), doubts + count(Severity::Warning));
    let (status, word) = match (failures, errors + warnings) {
        (0, 0) => (Status::Good, "good"),
        (0, _) => (Status::Findings, "findings"),
        _ => (Status::Invalid, "invalid"),
    };
    let notes = count(Severity::Info);
    let report = Report { status: word, errors, warnings, notes, seconds: begun.elapsed().as_secs_f64(), sections };
    let mut text = Text::new();
    if form.json {
        text.json(&report)?;
    } else {
        print_report(&report, &mut text);
    }
    text.print()?;
    Ok(status)
}

fn print_report(report: &Report, text: &mut Text) {
    for section in &report.sections {
        text.line(format_args!("{:<14} {}", text.strong(section.name), section.summary));
        for failure in &section.failures {
            text.line(format_args!("  {} {failure}", text.bad("error")));
        }
        for warning in &section.warnings {
            text.line(format_args!("  {} {warning}", text.doubtful("warning")));
        }
        for group in &section.groups {
            print_group(group, text);
        }
    }
    let Report { errors, warnings, notes, seconds, .. } = report;
    let word = match report.status {
        "good" => text.good("good"),
        "findings" => text.doubtful("findings"),
        word => text.bad(word),
    };
    text.line(format_args!(
        "{word}: {}, {}, {} in {seconds:.2} s",
        plural(*errors, "error"),
        plural(*warnings, "warning"),
        plural(*notes, "note")
    ));
}

fn print_group(group: &Group, text: &mut Text) {
    let label = match group.severity {
        Severity::Error => text.bad("error"),
        Severity::Warning => text.doubtful("warning"),
        Severity::Info => text.strong("note"),
    };
    text.line(format_args!("  {label} {} ×{}  {}", group.rule, group.count, group.title));
    for issue in &group.findings {
        text.line(format_args!("    {}", without_label(issue)));
    }
    let hidden = group.count - group.findings.len();
    if hidden > 0 {
        text.line(format_args!("    … {hidden} more; --all prints them"));
    }
}

/// The finding without severity and rule, which the heading has.
fn without_label(issue: &Issue) -> String {
    let label = format!(" {}[{}]:", issue.severity.label(), issue.rule);
    issue.to_string().replacen(&label, "", 1)
}
