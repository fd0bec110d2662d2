//! `icpgate registry compile|export` and `lookup` by a part of the name, run as a user runs them.

use std::fs;
use std::time::SystemTime;

use icpgate::registry::{Settings, Shrink, Store, load_paths};

use crate::harness::program::{DNS, Site, icpgate};

const ROWS: &str = "domain,site_no,access,status\n\
    here.cn,京ICP备2021000001号-1,self,active\n\
    help.com.cn,京ICP备2021000002号-1,other,active\n\
    例子.中国,京ICP备2021000003号-1,self,active\n\
    gone.cn,京ICP备2021000004号-1,self,cancelled\n";

fn site() -> Site {
    Site::new("rows.csv", ROWS, DNS)
}

#[test]
fn a_compiled_copy_is_what_a_gate_starts_from() {
    let site = site();
    let directory = site.directory.path();
    site.run(&["registry", "compile"]).expect(2, &["registry.snapshot is empty", "--out FILE"]);
    site.run(&["registry", "compile", "--out", "none/copy"]).expect(2, &["none/copy"]);
    let config = format!(
        "version = 1\n[provider]\nid = \"self\"\n[registry]\npaths = [{:?}]\nsnapshot = {:?}\n{DNS}",
        directory.join("rows.csv"),
        directory.join("copy")
    );
    fs::write(directory.join("icpgate.toml"), config).expect("writes");
    site.run(&["registry", "compile"]).expect(0, &["copy: 4 rows, "]);
    // Again, over the one that is there.
    site.run(&["registry", "compile"]).expect(0, &["copy: 4 rows, "]);
    let mut settings = Settings::new("self", vec![directory.join("rows.csv")]);
    settings.snapshot = Some(directory.join("copy"));
    let store = Store::new(settings);
    store.reload(SystemTime::now(), Shrink::Refuse);
    assert!(store.is_unverified(), "it came out of the copy");
    assert_eq!(store.loaded().expect("a state").snapshot.len(), 4);
    fs::write(directory.join("rows.csv"), "domain,access\n\"").expect("writes");
    site.run(&["registry", "compile"]).expect(2, &["middle of a record"]);
}

#[test]
fn exports_read_back_the_same() {
    let site = site();
    let path = |name: &str| site.directory.path().join(name);
    let digest = |name: &str| {
        load_paths(&Settings::new("self", vec![path(name)]), SystemTime::now()).expect("a sound table").digest
    };
    for (format, name) in [("csv", "out.csv"), ("jsonl", "out.jsonl")] {
        let run = site.run(&["registry", "export", "--format", format, "--out", name]);
        run.expect(0, &[]);
        assert_eq!(digest(name), digest("rows.csv"), "{format}");
        let shown = site.run(&["registry", "export", "--format", format]).out();
        assert_eq!(shown, fs::read_to_string(path(name)).expect("a file"), "{format}");
    }
    let leftovers = fs::read_dir(site.directory.path()).expect("a directory").flatten();
    assert!(leftovers.map(|entry| entry.file_name()).all(|name| !name.to_string_lossy().starts_with('.')));
    site.run(&["registry", "export", "--format", "csv", "--out", "none/out.csv"]).expect(2, &["none/out.csv"]);
}

#[test]
fn a_policy_zone_lets_what_has_access_here_pass() {
    let run = site().run(&["registry", "export", "--format", "rpz", "--zone", "icp.example."]);
    run.expect(
        0,
        &[
            "$ORIGIN icp.example.\n",
            "here.cn CNAME rpz-passthru.\n*.here.cn CNAME rpz-passthru.\n",
            "xn--fsqu00a.xn--fiqs8s CNAME rpz-passthru.\n",
            "24.0.113.0.203.rpz-ip ",
        ],
    );
    assert!(!run.out().contains("help.com.cn") && !run.out().contains("gone.cn"), "{}", run.out());
    site().run(&["registry", "export", "--format", "rpz", "--zone", "a..b"]).expect(2, &["is not a domain name"]);
}

#[test]
fn lookup_finds_rows_by_a_part_of_their_name() {
    let site = site();
    let lookup = |arguments: &[&str]| site.run(&[&["registry", "lookup"], arguments].concat());
    let run = lookup(&["--prefix", "HE"]);
    run.expect(
        0,
        &["here.cn  京ICP备2021000001号-1  self  active  rows.csv:2", "help.com.cn  京ICP备2021000002号-1  other"],
    );
    assert_eq!(run.out().lines().count(), 2);
    let run = lookup(&["--suffix", "cn", "--limit", "2"]);
    run.expect(0, &["… and more; --limit prints more than 2"]);
    assert_eq!(run.out().lines().count(), 3);
    lookup(&["--suffix", "中国", "--limit", "1"]).expect(0, &["xn--fsqu00a.xn--fiqs8s  京ICP备2021000003号-1"]);
    assert_eq!(lookup(&["--suffix", "com.cn", "--json"]).json()[0]["domain"], "help.com.cn");
    lookup(&["--prefix", "zz"]).expect(1, &["no row"]);
    assert_eq!(lookup(&["--prefix", "zz", "--json"]).json(), serde_json::json!([]));
    for wrong in
        [&["--prefix", "a", "here.cn"][..], &["--prefix", "a", "--suffix", "cn"], &["here.cn", "--limit", "3"], &[]]
    {
        assert_eq!(lookup(wrong).status(), 2, "{wrong:?}");
    }
}

#[test]
fn stat_tells_times_and_memory_by_section() {
    let site = site();
    let text = site.run(&["registry", "stat"]);
    text.expect(
        0,
        &["4 rows, digest ", "  active       3\n", "  cancelled    1\n", "  here         2\n", "  com.cn       1\n"],
    );
    text.expect(
        0,
        &[
            "seconds to load\n  files        0.",
            "reading 0.",
            "on all cores",
            "\n  index ",
            "\n  events ",
            "\n  total ",
        ],
    );
    text.expect(0, &["octets a name\n", "  tables ", "  entries ", "  records ", "  texts ", " in all\n"]);
    assert!(!text.out().contains("snapshot"), "no snapshot file was read");
    let told = site.run(&["registry", "stat", "--json"]).json();
    assert_eq!((&told["rows"], &told["status"]["active"], &told["active"]["here"]), (&4.into(), &3.into(), &2.into()));
    assert_eq!(told["files"][0]["path"], "rows.csv");
    let seconds = |phase: &str| told["seconds"][phase].as_f64().expect(phase);
    for phase in ["files", "read", "parse", "index", "total"] {
        assert!(seconds(phase) > 0.0, "{phase}: {told}");
    }
    assert_eq!(seconds("restore"), 0.0);
    assert!(seconds("files") + seconds("index") + seconds("events") <= seconds("total"), "{told}");
    assert!(told["seconds"]["processor"].is_number(), "{told}");
    let octets = told["octets"].as_object().expect("sections");
    let sum: u64 =
        octets.iter().filter(|(section, _)| *section != "total").filter_map(|(_, octets)| octets.as_u64()).sum();
    assert_eq!(octets["total"], sum);
    assert_eq!(told["octets_per_name"]["total"], sum as f64 / 4.0);
}

#[test]
fn stat_tells_the_time_of_the_snapshot_file() {
    let site = site();
    let config = "version = 1\n[registry]\npaths = [\"rows.csv\"]\nsnapshot = \"copy\"\n";
    fs::write(site.directory.path().join("icpgate.toml"), config).expect("writes");
    site.run(&["registry", "compile"]).expect(0, &[]);
    site.run(&["registry", "stat"]).expect(0, &["seconds to load\n  snapshot     0."]);
}

#[test]
fn help_shows_examples() {
    for command in ["compile", "export"] {
        icpgate(&["registry", command, "--help"]).expect(0, &["Examples:", command]);
    }
}
