//! MaxMind databases: every network of the tree with its country.
//!
//! Two shapes of records are read: `{country: {iso_code: "CN"}}` and the flat `{country_code: "CN"}` (or a text under
//! `country`). Networks that alias the IPv4 tree are passed over by the reader.

use std::collections::HashMap;

use maxminddb::{Reader, WithinOptions};
use serde_json::Value;

use super::collect::Collector;
use crate::ranges::span::Family;

/// Stands before the metadata near the end of every such file.
const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// Octets from the end within which the format puts the metadata.
const METADATA_OCTETS_MAX: usize = 128 << 10;

/// True when `octets` look like such a database.
pub(super) fn is_mmdb(octets: &[u8]) -> bool {
    let tail = &octets[octets.len().saturating_sub(METADATA_OCTETS_MAX + MARKER.len())..];
    tail.windows(MARKER.len()).any(|window| window == MARKER)
}

/// Reads a whole database. Cost: one step a node; each distinct record is decoded once.
pub(super) fn read(octets: &[u8], into: &mut Collector<'_>) -> Result<(), String> {
    let reader = Reader::from_source(octets).map_err(|error| format!("no MaxMind database: {error}"))?;
    let networks = reader.networks(WithinOptions::default()).map_err(|error| error.to_string())?;
    let mut countries: HashMap<usize, String> = HashMap::new();
    for found in networks {
        let found = found.map_err(|error| format!("the tree is damaged: {error}"))?;
        let Some(offset) = found.offset() else { continue };
        let country = match countries.get(&offset) {
            Some(country) => country,
            None => {
                let record: Option<Value> = found.decode().map_err(|error| format!("a record is damaged: {error}"))?;
                let country = record.as_ref().and_then(country_of).unwrap_or_default().to_owned();
                countries.entry(offset).or_insert(country)
            }
        };
        if !into.concerns(country) {
            continue;
        }
        let network = found.network().map_err(|error| error.to_string())?;
        let (family, first) = Family::of(network.ip());
        let bits = if family == Family::V4 { 32 } else { 128 };
        let hosts = u128::MAX.checked_shr(128 - (bits - u32::from(network.prefix()))).unwrap_or(0);
        into.take(country, family, crate::ranges::span::Span { first, last: first | hosts })?;
    }
    Ok(())
}

/// The country of a record, in whichever shape.
fn country_of(record: &Value) -> Option<&str> {
    let nested = record.pointer("/country/iso_code");
    nested.or_else(|| record.get("country_code")).or_else(|| record.get("country")).and_then(Value::as_str)
}
