//! `icpgate registry lint`: the findings of the rule book, for people, for programs and for code review (SARIF).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use serde::Serialize;

use super::with_paths;
use crate::audit::report::harmless;
use crate::cli::text::Text;
use crate::cli::{Status, data};
use crate::config;
use crate::count::plural;
use crate::model::Day;
use crate::ops::status::ListStatus;
use crate::ranges::Ranges;
use crate::registry::lint::against::against;
use crate::registry::lint::{FINDINGS_MAX, Findings, Language, Lists, Options, check, lint_loaded};
use crate::registry::source::Format as FileFormat;
use crate::registry::{Issue, Loaded, Settings, Severity, load_copy};

mod sarif;

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  icpgate registry lint --all conf/registry
  icpgate registry lint --against last-week.csv.zst --rule R6c,R6d,R20 today.csv
  icpgate registry lint --format sarif --severity error > registry.sarif
  icpgate registry lint --lang zh --severity info

Exit status: 0 nothing at or above --severity, 1 findings, 2 unreadable or invalid.";

/// Findings of one check that are printed unless told `--all`.
const SHOWN_PER_RULE: usize = 3;

/// What `lint` takes.
#[derive(Args)]
pub struct LintArguments {
    /// Files or directories instead of the configured ones
    paths: Vec<PathBuf>,
    /// An older state to compare with: a file, a directory or a compiled copy
    #[arg(long, value_name = "OLD")]
    against: Option<PathBuf>,
    /// Form of the findings
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
    /// Findings below this are left out and never decide the exit status [default: all are shown, warnings decide]
    #[arg(long, value_enum)]
    severity: Option<SeverityWord>,
    /// Only findings of these checks
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    rule: Vec<String>,
    /// Language of the findings [default: by LC_ALL, LC_MESSAGES or LANG]
    #[arg(long, value_enum)]
    lang: Option<LanguageWord>,
    /// Print every finding, not the first few of each check
    #[arg(long)]
    all: bool,
    /// As `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Comma-separated values, one finding a line
    Csv,
    /// One JSON object
    Json,
    /// SARIF 2.1.0, for code review and editors
    Sarif,
    /// For people, by check
    Text,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SeverityWord {
    Info,
    Warning,
    Error,
}

impl From<SeverityWord> for Severity {
    fn from(word: SeverityWord) -> Self {
        match word {
            SeverityWord::Info => Self::Info,
            SeverityWord::Warning => Self::Warning,
            SeverityWord::Error => Self::Error,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LanguageWord {
    /// English
    En,
    /// Chinese
    Zh,
}

/// Everything that is told; findings in the order of files and lines.
#[derive(Serialize)]
struct Report {
    status: &'static str,
    errors: u64,
    warnings: u64,
    notes: u64,
    seconds: f64,
    rows: usize,
    files: usize,
    digest: String,
    lists: Vec<ListStatus>,
    /// Findings beyond those that are listed.
    hidden: u64,
    findings: Vec<Issue>,
}

/// Loads, checks and tells.
pub fn run(configured: &config::Loaded, arguments: &LintArguments, now: SystemTime) -> anyhow::Result<Status> {
    let begun = Instant::now();
    for id in &arguments.rule {
        if check(id).is_none() {
            let known = crate::registry::lint::CHECKS.iter().map(|check| check.id).collect::<Vec<_>>().join(", ");
            bail!("--rule {id:?}: no such check; expected some of {known}");
        }
    }
    // Lines and fixes are those of the text: a compiled copy has not all of them.
    let settings = Settings { snapshot: None, ..with_paths(&configured.config.registry, &arguments.paths) };
    let lists = Lists::load(&settings.lint).context("registry.lint")?;
    let ranges = known_ranges(configured, now)?;
    let is_ours = |net: &IpNet| ranges.as_deref().is_some_and(|ranges| ranges.is_ours_on_mainland(net));
    let mut options = Options::new(Day::at(now), &lists);
    options.ours = ranges.as_ref().map(|_| (settings.provider.as_str(), &is_ours as _));
    let loaded = data::load_registry(&settings, now).context("registry")?;
    let mut found = Findings::at_most(FINDINGS_MAX);
    loaded.issues.iter().cloned().for_each(|issue| found.push(issue));
    if let Some((more, reasons)) = lint_loaded(&settings, &loaded, &options, now) {
        found.merge(more);
        if !reasons.is_empty() {
            bail!("registry: {}", reasons.join("; "));
        }
    }
    if let Some(old) = &arguments.against {
        let old = older(&settings, old, now)?;
        found.merge(against(&old.snapshot, &loaded.snapshot, &options).unwrap_or_default());
    }
    found.sort();
    let least = arguments.severity.map_or(Severity::Info, Severity::from);
    let found = only(found, least, &arguments.rule);
    let threshold = arguments.severity.map_or(Severity::Warning, Severity::from);
    let status = match found.counts.keys().any(|(severity, _)| *severity >= threshold) {
        true => Status::Findings,
        false => Status::Good,
    };
    let report = Report::new(&loaded, &lists, found, status, begun);
    print(&report, arguments)?;
    Ok(status)
}

/// The ranges, where some are configured.
fn known_ranges(configured: &config::Loaded, now: SystemTime) -> anyhow::Result<Option<Arc<Ranges>>> {
    if configured.config.ranges.paths().is_empty() {
        return Ok(None);
    }
    Ok(Some(data::ranges(configured, now)?.ranges.clone()))
}

/// Loads the older state: tables, or a compiled copy.
fn older(settings: &Settings, path: &Path, now: SystemTime) -> anyhow::Result<Arc<Loaded>> {
    let is_table = path.is_dir() || FileFormat::of(&path.to_string_lossy()).is_some();
    let loaded = match is_table {
        true => data::load_registry(&with_paths(settings, &[path.to_owned()]), now),
        false => load_copy(settings, path, now),
    };
    loaded.with_context(|| format!("--against {}", path.display()))
}

/// The findings that are asked for, counted.
fn only(found: Findings, least: Severity, rules: &[String]) -> Findings {
    let is_asked =
        |severity: Severity, rule: &str| severity >= least && (rules.is_empty() || rules.iter().any(|id| id == rule));
    let mut res = found;
    res.issues.retain(|issue| is_asked(issue.severity, issue.rule));
    res.counts.retain(|(severity, rule), _| is_asked(*severity, rule));
    res
}

impl Report {
    fn new(loaded: &Loaded, lists: &Lists, found: Findings, status: Status, begun: Instant) -> Self {
        let count = |severity: Severity| -> u64 {
            found.counts.iter().filter(|((known, _), _)| *known == severity).map(|(_, count)| count).sum()
        };
        let hidden = found.len().saturating_sub(found.issues.len() as u64);
        Self {
            status: if status == Status::Good { "good" } else { "findings" },
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            notes: count(Severity::Info),
            seconds: begun.elapsed().as_secs_f64(),
            rows: loaded.snapshot.len(),
            files: loaded.files.len(),
            digest: format!("{:016x}", loaded.digest),
            lists: lists.dates.iter().map(ListStatus::from).collect(),
            hidden,
            findings: found.issues,
        }
    }
}

/// The language that is asked for, or that the environment speaks.
pub fn language(asked: Option<LanguageWord>) -> Language {
    let spoken = || {
        let set = ["LC_ALL", "LC_MESSAGES", "LANG"].map(|name| std::env::var(name).unwrap_or_default());
        let first = set.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        if first.starts_with("zh") { Language::Chinese } else { Language::English }
    };
    match asked {
        Some(LanguageWord::En) => Language::English,
        Some(LanguageWord::Zh) => Language::Chinese,
        None => spoken(),
    }
}

/// What a finding says in a language; where it has no Chinese words of its own, its check has some.
fn message(issue: &Issue, language: Language) -> String {
    match (language, issue.message_zh.as_str(), check(issue.rule)) {
        (Language::English, ..) => issue.message.clone(),
        (Language::Chinese, "", Some(check)) => {
            format!("{}；应{}（{}）", check.zh, check.fix_zh, issue.message)
        }
        (Language::Chinese, "", None) => issue.message.clone(),
        (Language::Chinese, words, _) => words.to_owned(),
    }
}

fn print(report: &Report, arguments: &LintArguments) -> anyhow::Result<()> {
    let language = language(arguments.lang);
    let mut text = Text::new();
    match if arguments.json { Form::Json } else { arguments.format } {
        Form::Csv => text.raw(&csv_text(report, language)?),
        Form::Json => text.json(report)?,
        Form::Sarif => text.json(&sarif::log(&report.findings, |issue| message(issue, language)))?,
        Form::Text => print_text(report, arguments.all, language, &mut text),
    }
    text.print()
}

fn csv_text(report: &Report, language: Language) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["severity", "rule", "file", "line", "column", "key", "value", "message", "fix"])?;
    for issue in &report.findings {
        let (line, column) = (issue.line.to_string(), issue.column.to_string());
        let (severity, message) = (issue.severity.label(), message(issue, language));
        let cells = [severity, issue.rule, &issue.file, &line, &column, &issue.key, &issue.value, &message, &issue.fix];
        writer.write_record(cells.map(harmless))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

fn print_text(report: &Report, all: bool, language: Language, text: &mut Text) {
    let Report { rows, files, digest, errors, warnings, notes, seconds, .. } = report;
    let summary = format!("{} of {}, digest {digest}", plural(*rows, "row"), plural(*files, "file"));
    text.line(format_args!("{:<14} {summary}", text.strong("registry")));
    let mut groups: BTreeMap<(Reverse<Severity>, &str), Vec<&Issue>> = BTreeMap::new();
    for issue in &report.findings {
        groups.entry((Reverse(issue.severity), issue.rule)).or_default().push(issue);
    }
    for ((Reverse(severity), rule), issues) in groups {
        let label = match severity {
            Severity::Error => text.bad("error"),
            Severity::Warning => text.doubtful("warning"),
            Severity::Info => text.strong("note"),
        };
        let (title, fix) = check(rule).map_or((String::new(), ""), |check| {
            (check.title(), if language == Language::Chinese { check.fix_zh } else { check.fix_en })
        });
        text.line(format_args!(
            "  {label} {rule} ×{}  {title}; {}: {fix}",
            issues.len(),
            match language {
                Language::Chinese => "应为",
                Language::English => "right",
            }
        ));
        let shown = if all { issues.len() } else { SHOWN_PER_RULE };
        for issue in issues.iter().take(shown) {
            text.line(format_args!("    {}", place_and_words(issue, language)));
        }
        if issues.len() > shown {
            text.line(format_args!("    … {} more; --all prints them", issues.len() - shown));
        }
    }
    if report.hidden > 0 {
        text.line(format_args!("… {} more findings than {FINDINGS_MAX} are not listed", report.hidden));
    }
    let word = if report.status == "good" { text.good("good") } else { text.doubtful("findings") };
    let plural = |count: u64, word: &str| plural(usize::try_from(count).unwrap_or(usize::MAX), word);
    text.line(format_args!(
        "{word}: {}, {}, {} in {seconds:.2} s",
        plural(*errors, "error"),
        plural(*warnings, "warning"),
        plural(*notes, "note")
    ));
}

/// `file:line:column: key = "value": words`.
fn place_and_words(issue: &Issue, language: Language) -> String {
    let label = format!(" {}[{}]:", issue.severity.label(), issue.rule);
    let told = Issue { message: message(issue, language), ..issue.clone() };
    told.to_string().replacen(&label, "", 1)
}
