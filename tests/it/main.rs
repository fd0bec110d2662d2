//! The integration binary: one program, so that the crate is linked once.

mod cli;
mod config;
mod dns_bypass;
mod harness;
mod names;
mod ops;
mod ranges;
mod registry;
