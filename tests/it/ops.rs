//! Operation through real sockets: metrics and the admin listener.

use std::collections::{BTreeMap, BTreeSet};

use icpgate::ops::Missing;
use icpgate::ops::metrics::{FAMILIES, Kind};
use icpgate::policy::Reason;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::harness::app::App;
use super::harness::dns::PATIENCE;

const UNFILED: &str = "www.unfiled.example";

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
    // What is named by data has no series without any: issues of the ranges by rule.
    let of_data = ["icpgate_ranges_issues"];
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
    assert!(!text.contains("surprising") && !text.contains("unfiled.example"), "no name is a label");
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
    assert_eq!(app.post("/v1/reload?accept-shrink=1&dry-run=1").await.json()["parameter"], "dry-run");
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
    app.until_ready().await;
    let status = app.get("/v1/status").await.json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&status["mode"], &status["stance"]), (&"enforce".into(), &"enforce".into()));
    assert_eq!(status["registry"]["rows"], 2);
    assert_eq!(status["zones"], 1);
    assert_eq!(status["upstreams"][0]["up"], true);
    assert_eq!(status["planes"][0]["addresses"][0], app.dns().to_string());
    let page = app.get("/plain").await;
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
    let page = app.get("/plain").await.body;
    assert!(page.contains("未就绪") && page.contains("registry_missing"));
    assert!(page.contains("&lt;b&gt;none&lt;"), "the path is shown as text");
    assert!(!page.contains("<b>none"));
}

#[tokio::test]
async fn token_guards_everything_but_the_probes() {
    let app = App::with(|config, _| config.admin.token = Some("s3cret".to_owned())).await;
    for path in ["/plain", "/metrics", "/v1/status", "/v1/verdict?name=a.example", "/v1/events", "/nowhere"] {
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
