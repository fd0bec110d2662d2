//! Octets at random, held to `properties/dns.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: icpgate_fuzz::seeds::write_if_asked("dns"),
    |octets: &[u8]| icpgate_fuzz::properties::dns::check(octets)
);
