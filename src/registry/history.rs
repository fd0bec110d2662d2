//! The life of one domain as the files tell it: its rows and the events that concern it, in the order in which they apply.
//!
//! Nothing is applied here: what counted, waits or was refused is read off a loaded state.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::domain::clean_domain;
use super::event::{Event, EventKind, main_number};
use super::parse::parse_changes;
use super::reading::{RowVisitor, each_row};
use super::row::{Cell, RowContext};
use super::source::{self, Format};
use super::{Loaded, Settings, Severity};
use crate::model::{Day, DomainName};

/// What became of a row or an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An event that was applied.
    Applied,
    /// The row that counts now.
    Counts,
    /// A row that does not count: another one does, or an event took its place.
    Replaced,
    /// Did not count; why.
    Refused(String),
    /// An event whose time has not come.
    Waits,
}

impl Effect {
    /// The label in JSON, and the words in both languages.
    pub fn labels(&self) -> [&'static str; 2] {
        match self {
            Self::Applied => ["applied", "已生效"],
            Self::Counts => ["counts", "现行"],
            Self::Replaced => ["replaced", "已被取代"],
            Self::Refused(_) => ["refused", "未采用"],
            Self::Waits => ["waits", "未到生效时间"],
        }
    }
}

/// One row or event.
#[derive(Clone, Debug)]
pub struct Chapter {
    /// When: the day a row was filed, the time from which an event holds; `None` where the file does not say.
    pub at: Option<SystemTime>,
    /// `row`, or the event's name.
    pub what: [&'static str; 2],
    /// Keys and values as written.
    pub cells: Vec<(String, String)>,
    /// What became of it.
    pub effect: Effect,
    /// The file.
    pub file: Arc<str>,
    /// Its line.
    pub line: u32,
}

/// Tells the life of `domain` by the files of `loaded`; an error names the file that cannot be read.
pub fn history(
    settings: &Settings,
    loaded: &Loaded,
    domain: &DomainName,
    now: SystemTime,
) -> Result<Vec<Chapter>, String> {
    let mut rows = RowsOfDomain { loaded, domain, file: "".into(), chapters: Vec::new() };
    for summary in &loaded.files {
        rows.file = summary.path.to_string_lossy().into();
        each_row(settings, &summary.path, now, &mut rows).map_err(|error| format!("{}: {error}", rows.file))?;
    }
    let mut res = rows.chapters;
    res.sort_by(|a, b| (a.at, &a.file, a.line).cmp(&(b.at, &b.file, b.line)));
    let mut numbers: BTreeSet<String> = cells(&res, "site_no").map(str::to_owned).collect();
    let counting = loaded.snapshot.find(domain.as_ref()).map(|id| loaded.snapshot.filing(id));
    numbers.extend(counting.and_then(|row| row.site_no));
    for summary in loaded.files.iter().filter(|file| Format::of(&file.path.to_string_lossy()) == Some(Format::Changes))
    {
        let file: Arc<str> = summary.path.to_string_lossy().into();
        let text = source::open(&summary.path, Format::Changes, settings.encoding, now, &Arc::default())
            .and_then(|opened| source::read_text(opened.reader))
            .map_err(|error| format!("{file}: {error}"))?;
        let suffixes = loaded.snapshot.suffixes();
        let context = RowContext { suffixes, year: Day::at(now).year(), file: &file };
        let lines: Vec<&str> = text.lines().collect();
        for event in parse_changes(context, &text, 1).events {
            if concerns(&event, domain, &numbers, loaded) {
                numbers.extend(event.row.as_ref().and_then(|row| row.site_no.clone()));
                let written = usize::try_from(event.line).ok().and_then(|line| lines.get(line.checked_sub(1)?));
                res.push(chapter(&event, written.copied().unwrap_or_default(), loaded, now));
            }
        }
    }
    Ok(res)
}

/// The values that chapters have under a key.
fn cells<'a>(chapters: &'a [Chapter], key: &'a str) -> impl Iterator<Item = &'a str> {
    let all = chapters.iter().flat_map(|chapter| &chapter.cells);
    all.filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
}

/// True for events of the domain itself, of its site, and of the subject it stands under.
fn concerns(event: &Event, domain: &DomainName, numbers: &BTreeSet<String>, loaded: &Loaded) -> bool {
    if event.domain.as_ref() == Some(domain) {
        return true;
    }
    let of_site = || {
        let row = loaded.snapshot.find(event.domain.as_ref()?.as_ref()).map(|id| loaded.snapshot.filing(id))?;
        row.site_no.filter(|site_no| numbers.contains(site_no))
    };
    match event.kind {
        EventKind::DeregisterSubject => {
            event.subject_no.as_ref().is_some_and(|main| numbers.iter().any(|number| main_number(number) == *main))
        }
        EventKind::DeregisterSite => of_site().is_some(),
        EventKind::Change => event.domains.is_some() && of_site().is_some(),
        _ => false,
    }
}

fn chapter(event: &Event, written: &str, loaded: &Loaded, now: SystemTime) -> Chapter {
    let names = EventKind::ALL.iter().find(|(kind, ..)| *kind == event.kind);
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(written).unwrap_or_default();
    let shown = object.into_iter().filter(|(key, _)| !matches!(key.as_str(), "event" | "at"));
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    let effect = match refusal(loaded, &event.file, event.line) {
        Some(why) => Effect::Refused(why),
        None if event.at.is_some_and(|at| at > now) => Effect::Waits,
        None => Effect::Applied,
    };
    Chapter {
        at: event.at,
        what: names.map_or(["event", "事项"], |&(_, en, zh)| [en, zh]),
        cells: shown.map(|(key, value)| (key, text(value))).collect(),
        effect,
        file: event.file.clone(),
        line: event.line,
    }
}

/// Why the row or event on a line does not count.
fn refusal(loaded: &Loaded, file: &str, line: u32) -> Option<String> {
    let issue = loaded.issues.iter().find(|issue| {
        issue.severity == Severity::Error && *issue.file == *file && issue.line == line && issue.rule != "R21"
    })?;
    Some(issue.message.clone())
}

struct RowsOfDomain<'a> {
    loaded: &'a Loaded,
    domain: &'a DomainName,
    file: Arc<str>,
    chapters: Vec<Chapter>,
}

impl RowVisitor for RowsOfDomain<'_> {
    fn wants(&self, _: &[&'static str]) -> bool {
        true
    }

    fn row(&mut self, line: u32, cells: &[Cell<'_>]) {
        let text = |key: &str| cells.iter().find(|cell| cell.key == key).map_or("", |cell| cell.text.trim());
        let snapshot = &self.loaded.snapshot;
        let is_it = clean_domain(snapshot.suffixes(), text("domain")).is_ok_and(|clean| clean.domain == *self.domain);
        if !is_it {
            return;
        }
        let counting = snapshot.find(self.domain.as_ref()).map(|id| snapshot.filing(id));
        let counting = counting.filter(|row| row.file == self.file && (line == 0 || row.line == line));
        let line = if line == 0 { counting.as_ref().map_or(0, |row| row.line) } else { line };
        let effect = match (&counting, refusal(self.loaded, &self.file, line)) {
            (Some(_), _) => Effect::Counts,
            (None, Some(why)) => Effect::Refused(why),
            (None, None) => Effect::Replaced,
        };
        let written = cells.iter().filter(|cell| !cell.text.trim().is_empty());
        self.chapters.push(Chapter {
            at: Day::parse(text("filed_on")).ok().map(Day::begins_at),
            what: ["row", "数据行"],
            cells: written.map(|cell| (cell.key.to_owned(), cell.text.trim().to_owned())).collect(),
            effect,
            file: self.file.clone(),
            line,
        });
    }
}
