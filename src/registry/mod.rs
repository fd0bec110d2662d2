//! The filing registry: files → blocks → rows → index → snapshot → diff → admission → store, with reload.
//!
//! ```text
//! source ─▶ split ─▶ scan ─▶ block (quick │ row) ─▶ arena ─▶ work (merge, event) ─▶ table ─▶ snapshot
//!                     └ blocks that were there are not parsed      └ overlay in front of the base, folded by tidy
//! ```
//!
//! Only `source`, `files`, `saved`, `store`, `reload`, and for people `reading`, `history`, `lint::{lists, facts}` touch
//! files or the clock; the rest are functions of their arguments. A published snapshot never changes. Names match
//! exactly. Nothing here decides a verdict.
//!
//! Limits: `source::{FILE_OCTETS_MAX, TEXT_OCTETS_MAX, FILES_MAX}`, `parse::{ROW_OCTETS_MAX, ROWS_MAX, ISSUES_MAX}`,
//! `row::CELL_OCTETS_MAX`, `arena::{CHUNK_OCTETS_MAX, CHUNKS_MAX}`, `dictionary::TEXTS_MAX`,
//! `lint::{FINDINGS_MAX, KEYS_MAX, KEYS_MAX_BESIDE}`, and the settings' shares.

pub mod arena;
pub mod block;
pub mod buckets;
pub mod code;
mod collect;
mod cores;
pub mod counters;
pub mod dictionary;
pub mod diff;
pub mod domain;
pub mod draft;
pub mod entry;
pub mod event;
pub mod export;
pub mod files;
pub mod filing;
pub mod history;
pub mod index;
pub mod issue;
pub mod lint;
pub mod load;
pub mod loaded;
pub mod memory;
pub mod merge;
mod moves;
pub mod parse;
pub mod progress;
pub mod quick;
pub mod reading;
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
pub mod table;
pub mod tidy;
mod work;

pub use counters::Counters;
pub use filing::Filing;
pub use issue::{Issue, Severity};
pub use load::{load_copy, load_paths, load_store, load_text};
pub use progress::{LoadTimes, Progress};
pub use settings::Settings;
pub use snapshot::{FilingId, Snapshot};
pub use store::{Changed, FileSummary, LoadError, Loaded, Looked, Preview, ReloadOutcome, Reloads, Shrink, Store};
