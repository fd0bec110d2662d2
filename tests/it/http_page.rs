//! The block page through a socket: formats, languages, headers, modes, templates.

use icpgate::http::page::{PageError, Pages};
use icpgate::model::Status;
use icpgate::policy::Rules;
use icpgate::registry::Filing;

use super::harness::fixture::{self, filed};
use super::harness::golden;
use super::harness::http::{HttpGate, Response, get};

async fn ask(gate: &HttpGate, host: &str, lines: &str) -> Response {
    gate.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")).await
}

#[tokio::test]
async fn page_has_its_golden_form_in_each_format_and_language() {
    let gate = HttpGate::start().await;
    for (name, host) in [("not-filed", "www.nofile.cn"), ("not-accessed", "img.else.com")] {
        for (language, language_line) in [("zh-CN", "zh-CN,zh;q=0.9"), ("en", "en")] {
            for (ending, accept) in [("html", "text/html"), ("json", "application/json"), ("txt", "text/plain")] {
                let lines = format!("Accept: {accept}\r\nAccept-Language: {language_line}\r\n");
                let answer = ask(&gate, host, &lines).await;
                assert_eq!(answer.header("content-language"), Some(language));
                golden::check(&format!("pages/{name}.{language}.{ending}"), &answer.body);
            }
        }
    }
}

#[tokio::test]
async fn block_has_the_promised_headers() {
    let gate = HttpGate::start().await;
    let answer = gate.ask(&get("www.nofile.cn", "/")).await;
    assert_eq!(answer.status, 451);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("vary"), Some("Accept, Accept-Language"));
    assert_eq!(answer.header("link"), Some("<https://cloud.example/>; rel=\"blocked-by\""));
    assert_eq!(answer.header("date"), Some("Tue, 24 Nov 2026 04:00:00 GMT"));
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(answer.header("strict-transport-security"), None);
    let gate_header = answer.header("x-icp-gate").expect("the gate's header");
    let id = gate_header.strip_prefix("reason=not_filed; domain=nofile.cn; id=").expect(gate_header);
    assert!(id.len() == 13 && answer.text().contains(id), "{id} stands on the page");
}

#[tokio::test]
async fn head_gets_the_same_headers_without_a_body() {
    let gate = HttpGate::start().await;
    let with_body = gate.ask(&get("nofile.cn", "/")).await;
    let mut client = gate.connect().await;
    client.send(b"HEAD / HTTP/1.1\r\nHost: nofile.cn\r\n\r\nGET / HTTP/1.1\r\nHost: here.cn\r\n\r\n").await;
    let head = client.next_response(true).await.expect("an answer");
    assert_eq!(head.headers, with_body.headers);
    assert_eq!(client.response().await.status, 200, "the next answer follows at once");
}

#[tokio::test]
async fn each_cause_has_its_own_prompt() {
    let gate = HttpGate::start().await;
    let mut rows = fixture::filings();
    rows.push(Filing { status: Status::Rejected, ..filed("rejected.cn", &["self"]) });
    rows.push(Filing { restricted: true, ..filed("restricted.cn", &["self"]) });
    gate.publish(rows);
    for (host, reason, prompt) in [
        ("nofile.cn", "not_filed", "请先完成备案"),
        ("else.com", "not_accessed", "请将备案信息接入本接入商"),
        ("shell.cn", "not_accessed", "空壳网站"),
        ("pend.cn", "not_filed", "审核中"),
        ("rejected.cn", "not_filed", "已驳回"),
        ("dereg.cn", "not_filed", "已注销"),
        ("restricted.cn", "restricted", "限制接入"),
        ("203.0.113.1", "ip_site", "请使用已备案的域名访问"),
        ("xn--a.cn", "invalid_name", "这不是有效的域名"),
    ] {
        let answer = gate.ask(&get(host, "/")).await;
        assert_eq!(answer.status, 451, "{host}");
        assert!(answer.text().contains(prompt), "{host}: {prompt}");
        let header = answer.header("x-icp-gate").expect("the gate's header").to_owned();
        assert!(header.starts_with(&format!("reason={reason}")), "{host}: {header}");
    }
    assert!(gate.ask(&get("else.com", "/")).await.text().contains("other"), "the present provider is named");
}

#[tokio::test]
async fn problem_json_is_valid_and_complete() {
    let gate = HttpGate::start().await;
    let answer = ask(&gate, "www.nofile.cn", "Accept: application/json\r\nAccept-Language: en\r\n").await;
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    for (key, value) in [
        ("reason", "not_filed"),
        ("name", "www.nofile.cn"),
        ("domain", "nofile.cn"),
        ("rule", "B1"),
        ("client", "127.0.0.1"),
        ("time", "2026-11-24T12:00:00+08:00"),
        ("filing_url", "https://beian.example/"),
    ] {
        assert_eq!(problem[key], value, "{key}");
    }
    assert_eq!(problem["status"], 451);
}

#[tokio::test]
async fn grpc_gets_no_page() {
    let gate = HttpGate::start().await;
    let request =
        "POST /a.B/C HTTP/1.1\r\nHost: nofile.cn\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
    let answer = gate.ask(request).await;
    assert_eq!((answer.status, answer.header("content-type")), (451, Some("text/plain; charset=utf-8")));
}

#[tokio::test]
async fn other_block_modes_are_offered() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| settings.block.status = 403).await;
    let answer = gate.ask(&get("nofile.cn", "/")).await;
    assert_eq!((answer.status, answer.header("link")), (403, None));
    for status in [302, 307] {
        let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
            settings.block.status = status;
            settings.block.redirect = "https://portal.example/?n={name}&d={domain}&r={reason}&i={id}".to_owned();
        })
        .await;
        let answer = gate.ask(&get("a.nofile.cn", "/")).await;
        assert_eq!(answer.status, status);
        let location = answer.header("location").expect("a location");
        assert!(location.starts_with("https://portal.example/?n=a.nofile.cn&d=nofile.cn&r=not_filed&i="), "{location}");
    }
}

#[tokio::test]
async fn text_from_outside_cannot_become_markup() {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.provider.name = "<script>alert(1)</script>".to_owned();
        settings.provider.contact = "\"><img src=x>".to_owned();
        settings.provider.url = "javascript:alert(1)".to_owned();
        settings.provider.filing_url = "javascript:alert(1)".to_owned();
    })
    .await;
    let answer = gate.ask(&get("nofile.cn", "/")).await;
    assert!(!answer.text().contains("<script") && !answer.text().contains("<img"), "{}", answer.text());
    assert!(!answer.text().contains("javascript:"));
    assert_eq!(answer.header("link"), None);
}

#[tokio::test]
async fn page_needs_nothing_from_outside() {
    let gate = HttpGate::start().await;
    let text = gate.ask(&get("nofile.cn", "/")).await.text().to_owned();
    for sign in ["<script", "src=", "url(", "@import", "<link", "<iframe"] {
        assert!(!text.contains(sign), "{sign}");
    }
    assert!(text.contains("prefers-color-scheme:dark") && text.contains("@media print"));
}

#[tokio::test]
async fn operators_change_the_template_without_a_rebuild() {
    let gate = HttpGate::start().await;
    let before = gate.ask(&get("nofile.cn", "/")).await;
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("page.html"), "<p>{{ name }} {{ title }} {{ client }}</p>").expect("writes");
    gate.gate.replace_pages(Pages::load(Some(directory.path())).expect("loads"));
    let after = gate.ask(&get("nofile.cn", "/")).await;
    assert_ne!(before.body, after.body);
    assert_eq!(after.text(), "<p>nofile.cn 请先完成备案 127.0.0.1</p>");
    assert!(ask(&gate, "nofile.cn", "Accept: text/plain\r\n").await.text().starts_with("请先完成备案"));
}

#[test]
fn bad_pages_are_refused_with_file_and_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let load = |file: &str, text: &str| {
        std::fs::write(directory.path().join(file), text).expect("writes");
        let res = Pages::load(Some(directory.path())).map(|_| ()).map_err(|error| error.to_string());
        std::fs::remove_file(directory.path().join(file)).expect("removes");
        res.expect_err(text)
    };
    assert!(load("page.html", "one\n{% if %}").contains("page.html: line 2"));
    assert!(load("page.html", "{{ nosuchname }}").contains("undefined"));
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
    assert!(load("page.html", endless).contains("fuel"));
    assert!(load("en.toml", "[label]\n[cause]\n").contains("[cause.cancelled] is missing"));
    assert!(load("en.toml", "x = 1").contains("en.toml"));
    let missing = Pages::load(Some(&directory.path().join("none"))).map(|_| ());
    assert!(matches!(missing, Err(PageError::Read { .. })));
}
