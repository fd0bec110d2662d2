//! The part of the tests' harness that the properties use: what writes hellos and seals packets.

#[path = "../it/harness/quic.rs"]
pub mod quic;
#[path = "../it/harness/shared.rs"]
pub mod shared;
#[path = "../it/harness/tls.rs"]
pub mod tls;
