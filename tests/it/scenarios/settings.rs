//! `set KEY VALUE` of a scenario: the keys of the configuration, put straight into the settings of the layers.

use std::time::Duration;

use icpgate::dns::settings::{BlockAction, JudgeFamilies, UpstreamDown};
use icpgate::policy::rules::Exempt;
use icpgate::policy::{ExpiredPolicy, ForeignMainland, IpSite, MixedAnswer, Mode, Rules};

use super::super::harness::fixture::name;

/// Sets a key of `[policy]`; false for a key that is none.
pub fn set_rule(rules: &mut Rules, key: &str, value: &str) -> bool {
    match key {
        "policy.mode" => {
            rules.mode = pick(value, &[("enforce", Mode::Enforce), ("observe", Mode::Observe), ("off", Mode::Off)]);
        }
        "policy.ip-site" => {
            rules.ip_site =
                pick(value, &[("block", IpSite::Block), ("observe", IpSite::Observe), ("allow", IpSite::Allow)]);
        }
        "policy.foreign-mainland" => {
            let all = [
                ("require-filed", ForeignMainland::RequireFiled),
                ("observe", ForeignMainland::Observe),
                ("ignore", ForeignMainland::Ignore),
            ];
            rules.foreign_mainland = pick(value, &all);
        }
        "policy.mixed-answer" => {
            rules.mixed_answer = pick(value, &[("block", MixedAnswer::Block), ("strip", MixedAnswer::Strip)]);
        }
        "policy.expired" => {
            rules.expired = pick(value, &[("report", ExpiredPolicy::Report), ("block", ExpiredPolicy::Block)]);
        }
        "policy.exempt" => {
            let (suffix, why) = value.split_once(' ').unwrap_or((value, "a test"));
            rules.exempt.push(Exempt { suffix: name(suffix), why: why.to_owned() });
        }
        "policy.non-web" => rules.non_web.push(name(value)),
        _ => return false,
    }
    true
}

/// Sets a key of `[dns]`; false for a key that is none.
pub fn set_dns(settings: &mut icpgate::dns::Settings, key: &str, value: &str) -> bool {
    let seconds = || Duration::from_secs(number(value));
    match key {
        "dns.block.action" => {
            let all = [
                ("redirect", BlockAction::Redirect),
                ("nxdomain", BlockAction::Nxdomain),
                ("nodata", BlockAction::Nodata),
                ("refused", BlockAction::Refused),
                ("drop", BlockAction::Drop),
            ];
            settings.block.action = pick(value, &all);
        }
        "dns.block.ipv4" => settings.block.ipv4 = list(value),
        "dns.block.ipv6" => settings.block.ipv6 = list(value),
        "dns.block.ttl-seconds" => settings.block.ttl_seconds = number(value),
        "dns.block.ede-code" => settings.block.ede_code = number(value),
        "dns.allow-from" => settings.allow_from = list(value),
        "dns.edns-udp-bytes-max" => settings.edns_udp_bytes_max = number(value),
        "dns.judge-families" => {
            settings.judge_families = pick(value, &[("both", JudgeFamilies::Both), ("asked", JudgeFamilies::Asked)]);
        }
        "dns.mainland-ttl-max-seconds" => settings.mainland_ttl_max = seconds(),
        "dns.cache-ttl-max-seconds" => settings.cache_ttl_max = seconds(),
        "dns.stale-max-seconds" => settings.stale_max = seconds(),
        "dns.upstream" if value == "none" => settings.upstreams.clear(),
        "policy.on-upstream-down" => {
            settings.upstream_down =
                pick(value, &[("stale", UpstreamDown::Stale), ("servfail", UpstreamDown::Servfail)]);
        }
        _ => return false,
    }
    true
}

/// Sets a key of `[http]`; false for a key that is none.
pub fn set_http(settings: &mut icpgate::http::Settings, key: &str, value: &str) -> bool {
    match key {
        "http.block.status" => settings.block.status = number(value),
        "http.block.redirect" => settings.block.redirect = value.to_owned(),
        "http.acme-carve-out" => settings.acme_carve_out = pick(value, &[("on", true), ("off", false)]),
        _ => return false,
    }
    true
}

/// Sets a key of `[registry]`; false for a key that is none.
pub fn set_registry(settings: &mut icpgate::registry::Settings, key: &str, value: &str) -> bool {
    match key {
        "registry.max-shrink-percent" => settings.max_shrink_percent = number(value),
        "registry.max-bad-rows" => settings.max_bad_rows = number(value),
        "registry.bind-check" => settings.bind_check = pick(value, &[("on", true), ("off", false)]),
        _ => return false,
    }
    true
}

fn pick<T: Copy>(value: &str, all: &[(&str, T)]) -> T {
    let found = all.iter().find(|(text, _)| *text == value).map(|&(_, found)| found);
    found.unwrap_or_else(|| {
        panic!("{value}: expected one of {:?}", all.iter().map(|(text, _)| text).collect::<Vec<_>>())
    })
}

fn number<T: std::str::FromStr>(value: &str) -> T {
    value.parse().unwrap_or_else(|_| panic!("{value}: expected a number"))
}

fn list<T: std::str::FromStr>(value: &str) -> Vec<T> {
    let item = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text}: not an item of this list"));
    value.split_whitespace().filter(|text| *text != "none").map(item).collect()
}
