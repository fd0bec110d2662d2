//! Text to rows and events: CSV, JSON lines, TOML and change lines. A function of its arguments.
//!
//! A bad row is an issue and never stops the rest. What makes the whole file unfit (no header, cut in the middle of a
//! record, too many rows or bad rows) is a [`FileError`], and then nothing of it counts.

use std::borrow::Cow;

use thiserror::Error;

use super::Filing;
use super::event::{Event, read_event};
use super::issue::{Issue, Severity};
use super::row::{Cell, RowContext, canonical_key, nearest_key, read_row};
use super::source::Format;

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
    #[error("line {line}: the file ends in the middle of a record; it is still being written or was cut")]
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

/// What one file says.
#[derive(Debug, Default)]
pub struct ParsedFile {
    /// Rows of a table.
    pub filings: Vec<Filing>,
    /// Events of a changes file, in order.
    pub events: Vec<Event>,
    /// Findings.
    pub issues: Vec<Issue>,
    /// Rows that do not count.
    pub bad_rows: usize,
}

/// Parses one file's text.
pub fn parse(
    format: Format,
    context: RowContext<'_>,
    text: &str,
    max_bad_rows: usize,
) -> Result<ParsedFile, FileError> {
    let mut res = ParsedFile::default();
    match format {
        Format::Changes => parse_changes(context, text, &mut res)?,
        Format::Csv => parse_csv(context, text, &mut res)?,
        Format::JsonLines => parse_json_lines(context, text, &mut res)?,
        Format::Toml => parse_toml(context, text, &mut res)?,
    }
    if res.bad_rows > max_bad_rows {
        let first = res.issues.iter().find(|issue| issue.severity == Severity::Error).map(ToString::to_string);
        return Err(FileError::TooManyBadRows {
            found: res.bad_rows,
            allowed: max_bad_rows,
            first: first.unwrap_or_default(),
        });
    }
    res.issues.truncate(ISSUES_MAX);
    Ok(res)
}

impl ParsedFile {
    fn row(&mut self, context: RowContext<'_>, line: u32, cells: &[Cell<'_>]) -> Result<(), FileError> {
        if self.filings.len() >= ROWS_MAX {
            return Err(FileError::TooManyRows);
        }
        match read_row(context, line, cells, &mut self.issues) {
            Some(filing) => self.filings.push(filing),
            // An address filed at the authority is no bad row.
            None if self.issues.last().is_some_and(|issue| issue.severity == Severity::Info) => {}
            None => self.bad_rows += 1,
        }
        Ok(())
    }

    fn bad(&mut self, context: RowContext<'_>, line: u32, message: impl Into<String>) {
        self.issues.push(Issue::at(Severity::Error, "format", context.file, line, message));
        self.bad_rows += 1;
    }
}

//--- CSV -------------------------------------------------------------------------------------------------------------

fn parse_csv(context: RowContext<'_>, text: &str, res: &mut ParsedFile) -> Result<(), FileError> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .comment(Some(b'#'))
        .buffer_capacity(256 << 10)
        .from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| FileError::Header(error.to_string()))?.clone();
    let columns = read_header(&header)?;
    let mut record = csv::StringRecord::new();
    loop {
        // The reader says where it stands after the last record, not where the next begins: comments lie between.
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => return Err(FileError::Malformed(error.to_string())),
        }
        let line = record.position().map_or(0, |at| line_of_record(text, at));
        let is_last = reader.position().byte() >= text.len() as u64;
        if record.len() == 1 && record.get(0).is_some_and(|cell| cell.trim().is_empty()) {
            continue;
        }
        if is_last && (ends_inside_quotes(text) || swallowed_the_end(&record, text)) {
            return Err(FileError::CutShort { line });
        }
        if record.len() != columns.len() {
            if is_last && !text.ends_with('\n') {
                return Err(FileError::CutShort { line });
            }
            res.bad(context, line, format!("{} fields; expected {} as in the header", record.len(), columns.len()));
            continue;
        }
        if record.as_slice().len() > ROW_OCTETS_MAX {
            res.bad(context, line, format!("row is longer than {ROW_OCTETS_MAX} octets"));
            continue;
        }
        let cells: Vec<Cell<'_>> = columns
            .iter()
            .zip(record.iter())
            .enumerate()
            .filter_map(|(i, (key, text))| {
                let column = u32::try_from(i + 1).unwrap_or(u32::MAX);
                key.map(|key| Cell { key, text: Cow::Borrowed(text), column })
            })
            .collect();
        res.row(context, line, &cells)?;
    }
}

/// The line a record begins on; the reader counts comments and blank lines before it as its own.
pub(crate) fn line_of_record(text: &str, at: &csv::Position) -> u32 {
    let start = usize::try_from(at.byte()).unwrap_or(usize::MAX);
    let skipped = text.get(start..).unwrap_or("").split_inclusive('\n').take_while(|line| {
        let line = line.trim_end();
        line.is_empty() || line.starts_with('#')
    });
    u32::try_from(at.line()).unwrap_or(u32::MAX).saturating_add(u32::try_from(skipped.count()).unwrap_or(u32::MAX))
}

/// True when a quote opened in the last line is never closed, so that the last record swallowed the end.
pub(crate) fn ends_inside_quotes(text: &str) -> bool {
    !text.ends_with('\n') && text.rsplit('\n').next().is_some_and(|last| last.matches('"').count() % 2 == 1)
}

/// True when the last cell runs to the end of the text, its final line break included: only an open quote does that.
fn swallowed_the_end(record: &csv::StringRecord, text: &str) -> bool {
    let closed = text.trim_end_matches(['\r', '\n']).ends_with('"');
    text.ends_with('\n') && !closed && record.iter().next_back().is_some_and(|cell| cell.ends_with('\n'))
}

/// The canonical key of each column; `None` for `x_` columns, which are the operator's own.
fn read_header(header: &csv::StringRecord) -> Result<Vec<Option<&'static str>>, FileError> {
    let mut res = Vec::new();
    for (i, written) in header.iter().enumerate() {
        let written = written.trim();
        if written.starts_with("x_") {
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

/// Calls `visit` with each non-empty line, its number, and whether a line feed ends it.
fn each_line(text: &str, mut visit: impl FnMut(u32, &str, bool) -> Result<(), FileError>) -> Result<(), FileError> {
    for (i, line) in text.split_inclusive('\n').enumerate() {
        let is_whole = line.ends_with('\n');
        let trimmed = line.trim();
        if !trimmed.is_empty() {
            visit(u32::try_from(i + 1).unwrap_or(u32::MAX), trimmed, is_whole)?;
        }
    }
    Ok(())
}

fn parse_json_lines(context: RowContext<'_>, text: &str, res: &mut ParsedFile) -> Result<(), FileError> {
    each_line(text, |number, line, is_whole| {
        if line.len() > ROW_OCTETS_MAX {
            res.bad(context, number, format!("row is longer than {ROW_OCTETS_MAX} octets"));
            return Ok(());
        }
        let object: serde_json::Map<String, serde_json::Value> = match serde_json::from_str(line) {
            Ok(object) => object,
            Err(_) if !is_whole => return Err(FileError::CutShort { line: number }),
            Err(error) => {
                res.bad(
                    context,
                    number,
                    format!("column {}: {error}; expected one JSON object a line", error.column()),
                );
                return Ok(());
            }
        };
        match object_cells(&object, line) {
            Ok(cells) => res.row(context, number, &cells),
            Err(message) => {
                res.bad(context, number, message);
                Ok(())
            }
        }
    })
}

/// The cells of a JSON object; lists are joined by `;`.
pub(super) fn object_cells<'a>(
    object: &'a serde_json::Map<String, serde_json::Value>,
    line: &str,
) -> Result<Vec<Cell<'a>>, String> {
    let mut res = Vec::with_capacity(object.len());
    for (written, value) in object {
        if written.starts_with("x_") {
            continue;
        }
        let key = canonical_key(written).ok_or_else(|| {
            format!("unknown key {written:?}; did you mean {}? (own keys begin with x_)", nearest_key(written))
        })?;
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

fn parse_changes(context: RowContext<'_>, text: &str, res: &mut ParsedFile) -> Result<(), FileError> {
    each_line(text, |number, line, is_whole| {
        if !is_whole {
            // Appending is not atomic: a line counts once its line feed is there.
            let message = "the last line has no line feed yet; it is applied when it is whole";
            res.issues.push(Issue::at(Severity::Info, "event", context.file, number, message));
            return Ok(());
        }
        if line.len() > ROW_OCTETS_MAX {
            res.bad(context, number, format!("row is longer than {ROW_OCTETS_MAX} octets"));
            return Ok(());
        }
        match read_event(context, number, line, &mut res.issues) {
            Some(event) => res.events.push(event),
            None => res.bad_rows += 1,
        }
        Ok(())
    })
}

//--- TOML ------------------------------------------------------------------------------------------------------------

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlFile {
    #[serde(default)]
    filing: Vec<toml::Spanned<toml::Table>>,
}

fn parse_toml(context: RowContext<'_>, text: &str, res: &mut ParsedFile) -> Result<(), FileError> {
    // serde's message carries line, column and the line itself.
    let file: TomlFile = toml::from_str(text).map_err(|error| FileError::Malformed(error.to_string()))?;
    let mut after = 0;
    for table in &file.filing {
        // The span of an array table may begin at its first key: its header stands before.
        let start = text[after..].find("[[filing]]").map_or(table.span().start, |at| after + at);
        after = (start + 1).max(table.span().start.min(text.len()));
        let line = u32::try_from(text[..start].matches('\n').count() + 1).unwrap_or(u32::MAX);
        let json = toml_object(table.get_ref());
        match object_cells(&json, "") {
            Ok(cells) => res.row(context, line, &cells)?,
            Err(message) => res.bad(context, line, message),
        }
    }
    Ok(())
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
