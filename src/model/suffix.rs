//! Registrable domains by the ICANN section of the public suffix list.
//!
//! A filing belongs to the name directly below a public suffix. The private section is left out on purpose: a platform
//! such as `github.io` is one registrant who files once (interception D-D21). The table is keyed on wire labels and is
//! walked from the right, two or three probes for a usual name, no allocation. `publicsuffix::IcannList` is the oracle
//! it is tested against. Source of the algorithm: publicsuffix.org/list, "Formal Algorithm".

use hashbrown::HashMap;
use thiserror::Error;

use super::{DomainName, NameRef};

/// A list that cannot be used. Its maintainer or the file is at fault.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SuffixError {
    /// A rule that is no name.
    #[error("line {line}: {text:?} is not a suffix rule; expected a name, *.name or !name")]
    BadRule {
        /// Line in the list, from 1.
        line: usize,
        /// The rule as written.
        text: String,
    },
    /// No ICANN section, or one that ends nowhere: most likely a truncated file.
    #[error(
        "the ICANN section is missing or not closed; expected ===BEGIN ICANN DOMAINS=== and ===END ICANN DOMAINS==="
    )]
    NoIcannSection,
    /// A list with hardly any rules: most likely not the list at all.
    #[error("only {found} rules in the ICANN section; expected at least {RULES_MIN}")]
    TooFewRules {
        /// Rules read.
        found: usize,
    },
}

/// Fewest rules a real list has; the published one has about 6,900.
const RULES_MIN: usize = 1000;

/// What the list says about one name.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// The name itself is a suffix.
    is_rule: bool,
    /// Every name one label below is a suffix (`*.name`).
    has_wildcard: bool,
    /// The name is registrable although its parent has a wildcard (`!name`).
    is_exception: bool,
}

/// The compiled list.
#[derive(Clone, Debug, Default)]
pub struct SuffixTable {
    nodes: HashMap<Box<[u8]>, Node>,
    rules: usize,
}

impl SuffixTable {
    /// Compiles the list's text; rules outside the ICANN section are ignored.
    pub fn parse(text: &str) -> Result<Self, SuffixError> {
        let mut table = Self { nodes: HashMap::new(), rules: 0 };
        let mut state = Section::Before;
        for (i, line) in text.lines().enumerate() {
            let line_text = line.trim();
            if line_text.starts_with("//") {
                if line_text.contains("===BEGIN ICANN DOMAINS===") {
                    state = Section::Inside;
                } else if line_text.contains("===END ICANN DOMAINS===") {
                    state = Section::After;
                }
                continue;
            }
            let Some(rule) = line_text.split_whitespace().next().filter(|_| state == Section::Inside) else { continue };
            table.insert(rule).ok_or_else(|| SuffixError::BadRule { line: i + 1, text: rule.to_owned() })?;
        }
        match state {
            Section::After if table.rules >= RULES_MIN => Ok(table),
            Section::After => Err(SuffixError::TooFewRules { found: table.rules }),
            Section::Before | Section::Inside => Err(SuffixError::NoIcannSection),
        }
    }

    /// The list that is compiled in; used where no file is configured.
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN).expect("the shipped list is tested")
    }

    /// How many rules the list has.
    pub fn rule_count(&self) -> usize {
        self.rules
    }

    /// The registrable domain of `name`: one label below its public suffix. `None` for a suffix itself and the root.
    ///
    /// Unknown top-level labels are suffixes (the list's default rule `*`). Cost: one hash probe per known level.
    pub fn registrable<'a>(&self, name: NameRef<'a>) -> Option<NameRef<'a>> {
        let wire = name.wire();
        // Starts of the labels from left to right; a name has at most 127 (255 octets, two per label).
        let mut starts = [0u8; 128];
        let mut count = 0;
        let mut at = 0;
        for label in name.labels() {
            starts[count] = u8::try_from(at).expect("a name has at most 255 octets");
            count += 1;
            at += label.len() + 1;
        }
        if count == 0 {
            return None;
        }
        // `suffix_labels`: how many labels from the right belong to the suffix.
        let mut suffix_labels = 1;
        let mut parent_has_wildcard = false;
        for depth in 1..=count {
            let start = usize::from(starts[count - depth]);
            let node = self.nodes.get(&wire[start..]);
            if node.is_some_and(|n| n.is_exception) {
                suffix_labels = depth - 1;
                break;
            }
            if node.is_some_and(|n| n.is_rule) || parent_has_wildcard {
                suffix_labels = depth;
            }
            let Some(node) = node else { break };
            parent_has_wildcard = node.has_wildcard;
        }
        if suffix_labels >= count {
            return None;
        }
        let start = usize::from(starts[count - suffix_labels - 1]);
        Some(NameRef::from_canonical_wire(&wire[start..]))
    }

    /// True when `name` is itself a public suffix by a rule of the list, so that no filing can be for it.
    pub fn is_suffix(&self, name: NameRef<'_>) -> bool {
        !name.is_root() && self.registrable(name).is_none()
    }

    /// True when a rule of the list is about the top-level label of `name`.
    pub fn lists_top_level(&self, name: NameRef<'_>) -> bool {
        let Some(last) = name.labels().last() else { return false };
        let start = name.wire().len() - last.len() - 2;
        self.nodes.contains_key(&name.wire()[start..])
    }

    fn insert(&mut self, rule: &str) -> Option<()> {
        let (is_exception, rule) = rule.strip_prefix('!').map_or((false, rule), |rest| (true, rest));
        let (has_wildcard, rule) = rule.strip_prefix("*.").map_or((false, rule), |rest| (true, rest));
        if rule == "*" {
            self.rules += 1;
            return Some(());
        }
        let name = DomainName::from_text(rule).ok()?;
        // Interior names are entered too, so that a walk from the right can stop at the first unknown name.
        let mut above = name.as_ref().parent();
        while let Some(parent) = above.filter(|n| !n.is_root()) {
            self.nodes.entry(parent.wire().into()).or_default();
            above = parent.parent();
        }
        let node = self.nodes.entry(name.wire().into()).or_default();
        node.is_exception |= is_exception;
        node.has_wildcard |= has_wildcard;
        node.is_rule |= !is_exception && !has_wildcard;
        self.rules += 1;
        Some(())
    }
}

/// Where in the list a line stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Before,
    Inside,
    After,
}

/// Debian's package `publicsuffix`, MPL-2.0; see conf/lists/README.md.
const BUILT_IN: &str = include_str!("../../conf/lists/public_suffix_list.dat");

#[cfg(test)]
mod tests {
    use super::*;

    fn registrable(name: &str) -> Option<String> {
        let name = DomainName::from_text(name).expect("name");
        SuffixTable::built_in().registrable(name.as_ref()).map(|n| n.to_string())
    }

    #[test]
    fn suffixes_of_every_kind_are_found() {
        for (name, expected) in [
            ("www.here.cn", Some("here.cn")),
            ("a.b.here.com.cn", Some("here.com.cn")),
            ("com.cn", None),
            ("cn", None),
            ("www.ck", Some("www.ck")),
            ("a.www.ck", Some("www.ck")),
            ("b.a.ck", Some("b.a.ck")),
            ("a.ck", None),
            ("user.github.io", Some("github.io")),
            ("shop.myshopify.com", Some("myshopify.com")),
            ("www.filed.example", Some("filed.example")),
            ("x.例子.中国", Some("xn--fsqu00a.xn--fiqs8s")),
            ("x.203.0.113.1.nip.io", Some("nip.io")),
        ] {
            assert_eq!(registrable(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn damaged_lists_are_refused_with_the_place() {
        assert!(matches!(SuffixTable::parse(""), Err(SuffixError::NoIcannSection)));
        let cut = &BUILT_IN[..50_000];
        assert!(matches!(SuffixTable::parse(cut), Err(SuffixError::NoIcannSection)));
        let bad = "// ===BEGIN ICANN DOMAINS===\ncn\nc..n\n// ===END ICANN DOMAINS===\n";
        assert!(matches!(SuffixTable::parse(bad), Err(SuffixError::BadRule { line: 3, .. })));
        let few = "// ===BEGIN ICANN DOMAINS===\ncn\n// ===END ICANN DOMAINS===\n";
        assert!(matches!(SuffixTable::parse(few), Err(SuffixError::TooFewRules { found: 1 })));
    }
}
