//! Text to rows: mainland lists, tag tables, CNAME-suffix tables. Functions of their arguments.
//!
//! A bad row is an issue and never stops the rest. What makes the whole file unfit (no header, cut short, too many rows
//! or bad rows) is a [`FileError`], and then nothing of it counts.

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;
use thiserror::Error;

use super::prefix::Block;
use super::source::Kind;
use super::special::special_reason;
use super::table::{CnameRow, TagRow};
use crate::model::{DomainName, OriginSide, Product, Region};
use crate::registry::{Issue, Severity};

/// Octets of one row: an address block and five short cells.
pub const ROW_OCTETS_MAX: usize = 4096;
/// Rows of one file: the routing table of the whole Internet.
pub const ROWS_MAX: usize = 2_000_000;
/// More bad rows than this refuse the file: it is something else.
pub const BAD_ROWS_MAX: usize = 100;
/// Issues kept of one file.
pub const ISSUES_MAX: usize = 10_000;
/// Octets of a provider id.
const PROVIDER_OCTETS_MAX: usize = 64;

/// Why a whole file is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FileError {
    /// The last row is not whole: still being written, or cut.
    #[error(
        "line {line}: the file ends in the middle of a row; it is still being written or was cut; expected a line feed at the end"
    )]
    CutShort {
        /// Where the row begins.
        line: u32,
    },
    /// Nothing at all in the file.
    #[error("is empty; expected {0}")]
    Empty(&'static str),
    /// No header, or one that lacks, repeats or mistypes a column.
    #[error("{0}")]
    Header(String),
    /// Malformed as a whole.
    #[error("{0}")]
    Malformed(String),
    /// More bad rows than the limit.
    #[error("{found} bad rows; at most {BAD_ROWS_MAX} are accepted; the first: {first}")]
    TooManyBadRows {
        /// Bad rows.
        found: usize,
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
    /// Of a mainland list.
    pub mainland: Vec<IpNet>,
    /// Of a tag table.
    pub tags: Vec<TagRow>,
    /// Of a CNAME table.
    pub cnames: Vec<CnameRow>,
    /// Findings.
    pub issues: Vec<Issue>,
    /// Rows that count.
    pub rows: usize,
    /// Rows that do not.
    pub bad_rows: usize,
}

/// Parses one file's text; `provider` is our id, which the origin column of tags is compared with.
pub fn parse(kind: Kind, file: &Arc<str>, provider: &str, text: &str) -> Result<ParsedFile, FileError> {
    let mut reader = Reader { file, provider, seen: HashMap::new(), res: ParsedFile::default() };
    match kind {
        Kind::Mainland => reader.list(text)?,
        Kind::Tags => reader.table(text, &TAG_COLUMNS, Reader::tag_row)?,
        Kind::Cnames => reader.table(text, &CNAME_COLUMNS, Reader::cname_row)?,
    }
    let mut res = reader.res;
    if res.bad_rows > BAD_ROWS_MAX {
        let first = res.issues.iter().find(|issue| issue.severity == Severity::Error).map(ToString::to_string);
        return Err(FileError::TooManyBadRows { found: res.bad_rows, first: first.unwrap_or_default() });
    }
    res.issues.truncate(ISSUES_MAX);
    Ok(res)
}

/// A column of a table.
struct Column {
    name: &'static str,
    is_required: bool,
}

/// One column.
const fn column(name: &'static str, is_required: bool) -> Column {
    Column { name, is_required }
}

/// `ranges.tags`.
const TAG_COLUMNS: [Column; 5] = [
    column("prefix", true),
    column("region", false),
    column("provider", false),
    column("product", false),
    column("origin", false),
];
/// `ranges.cnames`.
const CNAME_COLUMNS: [Column; 3] = [column("cname_suffix", true), column("product", true), column("region", true)];

/// One cell with its place.
#[derive(Clone, Copy, Default)]
struct Cell<'a> {
    column: u32,
    text: &'a str,
}

/// One file's pass.
struct Reader<'a> {
    file: &'a Arc<str>,
    provider: &'a str,
    /// Prefixes of tag rows with the line they stand on.
    seen: HashMap<IpNet, u32>,
    res: ParsedFile,
}

impl Reader<'_> {
    /// Notes a finding.
    fn note(&mut self, severity: Severity, rule: &'static str, line: u32, key: &str, cell: Cell<'_>, message: String) {
        if self.res.issues.len() < ISSUES_MAX {
            let issue = Issue::at(severity, rule, self.file, line, message);
            self.res.issues.push(issue.in_cell(key, cell.column, cell.text));
        }
    }

    /// Notes a row that does not count.
    fn bad(&mut self, line: u32, key: &str, cell: Cell<'_>, message: impl Into<String>) {
        self.note(Severity::Error, "format", line, key, cell, message.into());
        self.res.bad_rows += 1;
    }

    /// Counts a good row against the limit.
    fn count_row(&mut self) -> Result<(), FileError> {
        self.res.rows += 1;
        if self.res.rows > ROWS_MAX { Err(FileError::TooManyRows) } else { Ok(()) }
    }

    //--- Mainland lists ------------------------------------------------------------------------------------------

    /// Reads a whole list.
    fn list(&mut self, text: &str) -> Result<(), FileError> {
        if text.trim().is_empty() {
            return Err(FileError::Empty("one prefix, address or first-last a line"));
        }
        for (i, whole) in text.split_inclusive('\n').enumerate() {
            let line = u32::try_from(i + 1).unwrap_or(u32::MAX);
            let written = whole.split('#').next().unwrap_or("");
            let block = written.trim();
            if block.is_empty() {
                continue;
            }
            let column = written.len() - written.trim_start().len() + 1;
            let cell = Cell { column: u32::try_from(column).unwrap_or(0), text: block };
            if whole.len() > ROW_OCTETS_MAX {
                self.bad(line, "prefix", cell, format!("row is longer than {ROW_OCTETS_MAX} octets"));
                continue;
            }
            self.list_row(line, cell, whole.ends_with('\n'))?;
        }
        if self.res.rows == 0 && self.res.bad_rows == 0 {
            self.note(Severity::Warning, "format", 0, "", Cell::default(), "holds comments only".to_owned());
        }
        Ok(())
    }

    /// A last line without a line feed counts only if it cannot be the beginning of a longer one: a cut prefix length
    /// leaves host bits, a cut address cannot be told from a whole one.
    fn list_row(&mut self, line: u32, cell: Cell<'_>, is_whole: bool) -> Result<(), FileError> {
        let parsed = Block::parse(cell.text);
        if !is_whole && !matches!(parsed, Ok(Block::Prefix { had_host_bits: false, is_bare: false, .. })) {
            return Err(FileError::CutShort { line });
        }
        let block = match parsed {
            Ok(block) => block,
            Err(error) => {
                self.bad(line, "prefix", cell, error.to_string());
                return Ok(());
            }
        };
        let (family, span) = block.span();
        if let Some(reason) = special_reason(family, span) {
            self.note(
                Severity::Error,
                "special-purpose",
                line,
                "prefix",
                cell,
                format!("{reason} and no list may call it mainland; expected public space, or a row in a tag table"),
            );
            self.res.bad_rows += 1;
            return Ok(());
        }
        self.warn_of_host_bits(line, "prefix", cell, block);
        self.res.mainland.extend(block.prefixes());
        self.count_row()
    }

    /// Host bits are cut off, and said so.
    fn warn_of_host_bits(&mut self, line: u32, key: &str, cell: Cell<'_>, block: Block) {
        if let Block::Prefix { prefix, had_host_bits: true, .. } = block {
            let message = format!("has bits set below the prefix length; read as {prefix}");
            self.note(Severity::Warning, "format", line, key, cell, message);
        }
    }

    //--- Tables --------------------------------------------------------------------------------------------------

    /// Reads a whole CSV table and calls `visit` with the line and the cells of each row, in the order of `columns`.
    fn table<const N: usize>(
        &mut self,
        text: &str,
        columns: &[Column; N],
        mut visit: impl FnMut(&mut Self, u32, [Cell<'_>; N]) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).comment(Some(b'#')).from_reader(text.as_bytes());
        let header = reader.headers().map_err(|error| FileError::Malformed(error.to_string()))?.clone();
        let places = read_header(&header, columns)?;
        let mut record = csv::StringRecord::new();
        loop {
            match reader.read_record(&mut record) {
                Ok(false) => return Ok(()),
                Ok(true) => {}
                Err(error) => return Err(FileError::Malformed(error.to_string())),
            }
            let line = record.position().map_or(0, |at| line_of_record(text, at));
            let is_cut = reader.position().byte() >= text.len() as u64 && !text.ends_with('\n');
            if record.len() == 1 && record.get(0).is_some_and(|cell| cell.trim().is_empty()) {
                continue;
            }
            // A row that may be cut in its last cell is no row: as for registry tables.
            if is_cut {
                return Err(FileError::CutShort { line });
            }
            if record.len() != header.len() {
                let message = format!("{} fields; expected {} as in the header", record.len(), header.len());
                self.bad(line, "", Cell::default(), message);
                continue;
            }
            if record.as_slice().len() > ROW_OCTETS_MAX {
                self.bad(line, "", Cell::default(), format!("row is longer than {ROW_OCTETS_MAX} octets"));
                continue;
            }
            let cell = |place: Option<usize>| {
                let at = place?;
                let column = u32::try_from(at + 1).ok()?;
                Some(Cell { column, text: record.get(at)?.trim() })
            };
            visit(self, line, places.map(|place| cell(place).unwrap_or_default()))?;
        }
    }

    /// One row of a tag table.
    fn tag_row(&mut self, line: u32, cells: [Cell<'_>; 5]) -> Result<(), FileError> {
        let [prefix, region, provider, product, origin] = cells;
        let block = match Block::parse(prefix.text) {
            Ok(block) => block,
            Err(error) => {
                self.bad(line, "prefix", prefix, error.to_string());
                return Ok(());
            }
        };
        let Some(region) = self.choice(line, "region", region, Region::parse, &known_regions()) else { return Ok(()) };
        let Some(product) = self.choice(line, "product", product, Product::parse, &known_products()) else {
            return Ok(());
        };
        let is_id = |text: &str| text.len() <= PROVIDER_OCTETS_MAX && !text.contains(char::is_whitespace);
        if !is_id(provider.text) {
            let message = format!("expected a provider id of at most {PROVIDER_OCTETS_MAX} octets without blanks");
            self.bad(line, "provider", provider, message);
            return Ok(());
        }
        self.warn_of_host_bits(line, "prefix", prefix, block);
        let row = TagRow {
            prefix: IpNet::default(),
            region,
            provider: (!provider.text.is_empty()).then(|| provider.text.to_owned()),
            product,
            origin: self.origin(origin.text),
        };
        if row.region.is_none() && row.provider.is_none() && row.product.is_none() && row.origin.is_none() {
            let message = "the row says nothing; expected a region, provider, product or origin".to_owned();
            self.note(Severity::Warning, "format", line, "prefix", prefix, message);
        }
        for tagged in block.prefixes() {
            if let Some(old) = self.seen.insert(tagged, line) {
                let message =
                    format!("{tagged} stands in line {old} too; the cells given here replace those given there");
                self.note(Severity::Warning, "duplicate", line, "prefix", prefix, message);
            }
            self.res.tags.push(TagRow { prefix: tagged, ..row.clone() });
        }
        self.count_row()
    }

    /// The origin column holds a provider id, as in the registry; `ours` and `other` are understood too.
    fn origin(&self, text: &str) -> Option<OriginSide> {
        let is_ours = text == self.provider || text.eq_ignore_ascii_case("ours");
        (!text.is_empty()).then_some(if is_ours { OriginSide::Ours } else { OriginSide::Other })
    }

    /// Reads an optional word of a closed set: `None` means the row is bad and noted, `Some(None)` an empty cell.
    fn choice<T>(
        &mut self,
        line: u32,
        key: &str,
        cell: Cell<'_>,
        read: impl Fn(&str) -> Option<T>,
        known: &str,
    ) -> Option<Option<T>> {
        if cell.text.is_empty() {
            return Some(None);
        }
        let found = read(cell.text);
        if found.is_none() {
            self.bad(line, key, cell, format!("unknown {key}; expected one of {known}"));
        }
        found.map(Some)
    }

    /// One row of a CNAME table.
    fn cname_row(&mut self, line: u32, cells: [Cell<'_>; 3]) -> Result<(), FileError> {
        let [suffix, product, region] = cells;
        if suffix.text.starts_with('*') {
            let message = "a suffix holds all names below it; expected it without the wildcard";
            self.bad(line, "cname_suffix", suffix, message);
            return Ok(());
        }
        let name = match DomainName::from_text(suffix.text) {
            Ok(name) if name.as_ref().labels().count() >= 2 => name,
            Ok(_) => {
                let message = "a suffix of one label would hold every name below it; expected at least two";
                self.bad(line, "cname_suffix", suffix, message);
                return Ok(());
            }
            Err(error) => {
                let message =
                    format!("{error}; expected a name such as cdn.example.net, which holds all names below it");
                self.bad(line, "cname_suffix", suffix, message);
                return Ok(());
            }
        };
        let Some(found) = self.choice(line, "product", product, Product::parse, &known_products()) else {
            return Ok(());
        };
        let Some(region_found) = self.choice(line, "region", region, Region::parse, &known_regions()) else {
            return Ok(());
        };
        let Some(region_found) = region_found else {
            self.bad(line, "region", region, format!("is missing; expected one of {}", known_regions()));
            return Ok(());
        };
        let row = CnameRow { suffix: name, product: found.unwrap_or_default(), region: region_found };
        if self.res.cnames.iter().any(|old| old.suffix == row.suffix && *old != row) {
            let message = "appears before with other cells; the later row counts".to_owned();
            self.note(Severity::Warning, "duplicate", line, "cname_suffix", suffix, message);
        }
        self.res.cnames.push(row);
        self.count_row()
    }
}

/// Where each column stands in the header; absent optional ones are `None`.
fn read_header<const N: usize>(
    header: &csv::StringRecord,
    columns: &[Column; N],
) -> Result<[Option<usize>; N], FileError> {
    let known = columns.iter().map(|column| column.name).collect::<Vec<_>>().join(",");
    if header.is_empty() {
        return Err(FileError::Empty("a header line and rows"));
    }
    let mut res = [None; N];
    for (i, written) in header.iter().enumerate() {
        let written = written.trim();
        if written.starts_with("x_") {
            continue;
        }
        let Some(at) = columns.iter().position(|column| column.name == written) else {
            return Err(FileError::Header(format!(
                "header, column {}: unknown column {written:?}; expected {known} (own columns begin with x_)",
                i + 1
            )));
        };
        if res[at].replace(i).is_some() {
            return Err(FileError::Header(format!("header, column {}: {written} appears twice", i + 1)));
        }
    }
    for (column, place) in columns.iter().zip(res) {
        if column.is_required && place.is_none() {
            let name = column.name;
            return Err(FileError::Header(format!("header: column {name} is missing; expected {known}")));
        }
    }
    Ok(res)
}

/// The spellings a region may have.
fn known_regions() -> String {
    Region::ALL
        .map(|(_, long, short)| if long == short { long.to_owned() } else { format!("{long} ({short})") })
        .join(", ")
}

/// The spellings a product may have.
fn known_products() -> String {
    Product::ALL.map(|(_, name)| name).join(", ")
}

/// The line a record begins on; the reader counts comments and blank lines before it as its own.
fn line_of_record(text: &str, at: &csv::Position) -> u32 {
    let start = usize::try_from(at.byte()).unwrap_or(usize::MAX);
    let skipped = text.get(start..).unwrap_or("").split_inclusive('\n').take_while(|line| {
        let line = line.trim_end();
        line.is_empty() || line.starts_with('#')
    });
    u32::try_from(at.line()).unwrap_or(u32::MAX).saturating_add(u32::try_from(skipped.count()).unwrap_or(u32::MAX))
}
