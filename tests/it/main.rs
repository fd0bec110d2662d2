//! The integration binary: one program, so that the crate is linked once.

mod allocations;
mod cli;
mod cli_gate;
mod config;
mod dns_bypass;
mod dns_properties;
mod harness;
mod http_bypass;
mod http_heads;
mod http_page;
mod http_relay;
mod lessons;
mod names;
mod ops;
mod ops_faults;
mod ops_files;
mod peers;
mod properties;
mod ranges;
mod registry;
mod registry_reload;
mod registry_saved;
mod scenarios;
mod tidy;
mod transparency;
mod vectors;
