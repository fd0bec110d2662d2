//! Octets at random, held to `properties/head.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: icpgate_fuzz::seeds::write_if_asked("head"),
    |octets: &[u8]| icpgate_fuzz::properties::head::check(octets)
);
