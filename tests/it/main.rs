//! The integration binary: one program, so that the crate is linked once.

mod dns_bypass;
mod harness;
mod http_bypass;
mod http_heads;
mod http_page;
mod http_relay;
mod names;
mod ops;
mod ranges;
mod registry;
