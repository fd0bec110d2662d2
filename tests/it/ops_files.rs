//! Operation through real files: the journal, and reloads of everything that is read.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use hickory_proto::op::ResponseCode;
use icpgate::app::StartError;
use icpgate::credentials::CertificateFiles;
use icpgate::dns::cookies::Cookies;
use icpgate::ops::JournalWhat;
use serde_json::Value;

use super::harness::app::{App, FILINGS, ZONE};
use super::harness::dns::Ask;
use super::harness::h2::TlsClient;

const UNFILED: &str = "www.unfiled.example";

//--- Journal ---------------------------------------------------------------------------------------------------------

fn journal_lines(app: &App, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(app.path(name)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

async fn with_journal(what: JournalWhat) -> App {
    App::with(|config, dir| {
        config.journal.path = Some(dir.path().join("journal.jsonl"));
        config.journal.what = what;
    })
    .await
}

#[tokio::test]
async fn journal_keeps_blocks_with_their_evidence() {
    let app = with_journal(JournalWhat::Blocks).await;
    app.ask("www.filed.example", "A").await;
    app.ask(UNFILED, "A").await;
    let lines = app
        .until("a journal line", async |app| {
            Some(journal_lines(app, "journal.jsonl")).filter(|lines| !lines.is_empty())
        })
        .await;
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!(line["time"], "2026-11-24T04:00:00.000Z");
    assert_eq!((&line["plane"], &line["client"]), (&"dns".into(), &"127.0.0.1".into()));
    assert_eq!((&line["name"], &line["domain"]), (&UNFILED.into(), &"unfiled.example".into()));
    assert_eq!((&line["action"], &line["reason"]), (&"block".into(), &"not_filed".into()));
    assert_eq!(line["addresses"][0], "203.0.113.11");
    assert_eq!(line["registry_generation"], 1);
    let answer = app.ask(UNFILED, "A").await;
    assert!(answer.reason().contains(line["id"].as_str().expect("an id")), "one id in journal and answer");
}

#[tokio::test]
async fn journal_shows_an_invalid_host_as_it_arrived() {
    let app = with_journal(JournalWhat::Blocks).await;
    assert_eq!(app.browse("XN--A.Example:80").await.status, 451);
    let lines = app
        .until("a journal line", async |app| {
            Some(journal_lines(app, "journal.jsonl")).filter(|lines| !lines.is_empty())
        })
        .await;
    assert_eq!((&lines[0]["reason"], &lines[0]["name"]), (&"invalid_name".into(), &"XN--A.Example".into()));
    assert_eq!(lines[0]["domain"], Value::Null);
}

#[tokio::test]
async fn one_decision_has_one_id_on_every_plane() {
    let app = with_journal(JournalWhat::Blocks).await;
    let answer = app.ask(UNFILED, "A").await.reason();
    let page = app.browse(UNFILED).await;
    assert_eq!(page.status, 451);
    let lines = app
        .until("a line of each plane", async |app| {
            Some(journal_lines(app, "journal.jsonl")).filter(|lines| lines.len() == 2)
        })
        .await;
    assert_eq!((&lines[0]["plane"], &lines[1]["plane"]), (&"dns".into(), &"http".into()));
    let id = lines[0]["id"].as_str().expect("an id");
    assert_eq!(lines[1]["id"], id);
    let verdict = app.get(&format!("/v1/verdict?name={UNFILED}&address=203.0.113.11")).await.json();
    assert_eq!(verdict["id"], id);
    assert!(answer.contains(id) && page.body.contains(id), "{id}: {answer}");
}

#[tokio::test]
async fn journal_of_all_is_whole_after_a_drain() {
    let app = with_journal(JournalWhat::All).await;
    for _ in 0..200 {
        app.ask("www.filed.example", "A").await;
    }
    let path = app.path("journal.jsonl");
    let dir = app.drain().await;
    let text = fs::read_to_string(path).expect("a journal");
    assert_eq!(text.lines().count(), 200);
    assert!(text.ends_with('\n') && text.contains("\"filing\":{\"site_no\":"));
    drop(dir);
}

#[tokio::test]
async fn journal_of_samples_keeps_every_block() {
    let app = with_journal(JournalWhat::Sampled(10)).await;
    for _ in 0..20 {
        app.ask("www.filed.example", "A").await;
    }
    for _ in 0..5 {
        app.ask(UNFILED, "A").await;
    }
    let path = app.path("journal.jsonl");
    let _dir = app.drain().await;
    let text = fs::read_to_string(path).expect("a journal");
    assert_eq!((text.matches("\"allow\"").count(), text.matches("\"block\"").count()), (2, 5));
}

#[tokio::test]
async fn journal_follows_rotation() {
    let app = with_journal(JournalWhat::Blocks).await;
    app.ask(UNFILED, "A").await;
    app.until("the first line", async |app| (journal_lines(app, "journal.jsonl").len() == 1).then_some(())).await;
    fs::rename(app.path("journal.jsonl"), app.path("journal.1")).expect("a rename");
    // As logrotate's postrotate does by SIGHUP.
    app.post("/v1/reload").await;
    app.until("the new file", async |app| app.path("journal.jsonl").exists().then_some(())).await;
    app.ask(UNFILED, "A").await;
    app.until("the second line", async |app| (journal_lines(app, "journal.jsonl").len() == 1).then_some(())).await;
    fs::remove_file(app.path("journal.jsonl")).expect("removes");
    app.until("a new file without being told", async |app| app.path("journal.jsonl").exists().then_some(())).await;
    assert_eq!(journal_lines(&app, "journal.1").len(), 1, "nothing is written to the old file");
    assert!((app.metric("icpgate_journal_lines_total").await - 2.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn journal_that_cannot_be_opened_stops_the_start() {
    let started = App::try_with(|config, dir| config.journal.path = Some(dir.path().join("none/journal.jsonl"))).await;
    let error = started.err().expect("a refusal");
    assert!(matches!(error, StartError::Journal(_)));
    assert!(error.to_string().contains("none/journal.jsonl"), "{error}");
}

#[tokio::test]
async fn journal_failures_are_counted_and_the_gate_serves_on() {
    let app = with_journal(JournalWhat::Blocks).await;
    fs::remove_file(app.path("journal.jsonl")).expect("removes");
    fs::create_dir(app.path("journal.jsonl")).expect("a directory in its place");
    app.until("an error counted", async |app| (app.metric("icpgate_journal_errors_total").await > 0.0).then_some(()))
        .await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
    fs::remove_dir(app.path("journal.jsonl")).expect("removes");
    app.until("written again", async |app| {
        app.ask(UNFILED, "A").await;
        app.path("journal.jsonl").is_file().then_some(())
    })
    .await;
}

//--- Reload ----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn appended_event_flips_the_verdict() {
    let app = App::start().await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
    let event = r#"{"seq":1,"at":"2026-11-24T08:00:00Z","event":"first-filing","domain":"unfiled.example","site_no":"京ICP备2026000001号-1","access":["self"]}"#;
    app.append("registry/live.changes.jsonl", &format!("{event}\n"));
    app.until("the new verdict", async |app| {
        (app.ask(UNFILED, "A").await.addresses() == ["203.0.113.11"]).then_some(())
    })
    .await;
    assert_eq!(app.get("/v1/registry").await.json()["generation"], 2);
}

#[tokio::test]
async fn reload_publishes_and_says_so() {
    let app = App::start().await;
    app.write("registry/filings.csv", &format!("{FILINGS}unfiled.example,京ICP备2021000003号-1,self,active\n"));
    let outcome = app.post("/v1/reload").await;
    assert_eq!(outcome.status, 200);
    let done = outcome.json()["done"].clone();
    let text = done.to_string();
    for part in ["registry:", "ranges:", "zones:", "pages:", "certificates:"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(app.ask(UNFILED, "A").await.addresses(), ["203.0.113.11"]);
}

#[tokio::test]
async fn refused_reload_keeps_the_good_state_and_shows_why() {
    let app = App::start().await;
    app.until_ready().await;
    fs::remove_file(app.path("registry/filings.csv")).expect("removes");
    let outcome = app.post("/v1/reload").await;
    assert_eq!(outcome.status, 409);
    assert_eq!(outcome.json()["ok"], false);
    assert!(outcome.json()["refused"][0].as_str().expect("a line").contains("filings.csv"));
    let readiness = app.get("/readyz").await;
    assert_eq!(readiness.status, 200, "the last good state serves");
    assert_eq!(readiness.causes("warnings"), ["registry_refused"]);
    assert!(readiness.body.contains("filings.csv"));
    assert_eq!(app.ask("www.filed.example", "A").await.addresses(), ["203.0.113.10"]);
    assert!(app.metric("icpgate_registry_reloads_total{outcome=\"refused\"}").await >= 1.0);
    let accepted = app.post("/v1/reload?accept-shrink=1").await;
    assert_eq!(accepted.status, 200, "{}", accepted.body);
    app.until_ready().await;
    assert!(app.ask("www.filed.example", "A").await.is_blocked());
}

#[tokio::test]
async fn zones_are_reloaded_and_a_bad_one_refused() {
    let app = App::start().await;
    app.write("zones/example.zone", &format!("{ZONE}new.overseas IN A 192.0.2.77\n"));
    app.until("the new name", async |app| {
        (app.ask("new.overseas.example", "A").await.addresses() == ["192.0.2.77"]).then_some(())
    })
    .await;
    app.write("zones/example.zone", "@ IN A not-an-address\n");
    let readiness = app
        .until("the refusal", async |app| {
            let readiness = app.get("/readyz").await;
            readiness.causes("warnings").contains(&"zones_refused".to_owned()).then_some(readiness)
        })
        .await;
    assert!(readiness.body.contains("example.zone"));
    assert_eq!(app.ask("new.overseas.example", "A").await.addresses(), ["192.0.2.77"], "the last good zone stays");
    assert_eq!(app.post("/v1/reload").await.status, 409);
    app.write("zones/example.zone", ZONE);
    app.until_ready().await;
    app.until("the old zone", async |app| {
        (app.ask("new.overseas.example", "A").await.code() == ResponseCode::NXDomain).then_some(())
    })
    .await;
}

#[tokio::test]
async fn page_templates_are_reloaded_and_a_bad_one_refused() {
    let app = App::with(|config, dir| {
        let pages = dir.path().join("pages");
        copy_files(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/pages"), &pages);
        config.http.block.pages = Some(pages);
    })
    .await;
    let good = fs::read_to_string(app.path("pages/page.html")).expect("the template");
    app.write("pages/page.html", &format!("{good}<!-- edited by an operator -->"));
    app.until("the edited page", async |app| {
        app.browse(UNFILED).await.body.contains("edited by an operator").then_some(())
    })
    .await;
    app.write("pages/page.html", "{% if %}");
    app.until("the refusal", async |app| {
        let readiness = app.get("/readyz").await;
        readiness.causes("warnings").contains(&"pages_refused".to_owned()).then_some(())
    })
    .await;
    let page = app.browse(UNFILED).await;
    assert!(page.status == 451 && page.body.contains("edited by an operator"), "the last good page stays");
    app.write("pages/page.html", &good);
    app.until_ready().await;
}

#[tokio::test]
async fn certificates_are_reloaded_and_a_bad_one_refused() {
    let app = App::with(|config, dir| {
        let certificates = dir.path().join("certificates");
        copy_files(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/certificates"), &certificates);
        let [chain, key] = ["here.pem", "here.key"].map(|name| certificates.join(name));
        config.http.certificates = vec![CertificateFiles { chain, key }];
    })
    .await;
    let published = async |app: &App| {
        let text = app.get("/metrics").await.body;
        let start = "icpgate_part_reloads_total{part=\"certificates\",outcome=\"published\"} ";
        text.lines().find_map(|line| line.strip_prefix(start)?.parse::<u64>().ok()).expect("a count")
    };
    assert_eq!(published(&app).await, 0);
    assert!(app.metric("icpgate_http_certificate_expiry_timestamp_seconds").await > 1.7e9, "after 2023");
    // Not covered: its hello is judged, and refused by an alert.
    let other = TlsClient::trusting(app.http(), "other");
    assert!(other.connect("other.cn", &["h2"]).await.is_err());
    let [chain, key] =
        ["other.pem", "other.key"].map(|name| fs::read_to_string(app.path("certificates").join(name)).expect("a file"));
    // The chain comes before its key: until then the two do not fit, and the old pair stays.
    app.write("certificates/here.pem", &chain);
    app.until("the refusal", async |app| {
        let readiness = app.get("/readyz").await;
        readiness.causes("warnings").contains(&"certificates_refused".to_owned()).then_some(())
    })
    .await;
    let refused = "icpgate_part_refused{part=\"certificates\"}";
    assert!((app.metric(refused).await - 1.0).abs() < f64::EPSILON, "for as long as it stays refused");
    app.write("certificates/here.key", &key);
    app.until_ready().await;
    app.until("the new pair", async |app| (published(app).await == 1).then_some(())).await;
    assert!(app.metric(refused).await.abs() < f64::EPSILON, "it is mended");
    assert_eq!(other.h2("other.cn").await.get("other.cn", "/").await.status, 451, "now there is a page for it");
    assert!(TlsClient::new(app.http()).connect("here.cn", &["h2"]).await.is_err(), "and none for the other");
}

#[tokio::test]
async fn certificates_of_the_dns_plane_are_reloaded() {
    let app = App::with(|config, dir| {
        let certificates = dir.path().join("certificates");
        copy_files(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/certificates"), &certificates);
        let [chain, key] = ["here.pem", "here.key"].map(|name| certificates.join(name));
        config.dns.tls.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        config.dns.tls.certificate = Some(CertificateFiles { chain, key });
    })
    .await;
    let expiry = |transport| format!("icpgate_dns_certificate_expiry_timestamp_seconds{{transport=\"{transport}\"}}");
    assert!(app.metric(&expiry("dot")).await > 1.7e9, "after 2023");
    assert!(app.metric(&expiry("doq")).await.abs() < f64::EPSILON, "not served");
    let addr = app.running.addrs.dns_tls[0];
    assert!(TlsClient::new(addr).connect("here.cn", &["dot"]).await.is_ok());
    let other = TlsClient::trusting(addr, "other");
    for end in ["pem", "key"] {
        let text = fs::read_to_string(app.path(&format!("certificates/other.{end}"))).expect("a file");
        app.write(&format!("certificates/here.{end}"), &text);
    }
    app.until("the new pair", async |_| other.connect("other.cn", &["dot"]).await.ok().map(drop)).await;
    assert!(TlsClient::new(addr).connect("here.cn", &["dot"]).await.is_err());
}

#[tokio::test]
async fn secrets_of_cookies_are_reloaded_and_a_bad_one_refused() {
    const CLIENT: [u8; 8] = *b"a client";
    let (old, new) = ([0x11; 16], [0x22; 16]);
    let app = App::with(|config, dir| {
        let file = dir.path().join("secrets");
        fs::write(&file, "11".repeat(16)).expect("writes");
        (config.dns.cookie_secrets, config.dns.cookie_secret_file) = (vec![old], Some(file));
    })
    .await;
    let is_by = async |app: &App, secret| {
        let ask = Ask { options: vec![(10, CLIENT.to_vec())], ..Ask::new("www.filed.example", "A") };
        let answer = app.ask_as(&ask).await.0;
        let noon = UNIX_EPOCH + Duration::from_secs(app.clock.load(Ordering::Relaxed));
        let expected = Cookies::new(&[secret]).answer(CLIENT, "127.0.0.1".parse().expect("an address"), noon);
        answer.windows(expected.len()).any(|octets| octets == expected)
    };
    assert!(is_by(&app, old).await);
    app.write("secrets", &"22".repeat(16));
    app.until("the new secret", async |app| is_by(app, new).await.then_some(())).await;
    app.write("secrets", "no secret\n");
    app.until("the refusal", async |app| {
        let readiness = app.get("/readyz").await;
        let is_told = readiness.causes("warnings").contains(&"secrets_refused".to_owned());
        (is_told && readiness.body.contains("line 1: expected 32 hexadecimal digits")).then_some(())
    })
    .await;
    assert!((app.metric("icpgate_part_refused{part=\"secrets\"}").await - 1.0).abs() < f64::EPSILON);
    assert!(is_by(&app, new).await, "the last good one stays");
}

#[tokio::test]
async fn a_gate_with_a_broken_certificate_does_not_start() {
    let broken = App::try_with(|config, dir| {
        let file = dir.path().join("empty.pem");
        fs::write(&file, "").expect("writes");
        config.http.certificates = vec![CertificateFiles { chain: file.clone(), key: file }];
    });
    let error = broken.await.err().expect("it does not start");
    assert!(error.to_string().contains("holds no certificate; expected PEM"), "{error}");
    assert_eq!(error.exit_status(), 2);
}

fn copy_files(from: impl AsRef<std::path::Path>, to: &std::path::Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copies");
        }
    }
}

#[tokio::test]
async fn new_zone_replaces_what_an_upstream_said() {
    let app = App::start().await;
    app.upstream.addresses("www.later.test-zone.org", &["192.0.2.50"]);
    assert_eq!(app.ask("www.later.test-zone.org", "A").await.addresses(), ["192.0.2.50"]);
    app.write("zones/later.test-zone.org.zone", "$TTL 60\n@ IN SOA ns. host. 1 2 3 4 60\nwww IN A 192.0.2.60\n");
    app.until("the local answer", async |app| {
        (app.ask("www.later.test-zone.org", "A").await.addresses() == ["192.0.2.60"]).then_some(())
    })
    .await;
    assert_eq!(app.get("/v1/status").await.json()["zones"], 2);
}

#[tokio::test]
async fn the_age_of_the_snapshot_is_shown_with_who_writes_it() {
    let app = App::with(|config, dir| config.registry.snapshot = Some(dir.path().join("registry.snap"))).await;
    let series = "icpgate_registry_snapshot_timestamp_seconds{writer=\"gate\"}";
    app.until("the snapshot", async |app| (app.metric(series).await > 1.7e9).then_some(())).await;
    let without = App::start().await;
    let series = "icpgate_registry_snapshot_timestamp_seconds{writer=\"nobody\"}";
    assert!(without.metric(series).await.abs() < f64::EPSILON);
}
