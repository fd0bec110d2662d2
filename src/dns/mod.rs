//! The DNS plane: questions, answer cache, local zones, upstreams, judging, rewriting, listeners.
//!
//! ```text
//! octets ─ question ─▶ handler ─▶ cache │ zones │ upstream ─▶ answer ─▶ gate (judge) ─▶ rewrite ─▶ send ─▶ octets
//! ```
//!
//! Limits: `Settings` (in flight, connections, times, cache octets), `wire::MESSAGE_OCTETS_MAX`, and the constants beside
//! the loops they bound. It never stores a verdict on a record, and it does not know the HTTP plane.

pub mod answer;
pub mod cache;
pub mod companions;
pub mod counters;
pub mod edns;
pub mod find;
pub mod gate;
pub mod handler;
pub mod listener;
pub mod mmsg;
pub mod question;
pub mod rewrite;
pub mod send;
pub mod settings;
pub mod svcb;
mod udp;
pub mod upstream;
pub mod wire;
pub mod zones;

pub use counters::Counters;
pub use listener::{BindError, Plane};
pub use settings::Settings;
