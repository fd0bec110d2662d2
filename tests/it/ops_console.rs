//! What the console rests on: rates, the whole explain, the last reload, and who may ask the admin listener.

use std::os::unix::fs::PermissionsExt;

use icpgate::app::start_at;
use icpgate::drain::Phase;
use icpgate::policy::Clock;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::harness::app::{App, FILINGS, config};
use super::harness::dns::PATIENCE;

const UNFILED: &str = "www.unfiled.example";
const TOKEN: &str = "0123456789abcdef";
/// Readers that the stream has places for.
const READERS: usize = 16;

/// An open stream of rates.
struct Rates {
    stream: TcpStream,
    text: String,
}

impl Rates {
    async fn open(app: &App) -> Self {
        let mut stream = TcpStream::connect(app.admin()).await.expect("connects");
        let head = format!("GET /v1/events?what=rates HTTP/1.1\r\nHost: {}\r\n\r\n", app.admin());
        stream.write_all(head.as_bytes()).await.expect("writes");
        Self { stream, text: String::new() }
    }

    /// The next line.
    async fn next(&mut self) -> Value {
        let mut buf = [0; 8192];
        loop {
            let whole = self.text.split_once("event: rates\ndata: ").and_then(|(_, rest)| rest.split_once("\n\n"));
            if let Some((line, rest)) = whole {
                let line = serde_json::from_str(line).expect("a line of JSON");
                self.text = rest.to_owned();
                return line;
            }
            let length = timeout(PATIENCE, self.stream.read(&mut buf)).await.expect("in time").expect("reads");
            assert!(length > 0, "ended: {}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&buf[..length]));
        }
    }
}

//--- Data ------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn rates_come_each_second_by_plane_and_verdict() {
    let app = App::start().await;
    app.ask(UNFILED, "A").await;
    let mut rates = Rates::open(&app).await;
    let first = rates.next().await;
    assert_eq!(first["seconds"], 0.0);
    assert_eq!((&first["ready"], &first["stance"]), (&true.into(), &"enforce".into()));
    assert_eq!(first["registry_generation"], 1);
    let verdicts = first["verdicts"].as_array().expect("verdicts");
    assert_eq!(verdicts.len(), 1, "what never occurred is left out: {first}");
    assert_eq!((&verdicts[0]["plane"], &verdicts[0]["reason"]), (&"dns".into(), &"not_filed".into()));
    assert_eq!((&verdicts[0]["total"], &verdicts[0]["rate"]), (&1.into(), &0.0.into()));
    app.ask(UNFILED, "A").await;
    app.browse(UNFILED).await;
    let second = rates.next().await;
    assert!(second["seconds"].as_f64().expect("a number") > 0.1);
    let blocked = |plane: &str| {
        let all = second["verdicts"].as_array().expect("verdicts").iter();
        all.filter(|one| one["plane"] == plane).map(|one| one["rate"].as_f64().expect("a rate")).sum::<f64>()
    };
    assert!(blocked("dns") > 0.0 && blocked("http") > 0.0, "{second}");
    assert!(second["flows"]["queries"].as_f64().expect("a rate") > 0.0);
}

#[tokio::test]
async fn readers_of_rates_have_as_many_places_as_there_are() {
    let app = App::start().await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = Rates::open(&app).await;
        reader.next().await;
        readers.push(reader);
    }
    let refused = app.get("/v1/events?what=rates").await;
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("16 readers"), "{}", refused.body);
    readers.pop();
    app.until("a place is free again", async |app| {
        let mut stream = TcpStream::connect(app.admin()).await.expect("connects");
        let head = format!("GET /v1/events?what=rates HTTP/1.1\r\nHost: {}\r\n\r\n", app.admin());
        stream.write_all(head.as_bytes()).await.expect("writes");
        let mut buf = [0; 64];
        let length = timeout(PATIENCE, stream.read(&mut buf)).await.expect("in time").expect("reads");
        buf[..length].starts_with(b"HTTP/1.1 200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn verdict_is_explained_step_by_step() {
    let app = App::start().await;
    let found = app.get(&format!("/v1/verdict?name={UNFILED}&address=203.0.113.11&address=192.0.2.10")).await.json();
    let steps = found["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 7, "{found}");
    for step in steps {
        for key in ["question", "question_zh", "found", "found_zh"] {
            assert!(!step[key].as_str().expect("a text").is_empty(), "{key} of {step}");
        }
    }
    let decides: Vec<bool> = steps.iter().map(|step| step["decides"] == true).collect();
    assert_eq!(decides, [false, false, false, false, false, false, true], "the last line decides");
    assert_eq!((&steps[6]["rule"], &found["rule"]), (&"B1".into(), &"B1".into()));
    assert!(steps[2]["source"].as_str().expect("a source").starts_with("203.0.113.0/25"));
    assert_eq!(found["places"][1]["alone"]["reason"], "not_mainland");
    assert!(found["advice"]["zh"]["title"].as_str().expect("a title").contains("备案"));
    assert!(!found["advice"]["en"]["steps"].as_array().expect("steps").is_empty());
    let would = found["what_would_change_it"].as_array().expect("hypotheses");
    assert!(would.iter().any(|one| one["with_zh"] == "在本接入商完成首次备案" && one["verdict"]["action"] == "allow"));
    assert_eq!((&found["in_line"], &found["dates"]), (&false.into(), &Value::Null));
    let allowed = app.get("/v1/verdict?name=www.filed.example").await.json();
    assert_eq!((&allowed["in_line"], &allowed["advice"]), (&true.into(), &Value::Null));
    let last = allowed["steps"].as_array().expect("steps").last().expect("a step").clone();
    assert!(last["source"].as_str().expect("a source").ends_with("filings.csv:2"), "{last}");
    for (name, steps) in [("203.0.113.9", 2), ("no%20host", 1)] {
        let found = app.get(&format!("/v1/verdict?name={name}")).await.json();
        assert_eq!(found["steps"].as_array().expect("steps").len(), steps, "{found}");
    }
}

#[tokio::test]
async fn last_reload_tells_what_it_changed_and_what_it_refused() {
    let app = App::start().await;
    let first = app.get("/v1/registry").await.json();
    assert_eq!(first["last_change"]["generation"], 1);
    let row = "new.example,京ICP备2021000003号-1,self,active\n";
    app.write("registry/filings.csv", &format!("{}{row}", FILINGS.replace(",other,", ",self,")));
    assert_eq!(app.post("/v1/reload").await.status, 200);
    let changed = app.get("/v1/registry").await.json();
    let change = &changed["last_change"];
    assert_eq!(change["generation"], 2, "{changed}");
    assert_eq!((&change["counts"]["added"], &change["counts"]["changed"]), (&1.into(), &1.into()));
    assert_eq!(change["counts"]["released"], 2);
    let lines: Vec<&str> = change["lines"].as_array().expect("lines").iter().filter_map(Value::as_str).collect();
    assert!(lines.contains(&"+ new.example"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("~ elsewhere.example: access")), "{lines:?}");
    app.write("registry/filings.csv", "domain,site_no,access,status\n");
    assert_eq!(app.post("/v1/reload").await.status, 409);
    let refused = app.get("/v1/registry").await.json();
    assert_eq!(refused["last_reload"]["outcome"], "refused");
    assert_eq!(refused["last_change"]["generation"], 2, "the last good one stays");
    assert_eq!(refused["health"].as_array().expect("reasons").len(), 1);
    app.write("ranges/mainland.txt", "203.0.113.0/24\n198.51.100.0/24\n192.0.2.128/25\n");
    app.post("/v1/reload").await;
    let ranges = app.get("/v1/ranges").await.json();
    assert_eq!(ranges["last_change"]["generation"], 2, "{ranges}");
    assert!(ranges["last_change"]["counts"]["added"].is_u64());
}

//--- Access ----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn console_is_one_page_that_its_policy_covers() {
    let app = App::with(|config, _| config.admin.token = Some(TOKEN.to_owned())).await;
    let page = app.admin_request("GET", "/", "Accept-Language: en-GB, zh;q=0.5\r\n").await;
    assert_eq!((page.status, page.header("content-language")), (200, Some("en")));
    assert!(page.body.starts_with("<!doctype html>\n<html lang=\"en\">"));
    assert!(
        !page.body.contains(UNFILED)
            && !page.body.contains(TOKEN)
            && !["{lang}", "{style}", "{script}"].iter().any(|slot| page.body.contains(slot))
    );
    let policy = page.header("content-security-policy").expect("a policy").to_owned();
    for part in ["default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"));
    let chinese = app.admin_request("GET", "/", "Accept-Language: zh-TW\r\n").await;
    assert!(chinese.body.contains("<html lang=\"zh-CN\">"));
    assert_eq!(chinese.header("content-security-policy"), Some(policy.as_str()));
}

#[tokio::test]
async fn every_answer_forbids_what_browsers_would_do_with_it() {
    let app = App::start().await;
    let asked = [
        ("GET", "/", ""),
        ("GET", "/plain", ""),
        ("GET", "/metrics", ""),
        ("GET", "/healthz", ""),
        ("GET", "/readyz", ""),
        ("GET", "/v1/status", ""),
        ("GET", "/v1/verdict?name=a.example", ""),
        ("GET", "/v1/verdict?name=%ff", ""),
        ("GET", "/nowhere", ""),
        ("GET", "/v1/reload", ""),
        ("GET", "/v1/status", "Host: evil.example\r\n"),
        ("OPTIONS", "/v1/reload", "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n"),
    ];
    for (method, path, headers) in asked {
        let answer = app.admin_request(method, path, headers).await;
        let place = format!("{method} {path} {headers}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{place}");
        }
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{place}");
        assert!(!policy.contains("unsafe"), "{place}");
        assert!(!answer.headers.iter().any(|(name, _)| name.starts_with("access-control-")), "{place}");
    }
}

#[tokio::test]
async fn wrong_tokens_are_counted_and_then_not_looked_at() {
    let app = App::with(|config, _| config.admin.token = Some(TOKEN.to_owned())).await;
    let with =
        async |token: &str| app.admin_request("GET", "/v1/status", &format!("Authorization: Bearer {token}\r\n")).await;
    for _ in 0..20 {
        assert_eq!(app.get("/v1/status").await.status, 401, "no token is no guess");
    }
    assert_eq!(with(TOKEN).await.status, 200);
    for i in 0..10 {
        assert_eq!(with(&format!("guess{i}")).await.status, 401);
    }
    let refused = with(TOKEN).await;
    assert_eq!(refused.status, 429, "the right one is not looked at either");
    let seconds: u64 = refused.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=7).contains(&seconds), "{seconds}");
    assert_eq!(refused.json()["retry_after_seconds"], seconds);
    assert_eq!(app.get("/readyz").await.status, 200, "probes go on");
    assert_eq!(app.get("/").await.status, 200);
}

#[tokio::test]
async fn pages_of_other_sites_reach_nothing_with_or_without_a_token() {
    let evil = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n";
    let app = App::start().await;
    for path in ["/v1/events?what=rates", "/v1/status", "/metrics", "/plain", "/"] {
        assert_eq!(app.admin_request("GET", path, evil).await.status, 403, "{path}");
    }
    let link = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n";
    assert_eq!(app.admin_request("GET", "/", link).await.status, 200, "a link leads to the console");
    for headers in ["Sec-Fetch-Site: same-site\r\n", "Sec-Fetch-Site: none\r\n", "Origin: http://127.0.0.1:1\r\n"] {
        assert_eq!(app.admin_request("POST", "/v1/drain", headers).await.status, 403, "{headers}");
    }
    let own = format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", app.admin());
    assert_eq!(app.admin_request("POST", "/v1/reload", &own).await.status, 200);
    let app = App::with(|config, _| {
        config.admin.token = Some(TOKEN.to_owned());
        config.admin.names = vec!["gate.example".to_owned()];
    })
    .await;
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let asked = [
        ("Host: gate.example:9153\r\nSec-Fetch-Site: same-origin\r\n", 200),
        ("Host: evil.example\r\nSec-Fetch-Site: same-origin\r\n", 403),
        ("Host: scraped.by.name.example\r\n", 200),
    ];
    for (headers, status) in asked {
        let answer = app.admin_request("GET", "/v1/status", &format!("{headers}{bearer}")).await;
        assert_eq!(answer.status, status, "{headers}");
    }
    assert_eq!(
        app.admin_request("GET", "/", "Host: evil.example\r\n").await.status,
        403,
        "nobody is asked for a token there"
    );
    for path in ["/v1/reload", "/v1/drain"] {
        assert_eq!(app.post(path).await.status, 401, "{path}");
    }
    assert_eq!(app.admin_request("POST", "/v1/reload", &bearer).await.status, 200);
}

/// Asks by the Unix socket, as `curl --unix-socket` does.
async fn ask_local(path: &std::path::Path, method: &str, target: &str) -> String {
    let mut stream = UnixStream::connect(path).await.expect("connects");
    let head = format!("{method} {target} HTTP/1.1\r\nHost: icpgate\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("writes");
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("in time").expect("reads");
    text
}

#[tokio::test]
async fn unix_socket_is_for_its_owner_who_needs_no_token() {
    let app = App::with(|config, dir| {
        config.admin.token = Some(TOKEN.to_owned());
        config.admin.socket = Some(dir.path().join("admin.sock"));
        config.admin.handover = Some(dir.path().join("handover.sock"));
    })
    .await;
    let path = app.path("admin.sock");
    app.until("the socket is in its place", async |_| path.exists().then_some(())).await;
    let mode = std::fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let status = ask_local(&path, "GET", "/v1/status").await;
    assert!(status.starts_with("HTTP/1.1 200") && status.contains("\"stance\":\"enforce\""), "{status}");
    assert!(ask_local(&path, "POST", "/v1/reload").await.starts_with("HTTP/1.1 200"));
    assert_eq!(app.get("/v1/status").await.status, 401, "the address asks for the token");
    let dir = app.drain().await;
    let left = std::fs::read_dir(dir.path()).expect("a directory").flatten();
    let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().contains(".sock")).collect();
    assert!(left.is_empty(), "the gate takes its sockets away: {left:?}");
}

#[tokio::test]
async fn next_gate_has_the_unix_socket_after_a_handover() {
    let change = |config: &mut icpgate::config::Config, dir: &tempfile::TempDir| {
        config.admin.socket = Some(dir.path().join("admin.sock"));
        config.admin.handover = Some(dir.path().join("handover.sock"));
    };
    let app = App::with(change).await;
    let path = app.path("admin.sock");
    let mut config = config(&app.dir, app.upstream.addr);
    change(&mut config, &app.dir);
    let next = start_at(config, Clock::Manual(app.clock.clone())).await.expect("the next gate starts");
    timeout(3 * PATIENCE, app.running.wait()).await.expect("ends in time").expect("ends in good order");
    let status = ask_local(&path, "GET", "/v1/status").await;
    assert!(status.starts_with("HTTP/1.1 200"), "the socket is the next one's: {status}");
    next.drain.advance(Phase::Draining);
    timeout(2 * PATIENCE, next.wait()).await.expect("ends in time").expect("ends in good order");
    assert!(!path.exists());
}

#[test]
fn names_and_sockets_that_cannot_be_are_told() {
    let text = "version = 1\n[admin]\nnames = [\"gate.example:9153\"]\nsocket = \"/run/x\"\nhandover = \"/run/x\"\n";
    let error = icpgate::config::parse("t.toml", text, &[]).map(drop).expect_err("a refusal").to_string();
    let mut lines: Vec<&str> = error.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(lines[0].starts_with("t.toml:3:10: admin.names[0] = \"gate.example:9153\": "), "{error}");
    assert!(lines[0].ends_with("; expected a host name, without a port"), "{error}");
    assert_eq!(lines[1], "t.toml:4:10: admin.socket = \"/run/x\": is admin.handover as well; expected another path");
}

#[test]
fn token_is_read_trimmed_and_never_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    let text =
        format!("version = 1\n[admin]\nlisten = \"192.0.2.1:9153\"\ntoken-file = {:?}\n", file.display().to_string());
    for (content, is_good) in
        [("0123456789abcdef\n", true), ("short\n", false), ("0123456789 abcdef\n", false), ("", false)]
    {
        std::fs::write(&file, content).expect("writes");
        match icpgate::config::parse("t.toml", &text, &[]) {
            Ok(loaded) => {
                assert!(is_good, "{content:?}");
                assert_eq!(loaded.config.admin.token.as_deref(), Some("0123456789abcdef"));
                let shown = serde_json::to_string(&icpgate::config::show::effective(&loaded)).expect("JSON");
                assert!(!shown.contains("0123456789abcdef"));
            }
            Err(error) => {
                assert!(!is_good, "{error}");
                let secret = content.trim();
                assert!(secret.is_empty() || !error.to_string().contains(secret), "{error}");
            }
        }
    }
}
