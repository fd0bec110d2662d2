//! Rows of a file as they are written, one after the other: for who looks at cells that a load does not keep.
//!
//! Formats and limits are those of a load; rows that a load refuses are passed over, for it says what is wrong with them.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::parse::ROW_OCTETS_MAX;
use super::row::{Cell, canonical_key, fact_key};
use super::settings::Settings;
use super::source::{self, Format, source_error};

/// The key of a column, those that only the linter reads included.
fn key_of(written: &str) -> Option<&'static str> {
    canonical_key(written).or_else(|| fact_key(written))
}

/// What a file's rows are read by.
pub trait RowVisitor {
    /// Says whether rows with these keys are of interest. A format without a header is asked row by row.
    fn wants(&self, keys: &[&'static str]) -> bool;
    /// Takes a row; its line is 0 where the format does not tell it.
    fn row(&mut self, line: u32, cells: &[Cell<'_>]);
}

/// Shows the rows of the table at `path`; an error names what is wrong with the file as a whole. Changes files have none.
pub fn each_row(settings: &Settings, path: &Path, now: SystemTime, visitor: &mut dyn RowVisitor) -> Result<(), String> {
    let Some(format) = Format::of(&path.to_string_lossy()) else { return Ok(()) };
    if format == Format::Changes {
        return Ok(());
    }
    let opened =
        source::open(path, format, settings.encoding, now, &Arc::default()).map_err(|error| error.to_string())?;
    match format {
        Format::Csv => csv_rows(opened.reader, visitor),
        Format::JsonLines => json_rows(opened.reader, visitor),
        Format::Toml => toml_rows(opened.reader, visitor),
        Format::Changes => Ok(()),
    }
}

fn csv_rows(reader: impl Read, visitor: &mut dyn RowVisitor) -> Result<(), String> {
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).has_headers(false).comment(Some(b'#')).from_reader(reader);
    let mut record = csv::StringRecord::new();
    let mut columns: Option<Vec<Option<&'static str>>> = None;
    loop {
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
        if record.len() == 1 && record[0].trim().is_empty() {
            continue;
        }
        let Some(columns) = &columns else {
            let read: Vec<Option<&'static str>> = record.iter().map(|written| key_of(written.trim())).collect();
            if !visitor.wants(&read.iter().flatten().copied().collect::<Vec<_>>()) {
                return Ok(());
            }
            columns = Some(read);
            continue;
        };
        if record.len() != columns.len() {
            continue;
        }
        let line = record.position().map_or(0, |position| u32::try_from(position.line()).unwrap_or(u32::MAX));
        let cells: Vec<Cell<'_>> = columns
            .iter()
            .zip(&record)
            .zip(1..)
            .filter_map(|((key, text), column)| key.map(|key| Cell { key, text: Cow::Borrowed(text), column }))
            .collect();
        visitor.row(line, &cells);
    }
}

fn json_rows(reader: impl Read, visitor: &mut dyn RowVisitor) -> Result<(), String> {
    let mut reader = BufReader::new(reader);
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        // A line that is longer is refused by a load; here memory is what must not grow.
        let limit = ROW_OCTETS_MAX as u64 + 2;
        let read = reader.by_ref().take(limit).read_until(b'\n', &mut text);
        let read = read.map_err(|error| source_error(error).to_string())?;
        if read == 0 {
            return Ok(());
        }
        if !text.ends_with(b"\n") && read as u64 == limit {
            reader.skip_until(b'\n').map_err(|error| source_error(error).to_string())?;
            continue;
        }
        let Ok(object) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&text) else { continue };
        let written = String::from_utf8_lossy(&text);
        object_row(&object, &written, line, visitor);
    }
    Ok(())
}

fn toml_rows(reader: impl Read, visitor: &mut dyn RowVisitor) -> Result<(), String> {
    let text = source::read_text(reader).map_err(|error| error.to_string())?;
    let file: toml::Table = toml::from_str(&text).map_err(|error| error.to_string())?;
    let rows = file.get("filing").and_then(toml::Value::as_array);
    for row in rows.into_iter().flatten() {
        let Ok(serde_json::Value::Object(object)) = serde_json::to_value(row) else { continue };
        object_row(&object, "", 0, visitor);
    }
    Ok(())
}

fn object_row(
    object: &serde_json::Map<String, serde_json::Value>,
    written: &str,
    line: u32,
    visitor: &mut dyn RowVisitor,
) {
    let cells: Vec<Cell<'_>> = object
        .iter()
        .filter_map(|(name, value)| {
            let key = key_of(name)?;
            let text = match value {
                serde_json::Value::String(text) => Cow::Borrowed(text.as_str()),
                serde_json::Value::Null => Cow::Borrowed(""),
                serde_json::Value::Array(items) => {
                    Cow::Owned(items.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(";"))
                }
                other => Cow::Owned(other.to_string()),
            };
            let column = written.find(&format!("\"{name}\"")).map_or(0, |at| u32::try_from(at + 1).unwrap_or(0));
            Some(Cell { key, text, column })
        })
        .collect();
    if visitor.wants(&cells.iter().map(|cell| cell.key).collect::<Vec<_>>()) {
        visitor.row(line, &cells);
    }
}
