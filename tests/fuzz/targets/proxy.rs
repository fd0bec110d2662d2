//! Octets at random, held to `properties/proxy.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: icpgate_fuzz::seeds::write_if_asked("proxy"),
    |octets: &[u8]| icpgate_fuzz::properties::proxy::check(octets)
);
