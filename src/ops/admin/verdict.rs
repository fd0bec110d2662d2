//! `GET /v1/verdict`: what a plane would decide now, with its evidence and every step that leads to it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::Desk;
use super::answer::{Parameters, Problem, json};
use crate::http::host::HostName;
use crate::http::page::Advice;
use crate::model::{DomainName, Via};
use crate::ops::journal::rfc3339;
use crate::policy::explain::{Explanation, OwnedHost, Question};
use crate::policy::{Action, Stance};

/// Addresses of one question; an answer with more is no web site's.
const ADDRESSES_MAX: usize = 64;
/// Names on the way to them.
const CNAMES_MAX: usize = 16;

/// The answer: the report's keys, the explanation's, and what is known besides.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    explanation: Explanation,
    /// True without an address: judged as if the gate stood before a mainland server of ours.
    in_line: bool,
    /// How verdicts are acted on now, faults included.
    stance: &'static str,
    /// What the site's owner does now, as the page tells visitors; `None` for an allow.
    advice: Option<AdviceReport>,
    /// When the data that decided were published.
    registry_loaded_at: Option<String>,
    /// See `registry_loaded_at`.
    ranges_loaded_at: Option<String>,
}

/// The advice in both languages.
#[derive(Serialize)]
struct AdviceReport {
    zh: Advice,
    en: Advice,
}

/// Judges `name`; without an `address` as if we stood in line before it.
pub async fn verdict(
    State(desk): State<Arc<Desk>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let question = read(&Parameters::checked(pairs, &["name", "address", "cname", "plane"])?)?;
    // Hypotheses are small registries of their own: milliseconds that no other request is to wait for.
    let answering = tokio::task::spawn_blocking(move || judge(&desk, &question));
    let answer = answering.await.map_err(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the question was cut off by an internal error")
    })?;
    Ok(json(StatusCode::OK, &answer))
}

fn read(parameters: &Parameters) -> Result<Question, Problem> {
    let expected = "expected a host name, for example name=www.example.com";
    let text = parameters.one("name")?.unwrap_or("").trim();
    if text.is_empty() {
        return Err(Problem::parameter("name", format!("missing; {expected}")));
    }
    let address = |text: &str| {
        let expected = "expected an IPv4 or IPv6 address, for example address=203.0.113.10";
        text.parse().map_err(|_| Problem::parameter("address", format!("{text:?} is no address; {expected}")))
    };
    let cname = |text: &str| {
        DomainName::from_text(text)
            .map_err(|error| Problem::parameter("cname", format!("{text:?}: {error}; expected a host name")))
    };
    let addresses: Vec<IpAddr> =
        parameters.all("address", ADDRESSES_MAX)?.into_iter().map(address).collect::<Result<_, _>>()?;
    let chain: Vec<_> = parameters.all("cname", CNAMES_MAX)?.into_iter().map(cname).collect::<Result<_, _>>()?;
    let via = match parameters.one("plane")? {
        None | Some("dns") => Via::Dns,
        Some("http") => Via::Http,
        Some(text) => return Err(Problem::parameter("plane", format!("{text:?}; available: dns, http"))),
    };
    if addresses.is_empty() && !chain.is_empty() {
        return Err(Problem::parameter("cname", "given without an address; expected address=… where it leads"));
    }
    let is_in_line = addresses.is_empty();
    // What is no host name gets the verdict the planes give it.
    let host = OwnedHost::read(text);
    Ok(Question { text: text.to_owned(), host, addresses, chain, via, is_in_line })
}

fn judge(desk: &Desk, question: &Question) -> Answer {
    let health = &desk.source.health;
    let now = health.view.now();
    let view = health.view.load_full();
    let verdict = view.judge(&question.subject(), now);
    let is_carried_out = verdict.action == Action::Allow || verdict.enforceable;
    let enforced = view.stance() == Stance::Enforce && is_carried_out;
    let mut notes = Vec::new();
    if question.is_in_line {
        notes.push("no address: judged as if it stood on a mainland server of ours, behind the gate".to_owned());
    }
    let provider = &desk.provider.id;
    let advice = (verdict.action == Action::Block).then(|| {
        let host = match &question.host {
            OwnedHost::Address(addr) => HostName::Address(*addr),
            OwnedHost::Invalid => HostName::Invalid,
            OwnedHost::Name(name) => HostName::Name(name.clone()),
        };
        let [en, zh] = Advice::of(&verdict, &host, &question.text, &view, &desk.provider);
        AdviceReport { zh, en }
    });
    Answer {
        explanation: Explanation::new(&view, provider, question, &verdict, enforced, now, notes),
        in_line: question.is_in_line,
        stance: view.stance().label(),
        advice,
        registry_loaded_at: health.registry.loaded().map(|loaded| rfc3339(loaded.loaded_at)),
        ranges_loaded_at: health.ranges.loaded().map(|loaded| rfc3339(loaded.loaded_at)),
    }
}
