//! Parts of the formats that blocks do not cover: headers, JSON objects, change lines, TOML. Functions of their arguments.
//!
//! A bad row is an issue and never stops the rest. What makes the whole file unfit (no header, cut in the middle of a
//! record, too many rows or bad rows) is a [`FileError`], and then nothing of it counts.

use std::borrow::Cow;

use thiserror::Error;

use super::arena::Rows;
use super::block::{BlockReader, Findings};
use super::event::{Event, read_event};
use super::issue::{Issue, Severity};
use super::row::{Cell, RowContext, canonical_key, is_passed_over, nearest_key};
use super::split::{Quoting, next_record};

/// Octets of one row.
pub const ROW_OCTETS_MAX: usize = 64 << 10;
/// Rows of one file: the ten million the gate is built for, twice.
pub const ROWS_MAX: usize = 20_000_000;
/// Issues kept of one file; more are counted only.
pub const ISSUES_MAX: usize = 100_000;

/// Why a whole file is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FileError {
    /// The last record is not whole: still being written, or cut.
    #[error(
        "line {line}: the file ends in the middle of a record, or without the line feed that shows it whole; it is still being written or was cut; expected a line feed at the end"
    )]
    CutShort {
        /// Where the record begins.
        line: u32,
    },
    /// No header, or one that lacks or repeats a column.
    #[error("line 1: {0}")]
    Header(String),
    /// Malformed as a whole.
    #[error("{0}")]
    Malformed(String),
    /// More bad rows than the settings accept.
    #[error("{found} bad rows; at most {allowed} are accepted (registry.max-bad-rows); the first: {first}")]
    TooManyBadRows {
        /// Bad rows.
        found: usize,
        /// The setting.
        allowed: usize,
        /// The first of them.
        first: String,
    },
    /// More rows than the limit.
    #[error("more than {ROWS_MAX} rows")]
    TooManyRows,
}

//--- CSV -------------------------------------------------------------------------------------------------------------

/// The header of a CSV and what was read behind it.
#[derive(Debug)]
pub struct Header {
    /// The canonical key of each column; `None` for the operator's own.
    pub columns: Vec<Option<&'static str>>,
    /// The header as written.
    pub text: String,
    /// The line that follows it.
    pub next_line: u32,
    /// What was read and belongs to the rows.
    pub rest: Vec<u8>,
}

/// Why there is no header.
#[derive(Debug)]
pub enum HeaderError {
    /// The file is not UTF-8, from this line on.
    Encoding(usize),
    /// What stands there is no header.
    File(FileError),
}

/// Takes the header, the first record that is neither blank nor a comment, off the start of a file.
pub fn split_header(mut begun: Vec<u8>) -> Result<Header, HeaderError> {
    let (mut at, mut next_line) = (0, 1);
    let mut found = (0, 0);
    while let Some(record) = next_record(&begun[at..], Quoting::Csv) {
        let begin = at;
        at += record.octets;
        next_line += record.lines;
        let text = &begun[begin..at];
        if !text.trim_ascii().is_empty() && !text.starts_with(b"#") {
            found = (begin, at);
            break;
        }
    }
    let text = std::str::from_utf8(&begun[found.0..found.1])
        .map_err(|error| HeaderError::Encoding(super::source::line_count(&begun[..found.0 + error.valid_up_to()])))?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let header = reader.records().next().transpose().map_err(|error| FileError::Header(error.to_string()));
    let columns = header.and_then(|header| read_header(&header.unwrap_or_default())).map_err(HeaderError::File)?;
    let text = text.to_owned();
    let rest = begun.split_off(at);
    Ok(Header { columns, text, next_line, rest })
}

/// The canonical key of each column; `None` for those that a load passes over.
fn read_header(header: &csv::StringRecord) -> Result<Vec<Option<&'static str>>, FileError> {
    let mut res = Vec::new();
    for (i, written) in header.iter().enumerate() {
        let written = written.trim();
        if is_passed_over(written) {
            res.push(None);
            continue;
        }
        let Some(key) = canonical_key(written) else {
            let nearest = nearest_key(written);
            let column = i + 1;
            return Err(FileError::Header(format!(
                "column {column}: unknown column {written:?}; did you mean {nearest}? (own columns begin with x_)"
            )));
        };
        if res.contains(&Some(key)) {
            return Err(FileError::Header(format!("column {}: {key} appears twice", i + 1)));
        }
        res.push(Some(key));
    }
    for key in ["domain", "access"] {
        if !res.contains(&Some(key)) {
            return Err(FileError::Header(format!(
                "column {key} is missing; expected a header line such as domain,site_no,access"
            )));
        }
    }
    Ok(res)
}

//--- JSON lines ------------------------------------------------------------------------------------------------------

/// The cells of a JSON object; lists are joined by `;`.
pub(super) fn object_cells<'a>(
    object: &'a serde_json::Map<String, serde_json::Value>,
    line: &str,
) -> Result<Vec<Cell<'a>>, String> {
    let mut res = Vec::with_capacity(object.len());
    for (written, value) in object {
        let key = match canonical_key(written) {
            Some(key) => key,
            None if is_passed_over(written) => continue,
            None => {
                let nearest = nearest_key(written);
                return Err(format!("unknown key {written:?}; did you mean {nearest}? (own keys begin with x_)"));
            }
        };
        let text = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(text) => Cow::Borrowed(text.as_str()),
            serde_json::Value::Bool(truth) => Cow::Borrowed(if *truth { "true" } else { "false" }),
            serde_json::Value::Number(number) => Cow::Owned(number.to_string()),
            serde_json::Value::Array(items) => {
                let texts: Option<Vec<&str>> = items.iter().map(serde_json::Value::as_str).collect();
                Cow::Owned(texts.ok_or_else(|| format!("{key}: expected a list of texts"))?.join(";"))
            }
            serde_json::Value::Object(_) => {
                return Err(format!("{key}: expected a text, a list of texts or a truth value"));
            }
        };
        let column = line.find(&format!("\"{written}\"")).map_or(0, |at| u32::try_from(at + 1).unwrap_or(0));
        res.push(Cell { key, text, column });
    }
    Ok(res)
}

/// What lines of a changes file say.
#[derive(Debug, Default)]
pub struct ParsedChanges {
    /// In order.
    pub events: Vec<Event>,
    /// Findings.
    pub issues: Vec<Issue>,
    /// Lines that do not count.
    pub bad_lines: usize,
    /// Octets of whole lines; an unfinished last line is left for later.
    pub whole_octets: usize,
    /// Whole lines.
    pub whole_lines: u32,
}

/// Parses lines of a changes file, of which the first is line `first_line`.
pub fn parse_changes(context: RowContext<'_>, text: &str, first_line: u32) -> ParsedChanges {
    let mut res = ParsedChanges::default();
    for (line, number) in text.split_inclusive('\n').zip(first_line..) {
        if !line.ends_with('\n') {
            // Appending is not atomic: a line counts once its line feed is there.
            if !line.trim().is_empty() {
                let message = "the last line has no line feed yet; it is applied when it is whole";
                res.issues.push(Issue::at(Severity::Info, "event", context.file, number, message));
            }
            break;
        }
        res.whole_octets += line.len();
        res.whole_lines += 1;
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if line.len() > ROW_OCTETS_MAX {
            let message = format!("row is longer than {ROW_OCTETS_MAX} octets");
            res.issues.push(Issue::at(Severity::Error, "format", context.file, number, message));
            res.bad_lines += 1;
            continue;
        }
        match read_event(context, number, line, &mut res.issues) {
            Some(event) => res.events.push(event),
            None => res.bad_lines += 1,
        }
    }
    res
}

//--- TOML ------------------------------------------------------------------------------------------------------------

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlFile {
    #[serde(default)]
    filing: Vec<toml::Spanned<toml::Table>>,
}

/// Parses a TOML table; rows go to `runs` through `reader`, their lines counted from 0. There is at least one run.
pub fn parse_toml(reader: &mut BlockReader<'_>, text: &str, runs: &mut Vec<Rows>) -> Result<Findings, FileError> {
    /// Rows of one run: few enough for a chunk however long they are.
    const RUN_ROWS_MAX: usize = 1024;
    // serde's message carries line, column and the line itself.
    let file: TomlFile = toml::from_str(text).map_err(|error| FileError::Malformed(error.to_string()))?;
    let mut found = Findings::default();
    let (mut after, mut lines) = (0, 0);
    let mut rows = Rows::default();
    for table in &file.filing {
        // The span of an array table may begin at its first key: its header stands before.
        let start = text[after..].find("[[filing]]").map_or(table.span().start, |at| after + at);
        lines += text[after.min(start)..start].matches('\n').count();
        after = start;
        let line = u32::try_from(lines).unwrap_or(u32::MAX);
        let json = toml_object(table.get_ref());
        match object_cells(&json, "") {
            Ok(cells) => reader.row(&cells, line, &mut rows, &mut found),
            Err(message) => reader.bad(line, message, &mut found),
        }
        let skipped = (start + 1).max(table.span().start.min(text.len()));
        lines += text[after..skipped].matches('\n').count();
        after = skipped;
        if rows.len() == RUN_ROWS_MAX {
            runs.push(std::mem::take(&mut rows));
        }
    }
    runs.push(rows);
    Ok(found)
}

fn toml_object(table: &toml::Table) -> serde_json::Map<String, serde_json::Value> {
    table.iter().map(|(key, value)| (key.clone(), toml_value(value))).collect()
}

fn toml_value(value: &toml::Value) -> serde_json::Value {
    match value {
        toml::Value::Array(items) => serde_json::Value::Array(items.iter().map(toml_value).collect()),
        toml::Value::Boolean(truth) => serde_json::Value::Bool(*truth),
        toml::Value::Table(table) => serde_json::Value::Object(toml_object(table)),
        toml::Value::String(text) => serde_json::Value::String(text.clone()),
        // Dates and numbers are checked as text, as in the other formats.
        toml::Value::Datetime(_) | toml::Value::Float(_) | toml::Value::Integer(_) => {
            serde_json::Value::String(value.to_string())
        }
    }
}
