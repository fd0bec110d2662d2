//! Life-cycle events over rows with dates, restrictions and attributes: what they take with them, and what they refuse.

use std::sync::Arc;

use icpgate::model::Facts;
use icpgate::registry::{Filing, Loaded, Settings, load_paths};
use tempfile::TempDir;

use super::harness::fixture::{PROVIDER, TODAY, name, noon};

const HEADER: &str = "domain,site_no,access,status,restricted,provisional_access_until\n";

/// Loads `rows` and then `events`.
fn after(rows: &[&str], events: &[&str]) -> Arc<Loaded> {
    let dir = TempDir::new().expect("a directory");
    let lines = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    std::fs::write(dir.path().join("a.csv"), format!("{HEADER}{}", lines(rows))).expect("writes");
    std::fs::write(dir.path().join("b.changes.jsonl"), lines(events)).expect("writes");
    load_paths(&Settings::new(PROVIDER, vec![dir.path().to_owned()]), noon(TODAY)).expect("loads")
}

fn row(loaded: &Loaded, domain: &str) -> (Filing, Facts) {
    let id = loaded.snapshot.find(name(domain).as_ref()).expect(domain);
    (loaded.snapshot.filing(id), loaded.snapshot.facts(id))
}

fn messages(loaded: &Loaded) -> Vec<&str> {
    loaded.issues.iter().map(|issue| issue.message.as_str()).collect()
}

#[test]
fn provisional_access_ends_with_our_access_and_with_no_other() {
    let ours = r#"{"event":"cancel-access","domain":"prov.cn","provider":"self"}"#;
    let other = r#"{"event":"cancel-access","domain":"prov.cn","provider":"other"}"#;
    for (access, event, is_kept) in
        [("self;other", ours, false), ("self", ours, false), ("other", ours, false), ("self;other", other, true)]
    {
        let table = format!("prov.cn,京ICP备2021000001号-1,{access},active,0,2027-01-01");
        let loaded = after(&[&table], &[event]);
        assert!(loaded.issues.is_empty(), "{access}: {:?}", messages(&loaded));
        let (_, facts) = row(&loaded, "prov.cn");
        assert_eq!((facts.provisional_until.is_some(), facts.accessed_here), (is_kept, is_kept), "{access}: {event}");
    }
    let loaded = after(&["prov.cn,京ICP备2021000001号-1,other,active,0,"], &[ours]);
    assert_eq!(messages(&loaded), ["self gives no access; those that do: other"]);
}
