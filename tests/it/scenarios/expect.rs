//! What a scenario expects of a DNS answer.

use hickory_proto::rr::Record;
use icpgate::dns::wire;

use super::super::harness::dns::Answer;

/// Names of response codes, extended ones included.
const CODES: [(u16, &str); 8] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (7, "YXRRSET"),
    (16, "BADVERS"),
];

/// Checks one line against an answer, or its absence; the error says what was found.
pub fn check(line: &str, answer: Option<&Answer>) -> Result<(), String> {
    let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
    let Some(answer) = answer else {
        return if what == "silence" { Ok(()) } else { Err("no answer".to_owned()) };
    };
    let found = match what {
        "code" => code(&answer.0).to_owned(),
        "flags" => flags(&answer.0),
        "opt" => opt(answer),
        "octets" => return at_most(rest, answer.0.len()),
        "ede" => return ede(rest, answer),
        "answer" | "authority" | "additional" => return Err("is checked with its section".to_owned()),
        "silence" => return Err(format!("an answer: {}", show(answer))),
        _ => return Err("an unknown expectation; see tests/scenarios/README.md".to_owned()),
    };
    if found == rest { Ok(()) } else { Err(format!("{what} {found}")) }
}

/// Checks the lines about one section, which must name all of its records.
pub fn check_section(section: &str, lines: &[&str], answer: &Answer) -> Result<(), String> {
    let message = answer.message();
    let records = match section {
        "answer" => &message.answers,
        "authority" => &message.authorities,
        _ => &message.additionals,
    };
    let found: Vec<String> = records.iter().map(show_record).collect();
    let expected: Vec<&str> = lines.iter().copied().filter(|line| *line != "none").collect();
    let mut left = found.clone();
    let all_there = expected.iter().all(|line| {
        let at = left.iter().position(|record| is_like(line, record));
        at.map(|at| left.remove(at)).is_some()
    });
    if all_there && left.is_empty() { Ok(()) } else { Err(format!("{section} {found:?}")) }
}

/// `*` stands for any one word, and `<=N` for a number not above; words the expectation leaves off do not matter.
fn is_like(expected: &str, record: &str) -> bool {
    let mut words = record.split_whitespace();
    expected.split_whitespace().all(|pattern| {
        let Some(word) = words.next() else { return false };
        let below = pattern.strip_prefix("<=").and_then(|most| Some(word.parse::<u64>().ok()? <= most.parse().ok()?));
        pattern == "*" || pattern == word || below == Some(true)
    })
}

fn show_record(record: &Record) -> String {
    format!("{} {} {} {}", record.name, record.ttl, record.record_type(), record.data)
}

fn code(octets: &[u8]) -> &'static str {
    let low = u16::from(octets[3] & 0xf);
    let records = wire::records(octets).expect("a well-formed answer");
    let opt = records.iter().find(|record| record.rtype == wire::rtype::OPT);
    let high = opt.map_or(0, |opt| u16::try_from(opt.ttl >> 24).unwrap_or(0));
    let code = high << 4 | low;
    CODES.iter().find(|&&(number, _)| number == code).map_or("another code", |&(_, text)| text)
}

fn flags(octets: &[u8]) -> String {
    let word = u16::from_be_bytes([octets[2], octets[3]]);
    let all = [
        (wire::flag::AA, "aa"),
        (wire::flag::TC, "tc"),
        (wire::flag::RD, "rd"),
        (wire::flag::RA, "ra"),
        (wire::flag::AD, "ad"),
        (wire::flag::CD, "cd"),
    ];
    all.iter().filter(|(bit, _)| word & bit != 0).map(|&(_, text)| text).collect::<Vec<_>>().join(" ")
}

fn opt(answer: &Answer) -> String {
    match &answer.message().edns {
        None => "none".to_owned(),
        Some(edns) => format!("{}{}", edns.max_payload(), if edns.flags().dnssec_ok { " do" } else { "" }),
    }
}

fn at_most(rest: &str, octets: usize) -> Result<(), String> {
    let most: usize = rest.trim_start_matches("<=").parse().map_err(|_| "expected octets <=N".to_owned())?;
    if octets <= most { Ok(()) } else { Err(format!("octets {octets}")) }
}

/// `ede none`, or a code and the beginning of its text.
fn ede(rest: &str, answer: &Answer) -> Result<(), String> {
    let errors = answer.errors();
    let (code, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_met = match rest {
        "none" => errors.is_empty(),
        _ => errors.iter().any(|(found, words)| found.to_string() == code && words.starts_with(text)),
    };
    if is_met { Ok(()) } else { Err(format!("ede {errors:?}")) }
}

/// The answer for a failure's message.
pub fn show(answer: &Answer) -> String {
    let message = answer.message();
    let records = |records: &[Record]| records.iter().map(show_record).collect::<Vec<_>>().join(", ");
    format!(
        "{} [{}] answer: {}; authority: {}; additional: {}; ede {:?}; {} octets",
        code(&answer.0),
        flags(&answer.0),
        records(&message.answers),
        records(&message.authorities),
        records(&message.additionals),
        answer.errors(),
        answer.0.len()
    )
}
