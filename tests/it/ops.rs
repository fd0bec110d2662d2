//! Operation through real sockets: metrics, readiness, the admin listener, journal, reloads, faults, the way out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use icpgate::app::StartError;
use icpgate::drain::Phase;
use icpgate::ops::metrics::{FAMILIES, Kind};
use icpgate::ops::{JournalWhat, Missing};
use icpgate::policy::{Outcome, Reason};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::harness::app::{App, FILINGS, Response, TAGS, ZONE};
use super::harness::dns::PATIENCE;

const UNFILED: &str = "www.unfiled.example";

/// The causes in a list of `/readyz`.
fn causes(response: &Response, list: &str) -> Vec<String> {
    let body = response.json();
    let notes = body[list].as_array().expect("a list").iter();
    notes.map(|note| note["cause"].as_str().expect("a cause").to_owned()).collect()
}

async fn until_ready(app: &App) {
    app.until("ready without warnings", async |app| {
        let response = app.get("/readyz").await;
        (response.status == 200 && causes(&response, "warnings").is_empty()).then_some(())
    })
    .await;
}

//--- Metrics ---------------------------------------------------------------------------------------------------------

/// Families of an exposition: kind, and every series with its value. Panics on a line that is none.
fn parse_exposition(text: &str) -> BTreeMap<String, (String, Vec<(String, f64)>)> {
    let mut res: BTreeMap<String, (String, Vec<(String, f64)>)> = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(!help.is_empty() && !res.contains_key(name), "{name} is written once");
            name.clone_into(&mut family);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert_eq!(name, family);
            res.insert(name.to_owned(), (kind.to_owned(), Vec::new()));
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().expect("a name");
            let known = ["", "_bucket", "_sum", "_count"].map(|suffix| format!("{family}{suffix}"));
            assert!(known.iter().any(|known| known == name), "{line} stands under {family}");
            let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            res.get_mut(&family).expect("a family").1.push((series.to_owned(), value));
        }
    }
    res
}

#[tokio::test]
async fn every_family_is_exposed_from_the_start_and_no_other() {
    let app = App::start().await;
    let response = app.get("/metrics").await;
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let families = parse_exposition(&response.body);
    let expected: BTreeSet<String> = FAMILIES.iter().map(|family| format!("icpgate_{}", family.name)).collect();
    assert_eq!(families.keys().cloned().collect::<BTreeSet<_>>(), expected);
    // Those named by data have no series without any: issues by rule.
    let of_data = ["icpgate_registry_issues", "icpgate_ranges_issues"];
    for (name, (_, series)) in &families {
        assert!(!series.is_empty() || of_data.contains(&name.as_str()), "{name} has no series");
        let unique: BTreeSet<&String> = series.iter().map(|(series, _)| series).collect();
        assert_eq!(unique.len(), series.len(), "{name} has a series twice");
    }
    let version = format!("icpgate_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert!((app.metric(&version).await - 1.0).abs() < f64::EPSILON);
    for plane in ["dns", "http", "admin"] {
        assert!(families["icpgate_connections"].1.iter().any(|(series, _)| series.contains(plane)), "{plane}");
    }
}

#[tokio::test]
async fn metric_labels_are_a_closed_set() {
    let app = App::start().await;
    app.ask(UNFILED, "A").await;
    app.ask("somebody.surprising.example", "NAPTR").await;
    app.get("/no/such/path").await;
    app.get("/v1/verdict?name=surprising.example").await;
    assert_eq!(app.running.metrics.strangers(), Vec::<String>::new());
    let text = app.get("/metrics").await.body;
    assert!(!text.contains("surprising") && !text.contains("unfiled"), "no name is a label");
    let reasons: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.label()).collect();
    let (kind, verdicts) = &parse_exposition(&text)["icpgate_verdicts_total"];
    assert_eq!(kind, Kind::Counter.label());
    for (series, _) in verdicts {
        let reason = series.split("reason=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a reason");
        assert!(reasons.contains(reason), "{series}");
    }
}

#[tokio::test]
async fn counters_follow_what_happens() {
    let app = App::start().await;
    let blocked = "icpgate_verdicts_total{plane=\"dns\",action=\"block\",reason=\"not_filed\"}";
    let before = app.metric(blocked).await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
    assert!((app.metric(blocked).await - before - 1.0).abs() < f64::EPSILON);
    assert!(app.metric("icpgate_admin_requests_total{status=\"2xx\"}").await >= 2.0);
    assert!((app.metric("icpgate_ready").await - 1.0).abs() < f64::EPSILON);
    assert!((app.metric("icpgate_registry_filings{status=\"active\"}").await - 2.0).abs() < f64::EPSILON);
}

//--- Admin -----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn verdict_is_answered_with_its_evidence() {
    let app = App::start().await;
    let blocked = app.get("/v1/verdict?name=WWW.Unfiled.Example.&address=203.0.113.11").await;
    assert_eq!(blocked.status, 200);
    let body = blocked.json();
    assert_eq!(body["name"], UNFILED);
    assert_eq!(body["domain"], "unfiled.example");
    assert_eq!(body["action"], "block");
    assert_eq!(body["reason"], "not_filed");
    assert_eq!(body["range"]["prefix"], "203.0.113.0/25");
    assert_eq!(body["registry_generation"], 1);
    assert!(body.get("enforced").is_none(), "carried out: {body}");
    let table = [
        ("name=www.filed.example&address=203.0.113.10", "allow", "filed"),
        ("name=www.elsewhere.example&address=203.0.113.12", "block", "not_accessed"),
        ("name=cdn.elsewhere.example&address=198.51.100.1", "allow", "product_exempt"),
        ("name=www.overseas.example&address=192.0.2.10", "allow", "not_mainland"),
        ("name=www.overseas.example&address=192.0.2.10&address=203.0.113.9", "block", "not_filed"),
        ("name=www.unfiled.example", "block", "not_filed"),
        ("name=www.unfiled.example&plane=http", "block", "not_filed"),
        ("name=203.0.113.9", "block", "ip_site"),
        ("name=no%20host", "block", "invalid_name"),
        ("name=a.example&cname=b.example&address=192.0.2.10", "allow", "not_mainland"),
    ];
    for (query, action, reason) in table {
        let body = app.get(&format!("/v1/verdict?{query}")).await.json();
        assert_eq!((&body["action"], &body["reason"]), (&action.into(), &reason.into()), "{query}: {body}");
    }
}

#[tokio::test]
async fn bad_parameters_are_named_with_what_would_be_right() {
    let app = App::start().await;
    let table = [
        ("/v1/verdict", "name", "for example"),
        ("/v1/verdict?name=", "name", "missing"),
        ("/v1/verdict?name=a.example&name=b.example", "name", "at most 1"),
        ("/v1/verdict?name=a.example&address=1.2.3", "address", "1.2.3"),
        ("/v1/verdict?name=a.example&plane=smtp", "plane", "dns, http"),
        ("/v1/verdict?name=a.example&adress=192.0.2.1", "adress", "address"),
        ("/v1/verdict?name=a.example&cname=b.example", "cname", "address"),
        ("/v1/registry?issues=many", "issues", "0 to"),
        ("/v1/top?n=1000000", "n", "1000"),
        ("/v1/events?what=everything", "what", "blocks, all"),
    ];
    for (path, parameter, hint) in table {
        let response = app.get(path).await;
        assert_eq!(response.status, 400, "{path}");
        let body = response.json();
        assert_eq!(body["parameter"], parameter, "{path}");
        assert!(body["error"].as_str().expect("a text").contains(hint), "{path}: {body}");
    }
    let many = "&address=192.0.2.1".repeat(65);
    assert_eq!(app.get(&format!("/v1/verdict?name=a.example{many}")).await.json()["parameter"], "address");
    assert_eq!(app.post("/v1/reload?accept-shrink=maybe").await.json()["parameter"], "accept-shrink");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_answered_in_json() {
    let app = App::start().await;
    let response = app.get("/v2/verdict").await;
    assert_eq!(response.status, 404);
    assert!(response.json()["error"].as_str().expect("a text").contains("/v1/verdict"));
    let response = app.get("/v1/reload").await;
    assert_eq!(response.status, 405);
    assert!(response.json()["error"].as_str().expect("a text").contains("POST"));
    assert_eq!(app.post("/metrics").await.status, 405);
    assert_eq!(app.get("/healthz").await.body, "ok\n");
}

#[tokio::test]
async fn data_in_use_are_shown() {
    let app = App::start().await;
    let registry = app.get("/v1/registry").await.json();
    assert_eq!(registry["generation"], 1);
    assert_eq!(registry["rows"], 2);
    assert_eq!(registry["by_status"]["active"], 2);
    assert_eq!(registry["digest"].as_str().expect("a digest").len(), 16);
    assert_eq!(registry["files"].as_array().expect("files").len(), 2);
    app.append("registry/filings.csv", "not a domain,,self,active\n");
    let outcome = app.post("/v1/reload").await.json();
    assert_eq!(outcome["ok"], true, "{outcome}");
    let registry = app.get("/v1/registry?issues=1").await.json();
    assert!(registry["issues_total"].as_u64().expect("a number") >= 1);
    assert_eq!(registry["issues"].as_array().expect("issues").len(), 1);
    assert_eq!(registry["issues"][0]["line"], 4);
    let ranges = app.get("/v1/ranges").await.json();
    assert_eq!(ranges["generation"], 1);
    assert_eq!(ranges["health"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn status_and_page_tell_the_same() {
    let app = App::start().await;
    until_ready(&app).await;
    let status = app.get("/v1/status").await.json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&status["mode"], &status["stance"]), (&"enforce".into(), &"enforce".into()));
    assert_eq!(status["registry"]["rows"], 2);
    assert_eq!(status["zones"], 1);
    assert_eq!(status["upstreams"][0]["up"], true);
    assert_eq!(status["planes"][0]["addresses"][0], app.dns().to_string());
    let page = app.get("/").await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").expect("a policy").contains("default-src 'none'"));
    for text in ["就绪", "Ready", &app.dns().to_string(), &app.upstream.addr.to_string(), "enforce"] {
        assert!(page.body.contains(text), "{text}");
    }
    assert!(!page.body.contains("<script"));
}

#[tokio::test]
async fn page_shows_why_it_is_not_ready_and_escapes_it() {
    let app = App::with(|config, dir| {
        config.faults.on_missing_registry = Missing::Block;
        config.registry.paths = vec![dir.path().join("<b>none</b>")];
    })
    .await;
    let page = app.get("/").await.body;
    assert!(page.contains("未就绪") && page.contains("registry_missing"));
    assert!(page.contains("&lt;b&gt;none&lt;"), "the path is shown as text");
    assert!(!page.contains("<b>none"));
}

#[tokio::test]
async fn token_guards_everything_but_the_probes() {
    let app = App::with(|config, _| config.admin.token = Some("s3cret".to_owned())).await;
    for path in ["/", "/metrics", "/v1/status", "/v1/verdict?name=a.example", "/v1/events", "/nowhere"] {
        let response = app.get(path).await;
        assert_eq!(response.status, 401, "{path}");
        assert!(response.header("www-authenticate").expect("a challenge").starts_with("Bearer"));
        assert!(!response.body.contains("s3cret"));
    }
    for (method, path) in [("POST", "/v1/reload"), ("POST", "/v1/drain")] {
        assert_eq!(app.admin_request(method, path, "").await.status, 401, "{path}");
    }
    for token in ["s3cre", "s3cret2", "S3cret", ""] {
        let header = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(app.admin_request("GET", "/metrics", &header).await.status, 401, "{token}");
    }
    let header = "authorization: bearer s3cret\r\n";
    assert_eq!(app.admin_request("GET", "/metrics", header).await.status, 200);
    assert_eq!(app.get("/healthz").await.status, 200);
    assert_eq!(app.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn open_admin_listener_needs_a_token() {
    let started = App::try_with(|config, _| config.admin.listen = Some("0.0.0.0:0".parse().expect("an address"))).await;
    let error = started.err().expect("a refusal");
    assert!(error.to_string().contains("admin.token-file"), "{error}");
    assert_eq!(error.exit_status(), 2);
}

#[tokio::test]
async fn other_sites_pages_cannot_use_the_open_listener() {
    let app = App::start().await;
    let rebound = app.admin_request("GET", "/v1/status", "Host: evil.example\r\n").await;
    assert_eq!(rebound.status, 403, "DNS rebinding");
    let foreign = app.admin_request("POST", "/v1/drain", "Origin: http://evil.example\r\n").await;
    assert_eq!(foreign.status, 403, "a form on another site");
    let opaque = app.admin_request("POST", "/v1/drain", "Origin: null\r\n").await;
    assert_eq!(opaque.status, 403);
    let own = format!("Origin: http://{}\r\n", app.admin());
    assert_eq!(app.admin_request("POST", "/v1/reload", &own).await.status, 200);
    assert_eq!(app.get("/readyz").await.status, 200, "still serving");
}

#[tokio::test]
async fn listener_survives_bad_peers() {
    let app = App::start().await;
    for text in ["\r\n\r\n", "GET", "\0\u{1}\u{2}\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let mut stream = TcpStream::connect(app.admin()).await.expect("connects");
        stream.write_all(text.as_bytes()).await.expect("writes");
    }
    let mut stream = TcpStream::connect(app.admin()).await.expect("connects");
    let long = format!("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}\r\n\r\n", "a".repeat(100_000));
    // The peer may be cut off while it still writes.
    let _ = stream.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("is cut off");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let idle: Vec<TcpStream> = futures_util::future::join_all((0..64).map(|_| TcpStream::connect(app.admin())))
        .await
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(idle.len(), 64);
    assert_eq!(app.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn most_blocked_domains_are_counted() {
    let app = App::start().await;
    for _ in 0..3 {
        app.ask(UNFILED, "A").await;
    }
    app.ask("www.elsewhere.example", "A").await;
    app.ask("www.filed.example", "A").await;
    let top = app
        .until("both domains counted", async |app| {
            let top = app.get("/v1/top").await.json()["top"].clone();
            let blocks = |i: usize| top[i]["blocks"].as_u64();
            (blocks(0) == Some(3) && blocks(1) == Some(1)).then_some(top)
        })
        .await;
    assert_eq!(top[0]["domain"], "unfiled.example");
    assert_eq!(top[0]["reason"], "not_filed");
    assert_eq!(top[1]["domain"], "elsewhere.example");
    assert_eq!(top.as_array().expect("rows").len(), 2, "allows are not counted");
    assert_eq!(app.get("/v1/top?n=1").await.json()["top"].as_array().expect("rows").len(), 1);
}

/// Reads the stream until it holds `text`.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut res = String::new();
    let mut buf = [0; 4096];
    while !res.contains(text) {
        let length = timeout(PATIENCE, stream.read(&mut buf)).await.expect("in time").expect("reads");
        assert!(length > 0, "ended before {text:?}: {res}");
        res.push_str(&String::from_utf8_lossy(&buf[..length]));
    }
    res
}

#[tokio::test]
async fn verdicts_are_streamed_as_they_happen() {
    let app = App::start().await;
    let mut streams = Vec::new();
    for query in ["", "?what=all"] {
        let mut stream = TcpStream::connect(app.admin()).await.expect("connects");
        let head = format!("GET /v1/events{query} HTTP/1.1\r\nHost: {}\r\n\r\n", app.admin());
        stream.write_all(head.as_bytes()).await.expect("writes");
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.contains("text/event-stream"), "{head}");
        streams.push(stream);
    }
    app.ask("www.filed.example", "A").await;
    app.ask(UNFILED, "A").await;
    let blocks = read_until(&mut streams[0], UNFILED).await;
    assert!(blocks.contains("event: verdict") && !blocks.contains("www.filed.example"), "{blocks}");
    let all = read_until(&mut streams[1], UNFILED).await;
    assert!(all.contains("www.filed.example"), "{all}");
    app.drain().await;
}

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
    for part in ["registry:", "ranges:", "zones:", "pages:"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(app.ask(UNFILED, "A").await.addresses(), ["203.0.113.11"]);
}

#[tokio::test]
async fn refused_reload_keeps_the_good_state_and_shows_why() {
    let app = App::start().await;
    until_ready(&app).await;
    fs::remove_file(app.path("registry/filings.csv")).expect("removes");
    let outcome = app.post("/v1/reload").await;
    assert_eq!(outcome.status, 409);
    assert_eq!(outcome.json()["ok"], false);
    assert!(outcome.json()["refused"][0].as_str().expect("a line").contains("filings.csv"));
    let readiness = app.get("/readyz").await;
    assert_eq!(readiness.status, 200, "the last good state serves");
    assert_eq!(causes(&readiness, "warnings"), ["registry_refused"]);
    assert!(readiness.body.contains("filings.csv"));
    assert_eq!(app.ask("www.filed.example", "A").await.addresses(), ["203.0.113.10"]);
    assert!(app.metric("icpgate_registry_reloads_total{outcome=\"refused\"}").await >= 1.0);
    let accepted = app.post("/v1/reload?accept-shrink=1").await;
    assert_eq!(accepted.status, 200, "{}", accepted.body);
    until_ready(&app).await;
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
            causes(&readiness, "warnings").contains(&"zones_refused".to_owned()).then_some(readiness)
        })
        .await;
    assert!(readiness.body.contains("example.zone"));
    assert_eq!(app.ask("new.overseas.example", "A").await.addresses(), ["192.0.2.77"], "the last good zone stays");
    assert_eq!(app.post("/v1/reload").await.status, 409);
    app.write("zones/example.zone", ZONE);
    until_ready(&app).await;
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
        causes(&readiness, "warnings").contains(&"pages_refused".to_owned()).then_some(())
    })
    .await;
    let page = app.browse(UNFILED).await;
    assert!(page.status == 451 && page.body.contains("edited by an operator"), "the last good page stays");
    app.write("pages/page.html", &good);
    until_ready(&app).await;
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

//--- Faults ----------------------------------------------------------------------------------------------------------

/// Waits until the fault is there (or gone), then checks metric and readiness.
async fn expect_fault(app: &App, fault: &str, outcome: Option<Outcome>) {
    let series = format!("icpgate_faults{{fault=\"{fault}\"}}");
    let wanted = if outcome.is_some() { 1.0 } else { 0.0 };
    app.until(&format!("{fault} = {wanted}"), async |app| {
        ((app.metric(&series).await - wanted).abs() < f64::EPSILON).then_some(())
    })
    .await;
    let readiness = app.get("/readyz").await;
    let (reasons, warnings) = (causes(&readiness, "reasons"), causes(&readiness, "warnings"));
    let (is_reason, is_warning) =
        (reasons.iter().any(|cause| cause == fault), warnings.iter().any(|cause| cause == fault));
    match outcome {
        Some(Outcome::Serve) => assert!(is_warning && !is_reason && readiness.status == 200, "{readiness:?}"),
        Some(_) => assert!(is_reason && !is_warning && readiness.status == 503, "{readiness:?}"),
        None => assert!(!is_reason && !is_warning, "{readiness:?}"),
    }
}

#[tokio::test]
async fn missing_registry_refuses_to_start_with_the_reason() {
    let started = App::try_with(|config, dir| config.registry.paths = vec![dir.path().join("nowhere")]).await;
    let error = started.err().expect("a refusal");
    assert!(matches!(error, StartError::Registry(_)));
    assert!(error.to_string().contains("nowhere") && error.to_string().contains("on-missing-registry"), "{error}");
    assert_eq!(error.exit_status(), 2);
}

#[tokio::test]
async fn missing_ranges_refuse_to_start_with_the_reason() {
    let started = App::try_with(|config, dir| config.ranges.mainland = vec![dir.path().join("nowhere.txt")]).await;
    let error = started.err().expect("a refusal");
    assert!(matches!(error, StartError::Ranges(_)));
    assert!(error.to_string().contains("nowhere.txt") && error.to_string().contains("on-missing-ranges"), "{error}");
}

#[tokio::test]
async fn missing_registry_blocks_until_it_is_there() {
    let app = App::with(|config, dir| {
        config.faults.on_missing_registry = Missing::Block;
        config.registry.paths = vec![dir.path().join("late.csv")];
    })
    .await;
    expect_fault(&app, "registry_missing", Some(Outcome::Block)).await;
    for name in ["www.filed.example", UNFILED, "www.overseas.example"] {
        let answer = app.ask(name, "A").await;
        assert_eq!(answer.code(), ResponseCode::ServFail);
        assert_eq!(answer.errors(), [(14, "registry_missing".to_owned())]);
    }
    assert_eq!(app.ask("www.filed.example", "TXT").await.code(), ResponseCode::NoError, "leads nowhere: no verdict");
    assert_eq!(app.browse("www.filed.example").await.status, 503);
    app.write("late.csv", FILINGS);
    app.until("the registry in use", async |app| {
        (app.ask("www.filed.example", "A").await.addresses() == ["203.0.113.10"]).then_some(())
    })
    .await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
    assert_eq!(app.browse("www.filed.example").await.status, 200);
    assert_eq!(app.browse(UNFILED).await.status, 451);
    expect_fault(&app, "registry_missing", None).await;
}

#[tokio::test]
async fn missing_registry_may_be_observed() {
    let app = App::with(|config, dir| {
        config.faults.on_missing_registry = Missing::Observe;
        config.registry.paths = vec![dir.path().join("late.csv")];
    })
    .await;
    expect_fault(&app, "registry_missing", Some(Outcome::Observe)).await;
    assert_eq!(app.ask(UNFILED, "A").await.addresses(), ["203.0.113.11"]);
    assert_eq!(app.browse(UNFILED).await.status, 200, "the origin's own answer");
    assert_eq!(app.get(&format!("/v1/verdict?name={UNFILED}")).await.json()["enforced"], false);
}

#[tokio::test]
async fn missing_ranges_block_until_they_are_there() {
    let app = App::with(|config, dir| {
        config.faults.on_missing_ranges = Missing::Block;
        config.ranges.tags = vec![dir.path().join("ranges/late.csv")];
    })
    .await;
    expect_fault(&app, "ranges_missing", Some(Outcome::Block)).await;
    assert_eq!(app.ask(UNFILED, "A").await.errors(), [(14, "ranges_missing".to_owned())]);
    assert_eq!(app.browse("www.filed.example").await.status, 503);
    app.write("ranges/late.csv", TAGS);
    app.until("the ranges in use", async |app| app.ask(UNFILED, "A").await.is_blocked().then_some(())).await;
    expect_fault(&app, "ranges_missing", None).await;
}

#[tokio::test]
async fn old_registry_is_a_fault_until_it_is_confirmed() {
    let app = App::with(|config, _| {
        config.faults.on_old_registry = Outcome::Block;
        config.faults.registry_age_max = Some(Duration::from_millis(1500));
        config.registry.poll = Duration::from_millis(100);
    })
    .await;
    // The poll finds nothing changed, which confirms: no fault while it can be read.
    fs::write(app.path("registry/broken.toml"), "[[filing").expect("writes");
    expect_fault(&app, "registry_old", Some(Outcome::Block)).await;
    let answer = app.ask(UNFILED, "A").await;
    assert_eq!((answer.code(), answer.errors()), (ResponseCode::ServFail, vec![(14, "registry_old".to_owned())]));
    assert_eq!(app.browse("www.filed.example").await.status, 503);
    assert!(app.metric("icpgate_registry_age_seconds").await >= 1.5);
    fs::remove_file(app.path("registry/broken.toml")).expect("removes");
    expect_fault(&app, "registry_old", None).await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
    assert_eq!(app.get("/v1/registry").await.json()["generation"], 1, "confirmed, not published anew");
}

#[tokio::test]
async fn jumped_clock_is_a_fault_until_it_is_back_or_accepted() {
    let app = App::with(|config, _| config.faults.on_clock_jump = Outcome::Observe).await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
    app.move_clock(-3600);
    expect_fault(&app, "clock_jumped", Some(Outcome::Observe)).await;
    assert_eq!(app.ask(UNFILED, "A").await.addresses(), ["203.0.113.11"], "observed");
    assert_eq!(app.browse(UNFILED).await.status, 200, "observed");
    app.move_clock(3600);
    expect_fault(&app, "clock_jumped", None).await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
    app.move_clock(7200);
    expect_fault(&app, "clock_jumped", Some(Outcome::Observe)).await;
    assert_eq!(app.post("/v1/reload").await.status, 200);
    expect_fault(&app, "clock_jumped", None).await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
}

#[tokio::test]
async fn fault_with_the_outcome_serve_only_warns() {
    let app = App::start().await;
    app.move_clock(3600);
    expect_fault(&app, "clock_jumped", Some(Outcome::Serve)).await;
    assert!(app.ask(UNFILED, "A").await.is_blocked());
}

#[tokio::test]
async fn upstream_failure_is_told_everywhere() {
    let app = App::with(|config, _| config.dns.upstream_timeout = Duration::from_millis(100)).await;
    app.upstream.set_down(true);
    app.until("the upstream is known to be down", async |app| {
        let answer = app.ask("www.some-site.org", "A").await;
        assert_eq!(answer.code(), ResponseCode::ServFail);
        assert_eq!(answer.errors().first().map(|(code, _)| *code), Some(22));
        let readiness = app.get("/readyz").await;
        assert_eq!(readiness.status, 200, "local zones are served");
        causes(&readiness, "warnings").contains(&"upstreams_down".to_owned()).then_some(())
    })
    .await;
    assert!(app.metric("icpgate_dns_refusals_total{kind=\"unreachable\"}").await >= 1.0);
    assert_eq!(app.get("/v1/status").await.json()["upstreams"][0]["up"], false);
}

//--- Start and end ---------------------------------------------------------------------------------------------------

#[tokio::test]
async fn second_start_names_the_address_and_its_holder() {
    let app = App::start().await;
    let (admin, dns, http) = (app.admin(), app.dns(), app.http());
    for (plane, addr) in [("admin", admin), ("dns", dns), ("http", http)] {
        let started = App::try_with(|config, _| match plane {
            "admin" => config.admin.listen = Some(addr),
            "dns" => config.dns.listen = vec![addr],
            _ => config.http.listen = vec![addr],
        })
        .await;
        let error = started.err().expect("a refusal");
        let text = error.to_string();
        assert!(text.starts_with(plane) && text.contains(&addr.to_string()), "{text}");
        assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
        assert_eq!(error.exit_status(), 3);
    }
    assert!(app.ask(UNFILED, "A").await.is_blocked(), "the first one serves on");
}

#[tokio::test]
async fn drain_ends_the_gate_and_frees_its_ports() {
    let app = App::start().await;
    let (admin, dns) = (app.admin(), app.dns());
    let response = app.post("/v1/drain").await;
    assert_eq!((response.status, &response.json()["draining"]), (202, &Value::Bool(true)));
    timeout(2 * PATIENCE, app.running.wait()).await.expect("ends in time").expect("ends in good order");
    for addr in [admin, dns] {
        tokio::net::TcpListener::bind(addr).await.expect("the port is free");
    }
}

#[tokio::test]
async fn draining_gate_is_not_ready() {
    let app = App::start().await;
    // An open connection with a question that waits keeps the drain from being over.
    app.upstream.on("www.slow.org", "A", super::harness::upstream::Reply { silent: true, ..Default::default() });
    let mut stream = TcpStream::connect(app.dns()).await.expect("connects");
    let packet = super::harness::dns::Ask::new("www.slow.org", "A").octets();
    let length = u16::try_from(packet.len()).expect("a message");
    stream.write_all(&[&length.to_be_bytes()[..], &packet].concat()).await.expect("writes");
    app.until("the question is asked", async |app| (app.upstream.count("www.slow.org", "A") > 0).then_some(())).await;
    app.running.drain.advance(Phase::Draining);
    let readiness = app.get("/readyz").await;
    assert_eq!(readiness.status, 503);
    assert_eq!(causes(&readiness, "reasons"), ["draining"]);
    assert!(timeout(PATIENCE, stream.read_u16()).await.expect("in time").expect("an answer") > 0);
    timeout(2 * PATIENCE, app.running.wait()).await.expect("ends in time").expect("ends in good order");
}
