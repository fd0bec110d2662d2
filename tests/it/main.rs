//! The integration binary: one program, so that the crate is linked once.

mod dns_bypass;
mod dns_properties;
mod harness;
mod lessons;
mod names;
mod properties;
mod ranges;
mod registry;
mod scenarios;
mod tidy;
mod transparency;
mod vectors;
