//! The filing registry: formats → filings and issues → index → snapshot → diff → admission → store, with reload.
//!
//! Only `source`, `store`, `reload` touch files or the clock; the rest are functions of their arguments. A published
//! snapshot never changes. Names match exactly. Nothing here decides a verdict.
//!
//! Limits: `source::{FILE_OCTETS_MAX, TEXT_OCTETS_MAX, FILES_MAX}`, `parse::{ROW_OCTETS_MAX, ROWS_MAX, ISSUES_MAX}`,
//! `row::CELL_OCTETS_MAX`, and the settings' shares.

pub mod arena;
pub mod block;
pub mod code;
pub mod counters;
pub mod dictionary;
pub mod diff;
pub mod domain;
pub mod entry;
pub mod event;
pub mod export;
pub mod files;
pub mod filing;
pub mod index;
pub mod issue;
pub mod lint;
pub mod memory;
pub mod merge;
pub mod parse;
pub mod quick;
pub mod record;
pub mod reload;
pub mod row;
pub mod saved;
pub mod scan;
pub mod search;
pub mod settings;
pub mod snapshot;
pub mod source;
pub mod split;
pub mod state;
pub mod store;
pub mod tidy;

pub use counters::Counters;
pub use filing::Filing;
pub use issue::{Issue, Severity};
pub use settings::Settings;
pub use snapshot::{FilingId, Snapshot};
pub use store::{FileSummary, LoadError, Loaded, ReloadOutcome, Shrink, Store, load_paths, load_text};
