//! The commands, run as a user runs them: output and exit status.

use std::process::Command;

use serde_json::Value;

use crate::harness::program::{DNS, Run, Site, icpgate, icpgate_in};

//--- explain ---------------------------------------------------------------------------------------------------------

/// The demo's names: address, action, reason, rule, exit status.
const DEMO: [(&str, &str, &str, &str, &str, i32); 6] = [
    ("www.filed.example", "203.0.113.10", "allow", "filed", "S1", 0),
    ("www.unfiled.example", "203.0.113.11", "block", "not_filed", "B1", 1),
    ("www.elsewhere.example", "203.0.113.12", "block", "not_accessed", "B2", 1),
    ("cdn.elsewhere.example", "198.51.100.1", "allow", "product_exempt", "A.4-CDN", 0),
    ("www.overseas.example", "192.0.2.10", "allow", "not_mainland", "N2", 0),
    ("WWW.Pending.EXAMPLE.", "203.0.113.13", "block", "not_filed", "N5", 1),
];

#[test]
fn explain_judges_the_demo_names_from_the_local_zone() {
    for (name, address, action, reason, rule, status) in DEMO {
        let run = icpgate(&["explain", name, "--json"]);
        assert_eq!(run.status(), status, "{name}: {}", run.err());
        let found = run.json();
        let expected = name.to_lowercase();
        assert_eq!(found["name"], expected.trim_end_matches('.'), "{name}");
        assert_eq!(found["addresses"], serde_json::json!([address]), "{name}");
        assert_eq!((&found["action"], &found["reason"]), (&action.into(), &reason.into()), "{name}");
        assert_eq!(found["rule"], rule, "{name}");
        assert_eq!((&found["registry_generation"], &found["ranges_generation"]), (&1.into(), &1.into()));
        assert!(found.get("enforced").is_none(), "{name}");
    }
}

#[test]
fn explain_shows_the_evidence_of_the_interface() {
    let found = icpgate(&["explain", "www.elsewhere.example", "--json"]).json();
    assert_eq!(found["domain"], "elsewhere.example");
    assert_eq!(
        found["range"],
        serde_json::json!({"prefix": "203.0.113.0/25", "region": "mainland", "provider": "self", "product": "ecs"})
    );
    assert_eq!(found["filing"]["site_no"], "沪ICP备2020999902号-1");
    assert_eq!(found["filing"]["access"], serde_json::json!(["other"]));
    assert_eq!((&found["filing"]["status"], &found["filing"]["line"]), (&"active".into(), &3.into()));
    assert_eq!(found["source"], "seed §1");
    assert_eq!(found["sentence"]["zh"], "请将备案信息接入本接入商");
}

#[test]
fn explain_says_what_would_change_the_verdict() {
    let run = icpgate(&["explain", "www.elsewhere.example"]);
    run.expect(
        1,
        &[
            "www.elsewhere.example  BLOCK not_accessed",
            "rule B2, seed §1",
            "conf/registry/filings.csv:3",
            "access here (接入备案): allow filed (S1)",
            "the name behind a CDN, WAF or anti-DDoS product of ours: allow product_exempt (A.4-CDN)",
            "the name on servers outside the mainland alone: allow not_mainland (N2)",
        ],
    );
    icpgate(&["explain", "www.unfiled.example"]).expect(
        1,
        &[
            "UNFILED: no row for unfiled.example",
            "a filing with access here (首次备案): allow filed (S1)",
            "a filing through another provider: block not_accessed (B2)",
        ],
    );
    icpgate(&["explain", "www.pending.example"]).expect(1, &["the filing approved: allow filed (S1)"]);
}

#[test]
fn explain_takes_addresses_and_chains_by_argument() {
    let overseas = ["explain", "www.unfiled.example", "--address", "192.0.2.1"];
    icpgate(&overseas).expect(0, &["ALLOW not_mainland"]);
    icpgate(&[&overseas[..], &["--address", "203.0.113.1"]].concat())
        .expect(1, &["BLOCK not_filed", "AMB-16", "alone: "]);
    icpgate(&[&overseas[..], &["--cname", "x.cdn-global.self.example"]].concat())
        .expect(1, &["AMB-8", "region global"]);
    icpgate(&["explain", "unfiled.example", "--address", "::ffff:203.0.113.1"]).expect(1, &["carries 203.0.113.1"]);
    icpgate(&["explain", "x.unfiled.example", "--cname", "www.example.com"]).expect(2, &["expected --address as well"]);
    icpgate(&["explain", "x.unfiled.example", "--cname", "a..b"]).expect(2, &["expected a host name"]);
}

#[test]
fn explain_follows_a_cname_of_the_local_zone() {
    icpgate(&["explain", "global.unfiled.example"]).expect(1, &["a.cdn-global.self.example", "AMB-8"]);
}

#[test]
fn explain_judges_what_is_no_name() {
    icpgate(&["explain", "203.0.113.10"]).expect(1, &["BLOCK ip_site", "rule N4"]);
    icpgate(&["explain", "0xcb.0.0x71.0xa"]).expect(1, &["BLOCK ip_site"]);
    icpgate(&["explain", "bad..name"]).expect(1, &["BLOCK invalid_name"]);
    icpgate(&["explain", "evil\\.filed.example", "--address", "203.0.113.1"]).expect(1, &["BLOCK not_filed"]);
}

#[test]
fn explain_leaves_types_without_web_alone() {
    icpgate(&["explain", "unfiled.example", "--type", "MX"]).expect(0, &["ALLOW non_web", "AMB-15", "pass unjudged"]);
    icpgate(&["explain", "unfiled.example", "--type", "A"]).expect(1, &["BLOCK not_filed"]);
}

#[test]
fn explain_of_an_unknown_name_says_how_it_is_judged() {
    icpgate(&["explain", "www.example.com"]).expect(1, &["BLOCK not_filed", "behind the gate"]);
    icpgate(&["explain", "nowhere.unfiled.example"]).expect(1, &["no address in the local zones"]);
}

#[test]
fn explain_in_observe_mode_keeps_the_action_and_says_it_is_not_enforced() {
    let text = std::fs::read_to_string("conf/icpgate.toml").expect("the demo's configuration");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("observe.toml");
    std::fs::write(&file, text + "\n[policy]\nmode = \"observe\"\n").expect("writes");
    let run = icpgate(&["explain", "www.unfiled.example", "--json", "--config", &file.display().to_string()]);
    assert_eq!(run.status(), 1, "{}", run.err());
    assert_eq!((&run.json()["action"], &run.json()["enforced"]), (&"block".into(), &false.into()));
}

//--- check -----------------------------------------------------------------------------------------------------------

#[test]
fn check_finds_nothing_wrong_with_what_is_shipped() {
    icpgate(&["check"]).expect(0, &["good: 0 errors, 0 warnings, 0 notes"]);
    for profile in ["resolver", "authoritative", "inline-gateway", "observe"] {
        let file = format!("conf/profiles/{profile}.toml");
        icpgate(&["check", "--config", &file]).expect(0, &[&file, "good: 0 errors, 0 warnings"]);
    }
}

#[test]
fn check_away_from_the_checkout_uses_the_compiled_in_data_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let temporary = directory.path().join("tmp");
    std::fs::create_dir(&temporary).expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_icpgate"));
    let run = Run(command.arg("check").current_dir(directory.path()).env("TMPDIR", &temporary).output().expect("runs"));
    run.expect(0, &["compiled in", "good: 0 errors"]);
    assert_eq!(std::fs::read_dir(&temporary).expect("a directory").count(), 0);
}

#[test]
fn check_groups_findings_by_rule_and_bounds_them() {
    let mut rows = "domain,site_no,access,expires_on\n".to_owned();
    for i in 0..9 {
        rows += &format!("a{i}.cn,京ICP备202100000{i}号-1,self,2020-01-01\n");
    }
    rows += "shell.cn,京ICP备2021000010号-1,,\nbad.cn,nonsense,self,\n";
    let site = Site::new("rows.csv", &rows, DNS);
    let run = site.run(&["check"]);
    run.expect(
        1,
        &[
            "error R3 ×9",
            "rows.csv:2: expires_on = \"2020-01-01\": the registration of a0.cn has ended",
            "… 6 more; --all prints them",
            "error R20 ×1",
            "warning R23 ×1",
            "findings: 10 errors, 1 warning",
        ],
    );
    assert!(!run.out().contains("a8.cn"));
    assert!(site.run(&["check", "--all"]).out().contains("a8.cn"));
    let found = site.run(&["check", "--json"]);
    assert_eq!((found.status(), &found.json()["status"]), (1, &"findings".into()));
    assert_eq!(found.json()["errors"], 10);
    let sections = found.json()["sections"].as_array().expect("sections").len();
    assert_eq!(sections, 6);
}

#[test]
fn check_says_what_would_keep_a_gate_from_starting() {
    let cut = Site::new("rows.csv", "domain,site_no,access\na.cn,京ICP备2021000001号-1", DNS);
    cut.run(&["check"]).expect(2, &["registry", "cannot be used", "rows.csv", "line 2", "invalid: 1 error"]);
    let good = "domain,site_no,access\na.cn,京ICP备2021000001号-1,self\n";
    let wrong = Site::new("rows.csv", good, "[dns]\nlisen = []\nblock = { ttl-seconds = 0 }\n");
    wrong.run(&["check"]).expect(
        2,
        &["icpgate.toml:7:1: dns.lisen: unknown key; did you mean listen?", "icpgate.toml:8:", "invalid: 2 errors"],
    );
    let zone = Site::new(
        "rows.csv",
        good,
        "[dns]\nlisten = [\"127.0.0.1:0\"]\nzones = [{ origin = \"a.cn\", file = \"a.zone\" }]\n",
    );
    std::fs::write(zone.directory.path().join("a.zone"), "@ IN SOA\n").expect("writes");
    zone.run(&["check"]).expect(2, &["a.zone"]);
    icpgate(&["check", "--config", "/nonexistent.toml"]).expect(2, &["/nonexistent.toml: cannot be read"]);
}

#[test]
fn check_of_the_full_file_tells_what_is_missing_for_a_start() {
    icpgate(&["check", "--config", "conf/icpgate.full.toml"])
        .expect(2, &["registry.paths: empty", "nothing would be served"]);
}

//--- config ----------------------------------------------------------------------------------------------------------

#[test]
fn config_show_prints_values_with_origin() {
    let run = icpgate(&["config", "show"]);
    run.expect(0, &["dns.listen = [\"127.0.0.1:5300\"]", "conf/icpgate.toml (compiled in):", "# default"]);
    let changed = icpgate(&["config", "show", "--changed"]);
    assert!(!changed.out().contains("# default") && changed.out().contains("admin.listen"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_icpgate"));
    command.args(["config", "show", "--json"]).env("ICPGATE_POLICY_MODE", "observe");
    let run = Run(command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("runs"));
    let shown = run.json();
    let mode = shown.as_array().expect("a list").iter().find(|key| key["key"] == "policy.mode").expect("the mode");
    assert_eq!((&mode["value"], &mode["origin"]), (&"observe".into(), &"environment ICPGATE_POLICY_MODE".into()));
}

#[test]
fn config_show_is_a_configuration_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("shown.toml");
    std::fs::write(&file, icpgate(&["config", "show"]).out()).expect("writes");
    let again = icpgate(&["config", "show", "--json", "--config", &file.display().to_string()]);
    let first = icpgate(&["config", "show", "--json"]).json();
    let values = |shown: &Value| -> Vec<(String, Value)> {
        let keys = shown.as_array().expect("a list").iter();
        keys.map(|key| (key["key"].to_string(), key["value"].clone())).collect()
    };
    assert_eq!(values(&again.json()), values(&first));
}

#[test]
fn config_schema_is_json() {
    let run = icpgate(&["config", "schema"]);
    assert_eq!(run.status(), 0);
    assert!(run.json()["properties"]["dns"]["properties"]["listen"].is_object());
}

//--- registry and ranges ---------------------------------------------------------------------------------------------

#[test]
fn registry_lookup_finds_the_row_that_governs() {
    icpgate(&["registry", "lookup", "a.b.filed.example"])
        .expect(0, &["conf/registry/filings.csv:2", "京ICP备2020999901号-1"]);
    icpgate(&["registry", "lookup", "示例.example"]).expect(0, &["conf/registry/pending.jsonl:2", "domain_unicode"]);
    icpgate(&["registry", "lookup", "unfiled.example"]).expect(1, &["no row"]);
    icpgate(&["registry", "lookup", "com.cn"]).expect(1, &["public suffix"]);
    let found = icpgate(&["registry", "lookup", "both.example", "--json"]).json();
    assert_eq!(found[0]["access"], serde_json::json!(["other", "self"]));
}

#[test]
fn registry_diff_tells_what_comes_and_goes() {
    let directory = tempfile::tempdir().expect("a directory");
    let old = "domain,site_no,access\na.cn,京ICP备2021000001号-1,self\nb.cn,京ICP备2021000002号-1,self\n";
    let new = "domain,site_no,access\nb.cn,京ICP备2021000002号-1,other\nc.cn,京ICP备2021000003号-1,self\n";
    for (file, text) in [("old.csv", old), ("new.csv", new)] {
        std::fs::write(directory.path().join(file), text).expect("writes");
    }
    let run = icpgate_in(directory.path(), &["registry", "diff", "old.csv", "new.csv"]);
    run.expect(
        1,
        &[
            "- a.cn",
            "+ c.cn",
            "~ b.cn  access: self → other",
            "1 added, 1 changed, 1 removed",
            "a reload would refuse this: 2 of 2 filed names would be blocked (100 %",
            "1 row would go",
        ],
    );
    icpgate_in(directory.path(), &["registry", "diff", "old.csv", "old.csv"]).expect(0, &["0 added"]);
    icpgate_in(directory.path(), &["registry", "diff", "old.csv", "none.csv"]).expect(2, &["none.csv"]);
}

#[test]
fn registry_stat_and_lint_read_other_files_too() {
    icpgate(&["registry", "stat"]).expect(0, &["7 rows", "active       5", "pending      1"]);
    icpgate(&["registry", "lint", "conf/registry/filings.csv"]).expect(0, &["3 rows of 1 file", "good"]);
}

#[test]
fn ranges_lookup_and_stat_know_the_demo() {
    icpgate(&["ranges", "lookup", "203.0.113.10"])
        .expect(0, &["203.0.113.0/25, mainland, provider self (ours), product ecs"]);
    icpgate(&["ranges", "lookup", "::ffff:203.0.113.10"]).expect(0, &["carries 203.0.113.10"]);
    icpgate(&["ranges", "lookup", "127.0.0.1"]).expect(1, &["in no range"]);
    icpgate(&["ranges", "stat"]).expect(0, &["mainland", "self (ours)", "cname suffixes"]);
}

#[test]
fn ranges_import_votes_and_diff_compares() {
    let directory = tempfile::tempdir().expect("a directory");
    for (file, text) in
        [("a.txt", "192.0.2.0/24\n198.51.100.0/24\n"), ("b.txt", "192.0.2.0/25\n"), ("c.txt", "192.0.2.0/24\n")]
    {
        std::fs::write(directory.path().join(file), text).expect("writes");
    }
    let run = icpgate_in(directory.path(), &["ranges", "import", "a.txt", "b.txt", "c.txt", "--votes", "2"]);
    assert_eq!((run.status(), run.out().trim()), (0, "192.0.2.0/24"), "{}", run.err());
    icpgate_in(directory.path(), &["ranges", "import", "a.txt", "--votes", "2"]).expect(2, &["votes"]);
}

//--- Usage -----------------------------------------------------------------------------------------------------------

#[test]
fn usage_errors_exit_2_and_help_exits_0() {
    for arguments in
        [&["explian"][..], &["explain"], &["explain", "a", "--address", "x"], &["registry"], &["--log-format", "xml"]]
    {
        assert_eq!(icpgate(arguments).status(), 2, "{arguments:?}");
    }
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["serve", "--help"],
        &["check", "--help"],
        &["explain", "--help"],
        &["registry", "diff", "--help"],
        &["registry", "lint", "--help"],
        &["registry", "lookup", "--help"],
        &["registry", "stat", "--help"],
        &["ranges", "diff", "--help"],
        &["ranges", "import", "--help"],
        &["ranges", "lookup", "--help"],
        &["ranges", "stat", "--help"],
        &["status", "--help"],
        &["reload", "--help"],
        &["drain", "--help"],
        &["config", "show", "--help"],
    ] {
        let run = icpgate(arguments);
        assert_eq!(run.status(), 0, "{arguments:?}");
        let is_version = arguments == ["--version"];
        assert!(is_version || run.out().contains("Examples:"), "{arguments:?}");
    }
}

#[test]
fn serve_refuses_to_start_without_anything_to_serve() {
    icpgate(&["serve", "--config", "conf/icpgate.full.toml"]).expect(2, &["nothing to serve"]);
}
