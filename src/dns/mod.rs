//! The DNS plane: questions, answer cache, local zones, upstreams, rewriting, listeners.

pub mod counters;
pub mod question;
pub mod settings;
pub mod upstream;
pub mod zones;

pub use counters::Counters;
pub use settings::Settings;
