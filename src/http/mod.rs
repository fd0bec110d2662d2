//! The HTTP plane: request heads, the block page, the relay to the origin, listeners.

pub mod counters;
pub mod settings;

pub use counters::Counters;
pub use settings::Settings;
