//! The registry written out again: CSV, JSON lines, and a response policy zone for other resolvers.

use std::io::{self, Write};
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::diff::Standing;
use super::row::KEYS;
use super::{Filing, Snapshot};
use crate::model::Day;

/// Writes every row as CSV, with every column of the interface; reading it again gives the same rows.
pub fn csv(snapshot: &Snapshot, out: impl Write) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(KEYS.iter().map(|(key, _)| key))?;
    for row in snapshot.rows() {
        writer.write_record(KEYS.iter().map(|(key, _)| cell(&row, key)))?;
    }
    writer.flush()
}

/// Writes every row as a JSON object a line, without keys that are empty.
pub fn json_lines(snapshot: &Snapshot, mut out: impl Write) -> io::Result<()> {
    for row in snapshot.rows() {
        let mut object = Map::new();
        for (key, _) in KEYS {
            let value = match key {
                "access" => Value::from(row.access.clone()),
                "restricted" | "ip_filed" if cell(&row, key).is_empty() => continue,
                "restricted" | "ip_filed" => Value::from(true),
                "real_name" => row.real_name.map_or(Value::Null, Value::from),
                _ => Some(cell(&row, key)).filter(|text| !text.is_empty()).map_or(Value::Null, Value::from),
            };
            if !value.is_null() {
                object.insert(key.to_owned(), value);
            }
        }
        serde_json::to_writer(&mut out, &object)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

fn cell(row: &Filing, key: &str) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let day = |value: Option<Day>| value.map(|day| day.to_string()).unwrap_or_default();
    let flag = |value: bool| if value { "1".to_owned() } else { String::new() };
    match key {
        "domain" => row.domain.to_string(),
        "domain_unicode" => {
            Some(row.domain.as_ref().to_unicode()).filter(|name| *name != row.domain.to_string()).unwrap_or_default()
        }
        "site_no" => text(&row.site_no),
        "subject_no" => text(&row.subject_no),
        "access" => row.access.join(";"),
        "status" => row.status.label().to_owned(),
        "subject" => text(&row.subject),
        "subject_type" => text(&row.subject_type),
        "province" => text(&row.province),
        "site_name" => text(&row.site_name),
        "category" => text(&row.category),
        "approval" => text(&row.approval),
        "filed_on" => day(row.filed_on),
        "updated_on" => day(row.updated_on),
        "expires_on" => day(row.expires_on),
        "provisional_access_until" => day(row.provisional_access_until),
        "restricted" => flag(row.restricted),
        "real_name" => row.real_name.map_or(String::new(), |truth| u8::from(truth).to_string()),
        "ip_filed" => flag(row.ip_filed),
        "addresses" => row.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(";"),
        "origin" => text(&row.origin),
        "service_code" => text(&row.service_code),
        "account" => text(&row.account),
        "registrar" => text(&row.registrar),
        _ => text(&row.source),
    }
}

/// What a response policy zone says beside the filed names.
#[derive(Clone, Debug)]
pub struct PolicyZone<'a> {
    /// The zone's name, without a final dot.
    pub origin: &'a str,
    /// Serial number of its SOA.
    pub serial: u32,
    /// Answers with these addresses are rewritten, unless the name passes.
    pub prefixes: &'a [IpNet],
    /// What they are rewritten to.
    pub block: &'a [IpAddr],
    /// The least standing with which a name passes.
    pub passes: Standing,
    /// The day the standing is of.
    pub today: Day,
}

/// Writes a response policy zone: filed names pass, answers in the prefixes are rewritten. It knows neither products nor
/// CNAME chains, so it is coarser than the gate.
pub fn policy_zone(snapshot: &Snapshot, zone: &PolicyZone<'_>, mut out: impl Write) -> io::Result<()> {
    let PolicyZone { origin, serial, prefixes, block, passes, today } = zone;
    writeln!(
        out,
        "$ORIGIN {origin}.\n$TTL 60\n@ SOA localhost. root.localhost. {serial} 60 60 86400 60\n@ NS localhost."
    )?;
    for id in snapshot.ids() {
        if Standing::of(&snapshot.facts(id), *today) >= *passes {
            let name = snapshot.name(id);
            writeln!(out, "{name} CNAME rpz-passthru.\n*.{name} CNAME rpz-passthru.")?;
        }
    }
    for prefix in *prefixes {
        let trigger = trigger(prefix);
        for addr in *block {
            let kind = if addr.is_ipv4() { "A" } else { "AAAA" };
            writeln!(out, "{trigger} {kind} {addr}")?;
        }
        if block.is_empty() {
            writeln!(out, "{trigger} CNAME .")?;
        }
    }
    out.flush()
}

/// The owner name of an address trigger: prefix length, then the address from its last part to its first.
fn trigger(prefix: &IpNet) -> String {
    let parts: Vec<String> = match prefix.trunc().addr() {
        IpAddr::V4(v4) => v4.octets().iter().rev().map(ToString::to_string).collect(),
        IpAddr::V6(v6) => v6.segments().iter().rev().map(|part| format!("{part:x}")).collect(),
    };
    let mut text = parts.join(".");
    if matches!(prefix, IpNet::V6(_)) {
        text = shorten(&parts);
    }
    format!("{}.{text}.rpz-ip", prefix.prefix_len())
}

/// The longest run of two or more zero parts, the first of equals, becomes `zz`.
fn shorten(parts: &[String]) -> String {
    let mut best = 0..0;
    let mut at = 0;
    while at < parts.len() {
        let end = at + parts[at..].iter().take_while(|part| *part == "0").count();
        if end - at > best.len() {
            best = at..end;
        }
        at = end.max(at + 1);
    }
    if best.len() < 2 {
        return parts.join(".");
    }
    let zeros = ["zz".to_owned()];
    [&parts[..best.start], &zeros, &parts[best.end..]].concat().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_triggers_are_spelt_backwards() {
        for (prefix, expected) in [
            ("203.0.113.0/25", "25.0.113.0.203.rpz-ip"),
            ("2001:db8:1::/48", "48.zz.1.db8.2001.rpz-ip"),
            ("::1/128", "128.1.zz.rpz-ip"),
            ("2001:db8:0:1:0:0:0:2/128", "128.2.zz.1.0.db8.2001.rpz-ip"),
        ] {
            assert_eq!(trigger(&prefix.parse().expect("a prefix")), expected);
        }
    }
}
