//! Checks of columns that only the linter reads (`row::FACTS`): holder, certificate, content flag, server of a code.
//!
//! They stand in the files alone, so the files that have such columns are read once more. A row is checked if it is the
//! one that counts for its domain, or if a change line took its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

use super::row::{PERSON, is_foreign, number};
use super::{Findings, Options};
use crate::model::{FilingNumber, NumberKind, Status};
use crate::registry::domain::clean_domain;
use crate::registry::issue::{Issue, Severity};
use crate::registry::reading::{RowVisitor, each_row};
use crate::registry::row::{Cell, FACTS, is_true};
use crate::registry::source::Format;
use crate::registry::{Filing, Settings, Snapshot};

/// Servers and products whose codes are counted; more of them are not.
const HOLDERS_MAX: usize = 1 << 20;

/// Relations under which a holder other than the subject is accepted in some provinces: spelling, Chinese name, and
/// whether a proof is asked for (rule R5).
const RELATIONS: [(&str, &str, bool); 4] = [
    ("legal-representative", "法定代表人", false),
    ("shareholder", "股东", true),
    ("principal", "负责人", true),
    ("senior-manager", "高级管理人员", true),
];

/// Certificates of a foreign enterprise (rule R19).
const FOREIGN_CERTIFICATES: [&str; 2] = ["分公司营业执照", "常驻代表机构登记证"];

/// Checks the rows of `files`; reasons for files that cannot be read come beside.
pub fn facts(
    settings: &Settings,
    files: &[PathBuf],
    snapshot: &Snapshot,
    options: &Options<'_>,
    now: SystemTime,
) -> (Findings, Vec<String>) {
    let mut reasons = Vec::new();
    let mut checker = FactChecker {
        snapshot,
        options,
        file: String::new(),
        codes: BTreeMap::new(),
        found: Findings::at_most(options.findings_max),
    };
    for path in files {
        checker.file = path.to_string_lossy().into_owned();
        if let Err(reason) = each_row(settings, path, now, &mut checker) {
            reasons.push(format!("{}: {reason}", path.display()));
        }
    }
    let mut found = checker.found;
    found.sort();
    (found, reasons)
}

struct FactChecker<'a> {
    snapshot: &'a Snapshot,
    options: &'a Options<'a>,
    file: String,
    /// Service codes by the server or product they were given out for.
    codes: BTreeMap<(&'static str, String), BTreeSet<String>>,
    found: Findings,
}

/// A cell of a row with the row that counts.
struct FactRow<'a> {
    filing: Filing,
    line: u32,
    cells: &'a [Cell<'a>],
}

impl FactRow<'_> {
    /// The cell of a key: `None` where the table has no such column.
    fn cell(&self, key: &str) -> Option<&Cell<'_>> {
        self.cells.iter().find(|cell| cell.key == key)
    }

    /// The text of a cell that has one.
    fn text(&self, key: &str) -> Option<&str> {
        self.cell(key).map(|cell| cell.text.trim()).filter(|text| !text.is_empty())
    }

    fn is_set(&self, key: &str) -> bool {
        self.text(key).and_then(is_true) == Some(true)
    }

    fn is_person(&self) -> bool {
        self.filing.subject_type.as_deref() == Some(PERSON)
    }
}

impl RowVisitor for FactChecker<'_> {
    fn wants(&self, keys: &[&'static str]) -> bool {
        !self.options.is_stopped() && keys.iter().any(|key| FACTS.iter().any(|(fact, _)| fact == key))
    }

    fn row(&mut self, line: u32, cells: &[Cell<'_>]) {
        if self.options.is_stopped() {
            return;
        }
        let written = cells.iter().find(|cell| cell.key == "domain").map(|cell| &*cell.text).unwrap_or_default();
        let Ok(clean) = clean_domain(self.snapshot.suffixes(), written) else { return };
        let Some(id) = self.snapshot.find(clean.domain.as_ref()) else { return };
        let filing = self.snapshot.filing(id);
        let counts = *filing.file == self.file && (line == 0 || line == filing.line);
        if filing.status != Status::Active || !(counts || Format::of(&filing.file) == Some(Format::Changes)) {
            return;
        }
        let line = if line == 0 { filing.line } else { line };
        let row = FactRow { filing, line, cells };
        self.holder(&row);
        self.content(&row);
        self.certificate(&row);
        self.foreign(&row);
        self.codes(&row);
    }
}

impl FactChecker<'_> {
    fn note(&mut self, row: &FactRow<'_>, severity: Severity, rule: &'static str, key: &str, [en, zh]: [String; 2]) {
        let file = self.file.as_str().into();
        let (column, value) = row.cell(key).map_or((0, ""), |cell| (cell.column, cell.text.trim()));
        let issue = Issue::at(severity, rule, &file, row.line, en);
        self.found.push(issue.in_cell(key, column, value).in_chinese(zh));
    }

    /// Rule R5: the domain's holder is the subject, with exceptions for units.
    fn holder(&mut self, row: &FactRow<'_>) {
        let (Some(holder), Some(subject)) = (row.text("domain_holder"), row.filing.subject.as_deref()) else { return };
        if holder == subject.trim() {
            return;
        }
        let relation = row.text("holder_relation");
        let known = relation.and_then(|text| RELATIONS.iter().find(|(en, zh, _)| text == *en || text == *zh));
        let (severity, key, text) = match (relation, known) {
            _ if row.is_person() => (
                Severity::Error,
                "domain_holder",
                [
                    format!("expected {subject}, who is a person: no other holder is accepted"),
                    format!("主体为个人，持有者须为{subject}"),
                ],
            ),
            (None, _) => (
                Severity::Error,
                "domain_holder",
                [
                    format!("is not the subject {subject}; expected it, or a holder_relation"),
                    format!("与主体{subject}不一致，且未注明持有者关系"),
                ],
            ),
            (Some(_), None) => {
                let words = RELATIONS.map(|(en, zh, _)| format!("{en} ({zh})")).join(", ");
                (
                    Severity::Error,
                    "holder_relation",
                    [
                        format!("is no relation that is accepted; expected one of {words}"),
                        format!("不是可接受的关系，应为其一：{words}"),
                    ],
                )
            }
            (_, Some((_, zh, true))) if row.text("holder_proof").is_none() => (
                Severity::Error,
                "holder_proof",
                [
                    format!("is missing; the holder {holder} is accepted as {zh} with a proof only"),
                    format!("持有者{holder}为{zh}，须附证明"),
                ],
            ),
            (_, Some((_, zh, _))) => (
                Severity::Warning,
                "domain_holder",
                [
                    format!("is {zh} of {subject}, which some provinces accept; ask the authority"),
                    format!("为{subject}的{zh}，仅部分省份认可，请咨询管局"),
                ],
            ),
        };
        self.note(row, severity, "R5", key, text);
    }

    /// Rule R9.
    fn content(&mut self, row: &FactRow<'_>) {
        if row.is_set("illegal_content") {
            let domain = &row.filing.domain;
            let text = [format!("the content of {domain} is flagged as illegal"), format!("{domain} 的内容被标为违法")];
            self.note(row, Severity::Error, "R9", "illegal_content", text);
        }
    }

    /// Rules R15a and R15b: the certificate's province.
    fn certificate(&mut self, row: &FactRow<'_>) {
        let Some(written) = row.text("certificate_province") else { return };
        let lists = self.options.lists;
        let letter = number(&row.filing).as_ref().and_then(FilingNumber::province);
        let filed = letter.and_then(|letter| lists.province_of(letter));
        let filed = filed.or_else(|| lists.province(row.filing.province.as_deref()?));
        match (lists.province(written), filed) {
            (None, _) => {
                let text = [
                    "is no province; expected its letter, such as 京".to_owned(),
                    "不是省份，应填写简称，如 京".to_owned(),
                ];
                self.note(row, Severity::Error, "R15a", "certificate_province", text);
            }
            (Some(known), Some(filed)) if known != filed && !row.is_person() => {
                let text = [
                    format!("the certificate is of {}, the filing of {}", known.letter, filed.letter),
                    format!("证件属{}，备案属{}", known.name, filed.name),
                ];
                self.note(row, Severity::Error, "R15a", "certificate_province", text);
            }
            (Some(known), Some(filed))
                if known != filed && filed.asks_residence_permit && !row.is_set("residence_permit") =>
            {
                let text = [
                    format!("is missing; {} asks persons of {} for one", filed.letter, known.letter),
                    format!("缺少；{}要求{}的个人提供居住证", filed.name, known.name),
                ];
                self.note(row, Severity::Warning, "R15b", "residence_permit", text);
            }
            _ => {}
        }
    }

    /// Rule R19: the certificate of a foreign enterprise, and that its office does not trade.
    fn foreign(&mut self, row: &FactRow<'_>) {
        if !is_foreign(&row.filing) || row.cell("certificate_type").is_none() {
            return;
        }
        let certificate = row.text("certificate_type").unwrap_or_default();
        if !FOREIGN_CERTIFICATES.contains(&certificate) {
            let words = FOREIGN_CERTIFICATES.join(", ");
            let text =
                [format!("expected one of {words} of a foreign enterprise"), format!("外国企业应为其一：{words}")];
            return self.note(row, Severity::Error, "R19", "certificate_type", text);
        }
        let is_licence = number(&row.filing).is_some_and(|number| number.kind() == NumberKind::Licence);
        if certificate == FOREIGN_CERTIFICATES[1] && is_licence && !super::row::is_office(&row.filing) {
            let text = [
                "an office does not trade, and this one holds a licence".to_owned(),
                "常驻代表机构不得从事经营性业务".to_owned(),
            ];
            self.note(row, Severity::Error, "R19", "certificate_type", text);
        }
    }

    /// Rule R17: one service code a product, and not too many a server.
    fn codes(&mut self, row: &FactRow<'_>) {
        let Some(code) = row.filing.service_code.clone() else { return };
        let limits = [("server", self.options.lists.codes_per_server), ("site_product", 1)];
        for (key, limit) in limits.into_iter().filter(|(_, limit)| *limit > 0) {
            let Some(holder) = row.text(key) else { continue };
            if self.codes.len() >= HOLDERS_MAX {
                return;
            }
            let codes = self.codes.entry((key, holder.to_owned())).or_default();
            let is_new = codes.len() < limit + 1 && codes.insert(code.clone());
            if is_new && codes.len() > limit {
                let text = [
                    format!("more than {limit} service codes of it are used by filings"),
                    format!("已用于备案的服务号超过 {limit} 个"),
                ];
                self.note(row, Severity::Error, "R17", key, text);
            }
        }
    }
}
