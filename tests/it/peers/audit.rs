//! `icpgate audit` over a zone that `knotd` serves.

use std::fs;

use tempfile::TempDir;

use super::super::cli_audit::{LEADS, audit, expected, found, site};
use super::super::harness::binary::free_addr;
use super::upstreams::Peer;

#[tokio::test]
async fn an_audit_over_a_zone_of_knotd_finds_each_planted_case_and_nothing_else() {
    if !super::are_asked_for() {
        return;
    }
    let dir = TempDir::new().expect("a directory");
    let (addr, at) = (free_addr(), dir.path().display());
    // The root, so that every name that is not there is denied for sure.
    let records: String = LEADS.iter().map(|(name, kind, value)| format!("{name}. IN {kind} {value}\n")).collect();
    let zone = format!("$ORIGIN .\n$TTL 60\n@ IN SOA ns. host. 1 3600 600 86400 60\n@ IN NS ns.\n{records}");
    fs::write(dir.path().join("root.zone"), zone).expect("writes");
    fs::create_dir(dir.path().join("db")).expect("a directory");
    let config = format!(
        "server:\n  listen: {}@{}\n  rundir: {at}\ndatabase:\n  storage: {at}/db\nlog:\n  - target: stderr\n    any: error\n\
         template:\n  - id: default\n    storage: {at}\n    file: root.zone\n    zonefile-sync: -1\nzone:\n  - domain: .\n",
        addr.ip(),
        addr.port()
    );
    let file = dir.path().join("knot.conf");
    fs::write(&file, config).expect("writes");
    let server = Peer::start(addr, "knotd", &["-c", &file.display().to_string()]).await;
    let run = tokio::task::spawn_blocking(move || audit(&site(), addr, &["--format", "json"])).await.expect("runs");
    drop(server);
    assert_eq!(run.status(), 1, "{}", run.err());
    assert_eq!(found(&run.json()), expected());
}
