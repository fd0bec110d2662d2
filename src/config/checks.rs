//! What the text means: `Spec` to `Config`, every problem at once.
//!
//! A value that cannot be used is left out of the `Config` that is built meanwhile; the caller gets a `Config` only
//! where there was no problem at all. Reads the token and key files and nothing else; binds nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};

use super::spec::{JournalWord, Spec};
use super::tree::Place;
use super::{Config, Problem};
use crate::http::settings::ProviderText;
use crate::model::{DomainName, SuffixTable};
use crate::ops::{FaultSettings, JournalSettings, JournalWhat, Rotation};
use crate::policy::Rules;
use crate::policy::rules::Exempt;
use crate::ranges;
use crate::registry;
use crate::registry::lint::ListSettings;
use crate::registry::saved::PublicKeys;

mod admin;
mod alert;
mod dns;
mod http;
mod shadow;

/// Smallest size a journal is rotated at: some hundred lines. No official reference.
const ROTATE_OCTETS_MIN: u64 = 64 << 10;
/// Characters of a provider id.
const PROVIDER_CHARS_MAX: usize = 64;

/// Reads the meaning of `spec`, whose values stand at `places`; findings that stop nothing go to `warnings`.
pub fn check(
    spec: &Spec,
    places: &BTreeMap<String, Place>,
    warnings: &mut Vec<String>,
) -> Result<Config, Vec<Problem>> {
    let mut checker = Checker { places, problems: Vec::new(), warnings };
    let res = checker.config(spec);
    if checker.problems.is_empty() { Ok(res) } else { Err(checker.problems) }
}

/// Collects problems while values are read.
struct Checker<'a> {
    places: &'a BTreeMap<String, Place>,
    problems: Vec<Problem>,
    warnings: &'a mut Vec<String>,
}

impl Checker<'_> {
    fn config(&mut self, spec: &Spec) -> Config {
        let provider = self.provider(spec);
        let (rules, registry, ranges) = (self.rules(spec), self.registry(spec), self.ranges(spec));
        Config {
            shadow: self.shadow(&spec.shadow, &rules, &registry, &ranges),
            rules,
            registry,
            ranges,
            dns: self.dns(spec),
            http: self.http(spec, provider.clone()),
            admin: self.admin(spec),
            journal: self.journal(spec),
            alert: self.alert(spec),
            faults: faults(spec),
            provider,
        }
    }

    //--- Reading one value -------------------------------------------------------------------------------------------

    /// Where `key` stands, or the table or list it would stand in.
    fn place(&self, key: &str) -> Place {
        let mut at = key;
        loop {
            if let Some(place) = self.places.get(at) {
                return place.clone();
            }
            match at.rfind(['.', '[']) {
                Some(end) => at = &at[..end],
                None => return Place::Default,
            }
        }
    }

    fn refuse(&mut self, key: &str, value: &str, message: impl Into<String>) {
        let value = Some(format!("{value:?}"));
        self.problems.push(Problem { place: self.place(key), key: key.to_owned(), value, message: message.into() });
    }

    fn warn(&mut self, key: &str, message: &str) {
        self.warnings.push(format!("{}: {key}: {message}", self.place(key)));
    }

    /// Reads one text, or says what would have been right.
    fn read<T: FromStr>(&mut self, key: &str, text: &str, expected: &str) -> Option<T> {
        let res = text.parse();
        if res.is_err() {
            self.refuse(key, text, format!("expected {expected}"));
        }
        res.ok()
    }

    /// Reads each text of a list; the same value twice is a problem.
    fn read_list<T: FromStr + PartialEq>(&mut self, key: &str, texts: &[String], expected: &str) -> Vec<T> {
        let mut res: Vec<T> = Vec::with_capacity(texts.len());
        for (i, text) in texts.iter().enumerate() {
            let key = format!("{key}[{i}]");
            match self.read(&key, text, expected) {
                Some(value) if res.contains(&value) => self.refuse(&key, text, "is there twice"),
                Some(value) => res.push(value),
                None => {}
            }
        }
        res
    }

    /// An address and port to listen on; port 0 takes any free one, which the log tells.
    fn socket(&mut self, key: &str, text: &str) -> Option<SocketAddr> {
        self.read(key, text, "an address and port, such as \"127.0.0.1:53\" or \"[::1]:53\"")
    }

    /// An address and port to connect to.
    fn peer(&mut self, key: &str, text: &str) -> Option<SocketAddr> {
        let addr = self.socket(key, text)?;
        if addr.port() == 0 {
            self.refuse(key, text, "port 0 cannot be connected to; expected a port from 1 to 65535");
            return None;
        }
        Some(addr)
    }

    fn sockets(&mut self, key: &str, texts: &[String]) -> Vec<SocketAddr> {
        let mut res = Vec::with_capacity(texts.len());
        for (i, text) in texts.iter().enumerate() {
            let key = format!("{key}[{i}]");
            match self.socket(&key, text) {
                Some(addr) if addr.port() != 0 && res.contains(&addr) => self.refuse(&key, text, "is there twice"),
                Some(addr) => res.push(addr),
                None => {}
            }
        }
        res
    }

    fn prefixes(&mut self, key: &str, texts: &[String]) -> Vec<IpNet> {
        let mut res: Vec<IpNet> = Vec::with_capacity(texts.len());
        for (i, text) in texts.iter().enumerate() {
            let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            match parsed {
                Ok(prefix) if prefix.trunc() == prefix => res.push(prefix),
                Ok(prefix) => self.refuse(
                    &format!("{key}[{i}]"),
                    text,
                    format!("has bits beyond its prefix length; expected \"{}\"", prefix.trunc()),
                ),
                Err(_) => self.refuse(
                    &format!("{key}[{i}]"),
                    text,
                    "expected a prefix or an address, such as \"192.0.2.0/24\" or \"::1\"",
                ),
            }
        }
        res
    }

    fn name(&mut self, key: &str, text: &str) -> Option<DomainName> {
        match DomainName::from_text(text) {
            Ok(name) if !name.as_ref().is_root() => Some(name),
            Ok(_) => {
                self.refuse(key, text, "is the root, which holds every name; expected a domain name");
                None
            }
            Err(error) => {
                self.refuse(key, text, format!("{error}; expected a domain name"));
                None
            }
        }
    }

    fn paths(&mut self, key: &str, texts: &[String]) -> Vec<PathBuf> {
        for (i, text) in texts.iter().enumerate().filter(|(_, text)| text.trim().is_empty()) {
            self.refuse(&format!("{key}[{i}]"), text, "expected a path");
        }
        texts.iter().map(PathBuf::from).collect()
    }

    fn url(&mut self, key: &str, text: &str) {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let is_good = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
            && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '<' | '>'));
        if !is_good {
            self.refuse(key, text, "expected an http:// or https:// URL without blanks");
        }
    }

    //--- Sections ----------------------------------------------------------------------------------------------------

    fn provider(&mut self, spec: &Spec) -> ProviderText {
        let provider = &spec.provider;
        let is_id = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, ',' | ';' | '；' | '"');
        let is_good = !provider.id.is_empty()
            && provider.id.chars().all(is_id)
            && provider.id.chars().count() <= PROVIDER_CHARS_MAX;
        if !is_good {
            self.refuse("provider.id", &provider.id, "expected 1 to 64 characters without blank, comma or semicolon");
        }
        for (key, url) in [("provider.url", &provider.url), ("provider.filing-url", &provider.filing_url)] {
            if !url.is_empty() {
                self.url(key, url);
            }
        }
        ProviderText {
            id: provider.id.clone(),
            name: provider.name.clone(),
            url: provider.url.clone(),
            filing_url: provider.filing_url.clone(),
            contact: provider.contact.clone(),
        }
    }

    fn registry(&mut self, spec: &Spec) -> registry::Settings {
        let text = &spec.registry;
        registry::Settings {
            paths: self.paths("registry.paths", &text.paths),
            poll: Duration::from_secs(text.poll_seconds),
            max_shrink_percent: text.max_shrink_percent,
            max_bad_rows: size(text.max_bad_rows),
            encoding: text.encoding.into(),
            suffix_list: path(&text.suffix_list),
            snapshot: path(&text.snapshot),
            snapshot_keys: self.snapshot_keys(&text.snapshot, &text.snapshot_key),
            bind_check: text.bind_check,
            lint: ListSettings {
                suffixes: path(&text.lint.suffixes),
                provinces: path(&text.lint.provinces),
                naming_words: path(&text.lint.naming_words),
                categories: path(&text.lint.categories),
                registrars: path(&text.lint.registrars),
                codes_per_server: size(text.lint.codes_per_server),
            },
            ..registry::Settings::new(&spec.provider.id, Vec::new())
        }
    }

    fn snapshot_keys(&mut self, snapshot: &str, file: &str) -> Option<PublicKeys> {
        const KEY: &str = "registry.snapshot-key";
        let file = path(file)?;
        if snapshot.is_empty() {
            self.warn(KEY, "has no effect: registry.snapshot is empty");
        }
        let keys = PublicKeys::read(&file);
        keys.map_err(|error| self.refuse(KEY, &file.to_string_lossy(), error.fault())).ok()
    }

    fn ranges(&mut self, spec: &Spec) -> ranges::Settings {
        let text = &spec.ranges;
        let nat64: Vec<Ipv6Net> =
            self.read_list("ranges.nat64", &text.nat64, "an IPv6 prefix, such as \"64:ff9b::/96\"");
        for (i, prefix) in nat64.iter().enumerate() {
            // RFC 6052 section 2.2 knows these lengths and no others.
            if !matches!(prefix.prefix_len(), 32 | 40 | 48 | 56 | 64 | 96) {
                let message = "expected a prefix length of 32, 40, 48, 56, 64 or 96 (RFC 6052)";
                self.refuse(&format!("ranges.nat64[{i}]"), &prefix.to_string(), message);
            }
        }
        ranges::Settings {
            mainland: self.paths("ranges.mainland", &text.mainland),
            tags: self.paths("ranges.tags", &text.tags),
            cnames: self.paths("ranges.cnames", &text.cnames),
            nat64,
            poll: Duration::from_secs(text.poll_seconds),
            max_shrink_percent: text.max_shrink_percent,
            ..ranges::Settings::new(&spec.provider.id)
        }
    }

    fn rules(&mut self, spec: &Spec) -> Rules {
        let text = &spec.policy;
        let suffixes = if text.exempt.is_empty() && text.non_web.is_empty() {
            SuffixTable::default()
        } else {
            SuffixTable::built_in()
        };
        let mut exempt = Vec::new();
        for (i, entry) in text.exempt.iter().enumerate() {
            let key = format!("policy.exempt[{i}]");
            if entry.why.trim().is_empty() {
                self.refuse(&format!("{key}.why"), &entry.why, "expected the reason, which explain shows");
            }
            let suffix = self.judged_name(&format!("{key}.suffix"), &entry.suffix, &suffixes);
            exempt.extend(suffix.map(|suffix| Exempt { suffix, why: entry.why.clone() }));
        }
        let mut non_web = Vec::new();
        for (i, name) in text.non_web.iter().enumerate() {
            non_web.extend(self.judged_name(&format!("policy.non-web[{i}]"), name, &suffixes));
        }
        Rules {
            mode: text.mode.into(),
            ip_site: text.ip_site.into(),
            foreign_mainland: text.foreign_mainland.into(),
            mixed_answer: text.mixed_answer.into(),
            expired: text.expired.into(),
            exempt,
            non_web,
        }
    }

    /// A name to except from judging: never a public suffix, which would except other people's domains.
    fn judged_name(&mut self, key: &str, text: &str, suffixes: &SuffixTable) -> Option<DomainName> {
        let name = self.name(key, text)?;
        if suffixes.is_suffix(name.as_ref()) {
            self.refuse(key, text, "is a public suffix, which holds other people's domains; expected a name below it");
            return None;
        }
        Some(name)
    }

    fn journal(&mut self, spec: &Spec) -> JournalSettings {
        let what = match spec.journal.what {
            JournalWord::All => JournalWhat::All,
            JournalWord::Blocks => JournalWhat::Blocks,
            JournalWord::Sampled => JournalWhat::Sampled(spec.journal.sample_one_in.max(1)),
        };
        let text = &spec.journal;
        if (1..ROTATE_OCTETS_MIN).contains(&text.rotate_bytes) {
            let expected = format!("expected 0 for none, or at least {ROTATE_OCTETS_MIN}");
            self.refuse("journal.rotate-bytes", &text.rotate_bytes.to_string(), expected);
        }
        if text.path.is_empty() && (text.rotate_bytes > 0 || text.chain) {
            self.warn("journal.path", "is empty: rotate-bytes and chain have nothing to act on");
        }
        let rotation = Rotation { octets: text.rotate_bytes, keep: text.rotate_keep };
        JournalSettings {
            path: path(&text.path),
            what,
            unfiled: path(&text.unfiled),
            rotation: Some(rotation).filter(|rotation| rotation.octets > 0),
            is_chained: text.chain,
        }
    }
}

fn faults(spec: &Spec) -> FaultSettings {
    FaultSettings {
        on_missing_registry: spec.policy.on_missing_registry.into(),
        on_missing_ranges: spec.policy.on_missing_ranges.into(),
        on_old_registry: spec.policy.on_old_registry.into(),
        registry_age_max: (spec.registry.max_age_seconds > 0)
            .then(|| Duration::from_secs(spec.registry.max_age_seconds)),
        on_clock_jump: spec.policy.on_clock_jump.into(),
        clock_jump_max: Duration::from_secs(spec.policy.clock_jump_max_seconds),
    }
}

/// A path, where "" means none.
fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// A size from the file; the schema's bounds keep it far below what a machine can name.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(unix)]
fn others_can_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn others_can_read(_path: &Path) -> bool {
    false
}
