//! What is audited: the registry's own domains, and names seen elsewhere: lists, zones, query logs, certificates.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use thiserror::Error;

use crate::model::DomainName;
use crate::registry::Snapshot;

/// Targets of one run: a national table with its seen names.
pub const TARGETS_MAX: usize = 20_000_000;
/// Octets of a line of a list or log; a line of a journal has some hundreds.
const LINE_OCTETS_MAX: usize = 64 << 10;
/// Lines that hold no name, after which a file counts as something else.
const STRANGE_LINES_MAX: usize = 1000;

/// Where a name was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// On an origin's certificate: browsers send requests for it over connections for its neighbours (D-T18).
    Certificate,
    /// In a list.
    List,
    /// In a query log or journal.
    Log,
    /// It is a row's domain.
    Registry,
    /// In a zone.
    Zone,
}

impl Source {
    /// Every source, in order.
    pub const ALL: [Self; 5] = [Self::Certificate, Self::List, Self::Log, Self::Registry, Self::Zone];

    /// The label in reports.
    pub fn label(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::List => "list",
            Self::Log => "log",
            Self::Registry => "registry",
            Self::Zone => "zone",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Some sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources(u8);

impl Sources {
    /// True with `source` among them.
    pub fn holds(self, source: Source) -> bool {
        self.0 & source.bit() != 0
    }

    /// Them, in order.
    pub fn iter(self) -> impl Iterator<Item = Source> {
        Source::ALL.into_iter().filter(move |source| self.holds(*source))
    }
}

/// Why names cannot be read.
#[derive(Debug, Error)]
pub enum TargetError {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It holds no names.
    #[error("{file}: line {line}: {what}; expected {expected}")]
    Line {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// What stands there.
        what: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// Too many.
    #[error("more than {TARGETS_MAX} names; audit them in parts")]
    TooMany,
}

/// Names to be audited, each once, in the order of their text.
#[derive(Debug, Default)]
pub struct Targets {
    names: BTreeMap<Box<str>, Sources>,
}

impl Targets {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Them with where each was met.
    pub fn iter(&self) -> impl Iterator<Item = (DomainName, Sources)> + '_ {
        let name = |text: &str| DomainName::from_host(text).ok();
        self.names.iter().filter_map(move |(text, sources)| Some((name(text)?, *sources)))
    }

    /// True where a name was met at `source`.
    pub fn holds(&self, name: &DomainName, source: Source) -> bool {
        self.names.get(name.to_string().as_str()).is_some_and(|sources| sources.holds(source))
    }

    /// Adds a name.
    pub fn add(&mut self, name: &DomainName, source: Source) -> Result<(), TargetError> {
        if name.as_ref().is_root() {
            return Ok(());
        }
        let room = self.names.len() < TARGETS_MAX;
        match self.names.entry(name.to_string().into()) {
            Entry::Occupied(mut entry) => entry.get_mut().0 |= source.bit(),
            Entry::Vacant(entry) if room => {
                entry.insert(Sources(source.bit()));
            }
            Entry::Vacant(_) => return Err(TargetError::TooMany),
        }
        Ok(())
    }

    /// Adds every domain of the registry.
    pub fn add_registry(&mut self, snapshot: &Snapshot) -> Result<(), TargetError> {
        snapshot.ids().try_for_each(|id| self.add(&snapshot.name(id).to_name(), Source::Registry))
    }

    /// Adds the names of a list: the first word of each line, `#` begins a comment.
    pub fn add_list(&mut self, path: &Path) -> Result<(), TargetError> {
        self.add_lines(path, |targets, line| {
            let text = line.split('#').next().unwrap_or_default();
            let Some(word) = text.split([',', ';', ' ', '\t']).map(str::trim).find(|word| !word.is_empty()) else {
                return Ok(true);
            };
            match DomainName::from_host(word.strip_prefix("*.").unwrap_or(word)) {
                Ok(name) => targets.add(&name, Source::List).map(|()| true),
                Err(_) => Ok(false),
            }
        })
    }

    /// Adds the names that queries in a log were for, see [`name_in_log`].
    pub fn add_log(&mut self, path: &Path) -> Result<(), TargetError> {
        self.add_lines(path, |targets, line| match name_in_log(line) {
            Some(name) => targets.add(&name, Source::Log).map(|()| true),
            None => Ok(false),
        })
    }

    /// Reads lines and gives them to `each`, which says whether one was as expected. A log has others between its queries;
    /// a file that begins with a thousand of them is none.
    fn add_lines(
        &mut self,
        path: &Path,
        mut each: impl FnMut(&mut Self, &str) -> Result<bool, TargetError>,
    ) -> Result<(), TargetError> {
        let file = || path.display().to_string();
        let failed = |source| TargetError::Io { file: file(), source };
        let mut reader = BufReader::new(File::open(path).map_err(failed)?);
        let (mut octets, mut line, mut strange, mut good) = (Vec::new(), 0, 0, 0_usize);
        let mut first_strange = None;
        loop {
            octets.clear();
            if read_line(&mut reader, &mut octets).map_err(failed)? == 0 {
                break;
            }
            line += 1;
            let text = String::from_utf8_lossy(&octets);
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            if each(self, text)? {
                good += 1;
                continue;
            }
            strange += 1;
            first_strange.get_or_insert_with(|| (line, text.chars().take(60).collect::<String>()));
            if good == 0 && strange >= STRANGE_LINES_MAX {
                break;
            }
        }
        match first_strange.filter(|_| good == 0) {
            Some((line, text)) => Err(TargetError::Line {
                file: file(),
                line,
                what: format!("{text:?} holds no name"),
                expected: "a name a line, or the log of queries of icpgate, BIND, Unbound, PowerDNS or dnsmasq",
            }),
            None => Ok(()),
        }
    }
}

/// Reads a line, of which it keeps the first octets only; how many octets it had.
fn read_line(reader: &mut impl BufRead, to: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut count = 0;
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok(count);
        }
        let end = memchr::memchr(b'\n', available);
        let part = &available[..end.map_or(available.len(), |at| at + 1)];
        let room = LINE_OCTETS_MAX.saturating_sub(to.len()).min(part.len());
        to.extend_from_slice(&part[..room]);
        let octets = part.len();
        reader.consume(octets);
        count += octets;
        if end.is_some() {
            return Ok(count);
        }
    }
}

/// The name that a line of a log is about: of our journal, of BIND, Unbound, PowerDNS, dnsmasq, or a name alone.
pub fn name_in_log(line: &str) -> Option<DomainName> {
    let host = |text: &str| {
        let text = text.trim_matches(|c| matches!(c, '\'' | '"' | '(' | ')' | ':' | ','));
        DomainName::from_host(text).ok().filter(|name| name.as_ref().label_count() > 1)
    };
    if line.starts_with('{') {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        return ["name", "qname", "query"].into_iter().find_map(|key| host(value.get(key)?.as_str()?));
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    if let [only] = words[..] {
        return host(only);
    }
    // dnsmasq: `query[A] www.a.cn from 192.0.2.1`.
    if let Some(at) = words.iter().position(|word| word.starts_with("query[")) {
        return host(words.get(at + 1)?);
    }
    // BIND: `query: www.a.cn IN A + (192.0.2.53)`. Unbound: `info: 192.0.2.1 www.a.cn. A IN`, with `query:` before `NAME`
    // in some versions. PowerDNS: `question for 'www.a.cn|A' from`.
    if let Some(question) = words.iter().find_map(|word| word.trim_matches('\'').split_once('|')) {
        return host(question.0);
    }
    let class = words.iter().position(|word| *word == "IN")?;
    let before = |count: usize| class.checked_sub(count).and_then(|at| words.get(at)).copied();
    let is_type = |word: &str| word.bytes().all(|octet| octet.is_ascii_uppercase() || octet.is_ascii_digit());
    match (before(2), before(1)) {
        (Some(name), Some(kind)) if is_type(kind) => host(name),
        (_, Some(name)) => host(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_lines_of_many_logs() {
        for line in [
            r#"{"time":"2026-11-30T00:00:00Z","name":"www.a.cn","action":"block"}"#,
            "www.a.cn",
            "WWW.A.CN.",
            "30-Nov-2026 00:00:00.000 client @0x7f 192.0.2.1#4711 (www.a.cn): query: www.a.cn IN A +E(0)K (192.0.2.53)",
            "[1764460800] unbound[1:0] info: 192.0.2.1 www.a.cn. A IN",
            "[1764460800] unbound[1:0] query: 192.0.2.1 www.a.cn. AAAA IN",
            "Nov 30 00:00:00 dnsmasq[1]: query[AAAA] www.a.cn from 192.0.2.1",
            "Nov 30 00:00:00 pdns_recursor[1]: 2 [1/1/1] question for 'www.a.cn|A' from 192.0.2.1:4711",
        ] {
            assert_eq!(name_in_log(line).map(|name| name.to_string()).as_deref(), Some("www.a.cn"), "{line}");
        }
        for line in ["", "starting up", "{\"name\":1}", "{", "localhost", "query[A]", "x IN"] {
            assert_eq!(name_in_log(line), None, "{line}");
        }
    }

    #[test]
    fn lists_hold_a_name_a_line_and_say_where_they_do_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("names.txt");
        std::fs::write(&path, "# ours\nwww.a.cn # the shop\n*.b.cn\n例子.中国\nb.cn,self\n\n").expect("writes");
        let mut targets = Targets::new();
        targets.add_list(&path).expect("a list");
        let names: Vec<String> = targets.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["b.cn", "www.a.cn", "xn--fsqu00a.xn--fiqs8s"]);
        std::fs::write(&path, "\n!!!\n???\n").expect("writes");
        let error = targets.add_list(&path).expect_err("no list").to_string();
        assert!(error.contains("names.txt: line 2: \"!!!\" holds no name; expected a name a line"), "{error}");
    }

    #[test]
    fn a_name_is_audited_once_whoever_brings_it() {
        let mut targets = Targets::new();
        let name = DomainName::from_host("a.cn").expect("a name");
        targets.add(&name, Source::Zone).expect("room");
        targets.add(&name, Source::Certificate).expect("room");
        let all: Vec<_> =
            targets.iter().map(|(_, sources)| sources.iter().map(Source::label).collect::<Vec<_>>()).collect();
        assert_eq!(all, [["certificate", "zone"]]);
    }
}
