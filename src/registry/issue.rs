//! Findings about registry data: what is wrong, exactly where, and what would have been right.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// The row counts, canonicalised.
    Warning,
    /// The row does not count, or the rule book forbids it.
    Error,
}

impl Severity {
    /// The label in output and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Rule ids that reading a file can cite.
const RULES: [&str; 11] = ["AMB-12", "D-D22", "R1", "R20", "R21", "R22", "R8", "S2", "encoding", "event", "limit"];

/// A rule id read back; what is not known reads as a matter of format.
pub(super) fn known_rule(text: &str) -> &'static str {
    RULES.into_iter().find(|rule| *rule == text).unwrap_or("format")
}

/// One finding. Never stops the rest of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Issue {
    /// How bad.
    pub severity: Severity,
    /// Rule id of the rule book (`R22`) or a format rule (`format`, `encoding`, `limit`, `event`).
    pub rule: &'static str,
    /// The file.
    pub file: Arc<str>,
    /// Line from 1; 0 means the whole file.
    pub line: u32,
    /// Column from 1 (of a CSV: the field's number); 0 means the whole row.
    pub column: u32,
    /// The key or column name; empty where none is concerned.
    pub key: String,
    /// The value as written, cut to [`VALUE_CHARS_MAX`].
    pub value: String,
    /// What is wrong and what would have been right.
    pub message: String,
    /// The same in Chinese, where it says more than the words of its check; else empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message_zh: String,
    /// The value that would be right, where one can be proposed; else empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

/// Characters of a value that a finding repeats: enough to find it, too few to fill a log.
pub const VALUE_CHARS_MAX: usize = 80;

impl Issue {
    /// A finding about a whole row or file.
    pub fn at(severity: Severity, rule: &'static str, file: &Arc<str>, line: u32, message: impl Into<String>) -> Self {
        Self {
            severity,
            rule,
            file: file.clone(),
            line,
            column: 0,
            key: String::new(),
            value: String::new(),
            message: message.into(),
            message_zh: String::new(),
            fix: String::new(),
        }
    }

    /// The same, where its line counts from `first_line` on.
    pub fn below(&self, first_line: u32) -> Self {
        Self { line: first_line + self.line, ..self.clone() }
    }

    /// Names the cell.
    pub fn in_cell(mut self, key: &str, column: u32, value: &str) -> Self {
        key.clone_into(&mut self.key);
        self.column = column;
        self.value = value.chars().take(VALUE_CHARS_MAX).collect();
        self
    }

    /// Says it in Chinese too.
    pub fn in_chinese(mut self, message: impl Into<String>) -> Self {
        self.message_zh = message.into();
        self
    }

    /// Proposes a value.
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        write!(f, ": {}[{}]: ", self.severity.label(), self.rule)?;
        if !self.key.is_empty() {
            write!(f, "{} = {:?}: ", self.key, self.value)?;
        }
        f.write_str(&self.message)
    }
}
