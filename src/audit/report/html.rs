//! The report as one page: counts as bars, findings as tables; no script, nothing from outside.

use std::io::{self, Write};

use super::{Count, Report, time_of};

/// Findings of a kind that the page shows; a browser takes no more in one table gladly, and the CSV has all.
const ROWS_MAX: usize = 2000;

/// Up to the first heading.
const HEAD: &str = include_str!("head.html");

pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(HEAD.as_bytes())?;
    writeln!(out, "<h1>备案巡检报告 <small>/ Filing audit</small></h1>")?;
    writeln!(out, "<p>{} · {}</p>", escaped(&report.provider), escaped(&report.at))?;
    let acting: usize = report.counts.iter().filter(|count| count.kind.counts()).map(|count| count.count).sum();
    writeln!(out, "<div class=\"cards\">")?;
    for (value, zh, en) in [
        (report.targets, "域名", "names"),
        (report.asked, "本次解析", "hosts asked now"),
        (report.known, "沿用已知结果", "known before"),
        (acting, "需处理", "findings"),
    ] {
        writeln!(out, "<div class=\"card\"><b>{value}</b>{zh} / {en}</div>")?;
    }
    writeln!(out, "</div>")?;
    chart(report, out)?;
    for count in report.counts.iter().filter(|count| count.count > 0) {
        section(report, count, out)?;
    }
    if !report.unread.is_empty() {
        writeln!(
            out,
            "<h2 class=\"warn\">未取得证书的服务器 / Servers without a certificate · {}</h2><ul>",
            report.unread.len()
        )?;
        report.unread.iter().try_for_each(|reason| writeln!(out, "<li><code>{}</code></li>", escaped(reason)))?;
        writeln!(out, "</ul>")?;
    }
    if report.findings.is_empty() && report.unread.is_empty() {
        writeln!(out, "<h2>未发现问题 / Nothing found</h2>")?;
    }
    writeln!(out, "</main></body></html>")
}

/// How grave a kind is, by its place.
fn class_of(place: usize) -> &'static str {
    match place {
        0..=4 => "grave",
        5..=8 => "warn",
        _ => "note",
    }
}

/// Bars, one a kind.
fn chart(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    const ROW: usize = 28;
    const BARS_AT: usize = 330;
    const BARS: usize = 380;
    let most = report.counts.iter().map(|count| count.count).max().unwrap_or(0).max(1);
    let height = report.counts.len() * ROW + 6;
    writeln!(
        out,
        "<div class=\"chart\"><svg viewBox=\"0 0 800 {height}\" role=\"img\" aria-label=\"findings by kind\">"
    )?;
    for (place, Count { kind, count }) in report.counts.iter().enumerate() {
        let (at, about) = (place * ROW, kind.about());
        // What is there is seen, however little it is beside the most.
        let width = if *count == 0 { 0 } else { (count * BARS / most).max(2) };
        let text_at = at + 19;
        writeln!(
            out,
            "<text x=\"0\" y=\"{text_at}\">{}</text><rect class=\"{}\" x=\"{BARS_AT}\" y=\"{}\" width=\"{width}\" \
             height=\"16\" rx=\"3\"/><text class=\"soft\" x=\"{}\" y=\"{text_at}\">{count}</text>",
            about.title_zh,
            class_of(place),
            at + 6,
            BARS_AT + width + 8,
        )?;
    }
    writeln!(out, "</svg></div>")
}

fn section(report: &Report, count: &Count, out: &mut dyn Write) -> io::Result<()> {
    let (kind, about) = (count.kind, count.kind.about());
    let place = report.counts.iter().position(|other| other.kind == kind).unwrap_or(0);
    writeln!(
        out,
        "<h2 class=\"{}\" id=\"{}\">{} / {} · {}</h2><p>{} / {}</p>",
        class_of(place),
        about.label,
        about.title_zh,
        about.title_en,
        count.count,
        about.advice_zh,
        about.advice_en
    )?;
    writeln!(
        out,
        "<div class=\"table\"><table><thead><tr><th>主机 / Host</th><th>指向 / Leads to</th><th>备案 / Filing</th>\
         <th>出处 / Place</th><th>时间 / Seen</th></tr></thead><tbody>"
    )?;
    for finding in report.findings.iter().filter(|finding| finding.kind == kind).take(ROWS_MAX) {
        let leads: Vec<String> =
            finding.chain.iter().cloned().chain(finding.addresses.iter().map(ToString::to_string)).collect();
        let access = finding.access.join(" ");
        let filing: Vec<&str> =
            [finding.site_no.as_deref(), finding.status, Some(access.as_str()).filter(|text| !text.is_empty())]
                .into_iter()
                .flatten()
                .collect();
        let from = finding.place.clone().unwrap_or_else(|| finding.sources.join(", "));
        writeln!(
            out,
            "<tr class=\"f\"><td><code>{}</code></td><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&finding.host),
            escaped(&leads.join(" ")),
            escaped(&filing.join(" · ")),
            escaped(&from),
            finding.seen_at.map(time_of).unwrap_or_default(),
        )?;
    }
    writeln!(out, "</tbody></table></div>")?;
    if count.count > ROWS_MAX {
        writeln!(out, "<p>仅显示前 {ROWS_MAX} 条，其余见 CSV / the first {ROWS_MAX}; the CSV has all</p>")?;
    }
    Ok(())
}

/// Text for between tags and inside quotes.
fn escaped(text: &str) -> String {
    let mut res = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => res.push_str("&amp;"),
            '<' => res.push_str("&lt;"),
            '>' => res.push_str("&gt;"),
            '"' => res.push_str("&quot;"),
            '\'' => res.push_str("&#39;"),
            c => res.push(c),
        }
    }
    res
}
