//! Life-cycle events (rules A.5): reading a change line, and applying it to the rows.
//!
//! An event that breaks the rules is refused with its line and reason; later events still apply.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Filing;
use super::issue::{Issue, Severity};
use super::parse::object_cells;
use super::row::{RowContext, canonical_key, read_row};
use crate::model::{Day, DomainName, FilingNumber, Status};

use super::domain::clean_domain;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// 接入备案.
    AddAccess,
    /// 新增网站.
    AddSite,
    /// 取消接入.
    CancelAccess,
    /// 变更备案.
    Change,
    /// 认领备案.
    Claim,
    /// 注销网站.
    DeregisterSite,
    /// 注销主体.
    DeregisterSubject,
    /// 首次备案.
    FirstFiling,
    /// 导入备案.
    Import,
}

impl EventKind {
    /// Every kind with its spelling and Chinese name.
    pub const ALL: [(Self, &'static str, &'static str); 9] = [
        (Self::AddAccess, "add-access", "接入备案"),
        (Self::AddSite, "add-site", "新增网站"),
        (Self::CancelAccess, "cancel-access", "取消接入"),
        (Self::Change, "change", "变更备案"),
        (Self::Claim, "claim", "认领"),
        (Self::DeregisterSite, "deregister-site", "注销网站"),
        (Self::DeregisterSubject, "deregister-subject", "注销主体"),
        (Self::FirstFiling, "first-filing", "首次备案"),
        (Self::Import, "import", "导入"),
    ];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name, zh)| *name == text || *zh == text).map(|&(kind, _, _)| kind)
    }
}

/// One line of a changes file.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its number in the file; events apply in rising order and each once.
    pub seq: Option<u64>,
    /// From when it holds; before that it waits. `None` means at once.
    pub at: Option<SystemTime>,
    /// What happened.
    pub kind: EventKind,
    /// The domain concerned; `None` for 注销主体.
    pub domain: Option<DomainName>,
    /// 主体备案号, for 注销主体.
    pub subject_no: Option<String>,
    /// The provider whose access comes or goes.
    pub provider: Option<String>,
    /// Domains the site keeps, for 变更备案.
    pub domains: Option<Vec<DomainName>>,
    /// The row as far as the event gives it.
    pub row: Option<Box<Filing>>,
    /// Keys of the row that the event gives.
    pub keys: Vec<&'static str>,
    /// The file.
    pub file: Arc<str>,
    /// Its line.
    pub line: u32,
}

/// Reads a change line; `None` means it does not count, and why is among the issues.
pub fn read_event(context: RowContext<'_>, line: u32, text: &str, issues: &mut Vec<Issue>) -> Option<Event> {
    let mut refuse = |message: String| {
        issues.push(Issue::at(Severity::Error, "event", context.file, line, message));
        None::<Event>
    };
    let mut object: serde_json::Map<String, serde_json::Value> = match serde_json::from_str(text) {
        Ok(object) => object,
        Err(error) => return refuse(format!("column {}: {error}; expected one JSON object a line", error.column())),
    };
    let kind_text = object.remove("event").and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let Some(kind) = EventKind::parse(&kind_text) else {
        let known = EventKind::ALL.map(|(_, name, _)| name).join(", ");
        return refuse(format!("unknown event {kind_text:?}; expected one of {known}"));
    };
    let seq = object.remove("seq");
    if seq.as_ref().is_some_and(|seq| seq.as_u64().is_none()) {
        return refuse("seq must be a whole number".to_owned());
    }
    let at = match object.remove("at").map(|value| read_time(&value)) {
        None => None,
        Some(Some(at)) => Some(at),
        Some(None) => return refuse("at: expected a time such as 2026-11-24T08:00:00Z, or a day".to_owned()),
    };
    let provider = object.remove("provider").and_then(|value| value.as_str().map(str::to_owned));
    let domains = match object.remove("domains").map(|value| read_domains(context, &value)) {
        None => None,
        Some(Ok(domains)) => Some(domains),
        Some(Err(message)) => return refuse(message),
    };
    let mut res = Event {
        seq: seq.and_then(|seq| seq.as_u64()),
        at,
        kind,
        domain: None,
        subject_no: None,
        provider,
        domains,
        row: None,
        keys: Vec::new(),
        file: context.file.clone(),
        line,
    };
    if kind == EventKind::DeregisterSubject {
        let number = object.get("subject_no").and_then(serde_json::Value::as_str).unwrap_or_default();
        return match FilingNumber::parse(number, context.year) {
            Ok((number, _)) => Some(Event { subject_no: Some(number.main().to_owned()), ..res }),
            Err(error) => refuse(format!("subject_no: {error}")),
        };
    }
    let domain = object.get("domain").and_then(serde_json::Value::as_str).unwrap_or_default();
    match clean_domain(context.suffixes, domain) {
        Ok(clean) => res.domain = Some(clean.domain),
        Err((_, message)) => return refuse(format!("domain {domain:?}: {message}")),
    }
    if matches!(
        kind,
        EventKind::FirstFiling | EventKind::AddSite | EventKind::Change | EventKind::Claim | EventKind::Import
    ) {
        if kind == EventKind::Change && !leaves_status(&mut object) {
            return refuse(
                "a change does not touch status; expected deregister-site, or the row's table to say so".into(),
            );
        }
        let written = object.iter().filter(|(_, value)| !value.is_null());
        res.keys = written.filter_map(|(key, _)| canonical_key(key)).collect();
        complete_row(&mut object, kind);
        let cells = match object_cells(&object, text) {
            Ok(cells) => cells,
            Err(message) => return refuse(message),
        };
        res.row = Some(Box::new(read_row(context, line, &cells, issues)?));
    }
    Some(res)
}

/// A time (RFC 3339), or a day, which begins at midnight of the authority's time zone.
fn read_time(value: &serde_json::Value) -> Option<SystemTime> {
    let text = value.as_str()?;
    if let Ok(day) = Day::parse(text) {
        return Some(day.begins_at());
    }
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    let seconds = u64::try_from(time.unix_timestamp()).unwrap_or(0);
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Takes the status off a change of a row in force; false when it says something else than that.
fn leaves_status(object: &mut serde_json::Map<String, serde_json::Value>) -> bool {
    let in_force = |value: serde_json::Value| {
        value.is_null() || value.as_str().and_then(Status::parse).is_some_and(|status| status == Status::Active)
    };
    ["status", "状态"].iter().all(|key| object.remove(*key).is_none_or(in_force))
}

/// Keys a row must have but an event of this kind need not give.
fn complete_row(object: &mut serde_json::Map<String, serde_json::Value>, kind: EventKind) {
    if matches!(kind, EventKind::Change | EventKind::Claim | EventKind::Import) {
        let has_access = object.contains_key("access") || object.contains_key("接入商");
        // These change neither number nor access; what they do give of those is refused when applied.
        if !has_access {
            object.insert("access".to_owned(), serde_json::Value::Null);
        }
        let has_either = object.contains_key("status") || object.contains_key("site_no");
        if kind == EventKind::Change || !has_either {
            object.insert("status".to_owned(), "pending".into());
        }
    }
    if let Some(access) = object.get_mut("access")
        && access.is_null()
    {
        *access = serde_json::Value::Array(Vec::new());
    }
}

fn read_domains(context: RowContext<'_>, value: &serde_json::Value) -> Result<Vec<DomainName>, String> {
    let items = value.as_array().ok_or("domains: expected a list of domains")?;
    items
        .iter()
        .map(|item| {
            let text = item.as_str().ok_or("domains: expected a list of domains")?;
            clean_domain(context.suffixes, text)
                .map(|clean| clean.domain)
                .map_err(|(_, message)| format!("{text:?}: {message}"))
        })
        .collect()
}

//--- Applying --------------------------------------------------------------------------------------------------------

/// The rows that events are applied to.
pub trait EventRows {
    /// The row of a domain.
    fn row(&self, domain: &DomainName) -> Option<Filing>;
    /// Every row under a main number, whatever its status, in order of names.
    fn rows_of_subject(&self, main_number: &str) -> Vec<Filing>;
    /// Replaces the row of its domain.
    fn replace(&mut self, row: Filing);
}

/// What applying events needs and leaves.
#[derive(Debug)]
pub struct Applying<'a> {
    /// Whose provisional access ends with its access.
    pub provider: &'a str,
    /// The time: events of later are left waiting.
    pub now: SystemTime,
    /// Number of the last event taken.
    pub last_seq: &'a mut u64,
    /// Refused events.
    pub issues: &'a mut Vec<Issue>,
    /// Times of those that wait, with the domains concerned.
    pub waiting: &'a mut Vec<(SystemTime, Option<DomainName>)>,
}

/// Applies events of one file in order; refused ones become issues.
pub fn apply_events(rows: &mut dyn EventRows, events: &[Event], applying: Applying<'_>) {
    let Applying { provider, now, last_seq, issues, waiting } = applying;
    for event in events {
        if let Some(seq) = event.seq {
            if seq <= *last_seq {
                let message = format!("seq {seq} was applied already or is out of order; the last was {last_seq}");
                issues.push(Issue::at(Severity::Error, "event", &event.file, event.line, message));
                continue;
            }
            if *last_seq > 0 && seq > *last_seq + 1 {
                let message = format!("seq jumps from {last_seq} to {seq}; lines may be missing");
                issues.push(Issue::at(Severity::Warning, "event", &event.file, event.line, message));
            }
            *last_seq = seq;
        }
        if let Some(at) = event.at.filter(|at| *at > now) {
            waiting.push((at, event.domain.clone()));
            continue;
        }
        if let Err(message) = apply(rows, event, provider) {
            issues.push(Issue::at(Severity::Error, "event", &event.file, event.line, message));
        }
    }
}

/// The main number of a site number.
pub fn main_number(site_no: &str) -> String {
    FilingNumber::parse(site_no, i32::MAX).map_or_else(|_| site_no.to_owned(), |(number, _)| number.main().to_owned())
}

/// The main number a row stands under.
pub fn subject_of(filing: &Filing) -> Option<String> {
    filing.subject_no.clone().or_else(|| filing.site_no.as_deref().map(main_number))
}

fn is_filed(filing: &Filing) -> bool {
    filing.status == Status::Active
}

fn apply(rows: &mut dyn EventRows, event: &Event, ours: &str) -> Result<(), String> {
    match event.kind {
        EventKind::FirstFiling | EventKind::AddSite => file_site(rows, event),
        EventKind::AddAccess => {
            let provider =
                event.provider.clone().ok_or("provider is missing; expected the id whose access is added")?;
            let mut row = filed_row(rows, event)?;
            if row.access.contains(&provider) {
                return Err(format!("{provider} gives access already"));
            }
            row.access.push(provider);
            row.access.sort_unstable();
            row.provisional_access_until = None;
            place(rows, row, event);
            Ok(())
        }
        EventKind::CancelAccess => cancel_access(rows, event, ours),
        EventKind::Change => change(rows, event),
        EventKind::Claim | EventKind::Import => {
            let account = event.row.as_ref().and_then(|row| row.account.clone());
            let mut row = filed_row(rows, event)?;
            if account.is_some() {
                row.account = account;
                rows.replace(row);
            }
            Ok(())
        }
        EventKind::DeregisterSite => {
            let row = filed_row(rows, event)?;
            if let Some(site_no) = row.site_no.clone() {
                cancel(rows, event, &main_number(&site_no), |other| other.site_no.as_ref() == Some(&site_no));
            }
            cancel_row(rows, event, row);
            Ok(())
        }
        EventKind::DeregisterSubject => {
            let number = event.subject_no.as_deref().unwrap_or_default();
            let found = cancel(rows, event, number, |row| subject_of(row).as_deref() == Some(number));
            if found == 0 { Err("no filed site has this main number".to_owned()) } else { Ok(()) }
        }
    }
}

/// 取消接入: a provider gives access no longer. Provisional access is ours, and ends with it (rule B4).
fn cancel_access(rows: &mut dyn EventRows, event: &Event, ours: &str) -> Result<(), String> {
    let provider = event.provider.as_ref().ok_or("provider is missing; expected the id whose access ends")?;
    let mut row = filed_row(rows, event)?;
    let before = row.access.len();
    row.access.retain(|id| id != provider);
    let was_provisional = provider == ours && row.provisional_access_until.take().is_some();
    if row.access.len() == before && !was_provisional {
        return Err(format!("{provider} gives no access; those that do: {}", row.access.join(", ")));
    }
    place(rows, row, event);
    Ok(())
}

/// Replaces a row; the line an event stands on is where its effect is to be looked up.
fn place(rows: &mut dyn EventRows, mut row: Filing, event: &Event) {
    row.file = event.file.clone();
    row.line = event.line;
    rows.replace(row);
}

fn filed_row(rows: &dyn EventRows, event: &Event) -> Result<Filing, String> {
    let domain = event.domain.as_ref().ok_or("domain is missing")?;
    match rows.row(domain) {
        Some(row) if is_filed(&row) => Ok(row),
        Some(row) => Err(format!("{domain} is {}, not filed", row.status.label())),
        None => Err(format!("{domain} has no filing")),
    }
}

/// Cancels the filed rows under a main number that `matches` accepts; gives how many.
fn cancel(rows: &mut dyn EventRows, event: &Event, main_number: &str, matches: impl Fn(&Filing) -> bool) -> usize {
    let found: Vec<Filing> =
        rows.rows_of_subject(main_number).into_iter().filter(|row| is_filed(row) && matches(row)).collect();
    let count = found.len();
    found.into_iter().for_each(|row| cancel_row(rows, event, row));
    count
}

fn cancel_row(rows: &mut dyn EventRows, event: &Event, row: Filing) {
    place(rows, Filing { status: Status::Cancelled, ..row }, event);
}

/// 首次备案 and 新增网站: a new site; the first asks for a new subject, the second for a known one.
fn file_site(rows: &mut dyn EventRows, event: &Event) -> Result<(), String> {
    let row = event.row.as_deref().ok_or("the event carries no row")?;
    let site_no = row.site_no.as_deref().ok_or("site_no is missing; a filing succeeds with its number")?;
    let before = rows.row(&row.domain);
    if before.as_ref().is_some_and(is_filed) {
        return Err(format!("{} is filed already", row.domain));
    }
    let subject = main_number(site_no);
    let under_number = rows.rows_of_subject(&subject);
    let mut of_subject =
        under_number.iter().filter(|known| is_filed(known) && subject_of(known).as_ref() == Some(&subject));
    if let Some(holder) = of_subject.clone().find(|known| known.site_no.as_deref() == Some(site_no)) {
        return Err(format!("{site_no} is the number of {} already (rule R20)", holder.domain));
    }
    let subject_is_known = of_subject.next().is_some();
    match (event.kind, subject_is_known) {
        (EventKind::FirstFiling, true) => Err(format!("{subject} is filed already; expected add-site (新增网站)")),
        (EventKind::AddSite, false) => Err(format!("{subject} is not filed; expected first-filing (首次备案)")),
        _ => {
            // A restriction outlasts the filing it came with, until somebody says that it is lifted.
            let was_restricted = before.is_some_and(|row| row.restricted) && !event.keys.contains(&"restricted");
            rows.replace(Filing { restricted: row.restricted || was_restricted, ..row.clone() });
            Ok(())
        }
    }
}

/// 变更备案: attributes change; number and access do not; domains may only stay or go (rule R6d).
fn change(rows: &mut dyn EventRows, event: &Event) -> Result<(), String> {
    let given = event.row.as_deref().ok_or("the event carries no row")?;
    let old = filed_row(rows, event)?;
    may_change(event, given, &old)?;
    if let Some(domains) = &event.domains {
        keep_domains(rows, event, &old, domains)?;
    }
    let Some(mut row) = rows.row(&old.domain) else { return Ok(()) };
    event.keys.iter().for_each(|key| copy_attribute(key, given, &mut row));
    place(rows, row, event);
    Ok(())
}

/// Refuses keys that a change leaves as they are, unless it says what they are already.
fn may_change(event: &Event, given: &Filing, old: &Filing) -> Result<(), String> {
    if event.provider.is_some() {
        return Err("a change has no provider; expected add-access or cancel-access".to_owned());
    }
    for key in &event.keys {
        let (is_as_before, expected) = match *key {
            "access" => (given.access == old.access, "add-access or cancel-access"),
            "account" => (given.account == old.account, "claim or import"),
            "filed_on" => (given.filed_on == old.filed_on, "the row's table to say so"),
            "ip_filed" => (given.ip_filed == old.ip_filed, "the row's table to say so"),
            "site_no" => (given.site_no == old.site_no, "deregister-site, then first-filing or add-site"),
            "subject_no" => (given.subject_no == subject_of(old), "deregister-site, then first-filing or add-site"),
            _ => continue,
        };
        if !is_as_before {
            return Err(format!("a change does not touch {key}; expected {expected}"));
        }
    }
    Ok(())
}

/// Copies what a change may change.
fn copy_attribute(key: &str, given: &Filing, row: &mut Filing) {
    match key {
        "subject" => row.subject.clone_from(&given.subject),
        "subject_type" => row.subject_type.clone_from(&given.subject_type),
        "province" => row.province.clone_from(&given.province),
        "site_name" => row.site_name.clone_from(&given.site_name),
        "category" => row.category.clone_from(&given.category),
        "approval" => row.approval.clone_from(&given.approval),
        "updated_on" => row.updated_on = given.updated_on,
        "expires_on" => row.expires_on = given.expires_on,
        "provisional_access_until" => row.provisional_access_until = given.provisional_access_until,
        "restricted" => row.restricted = given.restricted,
        "real_name" => row.real_name = given.real_name,
        "addresses" => row.addresses.clone_from(&given.addresses),
        "origin" => row.origin.clone_from(&given.origin),
        "service_code" => row.service_code.clone_from(&given.service_code),
        "registrar" => row.registrar.clone_from(&given.registrar),
        "source" => row.source.clone_from(&given.source),
        // The domain itself, and what [`may_change`] found to be as before.
        _ => {}
    }
}

/// Cancels the domains of a site that a change does not list; it may list no new one.
fn keep_domains(rows: &mut dyn EventRows, event: &Event, old: &Filing, domains: &[DomainName]) -> Result<(), String> {
    let of_site = |row: &Filing| is_filed(row) && row.site_no.is_some() && row.site_no == old.site_no;
    if let Some(new) = domains.iter().find(|domain| !rows.row(domain).as_ref().is_some_and(of_site)) {
        return Err(format!("{new} is not a domain of this site; a change can only keep or delete domains (rule R6d)"));
    }
    let Some(site_no) = &old.site_no else { return Ok(()) };
    cancel(rows, event, &main_number(site_no), |row| of_site(row) && !domains.contains(&row.domain));
    Ok(())
}
