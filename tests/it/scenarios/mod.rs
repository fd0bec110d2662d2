//! Scenario files an operator can read (tests/scenarios), each a test of its own name.

mod expect;
mod http;
mod parse;
mod run;
mod settings;

/// One test a file. The list is held against the directory by a test below.
macro_rules! scenarios {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(
            #[tokio::test]
            async fn $name() {
                let file = concat!(stringify!($name), ".scn");
                run::run(file, include_str!(concat!("../../scenarios/", stringify!($name), ".scn"))).await;
            }
        )*
    };
}

scenarios! {
    access_list
    additional_section
    any
    authoritative_only
    bad_version
    bind_check
    block_drop
    block_nodata
    block_not_accessed
    block_nxdomain
    block_redirect
    block_refused
    block_ttl_and_code
    block_without_addresses
    both_planes_follow_the_registry
    cache_is_judged_again
    checking_disabled
    coalescing
    dnssec_ok
    ede_text_gives_way
    exempt
    expired_registration
    families_together
    fault_observe
    foreign_mainland_ignore
    foreign_mainland_observe
    foreign_mainland_require
    http_acme
    http_acme_carve_out
    http_block_page
    http_ip_site_allow
    http_ip_site_block
    http_ip_site_observe
    http_keep_alive
    http_languages_and_formats
    http_not_ready
    http_observe
    http_old_clients
    http_pass_filed
    http_redirect
    http_spelling
    http_status_403
    http_two_causes
    https_records
    life_cycle
    local_zone
    local_zone_alias_out
    malformed
    mixed_answer_block
    mixed_answer_strip
    mode_observe
    mode_off
    no_edns
    non_web
    not_implemented
    not_ready
    other_class
    other_types
    pass_abroad
    pass_filed
    product_by_address
    product_by_chain
    provisional_access
    recursion_not_desired
    registry_bad_row
    registry_edit
    registry_file_deleted
    registry_half_written
    registry_shrinks
    restricted
    size_is_clamped
    special_names
    spelling
    tcp
    truncation
    unknown_options
    upstream_by_suffix
    upstream_down
    upstream_down_servfail
    upstream_down_stale
    upstream_errors_pass
    upstream_truncates
    wrapped_addresses
}

#[test]
fn every_scenario_file_is_a_test() {
    let entries = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios")).expect("the directory");
    let mut files: Vec<String> = entries
        .filter_map(|entry| entry.expect("an entry").file_name().to_str()?.strip_suffix(".scn").map(str::to_owned))
        .collect();
    files.sort();
    assert_eq!(files, NAMES, "tests/it/scenarios/mod.rs lists the files of tests/scenarios in order");
    assert!(files.len() >= 40, "only {} scenarios", files.len());
}
