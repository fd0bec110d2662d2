//! One block of a table to packed rows: the quick way where it is certain, the careful way for the rest.

use std::borrow::Cow;

use super::arena::Rows;
use super::dictionary::{Dictionary, Remembered};
use super::issue::{Issue, Severity};
use super::parse::{FileError, ROW_OCTETS_MAX, object_cells};
use super::quick::Quick;
use super::row::{Cell, RowContext, read_row};
use super::source::Format;
use super::split::{Quotes, Quoting, Reach, next_record_in};

/// What all blocks of a file are read with.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// Format of the file.
    pub format: Format,
    /// What rows are checked against.
    pub context: RowContext<'a>,
    /// Shared texts.
    pub dictionary: &'a Dictionary,
    /// Whose access is "here".
    pub provider: &'a str,
    /// The canonical key of each column of a CSV; `None` for the operator's own.
    pub columns: &'a [Option<&'static str>],
}

impl Reading<'_> {
    /// How records of this format are told apart.
    pub fn quoting(&self) -> Quoting {
        if self.format == Format::Csv { Quoting::Csv } else { Quoting::None }
    }
}

/// Reads blocks; one a worker and file.
pub struct BlockReader<'a> {
    reading: Reading<'a>,
    quick: Quick<'a>,
    remembered: Remembered,
}

/// What a block holds beside its rows.
#[derive(Debug, Default)]
pub struct Findings {
    /// Findings; their lines count from the block's first line, which is 0.
    pub issues: Vec<Issue>,
    /// Rows that do not count.
    pub bad_rows: u32,
}

impl<'a> BlockReader<'a> {
    /// A reader of blocks of one file.
    pub fn new(reading: Reading<'a>) -> Self {
        let context = reading.context;
        let quick = Quick::new(reading.dictionary, reading.provider, context.suffixes, context.year, reading.columns);
        Self { reading, quick, remembered: Remembered::default() }
    }

    /// Appends the rows of a block. `ends_file` tells that the file ends with it. Errors name lines as findings do.
    pub fn read(&mut self, text: &str, ends_file: bool, rows: &mut Rows) -> Result<Findings, FileError> {
        let mut found = Findings::default();
        let (mut at, mut line) = (0, 0);
        let reach = if ends_file { Reach::File } else { Reach::Records };
        while let Some(record) = next_record_in(&text.as_bytes()[at..], self.reading.quoting(), reach) {
            let end = at + record.octets;
            let whole = &text[at..end];
            let content = whole.strip_suffix('\n').unwrap_or(whole);
            let is_cut = ends_file && end == text.len() && !whole.ends_with('\n');
            let row = Row { text: content.strip_suffix('\r').unwrap_or(content), line, is_cut };
            if is_cut && self.reading.format == Format::Csv && is_record(whole) {
                // `self` may be cut to `sel`, and a row of few cells to one that lacks only the last.
                return Err(FileError::CutShort { line });
            }
            match self.reading.format {
                Format::Csv if record.quotes == Quotes::Open => return Err(FileError::CutShort { line }),
                Format::Csv if record.quotes == Quotes::Stray => {
                    let message = format!("a quote opens here and is not closed within {ROW_OCTETS_MAX} octets");
                    self.bad(line, message, &mut found);
                }
                Format::Csv if record.quotes == Quotes::Closed => {
                    self.quoted(&Row { text: whole, ..row }, rows, &mut found)?;
                }
                Format::Csv => self.plain(&row, rows, &mut found)?,
                Format::Changes | Format::JsonLines | Format::Toml => self.json(&row, rows, &mut found)?,
            }
            at = end;
            line += record.lines;
        }
        Ok(found)
    }

    /// A record without quotes.
    fn plain(&mut self, row: &Row<'_>, rows: &mut Rows, found: &mut Findings) -> Result<(), FileError> {
        if row.text.is_empty() || row.text.starts_with('#') {
            return Ok(());
        }
        if row.text.len() <= ROW_OCTETS_MAX && self.quick.read(&mut self.remembered, row.text, row.line, rows) {
            return Ok(());
        }
        let cells: Vec<&str> = row.text.split(',').collect();
        self.careful(&cells, row, rows, found)
    }

    /// A record with quotes or carriage returns, which may make it several.
    fn quoted(&mut self, row: &Row<'_>, rows: &mut Rows, found: &mut Findings) -> Result<(), FileError> {
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .has_headers(false)
            .comment(Some(b'#'))
            .buffer_capacity(row.text.len().max(1))
            .from_reader(row.text.as_bytes());
        for record in reader.records() {
            let record = record.map_err(|error| FileError::Malformed(error.to_string()))?;
            let cells: Vec<&str> = record.iter().collect();
            self.careful(&cells, row, rows, found)?;
        }
        Ok(())
    }

    fn careful(
        &mut self,
        texts: &[&str],
        row: &Row<'_>,
        rows: &mut Rows,
        found: &mut Findings,
    ) -> Result<(), FileError> {
        if matches!(texts, [only] if only.trim().is_empty()) {
            return Ok(());
        }
        let columns = self.reading.columns;
        if texts.len() != columns.len() {
            let message = format!("{} fields; expected {} as in the header", texts.len(), columns.len());
            self.bad(row.line, message, found);
            return Ok(());
        }
        if texts.iter().map(|text| text.len()).sum::<usize>() > ROW_OCTETS_MAX {
            self.bad(row.line, format!("row is longer than {ROW_OCTETS_MAX} octets"), found);
            return Ok(());
        }
        let cells = columns
            .iter()
            .zip(texts)
            .zip(1..)
            .filter_map(|((key, &text), column)| key.map(|key| Cell { key, text: Cow::Borrowed(text), column }));
        self.row(&cells.collect::<Vec<_>>(), row.line, rows, found);
        Ok(())
    }

    fn json(&mut self, row: &Row<'_>, rows: &mut Rows, found: &mut Findings) -> Result<(), FileError> {
        let text = row.text.trim();
        if text.is_empty() {
            return Ok(());
        }
        if text.len() > ROW_OCTETS_MAX {
            self.bad(row.line, format!("row is longer than {ROW_OCTETS_MAX} octets"), found);
            return Ok(());
        }
        let object: serde_json::Map<String, serde_json::Value> = match serde_json::from_str(text) {
            Ok(object) => object,
            Err(_) if row.is_cut => return Err(FileError::CutShort { line: row.line }),
            Err(error) => {
                let column = error.column();
                self.bad(row.line, format!("column {column}: {error}; expected one JSON object a line"), found);
                return Ok(());
            }
        };
        match object_cells(&object, text) {
            Ok(cells) => self.row(&cells, row.line, rows, found),
            Err(message) => self.bad(row.line, message, found),
        }
        Ok(())
    }

    /// The careful way: whole cells to a whole row.
    pub fn row(&mut self, cells: &[Cell<'_>], line: u32, rows: &mut Rows, found: &mut Findings) {
        let Reading { context, dictionary, provider, .. } = self.reading;
        match read_row(context, line, cells, &mut found.issues) {
            Some(filing) => rows.push(dictionary, &mut self.remembered, provider, &filing, line),
            // An address filed at the authority is no bad row.
            None if found.issues.last().is_some_and(|issue| issue.severity == Severity::Info) => {}
            None => found.bad_rows += 1,
        }
    }

    /// Notes a row that does not count.
    pub fn bad(&mut self, line: u32, message: impl Into<String>, found: &mut Findings) {
        found.issues.push(Issue::at(Severity::Error, "format", self.reading.context.file, line, message));
        found.bad_rows += 1;
    }
}

/// True when text of a CSV is neither blank nor a comment, and does not end in the carriage return that ends lines of old.
fn is_record(text: &str) -> bool {
    !text.trim().is_empty() && !text.starts_with('#') && !text.ends_with('\r')
}

/// One record's text.
struct Row<'a> {
    text: &'a str,
    line: u32,
    /// True when the file ends with it and no line feed says that it is whole.
    is_cut: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SuffixTable;
    use crate::registry::arena::{Arena, ArenaBuilder, Places};
    use proptest::prelude::*;
    use std::sync::{Arc, OnceLock};

    const COLUMNS: [Option<&str>; 16] = [
        Some("domain"),
        Some("domain_unicode"),
        Some("subject_no"),
        None,
        Some("site_no"),
        Some("subject_type"),
        Some("province"),
        Some("access"),
        Some("status"),
        Some("filed_on"),
        Some("updated_on"),
        Some("expires_on"),
        Some("restricted"),
        Some("real_name"),
        Some("site_name"),
        Some("source"),
    ];

    fn suffixes() -> &'static SuffixTable {
        static TABLE: OnceLock<SuffixTable> = OnceLock::new();
        TABLE.get_or_init(SuffixTable::built_in)
    }

    fn rows_of(rows: &mut Rows, dictionary: &Dictionary) -> Vec<String> {
        let mut places = Places::default();
        let file = places.file_number(&"t.csv".into());
        let block = places.add(file, 2);
        let mut builder = ArenaBuilder::after(&Arena::default());
        builder.append(rows, &[(0, block)]).expect("few rows");
        let arena = builder.finish();
        let filings = arena.positions().map(|at| {
            let filing = arena.filing(at, dictionary, &places);
            assert_eq!(arena.entry(at).facts(), filing.facts("self"));
            format!("{filing:?}")
        });
        filings.collect()
    }

    fn cell() -> impl Strategy<Value = String> {
        const USUAL: &[&str] = &[
            "here.cn",
            "here.com.cn",
            "com.cn",
            "a.b.cn",
            "x.xn--fiqs8s",
            "HERE.cn",
            " here.cn",
            "例子.中国",
            "here.invalid",
            "here.example",
            "1.2.3.4",
            "a_b.cn",
            "-a.cn",
            "京ICP备2021000001号-1",
            "京ICP备2021000001号",
            "京ICP备2031000001号",
            "粤B2-20090059-3X",
            "粤B2-20090059",
            "川ICP备10000002号-1",
            "京ICP证030173号-12",
            "self",
            "self;other",
            "other; self",
            "a b",
            ";",
            "active",
            "pending",
            "审核中",
            "nonsense",
            "2021-02-03",
            "2021-02-30",
            "2021-2-3",
            "0",
            "1",
            "true",
            "企业",
            " 京 ",
            "京",
            "",
            "",
            "",
            "",
            "\u{3000}",
        ];
        prop_oneof![8 => proptest::sample::select(USUAL).prop_map(str::to_owned), 1 => "[a-z0-9.; -]{0,6}"]
    }

    /// A row that is usual but for a few cells.
    fn line() -> impl Strategy<Value = String> {
        let cells = "here.cn,,京ICP备2021000001号,x,京ICP备2021000001号-1,企业,京,self;other,active,2021-02-03,2022-03-04,2030-01-01,0,,网站,text";
        proptest::collection::vec((0..18usize, cell()), 0..4).prop_map(move |edits| {
            let mut cells: Vec<String> = cells.split(',').map(str::to_owned).collect();
            for (at, text) in edits {
                match cells.get_mut(at) {
                    Some(cell) => *cell = text,
                    None => cells.push(text),
                }
            }
            cells.join(",")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_quick_way_reads_what_the_careful_one_does(line in line()) {
            let (dictionary, file) = (Dictionary::default(), Arc::<str>::from("t.csv"));
            let context = RowContext { suffixes: suffixes(), year: 2026, file: &file };
            let reading =
                Reading { format: Format::Csv, context, dictionary: &dictionary, provider: "self", columns: &COLUMNS };
            let mut reader = BlockReader::new(reading);
            let mut quick = Rows::default();
            if !reader.quick.read(&mut reader.remembered, &line, 5, &mut quick) {
                prop_assert!(quick.is_empty());
                return Ok(());
            }
            let (mut careful, mut found) = (Rows::default(), Findings::default());
            let cells: Vec<&str> = line.split(',').collect();
            let row = Row { text: &line, line: 5, is_cut: false };
            reader.careful(&cells, &row, &mut careful, &mut found).expect("a row");
            prop_assert!(found.issues.is_empty(), "{:?}", found.issues);
            prop_assert_eq!((&quick.entries, &quick.cold), (&careful.entries, &careful.cold));
            prop_assert_eq!(rows_of(&mut quick, &dictionary), rows_of(&mut careful, &dictionary));
        }
    }
}
