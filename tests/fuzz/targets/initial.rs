//! Octets at random, held to `properties/initial.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: icpgate_fuzz::seeds::write_if_asked("initial"),
    |octets: &[u8]| icpgate_fuzz::properties::initial::check(octets)
);
