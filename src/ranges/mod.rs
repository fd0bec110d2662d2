//! Address ranges: what stands where, whose it is, and the CNAME suffixes of products.
//!
//! ```text
//! mainland lists, tag tables, CNAME tables ─▶ source ─▶ parse ─▶ (rows, issues) ─▶ table ─▶ diff, admission ─▶ publish
//! published country data ─▶ import (a vote of sources) ─▶ mainland lists
//! ```
//!
//! Only `source`, `store`, `reload` and `import` touch files or the clock; the rest are functions of their arguments. A
//! published table never changes. How rows combine is stated in [`table`].
//!
//! Limits: `source::{FILE_OCTETS_MAX, TEXT_OCTETS_MAX, FILES_MAX}`, `parse::{ROW_OCTETS_MAX, ROWS_MAX, BAD_ROWS_MAX, ISSUES_MAX}`,
//! `import::{SOURCES_MAX, SPANS_MAX}`, and the settings' share.

mod cascade;
pub mod counters;
pub mod diff;
pub mod import;
mod level;
pub mod parse;
pub mod prefix;
pub mod reload;
pub mod settings;
pub mod source;
pub mod span;
pub mod special;
pub mod stat;
pub mod store;
pub mod table;

pub use counters::Counters;
pub use diff::{RangesDiff, diff};
pub use settings::Settings;
pub use span::{Family, Space, Span, Spans};
pub use stat::{Stat, stat};
pub use store::{Loaded, ReloadOutcome, Store, load_paths};
pub use table::{CnameMatch, CnameRow, Parts, RangeMatch, RangeRow, Ranges, TagId, TagRow};

pub use crate::registry::{FileSummary, LoadError, Shrink};
