//! The integration binary: one program, so that the crate is linked once.

mod allocations;
mod bind_check;
mod cli;
mod cli_gate;
mod cli_registry;
mod config;
mod corpus;
mod dns_bypass;
mod dns_companions;
mod dns_properties;
mod dns_upstream;
mod h2_gate;
mod harness;
mod hello;
mod http_bypass;
mod http_heads;
mod http_page;
mod http_relay;
mod lessons;
mod load_line;
mod names;
mod ops;
mod ops_admin;
mod ops_faults;
mod ops_files;
mod peers;
mod properties;
mod quic_gate;
mod ranges;
mod readme;
mod registry;
mod registry_admission;
mod registry_events;
mod registry_merge;
mod registry_reload;
mod registry_saved;
mod registry_signed;
mod scenarios;
mod tidy;
mod tls_gate;
mod transparency;
mod vectors;

#[path = "../fuzz/properties/mod.rs"]
mod wire_properties;
