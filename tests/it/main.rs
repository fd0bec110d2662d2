//! The integration binary: one program, so that the crate is linked once.

mod allocations;
mod dns_bypass;
mod harness;
mod names;
mod registry;
mod registry_reload;
mod registry_saved;
