//! `icpgate registry history`: the rows and events of one domain in the order in which they apply, with file and line.

use std::time::SystemTime;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::lint::{LanguageWord, language};
use crate::cli::text::Text;
use crate::cli::{Status, data};
use crate::model::{Day, DomainName};
use crate::registry::history::{Chapter, Effect, history};
use crate::registry::lint::Language;
use crate::registry::{Filing, Settings};

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  icpgate registry history www.example.com
  icpgate registry history example.com --lang zh
  icpgate registry history example.com --json | jq .chapters

Rows come first, by the day they were filed, then events as they apply over them. Exit status: 0, or 1 where no file says
anything of the domain.";

/// What `history` takes.
#[derive(Args)]
pub struct HistoryArguments {
    /// A name at or below a registrable domain
    name: String,
    /// Language [default: by LC_ALL, LC_MESSAGES or LANG]
    #[arg(long, value_enum)]
    lang: Option<LanguageWord>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    domain: String,
    chapters: Vec<ChapterReport>,
    /// Days that are ahead.
    ahead: Vec<Ahead>,
    /// The state of the row that counts now.
    now: Option<Now>,
}

#[derive(Serialize)]
struct ChapterReport {
    on: Option<String>,
    what: &'static str,
    what_zh: &'static str,
    effect: &'static str,
    effect_zh: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
    cells: serde_json::Map<String, serde_json::Value>,
    file: String,
    line: u32,
}

#[derive(Serialize)]
struct Ahead {
    on: String,
    key: &'static str,
}

#[derive(Serialize)]
struct Now {
    status: &'static str,
    site_no: Option<String>,
    access: Vec<String>,
    file: String,
    line: u32,
}

/// Loads and tells.
pub fn run(settings: &Settings, arguments: &HistoryArguments, now: SystemTime) -> anyhow::Result<Status> {
    let Ok(name) = DomainName::from_text(&arguments.name) else { bail!("{:?} is not a host name", arguments.name) };
    // Which event was refused, and why, is told by a load of the files themselves.
    let settings = Settings { snapshot: None, ..settings.clone() };
    let loaded = data::load_registry(&settings, now).context("registry")?;
    let snapshot = &loaded.snapshot;
    let Some(domain) = snapshot.suffixes().registrable(name.as_ref()) else {
        bail!("{name} is a public suffix, which nobody can file; expected a name below it");
    };
    let domain = domain.to_name();
    let chapters = history(&settings, &loaded, &domain, now).map_err(anyhow::Error::msg).context("registry")?;
    let row = snapshot.find(domain.as_ref()).map(|id| snapshot.filing(id));
    let is_known = !chapters.is_empty() || row.is_some();
    let report = Report {
        domain: domain.to_string(),
        chapters: chapters.into_iter().map(ChapterReport::from).collect(),
        ahead: row.as_ref().map(|row| ahead(row, Day::at(now))).unwrap_or_default(),
        now: row.map(Now::from),
    };
    let mut text = Text::new();
    if arguments.json {
        text.json(&report)?;
    } else {
        report.print(language(arguments.lang), &mut text);
    }
    text.print()?;
    Ok(if is_known { Status::Good } else { Status::Findings })
}

impl From<Chapter> for ChapterReport {
    fn from(chapter: Chapter) -> Self {
        let Chapter { at, what: [what, what_zh], cells, effect, file, line } = chapter;
        let [label, label_zh] = effect.labels();
        Self {
            on: at.map(|at| Day::at(at).to_string()),
            what,
            what_zh,
            effect: label,
            effect_zh: label_zh,
            why: if let Effect::Refused(why) = effect { why } else { String::new() },
            cells: cells.into_iter().map(|(key, value)| (key, value.into())).collect(),
            file: file.to_string(),
            line,
        }
    }
}

impl From<Filing> for Now {
    fn from(row: Filing) -> Self {
        let Filing { status, site_no, access, file, line, .. } = row;
        Self { status: status.label(), site_no, access, file: file.to_string(), line }
    }
}

/// The days from `today` on at which the row that counts changes by itself.
fn ahead(row: &Filing, today: Day) -> Vec<Ahead> {
    let days = [("provisional_access_until", row.provisional_access_until), ("expires_on", row.expires_on)];
    let ahead = days.into_iter().filter_map(|(key, day)| Some((key, day.filter(|day| *day >= today)?)));
    ahead.map(|(key, day)| Ahead { on: day.to_string(), key }).collect()
}

impl Report {
    fn print(&self, language: Language, text: &mut Text) {
        text.line(text.strong(&self.domain));
        for chapter in &self.chapters {
            let on = chapter.on.as_deref().unwrap_or("–");
            let (what, effect) = match language {
                Language::Chinese => (chapter.what_zh, chapter.effect_zh),
                Language::English => (chapter.what, chapter.effect),
            };
            let effect = match chapter.effect {
                "refused" => text.bad(effect),
                "replaced" | "waits" => text.doubtful(effect),
                _ => text.good(effect),
            };
            let place = format!("{}:{}", chapter.file, chapter.line);
            text.line(format_args!("  {on:<10}  {what}  {effect}  {place}"));
            let shown = chapter.cells.iter().filter(|(key, _)| *key != "domain");
            for (key, value) in shown {
                text.line(format_args!("      {key:<24} {}", value.as_str().unwrap_or_default()));
            }
            if !chapter.why.is_empty() {
                text.line(format_args!("      {}", text.bad(&chapter.why)));
            }
        }
        for Ahead { on, key } in &self.ahead {
            let word = if language == Language::Chinese { "将到期" } else { "ahead" };
            text.line(format_args!("  {on:<10}  {word}  {key}"));
        }
        let now = match (&self.now, language) {
            (Some(now), Language::English) => format!("now: {}, row at {}:{}", now.status, now.file, now.line),
            (Some(now), Language::Chinese) => format!("现状：{}，数据行 {}:{}", now.status, now.file, now.line),
            (None, Language::English) => "now: no row, so unfiled".to_owned(),
            (None, Language::Chinese) => "现状：无数据行，视为未备案".to_owned(),
        };
        text.line(now);
    }
}
