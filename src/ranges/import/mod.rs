//! Published country data to mainland lists: several sources vote, address by address.
//!
//! ```text
//! delegated, list, CSV, MMDB ─▶ collect (space of the country, of Hong Kong, Macau and Taiwan) ─▶ vote ─▶ prefixes
//! ```
//!
//! One source is one file and has one vote for each address. An address is taken when at least `votes` sources place it in
//! the country, and more than place it in Hong Kong, Macau or Taiwan; what the `minus` files hold and special-purpose
//! space is never taken. Run by hand or by `conf/ranges/rebuild`, never per query.

mod collect;
mod delegated;
mod list;
mod mmdb;
mod operators;
mod report;
mod table;
mod vote;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use thiserror::Error;

pub use self::collect::{Collected, SPANS_MAX};
pub use self::delegated::{Line, LineError, parse_line};
pub use self::operators::Operators;
pub use self::report::{ImportReport, SourceReport};
use super::span::{Family, Space};
use crate::registry::source::{read_file_within, unpack_within, utf8_marked};

/// Octets of a source as it lies on disk: the largest published country set is a tenth of it.
pub const FILE_OCTETS_MAX: u64 = 512 << 20;
/// Octets of a source after decompression.
pub const TEXT_OCTETS_MAX: u64 = 1 << 30;
/// Sources of one import; more than are published anywhere.
pub const SOURCES_MAX: usize = 64;
/// Special administrative regions and Taiwan: their addresses are not mainland (rule N2).
const ELSEWHERE: [&str; 3] = ["HK", "MO", "TW"];

/// The form of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Told from the content.
    #[default]
    Auto,
    /// Comma-separated: `network,country`, `first,last,country`, or `first,last,asn` with a list of operators.
    Csv,
    /// Statistics file of a registry, plain or extended.
    Delegated,
    /// One prefix, address or `first-last` a line, all of the country.
    List,
    /// MaxMind database with `country.iso_code` or `country_code`.
    Mmdb,
}

impl Kind {
    /// Every form with its spelling on the command line.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Auto, "auto"),
        (Self::Csv, "csv"),
        (Self::Delegated, "delegated"),
        (Self::List, "list"),
        (Self::Mmdb, "mmdb"),
    ];

    /// Reads a spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|&(kind, _)| kind)
    }

    /// The spelling.
    pub fn label(self) -> &'static str {
        Self::ALL.iter().find(|&&(kind, _)| kind == self).map_or("auto", |&(_, name)| name)
    }

    /// Tells the form from the content.
    fn of(octets: &[u8]) -> Self {
        if mmdb::is_mmdb(octets) {
            return Self::Mmdb;
        }
        let text = octets.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(octets);
        let mut lines = text.split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii);
        let first = lines.find(|line| !line.is_empty() && !line.starts_with(b"#")).unwrap_or(b"");
        match () {
            () if first.contains(&b'|') => Self::Delegated,
            () if first.contains(&b',') => Self::Csv,
            () => Self::List,
        }
    }
}

/// One file with a vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its form.
    pub kind: Kind,
    /// Where it lies; `.gz` and `.zst` are decompressed.
    pub path: PathBuf,
}

/// What to import.
#[derive(Clone, Debug)]
pub struct ImportRequest {
    /// The files that vote.
    pub sources: Vec<Source>,
    /// How many must agree on an address; at least one.
    pub votes: usize,
    /// The country wanted, two upper-case letters.
    pub country: String,
    /// Operators' AS numbers, `asn,country,name`: what sources by AS number are read with.
    pub operators: Option<PathBuf>,
    /// Files whose Hong Kong, Macau and Taiwan space (of lists: all space) is never taken, whatever the votes.
    pub minus: Vec<Source>,
}

impl ImportRequest {
    /// A request for mainland China with one vote, files told apart by content.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let sources = paths.into_iter().map(|path| Source { kind: Kind::Auto, path }).collect();
        Self { sources, votes: 1, country: "CN".to_owned(), operators: None, minus: Vec::new() }
    }
}

/// Why an import came to nothing.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The country is not two upper-case letters.
    #[error("country {0:?} is no code; expected two upper-case letters such as CN")]
    Country(String),
    /// A file cannot be read or is not what it should be.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        message: String,
    },
    /// No source, or too many.
    #[error("{0} sources; expected 1 to {SOURCES_MAX}")]
    Sources(usize),
    /// More votes than sources, or none.
    #[error("{votes} votes of {sources} sources; expected 1 to {sources}")]
    Votes {
        /// Asked for.
        votes: usize,
        /// Given.
        sources: usize,
    },
}

/// What an import found.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The country's space.
    pub space: Space,
    /// What each source said.
    pub report: ImportReport,
}

impl Imported {
    /// The fewest prefixes that make up the space of one family.
    pub fn prefixes(&self, family: Family) -> Vec<IpNet> {
        self.space.family(family).cidrs(family)
    }

    /// Writes the IPv4 prefixes, one a line.
    pub fn write_v4(&self, to: &mut impl io::Write) -> io::Result<()> {
        self.write(Family::V4, to)
    }

    /// Writes the IPv6 prefixes, one a line.
    pub fn write_v6(&self, to: &mut impl io::Write) -> io::Result<()> {
        self.write(Family::V6, to)
    }

    /// Writes the prefixes of one family, one a line.
    pub fn write(&self, family: Family, to: &mut impl io::Write) -> io::Result<()> {
        self.prefixes(family).iter().try_for_each(|prefix| writeln!(to, "{prefix}"))
    }
}

/// Reads every source and counts the votes.
///
/// A bad row is an issue in the report; a file that is cut short, has too many bad rows or no address of the country is an
/// error. Cost: one pass over each file, one sort of the spans found.
pub fn run(request: &ImportRequest) -> Result<Imported, ImportError> {
    let ImportRequest { sources, votes, country, operators, minus } = request;
    if sources.is_empty() || sources.len() + minus.len() > SOURCES_MAX {
        return Err(ImportError::Sources(sources.len()));
    }
    if *votes == 0 || *votes > sources.len() {
        return Err(ImportError::Votes { votes: *votes, sources: sources.len() });
    }
    if country.len() != 2 || !country.bytes().all(|octet| octet.is_ascii_uppercase()) {
        return Err(ImportError::Country(country.clone()));
    }
    let operators = match operators {
        Some(path) => Operators::parse(&read_text(path)?).map_err(|message| file_error(path, message))?,
        None => Operators::default(),
    };
    let read = |source: &Source| read_source(source, country, &operators);
    let collected = sources.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    for (source, found) in sources.iter().zip(&collected) {
        if found.wanted.is_empty() {
            let message = format!("no address of {country} in it, read as {}", found.kind.label());
            return Err(file_error(&source.path, message));
        }
    }
    let mut space = vote::count(&collected, *votes);
    for source in minus {
        let found = read(source)?;
        let never = if found.kind == Kind::List { &found.wanted } else { &found.elsewhere };
        space = space.minus(never);
    }
    let report = ImportReport::new(sources, collected, *votes, &space);
    Ok(Imported { space, report })
}

/// Reads one source as its kind says.
fn read_source(source: &Source, country: &str, operators: &Operators) -> Result<Collected, ImportError> {
    let octets = read_octets(&source.path)?;
    let kind = if source.kind == Kind::Auto { Kind::of(&octets) } else { source.kind };
    let name: Arc<str> = source.path.to_string_lossy().into();
    let mut into = collect::Collector::new(kind, name, country);
    let text = |octets| utf8_marked(octets).map_err(|error| error.to_string());
    let read = match kind {
        Kind::Csv => text(octets).and_then(|text| table::read(&text, operators, &mut into)),
        Kind::Delegated => text(octets).and_then(|text| delegated::read(&text, &mut into)),
        Kind::Auto | Kind::List => text(octets).and_then(|text| list::read(&text, &mut into)),
        Kind::Mmdb => mmdb::read(&octets, &mut into),
    };
    read.map_err(|message| file_error(&source.path, message))?;
    Ok(into.finish())
}

/// The octets of a file, decompressed.
fn read_octets(path: &Path) -> Result<Vec<u8>, ImportError> {
    let name = path.to_string_lossy();
    let octets = read_file_within(path, FILE_OCTETS_MAX);
    let plain = octets.and_then(|octets| unpack_within(&name, octets, TEXT_OCTETS_MAX));
    plain.map_err(|error| file_error(path, error.to_string()))
}

/// The text of a file, UTF-8.
fn read_text(path: &Path) -> Result<String, ImportError> {
    utf8_marked(read_octets(path)?).map_err(|error| file_error(path, error.to_string()))
}

/// Names the file an error is about.
fn file_error(path: &Path, message: String) -> ImportError {
    ImportError::File { path: path.to_owned(), message }
}
