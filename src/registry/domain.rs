//! The domain column: what operators paste there, cleaned to a registrable domain or refused with the reason.

use crate::model::{DomainName, NameRef, SuffixTable, parse_ip_literal};

/// Top-level labels that are reserved, so that nobody can hold a name below them (RFC 6761, RFC 6762, RFC 7686).
const RESERVED: [&[u8]; 4] = [b"invalid", b"localhost", b"local", b"onion"];

/// Characters people paste around a name without seeing them.
const INVISIBLE: [char; 4] = ['\u{feff}', '\u{200b}', '\u{2060}', '\u{ad}'];

/// A cleaned cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanDomain {
    /// The registrable domain.
    pub domain: DomainName,
    /// What was repaired: rule id and sentence.
    pub repairs: Vec<(&'static str, String)>,
}

/// Reads the domain cell of a row.
///
/// Blanks, quotes, URLs, wildcards and names below the registrable domain are repaired and reported (rule R22); a
/// public suffix, an address or anything that is no name is refused: rule id and what would have been right.
/// Sources: rules R8, R22; interception D-D20, D-D22.
pub fn clean_domain(suffixes: &SuffixTable, cell: &str) -> Result<CleanDomain, (&'static str, String)> {
    let mut repairs = Vec::new();
    let mut text = cell.trim();
    if text.len() != cell.len() {
        repairs.push(("R22", "blanks around the name removed".to_owned()));
    }
    let visible: String;
    if text.contains(INVISIBLE) {
        visible = text.chars().filter(|c| !INVISIBLE.contains(c)).collect();
        text = &visible;
        repairs.push(("R22", "invisible characters removed".to_owned()));
    }
    if let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        text = inner;
        repairs.push(("R22", "quotes removed".to_owned()));
    }
    if let Some((_, rest)) = text.split_once("://") {
        text = rest.split(['/', '?', '#']).next().unwrap_or("");
        repairs.push(("R22", "host taken out of a URL".to_owned()));
    }
    if let Some(rest) = text.strip_prefix("*.") {
        text = rest;
        repairs.push(("S2", "a filing covers all names below: wildcard removed".to_owned()));
    }
    if parse_ip_literal(text).is_some() {
        return Err((
            "R8",
            "an address is filed at the local authority; expected a domain, or ip_filed = true".to_owned(),
        ));
    }
    let name = DomainName::from_text(text).map_err(|error| ("format", format!("{error}; expected one domain")))?;
    let domain = registrable(suffixes, name.as_ref())?;
    if !suffixes.lists_top_level(name.as_ref()) && !is_documentation(name.as_ref()) {
        repairs.push(("R1", "its top-level domain is not on the public suffix list".to_owned()));
    }
    if domain.wire() != name.wire() {
        repairs.push(("R22", format!("a filing is for the registrable domain: {domain}")));
    }
    Ok(CleanDomain { domain: domain.to_name(), repairs })
}

/// True for top-level labels that nobody can hold a name below.
pub(super) fn is_reserved(top: &[u8]) -> bool {
    RESERVED.contains(&top)
}

fn registrable<'a>(suffixes: &SuffixTable, name: NameRef<'a>) -> Result<NameRef<'a>, (&'static str, String)> {
    let last = name.labels().last().unwrap_or_default();
    if is_reserved(last) {
        let label = String::from_utf8_lossy(last);
        return Err(("R1", format!(".{label} is reserved and cannot be filed; expected a registered domain")));
    }
    let top = name.to_unicode();
    let top = top.rsplit('.').next().unwrap_or("");
    if !top.is_ascii() && top.contains(|c: char| c.is_ascii_alphabetic()) {
        return Err(("R1", format!("{top:?} mixes scripts; no top-level domain does")));
    }
    let domain = suffixes
        .registrable(name)
        .ok_or_else(|| ("D-D22", "a public suffix cannot be filed; expected the name below it".to_owned()))?;
    let label = domain.labels().next().unwrap_or_default();
    let is_host_label = |label: &[u8]| {
        label.iter().all(|o| o.is_ascii_alphanumeric() || *o == b'-')
            && !label.starts_with(b"-")
            && !label.ends_with(b"-")
    };
    if domain.labels().all(is_host_label) {
        Ok(domain)
    } else {
        let label = String::from_utf8_lossy(label);
        Err(("format", format!("{label:?} cannot be registered; expected letters, digits and inner hyphens")))
    }
}

/// Names for examples and tests (RFC 6761 sections 6.2 and 6.5).
fn is_documentation(name: NameRef<'_>) -> bool {
    matches!(name.labels().last(), Some(b"example" | b"test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Own vectors: domain spellings with verdict and registrable domain.
    const VECTORS: &str = include_str!("../../tests/data/edge-domains.jsonl");

    #[test]
    fn every_vector_gets_its_verdict_and_domain() {
        let suffixes = SuffixTable::built_in();
        for line in VECTORS.lines() {
            let row: serde_json::Value = serde_json::from_str(line).expect("a JSON row");
            let input = row["input"].as_str().expect("an input");
            let found = clean_domain(&suffixes, input);
            let verdict = match &found {
                Err(_) => "error",
                Ok(clean) if clean.repairs.is_empty() => "ok",
                Ok(_) => "warn",
            };
            assert_eq!(verdict, row["verdict"], "{input:?}: {found:?}");
            if let Ok(clean) = found {
                assert_eq!(Some(clean.domain.to_string().as_str()), row["registrable"].as_str(), "{input:?}");
            }
        }
    }
}
