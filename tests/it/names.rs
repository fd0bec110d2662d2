//! Names against the public vectors: suffix list, UTS-46, address spellings.

use icpgate::model::{DomainName, SuffixTable, parse_ip_literal};
use proptest::prelude::*;

use super::harness::fixture::suffixes;
use super::harness::shared;

/// Rules of the private section, as names: rows that rest on one are another question than ours (D-D21).
fn private_rules(list: &str) -> Vec<DomainName> {
    let private = list.split("===BEGIN PRIVATE DOMAINS===").nth(1).expect("a private section");
    private
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .filter_map(|rule| DomainName::from_text(rule.trim_start_matches('!').trim_start_matches("*.")).ok())
        .collect()
}

/// Rows `name expected`, `null` for none.
fn suffix_rows(text: &str) -> Vec<(String, Option<String>)> {
    let plain = |word: &str| word.trim().trim_matches('\'').to_owned();
    text.lines()
        .filter(|line| !line.starts_with("//") && !line.trim().is_empty())
        .filter_map(|line| match line.strip_prefix("checkPublicSuffix(") {
            Some(call) => call.trim_end_matches(");").split_once(',').map(|(a, b)| (plain(a), plain(b))),
            None => line.split_once(' ').map(|(a, b)| (plain(a), plain(b))),
        })
        .filter(|(name, _)| name != "null")
        .map(|(name, expected)| (name, (expected != "null").then_some(expected)))
        .collect()
}

#[test]
fn suffix_vectors_pass() {
    let Some(list) = shared::text("suffix/public_suffix_list.dat") else { return };
    let table = SuffixTable::parse(&list).expect("the published list");
    let private = private_rules(&list);
    for file in ["suffix/test_psl.txt", "suffix/tests.txt"] {
        let Some(text) = shared::text(file) else { return };
        let (mut checked, mut on_private) = (0, 0);
        for (spelling, expected) in suffix_rows(&text) {
            let name = DomainName::from_text(&spelling);
            if let Ok(name) = &name
                && private.iter().any(|rule| name.as_ref().is_at_or_below(rule.as_ref()))
            {
                on_private += 1;
                continue;
            }
            let found = name.as_ref().ok().and_then(|name| table.registrable(name.as_ref())).map(|d| d.to_name());
            let expected = expected.map(|text| DomainName::from_text(&text).expect("a vector's name"));
            assert_eq!(found, expected, "{file}: {spelling}");
            checked += 1;
        }
        assert!(checked >= 60, "{file}: only {checked} rows were read");
        assert!(on_private <= 20, "{file}: {on_private} rows rest on the private section");
    }
}

#[test]
fn every_rule_agrees_with_the_reference_reader() {
    let text = include_str!("../../conf/lists/public_suffix_list.dat");
    let reference: publicsuffix::IcannList = text.parse().expect("the shipped list");
    let table = suffixes();
    let icann = text.split("===BEGIN PRIVATE DOMAINS===").next().expect("an ICANN section");
    let rules = icann.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    for rule in rules {
        let base = rule.trim_start_matches('!').trim_start_matches("*.");
        for prefix in ["", "a.", "b.a.", "c.b.a."] {
            let name = DomainName::from_text(&format!("{prefix}{base}")).expect(rule);
            same_as_reference(&reference, &table, &name);
        }
    }
}

fn same_as_reference(reference: &publicsuffix::IcannList, table: &SuffixTable, name: &DomainName) {
    use publicsuffix::Psl;
    let unicode = name.as_ref().to_unicode();
    let theirs = reference.domain(unicode.as_bytes()).map(|domain| domain.as_bytes().to_vec());
    let theirs =
        theirs.map(|octets| DomainName::from_text(&String::from_utf8(octets).expect("UTF-8")).expect("a name"));
    let ours = table.registrable(name.as_ref()).map(|domain| domain.to_name());
    assert_eq!(ours, theirs, "{unicode}");
}

/// One column of IdnaTestV2 with its escapes resolved; `None` where a lone surrogate cannot be written.
fn unescape(text: &str) -> Option<String> {
    let mut res = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\u") {
        res.push_str(&rest[..at]);
        let code = u32::from_str_radix(rest.get(at + 2..at + 6)?, 16).ok()?;
        res.push(char::from_u32(code)?);
        rest = &rest[at + 6..];
    }
    res.push_str(rest);
    Some(if res == "\"\"" { String::new() } else { res })
}

/// Status codes that do not concern us: hyphen placement (V2, V3), name and label lengths where DNS differs (A4), and
/// X4_2, which stands for an empty label.
fn is_error(status: &str) -> bool {
    status
        .trim_matches(['[', ']'])
        .split(',')
        .map(str::trim)
        .any(|code| !code.is_empty() && !matches!(code, "V2" | "V3" | "U1" | "A4_1" | "A4_2" | "X4_2"))
}

#[test]
fn idna_vectors_pass() {
    let Some(text) = shared::text("idna/IdnaTestV2.txt.zst") else { return };
    let (mut accepted, mut refused, mut stricter) = (0, 0, 0);
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("");
        let columns: Vec<&str> = line.split(';').map(str::trim).collect();
        if columns.len() < 7 {
            continue;
        }
        let Some(source) = unescape(columns[0]) else { continue };
        let or = |own: &str, other: &str| if own.is_empty() { other.to_owned() } else { own.to_owned() };
        let unicode = or(columns[1], columns[0]);
        let ascii = or(columns[3], &unicode);
        let status = or(columns[4], columns[2]);
        let found = DomainName::from_text(&source);
        if is_error(&status) {
            assert!(found.is_err(), "{line}: took {found:?}");
            refused += 1;
        } else if let Ok(found) = found {
            let expected = ascii.trim_end_matches('.').to_ascii_lowercase();
            assert_eq!(found.to_string(), expected, "{line}");
            accepted += 1;
        } else {
            // Empty labels, lengths and characters no host name holds: names we need not take.
            let has_odd = !ascii.strip_suffix('.').unwrap_or(&ascii).split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|o| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'_' | b'*'))
            });
            assert!(has_odd || ascii.len() > 253, "{line}: refused with {found:?}");
            stricter += 1;
        }
    }
    assert!(accepted > 500 && refused > 2000, "{accepted} accepted, {refused} refused, {stricter} stricter");
}

#[test]
fn address_spellings_of_url_hosts_are_read() {
    let Some(text) = shared::text("idna/urltestdata.json.zst") else { return };
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON rows");
    let mut checked = 0;
    for row in &rows {
        let (Some(input), Some(hostname)) = (row["input"].as_str(), row["hostname"].as_str()) else { continue };
        let Some(rest) = input.strip_prefix("http://").or_else(|| input.strip_prefix("https://")) else { continue };
        let host = rest.split(['/', '?', '#']).next().unwrap_or("");
        let is_plain = host.is_ascii() && !host.contains(['@', '%', '\\', ' ', '\t', '\n', '\r']);
        let host = match host.find(']') {
            Some(end) => &host[..=end],
            None => host.split(':').next().unwrap_or(""),
        };
        if !is_plain || host.is_empty() {
            continue;
        }
        let expected: Option<std::net::IpAddr> = hostname.trim_matches(['[', ']']).parse().ok();
        match (parse_ip_literal(host), expected) {
            (Some(Ok(found)), Some(expected)) => assert_eq!(found, expected, "{input}"),
            (None, None) => {}
            (found, expected) => panic!("{input}: found {found:?}, expected {expected:?}"),
        }
        checked += 1;
    }
    assert!(checked > 50, "only {checked} rows were read");
}

proptest! {
    #[test]
    fn any_octets_decode_or_fail_without_harm(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok((name, used)) = DomainName::from_wire(&octets) {
            prop_assert!(used <= octets.len());
            let again = DomainName::from_wire(name.wire()).expect("canonical names decode");
            prop_assert_eq!(again.0, name);
        }
    }

    #[test]
    fn names_of_real_suffixes_agree_with_the_reference(
        labels in proptest::collection::vec("[a-z0-9]{1,6}", 0..4),
        tail in proptest::sample::select(vec!["cn", "com.cn", "ck", "www.ck", "kawasaki.jp", "city.kawasaki.jp", "政务.cn", "zz"]),
    ) {
        let reference: publicsuffix::IcannList = REFERENCE.with(Clone::clone);
        let text = labels.iter().map(String::as_str).chain([tail]).collect::<Vec<_>>().join(".");
        let name = DomainName::from_text(&text).expect("labels of letters");
        same_as_reference(&reference, &suffixes(), &name);
    }

    #[test]
    fn spelling_never_changes_a_name(labels in proptest::collection::vec("[a-z0-9]{1,9}", 1..5)) {
        let plain = DomainName::from_text(&labels.join(".")).expect("labels of letters");
        let shouted = format!("{}.", labels.join(".").to_uppercase());
        prop_assert_eq!(DomainName::from_text(&shouted).expect("the same name"), plain);
    }

    #[test]
    fn any_host_text_is_read_without_harm(text in "\\PC{0,80}") {
        let _ = parse_ip_literal(&text);
        let _ = DomainName::from_text(&text);
    }
}

thread_local! {
    static REFERENCE: publicsuffix::IcannList =
        include_str!("../../conf/lists/public_suffix_list.dat").parse().expect("the shipped list");
}
