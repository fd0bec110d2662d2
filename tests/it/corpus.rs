//! The kept corpus of the fuzz targets, held to the same properties: what was once found stays mended.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::wire_properties::{dns, head, hello, initial, proxy};

/// Holds every kept input of a target, and the first half of each, to the properties of the target.
fn hold(target: &str, check: fn(&[u8])) {
    /// Octets of the inputs of one target; a corpus is for review, not an archive.
    const CORPUS_OCTETS_MAX: u64 = 300 << 10;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let (mut count, mut octets) = (0, 0);
    for entry in fs::read_dir(&directory).expect("the kept corpus") {
        let path = entry.expect("an entry").path();
        let input = fs::read(&path).expect("an input");
        octets += input.len() as u64;
        count += 1;
        for part in [&input[..], &input[..input.len() / 2]] {
            let held = catch_unwind(AssertUnwindSafe(|| check(part)));
            assert!(held.is_ok(), "{} and {} octets of it", path.display(), part.len());
        }
    }
    assert!(count > 20, "{count} inputs for {target}");
    assert!(octets <= CORPUS_OCTETS_MAX, "{octets} octets for {target}");
}

#[test]
fn kept_dns_messages_hold() {
    hold("dns", dns::check);
}

#[test]
fn kept_heads_hold() {
    hold("head", head::check);
}

#[test]
fn kept_hellos_hold() {
    hold("hello", hello::check);
}

#[test]
fn kept_initials_hold() {
    hold("initial", initial::check);
}

#[test]
fn kept_proxy_headers_hold() {
    hold("proxy", proxy::check);
}
