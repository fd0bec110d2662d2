//! The HTTP commands of a scenario: `get HOST PATH marks…` with header lines and expectations below it.

use std::collections::HashMap;

use icpgate::policy::SharedView;

use super::super::harness::http::{Client, HttpGate, Response};
use super::parse::Step;
use super::settings::set_http;

/// The HTTP plane of a scenario, with the connections it keeps by name.
pub struct Http {
    gate: HttpGate,
    connections: HashMap<String, Client>,
}

impl Http {
    /// A plane over the scenario's view, with the settings that are its own.
    pub async fn start(view: SharedView, settings: &[(String, String)]) -> Self {
        let gate = HttpGate::sharing(view, |http| {
            for (key, value) in settings {
                assert!(set_http(http, key, value), "{key} is no key a scenario can set");
            }
        });
        Self { gate: gate.await, connections: HashMap::new() }
    }

    /// Sends the request of a `get` and waits for the answer.
    pub async fn get(&mut self, step: &Step, words: &[String]) -> Response {
        let request = request(step, words);
        let mut client = match self.connections.remove(&step.peer) {
            Some(client) => client,
            None => self.gate.connect().await,
        };
        client.send(request.as_bytes()).await;
        let res = client.response_to(&request).await;
        if !step.peer.is_empty() {
            self.connections.insert(step.peer.clone(), client);
        }
        res
    }

    /// `reached COUNT HOST…`: what came to the origin.
    pub fn reached(&self, step: &Step) -> Result<(), String> {
        let hosts = self.gate.origin.hosts();
        let is_met = hosts.len().to_string() == step.word(0) && (step.words.len() == 1 || hosts == step.words[1..]);
        if is_met { Ok(()) } else { Err(format!("the origin saw {hosts:?}")) }
    }
}

/// The request's octets: the marks `method=` and `version=`, and one header a line that begins with `>`.
fn request(step: &Step, words: &[String]) -> String {
    let (host, path) = (&words[0], words.get(1).map_or("/", String::as_str));
    let (mut method, mut version) = ("GET", "1.1");
    for mark in words.iter().skip(2) {
        match mark.split_once('=') {
            Some(("method", text)) => method = text,
            Some(("version", text)) => version = text,
            _ => panic!("line {}: {mark}: expected method=M or version=V", step.line),
        }
    }
    let mut res = format!("{method} {path} HTTP/{version}\r\n");
    if host != "none" {
        res.push_str(&format!("Host: {host}\r\n"));
    }
    for (_, line) in &step.body {
        if let Some(header) = line.strip_prefix("> ") {
            res.push_str(&format!("{header}\r\n"));
        }
    }
    res + "\r\n"
}

/// The expectations of a `get` that are not met.
pub fn missed(step: &Step, answer: &Response) -> Vec<(usize, String)> {
    let lines = step.body.iter().filter(|(_, line)| !line.starts_with('>'));
    lines
        .filter_map(|(number, line)| {
            let found = check(line, answer).err()?;
            Some((*number, format!("expected {line:?}, found {found}")))
        })
        .collect()
}

fn check(line: &str, answer: &Response) -> Result<(), String> {
    let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
    let body = String::from_utf8_lossy(&answer.body);
    let (is_met, found) = match what {
        "status" => (answer.status.to_string() == rest, answer.status.to_string()),
        "header" => {
            let (name, value) = rest.split_once(": ").unwrap_or((rest, ""));
            let found = answer.header(name);
            let is_met = match value {
                "none" => found.is_none(),
                _ => found.is_some_and(|found| found.starts_with(value)),
            };
            (is_met, format!("{found:?}"))
        }
        "body" => (body.contains(rest), format!("{body:?}")),
        "no-body" => (answer.body.is_empty(), format!("{body:?}")),
        _ => return Err("an unknown expectation; see tests/scenarios/README.md".to_owned()),
    };
    if is_met { Ok(()) } else { Err(found) }
}
