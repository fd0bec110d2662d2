//! What an audit found, written out: for people, for tables, for programs, for gauges.

mod html;

use std::io::{self, Write};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::drift::Finding;
use super::kind::Kind;

/// Findings that the text shows of one kind; the other forms show all.
const SHOWN_MAX: usize = 20;

/// Everything a report says.
#[derive(Debug, Serialize)]
pub struct Report {
    /// When, RFC 3339 (UTC).
    pub at: String,
    /// The provider whose audit it is.
    pub provider: String,
    /// Names that were looked at.
    pub targets: usize,
    /// Hosts that were asked for in this run.
    pub asked: usize,
    /// Hosts known from a run before.
    pub known: usize,
    /// How many findings of each kind, the gravest first; zeros too.
    pub counts: Vec<Count>,
    /// The findings.
    pub findings: Vec<Finding>,
    /// Servers that showed no certificate, with why.
    pub unread: Vec<String>,
}

/// How many of a kind.
#[derive(Debug, Serialize)]
pub struct Count {
    /// The kind.
    pub kind: Kind,
    /// How many.
    pub count: usize,
}

impl Report {
    /// A report of `findings`, which are in the order of their kinds.
    pub fn new(
        at: OffsetDateTime,
        provider: &str,
        (targets, asked, known): (usize, usize, usize),
        findings: Vec<Finding>,
        unread: Vec<String>,
    ) -> Self {
        let count = |kind| Count { kind, count: findings.iter().filter(|finding| finding.kind == kind).count() };
        Self {
            at: at.format(&Rfc3339).unwrap_or_default(),
            provider: provider.to_owned(),
            targets,
            asked,
            known,
            counts: Kind::ALL.into_iter().map(count).collect(),
            findings,
            unread,
        }
    }

    /// True with something that somebody has to act on.
    pub fn has_findings(&self) -> bool {
        !self.unread.is_empty() || self.findings.iter().any(|finding| finding.kind.counts())
    }

    /// For a terminal: the counts, and the first findings of each kind.
    pub fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { targets, asked, known, .. } = self;
        writeln!(out, "{targets} names / 域名, {asked} hosts asked / 本次解析, {known} known / 已知, {}", self.at)?;
        for Count { kind, count } in self.counts.iter().filter(|count| count.count > 0) {
            let about = kind.about();
            writeln!(out, "\n{count:>7}  {}  {} / {}", about.label, about.title_zh, about.title_en)?;
            writeln!(out, "         → {} / {}", about.advice_zh, about.advice_en)?;
            let of_kind = self.findings.iter().filter(|finding| finding.kind == *kind);
            for finding in of_kind.take(SHOWN_MAX) {
                writeln!(out, "         {}", line_of(finding))?;
            }
            if *count > SHOWN_MAX {
                writeln!(
                    out,
                    "         … {} more: --format csv, json or html / 其余见 CSV、JSON 或 HTML",
                    count - SHOWN_MAX
                )?;
            }
        }
        if !self.unread.is_empty() {
            writeln!(out, "\n{:>7}  servers without a certificate / 未取得证书的服务器", self.unread.len())?;
        }
        self.unread.iter().try_for_each(|reason| writeln!(out, "         {reason}"))?;
        if self.findings.is_empty() && self.unread.is_empty() {
            writeln!(out, "\nnothing found / 未发现问题")?;
        }
        Ok(())
    }

    /// A row a finding, with a header; lists separated by `;`. What a spreadsheet would run as a formula is quoted.
    pub fn csv(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record([
            "kind",
            "name",
            "host",
            "domain",
            "addresses",
            "chain",
            "here",
            "reason",
            "site_no",
            "access",
            "status",
            "place",
            "sources",
            "seen_at",
            "title_zh",
            "advice_zh",
            "title_en",
            "advice_en",
        ])?;
        for finding in &self.findings {
            let about = finding.kind.about();
            let addresses: Vec<String> = finding.addresses.iter().map(ToString::to_string).collect();
            let here = if finding.is_here { "1" } else { "0" };
            let cells = [
                about.label,
                &finding.name,
                &finding.host,
                finding.domain.as_deref().unwrap_or_default(),
                &addresses.join(";"),
                &finding.chain.join(";"),
                here,
                finding.reason.unwrap_or_default(),
                finding.site_no.as_deref().unwrap_or_default(),
                &finding.access.join(";"),
                finding.status.unwrap_or_default(),
                finding.place.as_deref().unwrap_or_default(),
                &finding.sources.join(";"),
                &finding.seen_at.map(time_of).unwrap_or_default(),
                about.title_zh,
                about.advice_zh,
                about.title_en,
                about.advice_en,
            ];
            writer.write_record(cells.map(harmless))?;
        }
        writer.flush()
    }

    /// All of it as one JSON object.
    pub fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        out.write_all(b"\n")
    }

    /// Gauges for the text-file collector of a node exporter.
    pub fn prometheus(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "# HELP icpgate_audit_findings Findings of the last audit.\n# TYPE icpgate_audit_findings gauge"
        )?;
        for Count { kind, count } in &self.counts {
            writeln!(out, "icpgate_audit_findings{{kind=\"{}\"}} {count}", kind.about().label)?;
        }
        writeln!(
            out,
            "# HELP icpgate_audit_targets Names that the last audit looked at.\n# TYPE icpgate_audit_targets gauge"
        )?;
        writeln!(out, "icpgate_audit_targets {}", self.targets)?;
        let at = OffsetDateTime::parse(&self.at, &Rfc3339).map_or(0, OffsetDateTime::unix_timestamp);
        writeln!(out, "# HELP icpgate_audit_timestamp_seconds When the last audit ended.")?;
        writeln!(out, "# TYPE icpgate_audit_timestamp_seconds gauge\nicpgate_audit_timestamp_seconds {at}")
    }

    /// One page with charts, which needs nothing from anywhere.
    pub fn html(&self, out: &mut dyn Write) -> io::Result<()> {
        html::write(self, out)
    }
}

/// A finding in a line.
fn line_of(finding: &Finding) -> String {
    let mut res = finding.host.clone();
    let leads: Vec<String> =
        finding.chain.iter().cloned().chain(finding.addresses.iter().map(ToString::to_string)).collect();
    if !leads.is_empty() {
        res += &format!(" → {}", leads.join(", "));
    }
    let row = [finding.site_no.as_deref(), finding.status.filter(|_| finding.place.is_some())];
    let access = finding.access.join(";");
    let row: Vec<&str> =
        row.into_iter().flatten().chain(Some(access.as_str()).filter(|text| !text.is_empty())).collect();
    if !row.is_empty() {
        res += &format!("  [{}]", row.join(" · "));
    }
    if let Some(place) = &finding.place {
        res += &format!("  {place}");
    }
    res
}

/// Seconds since 1970 as RFC 3339.
fn time_of(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

/// A cell that no spreadsheet takes for a formula.
pub fn harmless(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn report() -> Report {
        let finding = |kind, name: &str| Finding {
            kind,
            name: name.to_owned(),
            host: name.to_owned(),
            domain: Some(name.to_owned()),
            reason: Some("not_filed"),
            addresses: vec!["203.0.113.9".parse().expect("an address")],
            chain: vec!["edge.example".to_owned()],
            is_here: true,
            seen_at: Some(1_764_547_200),
            site_no: None,
            access: Vec::new(),
            status: None,
            place: None,
            sources: vec!["log"],
        };
        let mut findings = vec![finding(Kind::NeverFiled, "<b>.cn"), finding(Kind::NeverFiled, "=1+1.cn")];
        findings.extend((0..30).map(|n| finding(Kind::ShellDead, &format!("d{n}.cn"))));
        let at = OffsetDateTime::from_unix_timestamp(1_764_547_300).expect("a time");
        Report::new(at, "self", (100, 40, 60), findings, vec!["192.0.2.1:443: <refused>".to_owned()])
    }

    fn written(write: impl Fn(&Report, &mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&report(), &mut out).expect("writes");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn every_form_says_the_same() {
        let text = written(Report::text);
        assert!(text.contains("30  shell_dead") && text.contains("… 10 more"), "{text}");
        assert!(text.contains("192.0.2.1:443: <refused>"), "{text}");
        let csv = written(Report::csv);
        assert_eq!(csv.lines().count(), 33);
        assert!(csv.contains("never_filed,'=1+1.cn,'=1+1.cn") && csv.contains("2025-12-01T00:00:00Z"), "{csv}");
        let json: serde_json::Value = serde_json::from_str(&written(Report::json)).expect("JSON");
        assert_eq!((json["findings"].as_array().map(Vec::len), &json["counts"][0]["count"]), (Some(32), &2.into()));
        let gauges = written(Report::prometheus);
        assert!(gauges.contains("icpgate_audit_findings{kind=\"shell_dead\"} 30\n"), "{gauges}");
        assert!(gauges.contains("icpgate_audit_timestamp_seconds 1764547300\n"), "{gauges}");
        let html = written(Report::html);
        assert!(html.contains("&lt;b&gt;.cn") && !html.contains("<b>.cn"), "{html}");
        assert!(html.contains("192.0.2.1:443: &lt;refused&gt;"), "{html}");
        assert_eq!(html.matches("<tr class=\"f\">").count(), 32);
        for outside in ["http://", "https://", "<script", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
