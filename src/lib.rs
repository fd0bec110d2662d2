//! The ICP filing gate: a DNS server and an HTTP gate that pass filed web sites and answer the rest with the filing page.
//!
//! ```text
//! packet ── udp, tcp, tls, https, quic ──▶ question ─▶ answer source ─▶ judge ─▶ rewrite ─▶ bytes    dns/
//!                                                      ├ answer cache (keeps the answer and the generation it was judged under)
//!                                                      ├ local zones   (hickory's Catalog, in process)
//!                                                      └ upstreams     (hickory-net exchanges)
//! request ── http/1 ──▶ host ─▶ judge ─▶ pass to the origin │ page                          http/
//! hello ──── tls ─────▶ name ─▶ judge ─▶ pass on unopened │ alert
//!
//! file ─▶ source ─▶ parse ─▶ (filings, issues) ─▶ index ─▶ diff, admission ─▶ publish        registry/, ranges/
//!                                                              └ refused: the old snapshot stays, visibly
//! ```
//!
//! Layers, ground first; a layer uses only those above it in this list, and [`dns`] and [`http`] do not know each other
//! (`tests/it/tidy.rs` reads the `use` lines and holds this):
//!
//! | layer | holds |
//! |---|---|
//! | [`model`] | the vocabulary: names, filing numbers, addresses, products, subjects. No I/O, no clock. |
//! | [`chance`], [`clients`], [`count`], [`credentials`] | secrets; shares of places; counters; certificates with their keys. |
//! | [`drain`], [`meter`], [`priority`], [`proxy_header`] | stop; floods of HTTP/2; thread priorities; the PROXY protocol. |
//! | [`sockets`], [`terminal`], [`watch`], [`whole`] | listening sockets; what takes live lines; files that change, or are whole. |
//! | [`registry`] | formats → filings and issues → index → snapshot → diff → admission → store, with reload. |
//! | [`ranges`] | address ranges with tags, importers, the lookup table, the CNAME-suffix product table. |
//! | [`policy`] | [`policy::judge()`]: the one pure decision; rules, reasons, its steps, the view of one moment, the sink. |
//! | [`dns`] | questions, EDNS, answer cache, zones, upstreams, rewriting, listeners. |
//! | [`http`] | request heads, HTTP/2, the block page, the relay, TLS that ends here, listeners; TLS and QUIC in the open. |
//! | [`audit`] | where many names lead, held against the registry: targets, asking, observations, findings, report. |
//! | [`ops`] | metrics exposition, journal, admin listener with its console, health, logging. |
//! | [`config`] | text → `Spec` → `Config`, which is the `Settings` of every layer. |
//! | [`app`] | wiring, in one readable function, with the reason for the order. |
//! | [`cli`] | the commands. |
//!
//! Invariants, each with a test: one packet or request uses one view (snapshot, rules, ranges), taken once; a published
//! snapshot never changes and a worse one never replaces a better one silently; a name is matched exactly; a cached
//! answer judged under another generation is judged again before it is sent; the verdict belongs to the query name and
//! is stored on no record; no byte goes to an origin before the verdict; nothing read from a peer or a file sets a size
//! or a loop bound without a named limit; observe mode takes the same path and differs in the last step only.

pub mod app;
pub mod audit;
pub mod chance;
pub mod cli;
pub mod clients;
pub mod config;
pub mod count;
pub mod credentials;
pub mod dns;
pub mod drain;
pub mod http;
pub mod meter;
pub mod model;
pub mod ops;
pub mod policy;
pub mod priority;
pub mod proxy_header;
pub mod ranges;
pub mod registry;
pub mod sockets;
pub mod terminal;
pub mod watch;
pub mod whole;
