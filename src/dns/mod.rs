//! The DNS plane: questions, answer cache, local zones, upstreams, judging, rewriting, listeners.
//!
//! ```text
//! udp │ accept ─▶ stream (TCP, TLS) │ https │ quic          one way for all of them:
//! octets ─ question ─▶ handler ─▶ cache │ zones │ upstream ─▶ answer ─▶ gate (judge) ─▶ rewrite ─▶ send ─▶ octets
//! ```
//!
//! Every transport hands a message and who sent it to the handler: no verdict, list or limit knows which one it was.
//!
//! Limits: `Settings` (in flight, connections, times, cache octets), `wire::MESSAGE_OCTETS_MAX`, and the constants beside
//! the loops they bound. It never stores a verdict on a record, and it does not know the HTTP plane.

mod accept;
pub mod answer;
pub mod cache;
pub mod companions;
pub mod cookies;
pub mod counters;
mod discovery;
pub mod dnstap;
pub mod edns;
mod failure;
pub mod find;
pub mod gate;
pub mod handler;
mod https;
pub mod listener;
pub mod mmsg;
mod protect;
mod proxied;
pub mod question;
mod quic;
pub mod rate;
mod refresh;
pub mod rewrite;
pub mod saved;
pub mod secrets;
pub mod secure;
pub mod send;
pub mod settings;
mod stream;
mod structured;
pub mod svcb;
mod udp;
pub mod upstream;
pub mod wire;
pub mod zones;

pub use counters::Counters;
pub use listener::{BindError, Plane};
pub use proxied::HeaderOutcome;
pub use settings::Settings;
