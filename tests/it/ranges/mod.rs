//! The ranges: how rows combine, real files, refusals and reloads, importers, and the shipped lists.

mod files;
mod import;
mod reload;
mod shipped;
mod table;
