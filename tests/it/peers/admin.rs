//! `curl` before the admin listener with TLS: in by a certificate of its own, out without.

use std::process::Command;

use super::are_asked_for;
use crate::admin_tls::gate;
use crate::harness::h2::certificate;

#[tokio::test(flavor = "multi_thread")]
async fn curl_comes_in_by_a_certificate() {
    if !are_asked_for() {
        return;
    }
    let app = gate(None).await;
    let curl = |own: Option<&str>, path: &str| {
        let mut command = Command::new("curl");
        command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"]).arg(certificate("here").chain);
        command.args(["--connect-to", &format!("here.cn:443:{}", app.admin()), &format!("https://here.cn{path}")]);
        if let Some(files) = own.map(certificate) {
            command.arg("--cert").arg(files.chain).arg("--key").arg(files.key);
        }
        String::from_utf8(command.output().expect("curl runs").stdout).expect("a code")
    };
    assert_eq!(curl(Some("other"), "/v1/status"), "200");
    assert_eq!((curl(None, "/v1/status"), curl(None, "/healthz")), ("401".to_owned(), "200".to_owned()));
    assert_eq!(curl(Some("here"), "/healthz"), "000", "the handshake fails");
}
