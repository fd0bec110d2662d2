//! `GET /v1/verdict`: what a plane would decide now, with its evidence.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::Desk;
use super::answer::{Parameters, Problem, json};
use crate::model::{DomainName, Hop, Host, Subject, Via, parse_ip_literal};
use crate::policy::{Action, SharedView, Stance, VerdictReport};

/// Addresses of one question; an answer with more is no web site's.
const ADDRESSES_MAX: usize = 64;
/// Names on the way to them.
const CNAMES_MAX: usize = 16;

/// Judges `name`; without an `address` as if we stood in line before it.
pub async fn verdict(
    State(desk): State<Arc<Desk>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let question = Question::read(&Parameters::checked(pairs, &["name", "address", "cname", "plane"])?)?;
    Ok(json(StatusCode::OK, &question.judge(&desk.source.health.view)))
}

/// A checked question.
struct Question {
    text: String,
    host: OwnedHost,
    addresses: Vec<IpAddr>,
    chain: Vec<DomainName>,
    via: Via,
}

/// A host that owns its name; one lives a request.
#[allow(clippy::large_enum_variant, reason = "one a request, never kept")]
enum OwnedHost {
    Address(IpAddr),
    Invalid,
    Name(DomainName),
}

impl Question {
    fn read(parameters: &Parameters) -> Result<Self, Problem> {
        let expected = "expected a host name, for example name=www.example.com";
        let text = parameters.one("name")?.unwrap_or("").trim();
        if text.is_empty() {
            return Err(Problem::parameter("name", format!("missing; {expected}")));
        }
        // What is no host name gets the verdict the planes give it.
        let host = match parse_ip_literal(text) {
            Some(Ok(addr)) => OwnedHost::Address(addr),
            Some(Err(())) => OwnedHost::Invalid,
            None => DomainName::from_host(text).map_or(OwnedHost::Invalid, OwnedHost::Name),
        };
        let address = |text: &str| {
            let expected = "expected an IPv4 or IPv6 address, for example address=203.0.113.10";
            text.parse().map_err(|_| Problem::parameter("address", format!("{text:?} is no address; {expected}")))
        };
        let cname = |text: &str| {
            DomainName::from_text(text)
                .map_err(|error| Problem::parameter("cname", format!("{text:?}: {error}; expected a host name")))
        };
        let addresses = parameters.all("address", ADDRESSES_MAX)?.into_iter().map(address).collect::<Result<_, _>>()?;
        let chain: Vec<_> = parameters.all("cname", CNAMES_MAX)?.into_iter().map(cname).collect::<Result<_, _>>()?;
        let via = match parameters.one("plane")? {
            None | Some("dns") => Via::Dns,
            Some("http") => Via::Http,
            Some(text) => return Err(Problem::parameter("plane", format!("{text:?}; available: dns, http"))),
        };
        let res = Self { text: text.to_owned(), host, addresses, chain, via };
        if res.addresses.is_empty() && !res.chain.is_empty() {
            return Err(Problem::parameter("cname", "given without an address; expected address=… where it leads"));
        }
        Ok(res)
    }

    fn judge(self, view: &SharedView) -> VerdictReport {
        let now = view.now();
        let view = view.load_full();
        let host = match &self.host {
            OwnedHost::Address(addr) => Host::Address(*addr),
            OwnedHost::Invalid => Host::Invalid,
            OwnedHost::Name(name) => Host::Name(name.as_ref()),
        };
        let hop = match self.addresses.as_slice() {
            [] => Hop::InLine,
            addresses => Hop::Resolved { addresses, chain: &self.chain },
        };
        let verdict = view.judge(&Subject { host, hop, via: self.via }, now);
        let is_carried_out = verdict.action == Action::Allow || verdict.enforceable;
        let enforced = view.stance() == Stance::Enforce && is_carried_out;
        let name = match &self.host {
            OwnedHost::Name(name) => Some(name.as_ref()),
            OwnedHost::Address(_) | OwnedHost::Invalid => None,
        };
        let shown = name.map_or(self.text, |name| name.to_string());
        VerdictReport::new(&view, shown, name, self.addresses, &verdict, enforced)
    }
}
