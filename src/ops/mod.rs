//! Operation: metrics, journal, admin listener, health, logs. Reads what the planes count; decides nothing.

pub mod settings;

pub use settings::{AdminSettings, FaultSettings, JournalSettings, JournalWhat, LogFormat, Missing};
