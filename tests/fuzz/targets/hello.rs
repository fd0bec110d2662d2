//! Octets at random, held to `properties/hello.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: icpgate_fuzz::seeds::write_if_asked("hello"),
    |octets: &[u8]| icpgate_fuzz::properties::hello::check(octets)
);
