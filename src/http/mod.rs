//! The HTTP plane: request heads, the verdict, the block page, the relay to the origin, listeners; readers of TLS and QUIC.
//!
//! ```text
//! octets ─ entry ─ head │ http2 ─▶ host ─▶ gate (judge) ─▶ relay ─▶ origin
//!            │         ▲                       └▶ page │ redirect │ 503      refused heads ─▶ reply 4xx, close
//!            │      terminate
//!            │         │ where a certificate is for the name
//!            └ hello ──┴─▶ name ─▶ gate (judge) ─▶ both ways, unopened ─▶ origin
//!                                      └▶ alert │ reset │ silence          refused hellos ─▶ alert, close
//! ```
//!
//! One origin connection belongs to one client connection and is kept with it, so nothing of one client can be answered
//! to another. Requests and responses are parsed whole and written anew; what was read is never passed on as it came,
//! except body octets and, after the origin's 101, the stream of another protocol. Every request is judged (D-H11), also
//! the tenth on a connection; an upgraded stream is judged again when registry or ranges change.
//!
//! Limits: `Settings` (heads, times, connections, requests), [`body`] (chunk sizes, extensions, trailers), [`buffer`],
//! [`http2`] (streams, windows, floods), and the constants beside the loops they bound. It does not know the DNS plane.
//! Every TCP listener takes plain HTTP and TLS ([`tls`]); HTTP/2 begins by prior knowledge, or inside TLS that ends here
//! ([`terminate`], for names with a certificate). [`hello`] and [`quic`] read what a TLS or QUIC client says in the open;
//! they are functions of octets and have their limits with them. [`flows`] gates QUIC: one verdict a connection, on its
//! first packets.

mod accepted;
pub mod body;
pub mod buffer;
pub mod certificates;
pub mod changes;
pub mod connection;
pub mod counters;
pub mod dates;
pub mod demo;
pub mod draining;
mod entry;
pub mod flows;
pub mod gate;
pub mod head;
pub mod hello;
pub mod host;
pub mod http2;
pub mod listener;
pub mod negotiate;
pub mod octets;
pub mod origin;
pub mod page;
pub mod party;
pub mod quic;
pub mod relay;
pub mod reply;
pub mod settings;
pub mod stream;
pub mod terminate;
pub mod timer;
pub mod tls;
pub mod tunnel;

pub use counters::Counters;
pub use demo::DemoOrigin;
pub use gate::Gate;
pub use listener::{BindError, Plane};
pub use page::Pages;
pub use settings::Settings;
