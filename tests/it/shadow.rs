//! The shadow: another registry, other ranges or another policy judge live traffic and change nothing of it.

use std::fs;

use icpgate::ops::shadow::ShadowSettings;
use icpgate::policy::{IpSite, Rules};
use icpgate::registry;
use serde_json::Value;
use tempfile::TempDir;

use super::harness::app::App;
use super::harness::program::Site;

const FILED: &str = "www.filed.example";
const UNFILED: &str = "www.unfiled.example";
/// What the live registry has not, and lacks what it has.
const OTHER: &str = "domain,site_no,access,status\nunfiled.example,京ICP备2021000003号-1,self,active\n";

/// A gate with the journal of blocks and a shadow with a registry of its own, in `shadow.csv`.
async fn gate() -> App {
    let app = App::with(|config, dir| {
        fs::write(dir.path().join("shadow.csv"), OTHER).expect("writes");
        config.journal.path = Some(dir.path().join("journal.jsonl"));
        config.shadow = Some(own_registry(dir));
    })
    .await;
    app.until("its data", async |app| {
        // In the view, where verdicts are reached by them, and not the store alone.
        app.running.view.load().shadow.as_ref().is_some_and(|shadow| shadow.generations().0 > 0).then_some(())
    })
    .await;
    app
}

fn own_registry(dir: &TempDir) -> ShadowSettings {
    let registry = registry::Settings::new("self", vec![dir.path().join("shadow.csv")]);
    ShadowSettings { rules: Rules::default(), registry: Some(registry), ranges: None }
}

async fn pairs(app: &App, plane: &str, live: &str, shadow: &str) -> f64 {
    let labels = format!("plane=\"{plane}\",live=\"{live}\",shadow=\"{shadow}\"");
    app.metric(&format!("icpgate_shadow_verdicts_total{{{labels}}}")).await
}

fn journal(app: &App) -> Vec<Value> {
    let text = fs::read_to_string(app.path("journal.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[tokio::test]
async fn what_would_differ_is_told_and_nothing_changes() {
    let (app, plain) = (gate().await, App::start().await);
    for name in [FILED, UNFILED, "www.elsewhere.example", "www.overseas.example"] {
        let (with, without) = (app.ask(name, "A").await, plain.ask(name, "A").await);
        assert_eq!((with.addresses(), with.is_blocked()), (without.addresses(), without.is_blocked()), "{name}");
        assert_eq!(app.browse(name).await.status, plain.browse(name).await.status, "{name}");
    }
    for plane in ["dns", "http"] {
        assert!((pairs(&app, plane, "allow", "block").await - 1.0).abs() < f64::EPSILON, "{plane}: the filed one");
        assert!((pairs(&app, plane, "block", "allow").await - 1.0).abs() < f64::EPSILON, "{plane}: the unfiled one");
    }
    assert!((pairs(&app, "dns", "allow", "allow").await - 1.0).abs() < f64::EPSILON, "overseas");
    assert!((pairs(&app, "dns", "block", "block").await - 1.0).abs() < f64::EPSILON, "elsewhere");
    let shown = app
        .until("three names", async |app| {
            Some(app.get("/v1/shadow").await.json()).filter(|shown| shown["known"].as_u64() == Some(3))
        })
        .await;
    assert_eq!((&shown["enabled"], &shown["state"]["registry_generation"]), (&true.into(), &1.into()));
    let of = |name: &str| {
        let rows = shown["names"].as_array().expect("names").iter();
        rows.clone().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    let row = of(UNFILED);
    assert_eq!((&row["live"]["reason"], &row["shadow"]["reason"]), (&"not_filed".into(), &"filed".into()));
    assert_eq!((&row["count"], &row["first_seen"]), (&2.into(), &"2026-11-24T04:00:00.000Z".into()));
    // The same action for another reason is a difference too.
    assert_eq!(of("www.elsewhere.example")["shadow"]["reason"], "not_filed");
    let lines = app.until("lines", async |app| Some(journal(app)).filter(|lines| lines.len() >= 6)).await;
    let line = lines.iter().find(|line| line["name"] == FILED).expect("an allow that would be a block");
    assert_eq!((&line["action"], &line["shadow"]["reason"]), (&"allow".into(), &"not_filed".into()));
    let line = lines.iter().find(|line| line["name"] == UNFILED).expect("a block");
    assert_eq!(line["shadow"]["filing"]["site_no"], "京ICP备2021000003号-1");
    let status = app.get("/v1/status").await.json();
    assert_eq!(status["shadow"]["judged"].as_u64(), Some(8));
}

#[tokio::test]
async fn a_cached_answer_is_judged_once_until_data_change() {
    let app = gate().await;
    app.upstream.addresses("www.nofile.cn", &["203.0.113.11"]);
    for _ in 0..5 {
        assert!(app.ask("www.nofile.cn", "A").await.is_blocked());
    }
    assert!((pairs(&app, "dns", "block", "block").await - 1.0).abs() < f64::EPSILON, "kept with the answer");
    app.write("shadow.csv", &format!("{OTHER}nofile.cn,京ICP备2021000004号-1,self,active\n"));
    app.until("the shadow's reload", async |app| {
        assert!(app.ask("www.nofile.cn", "A").await.is_blocked(), "nothing changes on the wire");
        (pairs(app, "dns", "block", "allow").await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(app.upstream.count("www.nofile.cn", "A"), 1, "no upstream is asked for the shadow's sake");
    let report = app.post("/v1/reload").await.json();
    let done = report["done"].as_array().expect("parts").iter().filter_map(Value::as_str);
    assert!(done.clone().any(|line| line.starts_with("shadow registry")), "{report}");
}

#[tokio::test]
async fn a_policy_alone_follows_the_live_data() {
    let app = App::with(|config, _| {
        let rules = Rules { ip_site: IpSite::Allow, ..Rules::default() };
        config.shadow = Some(ShadowSettings { rules, registry: None, ranges: None });
    })
    .await;
    assert_eq!(app.browse("203.0.113.11").await.status, 451);
    assert!((pairs(&app, "http", "block", "allow").await - 1.0).abs() < f64::EPSILON);
    assert_eq!(app.browse(UNFILED).await.status, 451);
    app.write(
        "registry/filings.csv",
        &format!("{}unfiled.example,京ICP备2021000003号-1,self,active\n", super::harness::app::FILINGS),
    );
    app.until("the live reload", async |app| (app.browse(UNFILED).await.status == 200).then_some(())).await;
    let names = app.get("/v1/shadow").await.json();
    assert_eq!((names["known"].as_u64(), &names["names"][0]["name"]), (Some(1), &"203.0.113.11".into()), "{names}");
    assert!((pairs(&app, "http", "allow", "block").await).abs() < f64::EPSILON, "one registry for both");
}

#[tokio::test]
async fn a_shadow_without_data_says_nothing_and_harms_nothing() {
    let app = App::with(|config, dir| config.shadow = Some(own_registry(dir))).await;
    app.until("a warning", async |app| {
        let ready = app.get("/readyz").await;
        (ready.status == 200 && ready.causes("warnings").iter().any(|cause| cause == "shadow_registry_refused"))
            .then_some(())
    })
    .await;
    assert!(!app.ask(FILED, "A").await.is_blocked() && app.ask(UNFILED, "A").await.is_blocked());
    assert_eq!(app.get("/v1/status").await.json()["shadow"]["judged"], 0);
    app.write("shadow.csv", OTHER);
    app.until("its data", async |app| {
        app.ask(FILED, "A").await;
        (pairs(app, "dns", "allow", "block").await >= 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_a_shadow_there_is_none() {
    let app = App::start().await;
    app.ask(UNFILED, "A").await;
    let shown = app.get("/v1/shadow").await.json();
    assert_eq!((&shown["enabled"], &shown["known"]), (&false.into(), &0.into()));
    assert_eq!(app.get("/v1/status").await.json()["shadow"], Value::Null);
    assert!(pairs(&app, "dns", "block", "block").await.abs() < f64::EPSILON);
}

#[test]
fn explain_tells_what_the_shadow_would_say() {
    let rows = "domain,site_no,access,status\na.cn,京ICP备2021000001号-1,self,active\n";
    let site = Site::new("live.csv", rows, "[shadow]\nregistry-paths = [\"next.csv\"]\n");
    fs::write(site.directory.path().join("next.csv"), rows.replace("a.cn", "b.cn")).expect("writes");
    for (name, live, shadow) in [("a.cn", 0, 1), ("b.cn", 1, 0)] {
        site.run(&["explain", name, "--address", "203.0.113.1"]).expect(live, &[]);
        site.run(&["explain", name, "--address", "203.0.113.1", "--shadow"]).expect(shadow, &["by [shadow]"]);
    }
    Site::new("live.csv", rows, "").run(&["explain", "a.cn", "--shadow"]).expect(2, &["expected a [shadow] section"]);
}
