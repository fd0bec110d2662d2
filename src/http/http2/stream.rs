//! One stream: its request judged, then answered here or passed on.

use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::request::Parts;
use http::{Request, Response};
use tokio::time::timeout;

use super::Shared;
use super::relay::{ClientEnd, StreamPlan, pass};
use super::request::StreamHead;
use crate::http::body::BodyError;
use crate::http::changes::Turning;
use crate::http::connection::{ACME_ANSWER_OCTETS_MAX, LINGER, LINGER_OCTETS_MAX};
use crate::http::counters::RequestOutcome;
use crate::http::gate::{Asked, Blocked, Decision, PageRequest};
use crate::http::head::{Field, HeadError, Method};
use crate::http::host::HostName;
use crate::http::negotiate::{Format, Language};
use crate::http::origin::{Carries, Route, head_limits};
use crate::http::relay::RelayError;
use crate::http::reply::Answer;

/// Serves a stream to its end.
pub(super) async fn serve(shared: Arc<Shared>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let (parts, mut body) = request.into_parts();
    answer(&shared, &parts, &mut body, respond).await;
    linger(&mut body).await;
}

/// Takes what is still on its way of a body that nobody needs: clients that meet a reset while they send it may lose the
/// answer. Its end comes with the value, by a reset that says NO_ERROR (RFC 9113 section 8.1).
async fn linger(body: &mut RecvStream) {
    if body.is_end_stream() {
        return;
    }
    let taking = async {
        let mut left = LINGER_OCTETS_MAX;
        while let Some(Ok(data)) = body.data().await {
            left = left.saturating_sub(data.len());
            if left == 0 || body.flow_control().release_capacity(data.len()).is_err() {
                return;
            }
        }
    };
    // What has not come by then is not waited for.
    let _ = timeout(LINGER, taking).await;
}

async fn answer(shared: &Shared, parts: &Parts, body: &mut RecvStream, respond: SendResponse<Bytes>) {
    let (gate, party) = (&shared.gate, &shared.party);
    let mut client = ClientEnd::new(respond, shared.queue.clone(), gate.settings().stream_timeout);
    let is_head_request = parts.method == http::Method::HEAD;
    let limits = head_limits(gate.settings());
    let head = match StreamHead::read(parts, body.is_end_stream(), limits, gate.via()) {
        Ok(head) => head,
        Err(error) => return refuse(shared, &mut client, error, is_head_request).await,
    };
    let addr = party.original_client(gate, head.values(Field::XForwardedFor));
    if matches!(head.host, HostName::Address(_)) {
        gate.counters().address_hosts.increment();
    }
    let is_plain = matches!(head.method, Method::Get | Method::Head) && !head.framing.has_body();
    let plain_path = is_plain.then_some(head.path.as_bytes());
    let asked = Asked { host: &head.host, shown: head.shown, client: addr, reached: party.reached(), plain_path };
    // From before the verdict, so that no change of it is missed.
    let turning = Turning::new(gate.changes());
    match gate.decide(&asked) {
        Decision::Pass if !party.may_ask_for(gate, &head.host) => {
            refuse(shared, &mut client, HeadError::Misdirected, is_head_request).await;
        }
        Decision::Pass => pass_on(shared, &head, body, &mut client, (None, turning)).await,
        Decision::CarveOut => pass_on(shared, &head, body, &mut client, (Some(ACME_ANSWER_OCTETS_MAX), turning)).await,
        Decision::Block(blocked) => block(shared, &head, &blocked, addr, &mut client).await,
        Decision::NotReady => {
            gate.counters().request(RequestOutcome::NotReady);
            send(&mut client, &gate.not_ready_answer(), is_head_request).await;
        }
    }
}

/// Answers what is no request; the connection goes on, for frames say where the next one begins.
async fn refuse(shared: &Shared, client: &mut ClientEnd, error: HeadError, head_only: bool) {
    shared.gate.counters().head_error(error);
    tracing::debug!(%error, "refused a stream");
    send(client, &Answer::short(error.status(), shared.gate.now(), &error.to_string()), head_only).await;
}

async fn block(shared: &Shared, head: &StreamHead<'_>, blocked: &Blocked, addr: IpAddr, client: &mut ClientEnd) {
    shared.gate.counters().request(RequestOutcome::Blocked);
    let is_grpc = head.values(Field::ContentType).any(|value| value.starts_with(b"application/grpc"));
    let language = Language::choose(head.values(Field::AcceptLanguage));
    let format = if is_grpc { Format::Text } else { Format::choose(head.values(Field::Accept)) };
    let request = PageRequest { host: &head.host, shown: head.shown, client: addr, language, format };
    let answer = shared.gate.block_answer(blocked, &request);
    if is_grpc {
        // A caller of gRPC shows the status of the call, never a page.
        send_parts(client, answer.grpc_refusal(), Vec::new()).await;
    } else {
        send(client, &answer, head.method == Method::Head).await;
    }
}

/// Sends an answer of ours.
async fn send(client: &mut ClientEnd, answer: &Answer, head_only: bool) {
    let mut body = Vec::new();
    if !head_only {
        answer.body.write(&mut body);
    }
    send_parts(client, answer.head(), body).await;
}

async fn send_parts(client: &mut ClientEnd, head: Response<()>, body: Vec<u8>) {
    // A client that went away needs no answer; one that does not read it is given up.
    if client.begin(head, body.is_empty()).is_ok() && !body.is_empty() && client.send(body.into(), true).await.is_err()
    {
        client.fail(Reason::CANCEL);
    }
}

//--- Passing on ------------------------------------------------------------------------------------------------------

async fn pass_on(
    shared: &Shared,
    head: &StreamHead<'_>,
    body: &mut RecvStream,
    client: &mut ClientEnd,
    (body_max, mut turning): (Option<u64>, Turning),
) {
    let gate = &shared.gate;
    let client_addr = shared.party.client();
    let Some(place) = gate.streams().enter(client_addr, gate.settings().lists(client_addr)) else {
        gate.counters().connections_refused.increment();
        gate.counters().request(RequestOutcome::Refused);
        // RFC 9113 section 8.7: nothing was done with it, so it may be sent again.
        return client.fail(Reason::REFUSED_STREAM);
    };
    client.hold(place);
    let plan = StreamPlan {
        is_head: head.method == Method::Head,
        is_idempotent: head.method.is_idempotent(),
        framing: head.framing,
        body_max,
        hides_http3: shared.party.hides_http3(gate),
    };
    let mut octets = Vec::with_capacity(1024);
    head.write(&shared.party.hop(gate), &mut octets);
    let route = Route { host: &head.host, ends: &shared.party.ends, carries: Carries::Http };
    let turned = async {
        match body_max {
            None => turning.blocked(gate, &head.host, shared.party.reached()).await,
            // A blocked name's already, and short.
            Some(_) => pending().await,
        }
    };
    tokio::select! {
        biased;
        result = pass(shared, &route, &plan, &octets, body, client) => conclude(shared, &plan, client, result).await,
        () = turned => {
            gate.counters().request(RequestOutcome::Blocked);
            client.fail(Reason::CANCEL);
        }
    }
}

async fn conclude(shared: &Shared, plan: &StreamPlan, client: &mut ClientEnd, result: Result<(), RelayError>) {
    let counters = shared.gate.counters();
    let short = |status, why: &str| Answer::short(status, shared.gate.now(), why);
    match result {
        Ok(()) => counters.request(match plan.body_max {
            Some(_) => RequestOutcome::CarvedOut,
            None => RequestOutcome::Proxied,
        }),
        Err(RelayError::Body(error)) => {
            counters.body_error(error);
            let is_refused = error == BodyError::Chunk;
            counters.request(if is_refused { RequestOutcome::Refused } else { RequestOutcome::ClientFailed });
            client.fail(Reason::PROTOCOL_ERROR);
        }
        Err(RelayError::Client) => {
            counters.request(RequestOutcome::ClientFailed);
            client.fail(Reason::CANCEL);
        }
        Err(RelayError::Origin(failure)) => {
            counters.origin_failure(failure);
            counters.request(RequestOutcome::OriginFailed);
            if client.has_begun() {
                // The client must see that the answer was cut.
                return client.fail(Reason::INTERNAL_ERROR);
            }
            send(client, &short(failure.status(), failure.what_clients_are_told()), plan.is_head).await;
        }
    }
}
