//! Operation: metrics, journal, admin listener, health, logs. Reads what the planes count; decides nothing.

pub mod activation;
pub mod admin;
pub mod alert;
pub mod cache_file;
pub mod faults;
pub mod files;
pub mod handover;
pub mod health;
pub mod holder;
pub mod journal;
pub mod load_line;
pub mod log;
pub mod manager;
pub mod metrics;
pub mod parts;
pub mod process;
pub mod rates;
pub mod recent;
pub mod reloader;
pub mod seen;
pub mod settings;
pub mod shadow;
pub mod socket_path;
pub mod status;
pub mod successor;

pub use settings::{
    AdminSettings, AdminTlsSettings, FaultSettings, JournalSettings, JournalWhat, LogFormat, Missing, Rotation,
};
