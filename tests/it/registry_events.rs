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

#[test]
fn a_change_applies_every_key_it_has_or_refuses_the_line() {
    let table = ["here.cn,京ICP备2021000001号-1,self,active,0,"];
    let changed = |keys: &str| after(&table, &[&format!(r#"{{"event":"change","domain":"here.cn",{keys}}}"#)]);
    for (keys, expected) in [
        (r#""status":"cancelled""#, "does not touch status; expected deregister-site"),
        (r#""status":"pending","site_name":"新""#, "does not touch status; expected deregister-site"),
        (r#""状态":"注销""#, "does not touch status; expected deregister-site"),
        (r#""access":[]"#, "does not touch access; expected add-access or cancel-access"),
        (r#""接入商":["other"]"#, "does not touch access; expected add-access or cancel-access"),
        (r#""provider":"other""#, "expected add-access or cancel-access"),
        (r#""site_no":"京ICP备2021000001号-2""#, "does not touch site_no; expected deregister-site"),
        (r#""site_no":"""#, "does not touch site_no; expected deregister-site"),
        (r#""subject_no":"京ICP备2021000002号""#, "does not touch subject_no; expected deregister-site"),
        (r#""account":"a-1""#, "does not touch account; expected claim or import"),
        (r#""filed_on":"2021-01-01""#, "does not touch filed_on"),
        (r#""ip_filed":true"#, "does not touch ip_filed"),
    ] {
        let loaded = changed(keys);
        let messages = messages(&loaded);
        assert!(messages.len() == 1 && messages[0].contains(expected), "{keys}: {messages:?}");
        assert_eq!(row(&loaded, "here.cn").0.site_name, None, "{keys}: a refused line changes nothing");
    }
    let as_before =
        r#""status":"active","access":["self"],"site_no":"京ICP备2021000001号-1","subject_no":"京ICP备2021000001号""#;
    let loaded = changed(&format!(
        r#"{as_before},"account":null,"domain_unicode":"here.cn","x_note":1,"site_name":"新","registrar":"r","service_code":"c","source":"s","restricted":1"#
    ));
    assert!(loaded.issues.is_empty(), "{:?}", messages(&loaded));
    let (filing, facts) = row(&loaded, "here.cn");
    let texts = [filing.site_name, filing.registrar, filing.service_code, filing.source];
    assert_eq!(texts.each_ref().map(Option::as_deref), ["新", "r", "c", "s"].map(Some));
    assert!(facts.restricted && facts.accessed_here);
}

#[test]
fn a_new_filing_lifts_no_restriction_unless_it_says_so() {
    let event = |kind: &str, more: &str| {
        let number = if kind == "add-site" { "京ICP备2021000001号-2" } else { "京ICP备2021000009号-1" };
        format!(r#"{{"event":"{kind}","domain":"gone.cn","site_no":"{number}","access":["self"]{more}}}"#)
    };
    for (kind, status) in [("first-filing", "cancelled"), ("add-site", "expired"), ("首次备案", "pending")] {
        for (before, more, is_restricted) in [
            (1, "", true),
            (1, r#","restricted":null"#, true),
            (1, r#","限制接入":"否""#, false),
            (1, r#","restricted":false"#, false),
            (0, "", false),
            (0, r#","restricted":1"#, true),
        ] {
            let gone = format!("gone.cn,京ICP备2021000005号-1,self,{status},{before},");
            let loaded = after(&["here.cn,京ICP备2021000001号-1,self,active,0,", &gone], &[&event(kind, more)]);
            assert!(loaded.issues.is_empty(), "{kind}: {:?}", messages(&loaded));
            let (filing, facts) = row(&loaded, "gone.cn");
            assert_eq!((facts.restricted, filing.line), (is_restricted, 1), "{kind} over {status}: {before}{more}");
        }
    }
}
