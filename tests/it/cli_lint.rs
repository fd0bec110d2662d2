//! `icpgate registry lint|history` and `explain --at`, run as a user runs them.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::harness::program::{DNS, Site};

/// One row with an error, one with a warning, one with a note only, one without findings.
const ROWS: &str = "domain,site_no,access,status,expires_on,filed_on\n\
    ended.cn,京ICP备2021000001号-1,self,active,2001-01-01,\n\
    shell.cn,京ICP备2021000002号-1,,active,,\n\
    old.cn,京ICP备2016000003号-1,self,active,,2016-01-01\n\
    older.cn,京ICP备2016000003号-1,self,active,,2016-01-01\n\
    typo.cn,京ICP2021000004号-1,self,active,,\n";

fn site(rows: &str) -> Site {
    Site::new("rows.csv", rows, DNS)
}

fn lint(site: &Site, arguments: &[&str]) -> crate::harness::program::Run {
    site.run(&[&["registry", "lint"], arguments].concat())
}

#[test]
fn findings_are_told_to_people_in_their_language() {
    let site = site(ROWS);
    lint(&site, &["--lang", "en"]).expect(
        1,
        &[
            "4 rows of 1 file",
            "error R3 ×1  域名过期 · domain registration has ended; right: a renewed registration",
            "rows.csv:2: expires_on = \"2001-01-01\": the registration of ended.cn has ended",
            "did you mean 京ICP备2021000004号-1?",
            "findings: 2 errors, 1 warning, 1 note",
        ],
    );
    lint(&site, &["--lang", "zh"]).expect(1, &["ended.cn 的注册已到期", "是否应为 京ICP备2021000004号-1"]);
    lint(&site, &["--rule", "R99"]).expect(2, &["no such check", "R6c"]);
}

#[test]
fn exit_statuses_follow_the_threshold() {
    let site = site(ROWS);
    for (arguments, status) in [
        (&["--rule", "R6b"][..], 0),
        (&["--rule", "R6b", "--severity", "info"], 1),
        (&["--rule", "R23"], 1),
        (&["--rule", "R23", "--severity", "error"], 0),
        (&["--rule", "R3,R23", "--severity", "error"], 1),
        (&["none.csv"], 2),
        (&["--against", "none.csv"], 2),
    ] {
        assert_eq!(lint(&site, arguments).status(), status, "{arguments:?}");
    }
}

#[test]
fn json_and_csv_have_every_finding_in_order() {
    let site = site(ROWS);
    let json = lint(&site, &["--json"]).json();
    let found: Vec<(&str, u64)> = json["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|finding| (finding["rule"].as_str().expect("a rule"), finding["line"].as_u64().expect("a line")))
        .collect();
    assert_eq!(found, [("R3", 2), ("R23", 3), ("R6b", 5), ("R20", 6)]);
    assert_eq!(json["findings"][3]["fix"], "京ICP备2021000004号-1");
    assert_eq!((&json["errors"], &json["lists"][0]["date"]), (&2.into(), &"2022-08-30".into()));
    let csv = lint(&site, &["--format", "csv", "--lang", "zh"]).out();
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("severity,rule,file,line,column,key,value,message,fix"));
    assert_eq!(lines.next(), Some("error,R3,rows.csv,2,0,expires_on,2001-01-01,ended.cn 的注册已到期,"));
    assert_eq!(lines.count(), 3);
    // What a spreadsheet would run as a formula is quoted.
    let site = self::site("domain,site_no,access,status\n=1+1.cn,京ICP备2021000001号-1,self,active\n");
    let csv = lint(&site, &["--format", "csv"]).out();
    assert!(csv.contains(",'=1+1.cn,"), "{csv}");
}

#[test]
fn sarif_is_what_the_standard_asks_for() {
    let log = lint(&site(ROWS), &["--format", "sarif"]).json();
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    let ids: BTreeSet<&str> = rules.iter().map(|rule| rule["id"].as_str().expect("an id")).collect();
    assert_eq!(ids.len(), rules.len(), "each once");
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    for rule in rules {
        assert!(text(&rule["shortDescription"]["text"]) && text(&rule["help"]["text"]), "{rule}");
        assert!(
            ["error", "warning", "note"].contains(&rule["defaultConfiguration"]["level"].as_str().expect("a level"))
        );
    }
    let results = run["results"].as_array().expect("results");
    assert_eq!(results.len(), 4);
    for result in results {
        let at = usize::try_from(result["ruleIndex"].as_u64().expect("an index")).expect("small");
        assert_eq!(rules[at]["id"], result["ruleId"]);
        assert!(text(&result["message"]["text"]), "{result}");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "rows.csv");
        assert!(place["region"]["startLine"].as_u64().is_some_and(|line| line > 1), "{result}");
    }
}

#[test]
fn an_older_state_may_be_tables_or_a_compiled_copy() {
    let old = "domain,site_no,access\na.cn,京ICP备2021000001号-1,self\n";
    let site = site(&old.replace("a.cn", "b.cn"));
    let path = site.directory.path();
    fs::create_dir(path.join("old")).expect("a directory");
    fs::write(path.join("old/rows.csv"), old).expect("writes");
    fs::write(path.join("new.csv"), old.replace("a.cn", "b.cn")).expect("writes");
    fs::write(path.join("rows.csv"), old).expect("writes");
    site.run(&["registry", "compile", "--out", "copy"]).expect(0, &["1 row"]);
    for against in ["old", "old/rows.csv", "copy"] {
        let run = lint(&site, &["new.csv", "--against", against, "--lang", "en"]);
        run.expect(1, &["R6c", "the site's only domain was a.cn"]);
    }
    lint(&site, &["--against", "old"]).expect(0, &["good"]);
    fs::write(path.join("damaged"), "x").expect("writes");
    lint(&site, &["--against", "damaged"]).expect(2, &["--against damaged"]);
}

#[test]
fn addresses_are_held_against_the_ranges() {
    let rows = "domain,site_no,access,addresses\n\
        in.cn,京ICP备2021000001号-1,self,203.0.113.9\n\
        out.cn,京ICP备2021000002号-1,self,198.51.100.9\n";
    lint(&site(rows), &["--rule", "R16", "--lang", "en"]).expect(1, &["rows.csv:3: addresses", "1 error"]);
}

#[test]
fn lists_are_replaced_by_files_and_told_with_their_date() {
    let site = Site::new("rows.csv", "domain,site_no,access\na.io,京ICP备2021000001号-1,self\n", "");
    let path = site.directory.path();
    lint(&site, &["--rule", "R1"]).expect(1, &["R1"]);
    fs::write(path.join("suffixes"), "# Date: 2030-01-02\nio\n").expect("writes");
    let config = fs::read_to_string(path.join("icpgate.toml")).expect("reads");
    fs::write(path.join("icpgate.toml"), format!("{config}\n[registry.lint]\nsuffixes = \"suffixes\"\n"))
        .expect("writes");
    lint(&site, &["--rule", "R1"]).expect(0, &["good"]);
    site.run(&["registry", "stat"]).expect(0, &["registry.lint.suffixes", "2030-01-02  1 line, suffixes"]);
    fs::write(path.join("suffixes"), "io\n").expect("writes");
    lint(&site, &[]).expect(2, &["suffixes:0: has no date"]);
    site.run(&["check"]).expect(2, &["suffixes:0: has no date"]);
}

//--- History and other days ------------------------------------------------------------------------------------------

const LIFE: &str = "domain,site_no,access,filed_on\nlife.cn,京ICP备2021000001号-1,other,2021-03-01\n";
const EVENTS: &str = "{\"at\": \"2022-01-01\", \"event\": \"add-access\", \"domain\": \"life.cn\", \"provider\": \"self\"}\n\
    {\"at\": \"2023-01-01\", \"event\": \"add-access\", \"domain\": \"life.cn\", \"provider\": \"self\"}\n\
    {\"at\": \"2099-01-01\", \"event\": \"deregister-subject\", \"subject_no\": \"京ICP备2021000001号\"}\n";

fn life() -> Site {
    let site = Site::new("rows", "", "");
    let path = site.directory.path();
    fs::remove_file(path.join("rows")).expect("was there");
    fs::create_dir(path.join("rows")).expect("a directory");
    fs::write(path.join("rows/life.csv"), LIFE).expect("writes");
    fs::write(path.join("rows/life.changes.jsonl"), EVENTS).expect("writes");
    site
}

#[test]
fn a_history_has_rows_and_events_with_their_places() {
    let site = life();
    let run = site.run(&["registry", "history", "www.life.cn", "--json"]);
    assert_eq!(run.status(), 0, "{}", run.err());
    let chapters = run.json()["chapters"].as_array().expect("chapters").clone();
    let told: Vec<[&str; 3]> = chapters
        .iter()
        .map(|chapter| ["on", "what", "effect"].map(|key| chapter[key].as_str().expect("a text")))
        .collect();
    assert_eq!(
        told,
        [
            ["2021-03-01", "row", "replaced"],
            ["2022-01-01", "add-access", "applied"],
            ["2023-01-01", "add-access", "refused"],
            ["2099-01-01", "deregister-subject", "waits"],
        ]
    );
    assert_eq!((&chapters[2]["why"], &chapters[2]["line"]), (&"self gives access already".into(), &2.into()));
    let text = site.run(&["registry", "history", "life.cn", "--lang", "zh"]);
    text.expect(
        0,
        &["接入备案  已生效  rows/life.changes.jsonl:1", "数据行  已被取代  rows/life.csv:2", "现状：active"],
    );
    site.run(&["registry", "history", "other.cn"]).expect(1, &["no row, so unfiled"]);
    site.run(&["registry", "history", "com.cn"]).expect(2, &["public suffix"]);
}

#[test]
fn a_verdict_can_be_asked_for_another_day() {
    let site = life();
    for (day, status, texts) in [
        ("2020-12-31", 1, &["not_filed"][..]),
        ("2021-02-28", 1, &["not_filed", "the row was filed on 2021-03-01"]),
        ("2021-12-31", 1, &["not_accessed"]),
        ("2022-01-01", 0, &["filed", "as of 2022-01-01"]),
        ("2098-12-31", 0, &["filed"]),
        ("2099-01-01", 1, &["not_filed"]),
    ] {
        site.run(&["explain", "www.life.cn", "--address", "203.0.113.1", "--at", day]).expect(status, texts);
    }
    site.run(&["explain", "life.cn", "--at", "2021-02-30"]).expect(2, &["YYYY-MM-DD"]);
}
