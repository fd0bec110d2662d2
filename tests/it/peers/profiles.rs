//! The TLS of many browsers, as curl_cffi has it, through the gate to nginx: filed names get its page by either version of
//! HTTP, unfiled ones a clean refusal before anything reaches it.

use std::fs;
use std::process::Command;

use icpgate::http::tls::counters::Outcome;
use icpgate::policy::Rules;
use serde_json::Value;

use super::super::harness::binary::run;
use super::super::harness::fixture;
use super::super::harness::http::HttpGate;
use super::backends::Backend;
use super::quic::python;

/// Families of browsers, each of which must be among the profiles.
const FAMILIES: [&str; 4] = ["chrome", "edge", "firefox", "safari"];
/// CURLE_SSL_CONNECT_ERROR.
const REFUSED: u64 = 35;

/// True when the peers are asked for and curl_cffi is among them, which no package of Debian 12 has.
fn is_there() -> bool {
    if !super::are_asked_for() {
        return false;
    }
    let is_there =
        Command::new(python()).args(["-c", "import curl_cffi"]).status().is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("left out: no curl_cffi in {}", python().display());
    }
    is_there
}

/// nginx with a certificate for both names, speaking HTTP/1.1 and HTTP/2; its page names the version.
async fn origin() -> Backend {
    Backend::start("nginx", &["-e", "stderr", "-c"], |dir, addr| {
        let path = |name: &str| dir.join(name).display().to_string();
        let (key, certificate) = (path("key.pem"), path("certificate.pem"));
        let asked = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let names = ["-subj", "/CN=here.cn", "-addext", "subjectAltName=DNS:here.cn,DNS:nofile.cn"];
        run("openssl", &[&asked[..], &names, &["-keyout", &key, "-out", &certificate]].concat());
        let temporary = super::backends::nginx_paths(dir);
        format!(
            "daemon off; master_process off; pid {pid};\nevents {{ worker_connections 256; }}\nhttp {{\n{temporary}\
             log_format seen escape=none '$ssl_server_name\t$request';\naccess_log {seen} seen;\n\
             server {{ listen {addr} ssl http2; server_name _; ssl_certificate {certificate}; ssl_certificate_key {key}; \
             location / {{ return 200 \"$server_protocol\"; }} }}\n}}\n",
            pid = path("pid"),
            seen = path("seen"),
        )
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_browser_profile_passes_filed_and_is_refused_unfiled() {
    if !is_there() {
        return;
    }
    let origin = origin().await;
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.tls_listen = vec!["127.0.0.1:0".parse().expect("an address")];
        settings.fixed_tls = Some(origin.addr);
    })
    .await;
    let port = gate.tls.expect("a listener for TLS").port().to_string();
    let asking = tokio::task::spawn_blocking(move || {
        let script = format!("{}/tests/data/tls/profiles.py", env!("CARGO_MANIFEST_DIR"));
        run(&python().display().to_string(), &[&script, &port, "here.cn", "nofile.cn"])
    });
    let said = asking.await.expect("no panic inside");
    let answers: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let text = |answer: &Value, key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    for answer in &answers {
        if text(answer, "name") == "here.cn" {
            let protocol = if answer["version"] == "2" { "HTTP/2.0" } else { "HTTP/1.1" };
            assert_eq!((answer["status"].as_u64(), text(answer, "body")), (Some(200), protocol.to_owned()), "{answer}");
        } else {
            assert_eq!(answer["code"].as_u64(), Some(REFUSED), "{answer}");
            assert!(text(answer, "error").to_lowercase().contains("unrecognized_name"), "{answer}");
        }
    }
    for family in FAMILIES {
        let count = answers.iter().filter(|answer| text(answer, "profile").starts_with(family)).count();
        assert!(count >= 8, "{count} answers to {family}");
    }
    let each = u64::try_from(answers.len() / 2).expect("a count");
    eprintln!("{} profiles, {each} sessions passed", answers.len() / 4);
    assert_eq!((gate.counters.tls.connections(Outcome::Passed), each % 2), (each, 0));
    let seen = fs::read_to_string(origin.dir.path().join("seen")).expect("a log");
    assert!(seen.lines().all(|line| line.starts_with("here.cn\t")), "{seen}");
}
