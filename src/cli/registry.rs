//! `icpgate registry compile|diff|export|history|lint|lookup|stat`.

mod history;
mod lint;
mod output;
mod stat;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::text::Text;
use super::{Common, Status, data};
use crate::model::{Day, DomainName};
use crate::registry::diff::{Change, diff_on};
use crate::registry::search::{beginning_with, below};
use crate::registry::{Filing, Loaded, Settings, Snapshot};

const EXAMPLES: &str = "\
Examples:
  icpgate registry lookup www.filed.example
  icpgate registry lookup --suffix com.cn --limit 20
  icpgate registry stat --config icpgate.toml
  icpgate registry diff old.csv.zst new.csv.zst";

/// Changes a diff prints unless told `--all`.
const CHANGES_SHOWN: usize = 50;
/// Rows that `lookup` prints by a part of their name.
const ROWS_FOUND: usize = 50;

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Write the compiled copy of the registry that a gate starts from
    #[command(after_help = output::COMPILE_EXAMPLES)]
    Compile(output::CompileArguments),
    /// Print what two registries differ in; exit status 1 if they do
    #[command(after_help = EXAMPLES)]
    Diff(DiffArguments),
    /// Write every row as a table or JSON lines, or a response policy zone for other resolvers
    #[command(after_help = output::EXPORT_EXAMPLES)]
    Export(output::ExportArguments),
    /// Print the rows and events of a domain in the order in which they apply, with file and line
    #[command(after_help = history::EXAMPLES)]
    History(history::HistoryArguments),
    /// Print what the rule book finds in the registry; exit status 1 if it is grave
    #[command(after_help = lint::EXAMPLES)]
    Lint(lint::LintArguments),
    /// Print the row that governs a name, with file and line, or rows by a part of their name; exit status 1 if there is none
    #[command(after_help = EXAMPLES)]
    Lookup(LookupArguments),
    /// Print how many rows there are of what, how long loading them took and how much memory they take
    #[command(after_help = EXAMPLES)]
    Stat(stat::StatArguments),
}

/// What `diff` takes.
#[derive(Args)]
pub struct DiffArguments {
    /// File or directory before
    old: PathBuf,
    /// File or directory after
    new: PathBuf,
    /// Print every change
    #[arg(long)]
    all: bool,
}

/// What `lookup` takes.
#[derive(Args)]
pub struct LookupArguments {
    /// Names at or below a registrable domain
    #[arg(required_unless_present_any = ["prefix", "suffix"])]
    names: Vec<String>,
    /// Rows whose first label begins with this
    #[arg(long, value_name = "TEXT", conflicts_with = "names")]
    prefix: Option<String>,
    /// Rows at or below this name
    #[arg(long, value_name = "NAME", conflicts_with_all = ["names", "prefix"])]
    suffix: Option<String>,
    /// Rows found by a part of their name, at most
    #[arg(long, value_name = "N", default_value_t = ROWS_FOUND, conflicts_with = "names")]
    limit: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Runs one of them.
pub fn run(common: &Common, command: &Command) -> anyhow::Result<Status> {
    let loaded = data::configuration(common)?;
    let settings = &loaded.config.registry;
    let now = SystemTime::now();
    match command {
        Command::Compile(arguments) => output::compile(settings, arguments, now),
        Command::Export(arguments) => output::export(&loaded, arguments, now),
        Command::Diff(arguments) => print_diff(settings, arguments, now),
        Command::History(arguments) => history::run(settings, arguments, now),
        Command::Lint(arguments) => lint::run(&loaded, arguments, now),
        Command::Lookup(arguments) => {
            let registry = data::registry(&loaded, now)?;
            if arguments.names.is_empty() { find(&registry.snapshot, arguments) } else { lookup(&registry, arguments) }
        }
        Command::Stat(arguments) => stat::run(&with_paths(settings, &arguments.paths), arguments, now),
    }
}

/// The configured settings on other files, of which the configured snapshot file says nothing.
fn with_paths(settings: &Settings, paths: &[PathBuf]) -> Settings {
    if paths.is_empty() {
        return settings.clone();
    }
    Settings { paths: paths.to_vec(), snapshot: None, ..settings.clone() }
}

fn print_diff(settings: &Settings, arguments: &DiffArguments, now: SystemTime) -> anyhow::Result<Status> {
    let load = |path: &Path| -> anyhow::Result<Arc<Loaded>> {
        data::load_registry(&with_paths(settings, &[path.to_owned()]), now).with_context(|| path.display().to_string())
    };
    let (old, new) = (load(&arguments.old)?, load(&arguments.new)?);
    let changes = diff_on(&old.snapshot, &new.snapshot, Day::at(now));
    let mut text = Text::new();
    let shown = if arguments.all { usize::MAX } else { CHANGES_SHOWN };
    for change in changes.changes.iter().take(shown) {
        match change {
            Change::Added(domain) => text.line(format_args!("{} {domain}", text.good("+"))),
            Change::Removed(domain) => text.line(format_args!("{} {domain}", text.bad("-"))),
            Change::Changed(domain, what) => {
                text.line(format_args!("{} {domain}  {}", text.doubtful("~"), what.join(", ")));
            }
        }
    }
    let hidden = changes.changes.len().saturating_sub(shown);
    if hidden > 0 {
        text.line(format_args!("… {hidden} more; --all prints them"));
    }
    text.line(format_args!("{} added, {} changed, {} removed", changes.added, changes.changed, changes.removed));
    if let Some(reason) = changes.loss(old.snapshot.active(), settings.max_shrink_percent) {
        text.line(format_args!("a reload would refuse this: {reason}"));
    }
    text.print()?;
    Ok(if changes.changes.is_empty() { Status::Good } else { Status::Findings })
}

fn lookup(loaded: &Loaded, arguments: &LookupArguments) -> anyhow::Result<Status> {
    let mut text = Text::new();
    let mut status = Status::Good;
    let mut rows = Vec::new();
    for name in &arguments.names {
        let Ok(parsed) = DomainName::from_text(name) else { bail!("{name:?} is not a host name") };
        let snapshot = &loaded.snapshot;
        let domain = snapshot.suffixes().registrable(parsed.as_ref());
        let row = domain.and_then(|domain| snapshot.find(domain)).map(|id| snapshot.filing(id));
        match (domain, row) {
            (Some(_), Some(row)) if arguments.json => rows.push(row_json(&row)),
            (Some(_), Some(row)) => print_row(&row, &mut text),
            (Some(domain), None) => {
                status = Status::Findings;
                text.line(format_args!("{domain}: no row; every name at or below it is unfiled"));
            }
            (None, _) => {
                status = Status::Findings;
                text.line(format_args!("{parsed}: a public suffix, which nobody can file"));
            }
        }
    }
    if arguments.json {
        text = Text::new();
        text.json(&rows)?;
    }
    text.print()?;
    Ok(status)
}

/// Prints rows by a part of their name, one a line.
fn find(snapshot: &Snapshot, arguments: &LookupArguments) -> anyhow::Result<Status> {
    let limit = arguments.limit;
    // One more tells that there are more.
    let mut found = match (&arguments.prefix, &arguments.suffix) {
        (Some(text), _) => beginning_with(snapshot, text, limit.saturating_add(1)),
        (None, Some(name)) => {
            let Ok(suffix) = DomainName::from_text(name) else { bail!("--suffix {name:?} is not a domain name") };
            below(snapshot, suffix.as_ref(), limit.saturating_add(1))
        }
        (None, None) => Vec::new(),
    };
    let has_more = found.len() > limit;
    found.truncate(limit);
    let rows: Vec<Filing> = found.iter().map(|&id| snapshot.filing(id)).collect();
    let mut text = Text::new();
    if arguments.json {
        text.json(&rows.iter().map(row_json).collect::<Vec<_>>())?;
    } else {
        for row in &rows {
            let (number, access) = (row.site_no.as_deref().unwrap_or("–"), row.access.join(";"));
            let place = format_args!("{}:{}", row.file, row.line).to_string();
            text.line(format_args!(
                "{}  {number}  {access}  {}  {place}",
                text.strong(&row.domain),
                row.status.label()
            ));
        }
        match (rows.len(), has_more) {
            (_, true) => text.line(format_args!("… and more; --limit prints more than {limit}")),
            (0, false) => text.line("no row"),
            _ => {}
        }
    }
    text.print()?;
    Ok(if rows.is_empty() { Status::Findings } else { Status::Good })
}

/// The cells of a row that have a value, in the order of the interface.
fn cells(row: &Filing) -> Vec<(&'static str, String)> {
    let day = |day: Option<crate::model::Day>| day.map(|day| day.to_string());
    let truth = |is_set: bool| is_set.then(|| "true".to_owned());
    let cells = [
        ("domain", Some(row.domain.to_string())),
        ("domain_unicode", Some(row.domain.as_ref().to_unicode()).filter(|text| !text.is_ascii())),
        ("site_no", row.site_no.clone()),
        ("subject_no", row.subject_no.clone()),
        ("access", Some(row.access.join(";"))),
        ("status", Some(row.status.label().to_owned())),
        ("subject", row.subject.clone()),
        ("subject_type", row.subject_type.clone()),
        ("province", row.province.clone()),
        ("site_name", row.site_name.clone()),
        ("category", row.category.clone()),
        ("approval", row.approval.clone()),
        ("filed_on", day(row.filed_on)),
        ("updated_on", day(row.updated_on)),
        ("expires_on", day(row.expires_on)),
        ("provisional_access_until", day(row.provisional_access_until)),
        ("restricted", truth(row.restricted)),
        ("real_name", row.real_name.map(|is_set| is_set.to_string())),
        ("ip_filed", truth(row.ip_filed)),
        (
            "addresses",
            Some(row.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(";"))
                .filter(|text| !text.is_empty()),
        ),
        ("origin", row.origin.clone()),
        ("service_code", row.service_code.clone()),
        ("account", row.account.clone()),
        ("registrar", row.registrar.clone()),
        ("source", row.source.clone()),
    ];
    cells.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn print_row(row: &Filing, text: &mut Text) {
    text.line(format_args!("{}  {}:{}", text.strong(&row.domain), row.file, row.line));
    for (key, value) in cells(row).into_iter().skip(1) {
        text.line(format_args!("  {key:<24} {value}"));
    }
}

fn row_json(row: &Filing) -> serde_json::Value {
    let mut res: serde_json::Map<String, serde_json::Value> =
        cells(row).into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    res.insert("access".to_owned(), row.access.clone().into());
    res.insert("file".to_owned(), row.file.as_ref().into());
    res.insert("line".to_owned(), row.line.into());
    res.into()
}
