//! One row: from cells, whatever format they came in, to a checked [`Filing`].

use std::borrow::Cow;
use std::sync::Arc;

use ipnet::IpNet;

use super::Filing;
use super::domain::clean_domain;
use super::issue::{Issue, Severity};
use crate::model::{Day, DomainName, FilingNumber, Status, SuffixTable, hint};

/// Octets of one cell; the longest real one, a subject's name, is under 300.
pub const CELL_OCTETS_MAX: usize = 4096;

/// Every key of a row with its accepted Chinese names, in the order of the interface.
pub const KEYS: [(&str, &[&str]); 25] = [
    ("domain", &["域名"]),
    ("domain_unicode", &[]),
    ("site_no", &["网站备案号", "备案号"]),
    ("subject_no", &["主体备案号"]),
    ("access", &["接入商"]),
    ("status", &["状态"]),
    ("subject", &["主办单位"]),
    ("subject_type", &["性质"]),
    ("province", &["省", "省份"]),
    ("site_name", &["网站名称"]),
    ("category", &["类别"]),
    ("approval", &["前置审批"]),
    ("filed_on", &["审核通过日期"]),
    ("updated_on", &["更新日期"]),
    ("expires_on", &["域名到期日期"]),
    ("provisional_access_until", &["临时接入截止"]),
    ("restricted", &["限制接入"]),
    ("real_name", &["实名"]),
    ("ip_filed", &["管局备案"]),
    ("addresses", &["地址"]),
    ("origin", &["源站"]),
    ("service_code", &["备案服务号"]),
    ("account", &["账号"]),
    ("registrar", &["注册商"]),
    ("source", &["来源"]),
];

/// Columns that only the linter reads, with their Chinese names; a load passes over them as over the operator's own.
pub const FACTS: [(&str, &[&str]); 9] = [
    ("domain_holder", &["域名持有者"]),
    ("holder_relation", &["持有者关系"]),
    ("holder_proof", &["持有者证明"]),
    ("illegal_content", &["违法内容"]),
    ("certificate_type", &["证件类型"]),
    ("certificate_province", &["证件省份"]),
    ("residence_permit", &["居住证"]),
    ("server", &["服务器"]),
    ("site_product", &["建站产品"]),
];

/// Finds the key of a column that only the linter reads.
pub fn fact_key(written: &str) -> Option<&'static str> {
    FACTS.iter().find(|(key, aliases)| *key == written || aliases.contains(&written)).map(|&(key, _)| key)
}

/// True for columns that a load passes over: the operator's own, and those for the linter.
pub fn is_passed_over(written: &str) -> bool {
    written.starts_with("x_") || fact_key(written).is_some()
}

/// Finds the canonical key for a written one.
pub fn canonical_key(written: &str) -> Option<&'static str> {
    KEYS.iter().find(|(key, aliases)| *key == written || aliases.contains(&written)).map(|&(key, _)| key)
}

/// The known key nearest to a mistyped one.
pub fn nearest_key(written: &str) -> &'static str {
    KEYS.iter()
        .map(|&(key, _)| key)
        .max_by(|a, b| likeness(a, written).total_cmp(&likeness(b, written)))
        .unwrap_or("domain")
}

/// Share of common two-letter pieces; 1 for equal text.
fn likeness(a: &str, b: &str) -> f64 {
    let pieces = |text: &str| text.as_bytes().windows(2).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (left, right) = (pieces(a), pieces(&b.to_ascii_lowercase()));
    let common = left.iter().filter(|piece| right.contains(piece)).count();
    #[allow(clippy::cast_precision_loss)]
    let share = 2.0 * common as f64 / (left.len() + right.len()).max(1) as f64;
    share
}

/// One cell: canonical key, text, column from 1.
#[derive(Clone, Debug)]
pub struct Cell<'a> {
    /// Canonical key.
    pub key: &'static str,
    /// The text; lists are joined by `;`.
    pub text: Cow<'a, str>,
    /// Column from 1.
    pub column: u32,
}

/// What rows are checked against.
#[derive(Clone, Copy)]
pub struct RowContext<'a> {
    /// Public suffixes.
    pub suffixes: &'a SuffixTable,
    /// The current year, for numbers.
    pub year: i32,
    /// The file.
    pub file: &'a Arc<str>,
}

/// Reads one row. `None` means the row does not count; why is among the issues.
pub fn read_row(context: RowContext<'_>, line: u32, cells: &[Cell<'_>], issues: &mut Vec<Issue>) -> Option<Filing> {
    let mut reader = RowReader { context, line, issues, failed: false };
    let filing = reader.read(cells)?;
    (!reader.failed).then_some(filing)
}

struct RowReader<'a, 'b> {
    context: RowContext<'a>,
    line: u32,
    issues: &'b mut Vec<Issue>,
    failed: bool,
}

impl RowReader<'_, '_> {
    fn note(&mut self, severity: Severity, rule: &'static str, cell: Option<&Cell<'_>>, message: impl Into<String>) {
        let issue = Issue::at(severity, rule, self.context.file, self.line, message);
        self.failed |= severity == Severity::Error;
        self.issues.push(match cell {
            Some(cell) => issue.in_cell(cell.key, cell.column, &cell.text),
            None => issue,
        });
    }

    fn read(&mut self, cells: &[Cell<'_>]) -> Option<Filing> {
        let domain_cell = cells.iter().find(|cell| cell.key == "domain");
        let Some(domain_cell) = domain_cell.filter(|cell| !cell.text.trim().is_empty()) else {
            self.note(Severity::Error, "format", domain_cell, "domain is missing; expected a registrable domain");
            return None;
        };
        let ip_filed =
            cells.iter().find(|cell| cell.key == "ip_filed").is_some_and(|cell| is_true(&cell.text) == Some(true));
        let domain = match clean_domain(self.context.suffixes, &domain_cell.text) {
            Ok(clean) => {
                for (rule, message) in clean.repairs {
                    self.note(Severity::Warning, rule, Some(domain_cell), message);
                }
                clean.domain
            }
            // Filed at the local authority: kept for the record, matches no name.
            Err(("R8", _)) if ip_filed => {
                self.note(
                    Severity::Info,
                    "R8",
                    Some(domain_cell),
                    "an address filed at the local authority; not judged by name",
                );
                return None;
            }
            Err((rule, message)) => {
                self.note(Severity::Error, rule, Some(domain_cell), message);
                return None;
            }
        };
        let mut filing = Filing { file: self.context.file.clone(), line: self.line, ..Filing::new(domain) };
        let mut access_seen = false;
        for cell in cells {
            access_seen |= cell.key == "access";
            if cell.text.len() > CELL_OCTETS_MAX {
                self.note(Severity::Error, "limit", Some(cell), format!("longer than {CELL_OCTETS_MAX} octets"));
                continue;
            }
            self.cell(&mut filing, cell);
        }
        if !access_seen {
            self.note(
                Severity::Error,
                "format",
                None,
                "access is missing; expected provider ids separated by ; or an empty value for 空壳",
            );
        }
        self.numbers_agree(&filing, cells);
        Some(filing)
    }

    fn cell(&mut self, filing: &mut Filing, cell: &Cell<'_>) {
        let text = cell.text.trim();
        if text.is_empty() || cell.key == "domain" {
            return;
        }
        let owned = || Some(text.to_owned());
        match cell.key {
            "domain_unicode" => self.spelling_agrees(filing, cell),
            "site_no" => filing.site_no = self.number(cell).map(|n| n.to_text()),
            "subject_no" => filing.subject_no = self.number(cell).map(|n| n.main().to_owned()),
            "access" => filing.access = self.list(cell),
            "status" => match Status::parse(text) {
                Some(status) => filing.status = status,
                None => {
                    let known = Status::ALL.map(|(_, name, alias)| format!("{name} ({alias})")).join(", ");
                    self.note(
                        Severity::Error,
                        "format",
                        Some(cell),
                        format!("unknown status; expected one of {known}"),
                    );
                }
            },
            "subject" => filing.subject = owned(),
            "subject_type" => filing.subject_type = owned(),
            "province" => filing.province = owned(),
            "site_name" => filing.site_name = owned(),
            "category" => filing.category = owned(),
            "approval" => filing.approval = owned(),
            "filed_on" => filing.filed_on = self.day(cell),
            "updated_on" => filing.updated_on = self.day(cell),
            "expires_on" => filing.expires_on = self.day(cell),
            "provisional_access_until" => filing.provisional_access_until = self.day(cell),
            "restricted" => filing.restricted = self.truth(cell).unwrap_or(false),
            "real_name" => filing.real_name = self.truth(cell),
            "ip_filed" => filing.ip_filed = self.truth(cell).unwrap_or(false),
            "addresses" => filing.addresses = self.prefixes(cell),
            "origin" => filing.origin = owned(),
            "service_code" => filing.service_code = owned(),
            "account" => filing.account = owned(),
            "registrar" => filing.registrar = owned(),
            "source" => filing.source = owned(),
            other => self.note(
                Severity::Error,
                "format",
                Some(cell),
                format!("unknown key; did you mean {}?", nearest_key(other)),
            ),
        }
    }

    fn number(&mut self, cell: &Cell<'_>) -> Option<FilingNumber> {
        match FilingNumber::parse(cell.text.trim(), self.context.year) {
            Ok((number, repairs)) => {
                if !repairs.is_empty() {
                    let right = number.to_text();
                    let message = format!("{}; expected {right}", repairs.join(", "));
                    self.note(Severity::Warning, "R20", Some(cell), message);
                    self.propose(&right, "备案号书写有误，应写作");
                }
                Some(number)
            }
            Err(error) => {
                let right = hint(cell.text.trim(), self.context.year).map(|number| number.to_text());
                let proposal = right.as_ref().map(|right| format!("; did you mean {right}?")).unwrap_or_default();
                self.note(Severity::Error, "R20", Some(cell), format!("{error}{proposal}"));
                if let Some(right) = right {
                    self.propose(&right, "备案号无法识别，是否应为");
                }
                None
            }
        }
    }

    /// Adds to the finding that was noted last what would be right.
    fn propose(&mut self, right: &str, zh: &str) {
        if let Some(issue) = self.issues.pop() {
            self.issues.push(issue.with_fix(right).in_chinese(format!("{zh} {right}")));
        }
    }

    fn day(&mut self, cell: &Cell<'_>) -> Option<Day> {
        Day::parse(cell.text.trim())
            .map_err(|error| self.note(Severity::Error, "format", Some(cell), error.to_string()))
            .ok()
    }

    fn truth(&mut self, cell: &Cell<'_>) -> Option<bool> {
        let res = is_true(&cell.text);
        if res.is_none() {
            self.note(Severity::Error, "format", Some(cell), "expected 0, 1, true or false");
        }
        res
    }

    fn list(&mut self, cell: &Cell<'_>) -> Vec<String> {
        let note = |reader: &mut Self| {
            let message = "a provider id holds no blank or comma; expected ids separated by ;";
            reader.note(Severity::Error, "format", Some(cell), message);
        };
        let mut bad = 0;
        let res = read_list(&cell.text, |_| bad += 1);
        (0..bad).for_each(|_| note(self));
        res.unwrap_or_default()
    }

    fn prefixes(&mut self, cell: &Cell<'_>) -> Vec<IpNet> {
        let mut res = Vec::new();
        for text in cell.text.split([';', '；']).map(str::trim).filter(|text| !text.is_empty()) {
            let parsed =
                text.parse::<IpNet>().or_else(|_| text.parse().map(|addr: std::net::IpAddr| IpNet::from(addr)));
            match parsed {
                Ok(prefix) => res.push(prefix.trunc()),
                Err(_) => {
                    self.note(Severity::Error, "format", Some(cell), "expected addresses or prefixes separated by ;")
                }
            }
        }
        res
    }

    /// The U-label form, where given, must be the same domain.
    fn spelling_agrees(&mut self, filing: &Filing, cell: &Cell<'_>) {
        let same = DomainName::from_text(cell.text.trim()).is_ok_and(|name| name == filing.domain);
        if !same {
            let expected = filing.domain.as_ref().to_unicode();
            self.note(
                Severity::Error,
                "format",
                Some(cell),
                format!("is another name than domain; expected {expected}"),
            );
        }
    }

    /// A number is there where the status needs one, and the main number is the stem of the site number (rule R20).
    fn numbers_agree(&mut self, filing: &Filing, cells: &[Cell<'_>]) {
        let site = cells.iter().find(|cell| cell.key == "site_no");
        let needs_number = !matches!(filing.status, Status::Pending | Status::Rejected);
        if needs_number && filing.site_no.is_none() && !self.failed {
            self.note(
                Severity::Error,
                "R20",
                site,
                "a number is missing; expected 网站备案号 unless the status is pending or rejected",
            );
        }
        if let (Some(site_no), Some(subject_no)) = (&filing.site_no, &filing.subject_no)
            && !site_no.starts_with(subject_no.as_str())
        {
            let subject = cells.iter().find(|cell| cell.key == "subject_no");
            self.note(Severity::Error, "R20", subject, format!("is not the stem of site_no {site_no}"));
        }
    }
}

/// The provider ids of an access cell, sorted: a set, whose order must not tell rows apart. Calls `refuse` with each that
/// cannot be an id; then there is no set.
pub(super) fn read_list(text: &str, mut refuse: impl FnMut(&str)) -> Result<Vec<String>, ()> {
    let mut res: Vec<String> = Vec::new();
    let mut all_are_ids = true;
    for id in text.split([';', '；']).map(str::trim).filter(|id| !id.is_empty()) {
        if id.chars().any(|c| c.is_whitespace() || c == ',' || c.is_control()) {
            all_are_ids = false;
            refuse(id);
        } else if !res.iter().any(|known| known == id) {
            res.push(id.to_owned());
        }
    }
    res.sort_unstable();
    all_are_ids.then_some(res).ok_or(())
}

pub(super) fn is_true(text: &str) -> Option<bool> {
    match text.trim() {
        "1" | "true" | "TRUE" | "True" | "是" => Some(true),
        "0" | "false" | "FALSE" | "False" | "否" | "" => Some(false),
        _ => None,
    }
}
