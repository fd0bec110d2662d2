//! TLS that ends here: for names with a certificate of the operator's, so that blocked ones can be shown the page.
//!
//! Inside is HTTP/1.1 or HTTP/2 as over plain TCP, with one question more: every request is judged by its own host,
//! whatever name the connection was opened for (D-T17, D-Q10), and a host that may pass but has no certificate here is told
//! so (421, RFC 9110 section 15.5.20). Nothing is taken early: 0-RTT is not offered (D-T14).

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::buffer::Buffer;
use super::connection;
use super::counters::Handshake;
use super::entry::Arrival;
use super::gate::Gate;
use super::host::{self, HostName};
use super::http2;
use super::party::{Party, Secure};
use super::stream::Ahead;

/// Serves a connection whose ClientHello is in its input, until it ends.
///
/// `server` has a certificate for the name; for another, or none, the handshake fails with the alert of TLS for it.
pub(super) async fn serve(gate: &Arc<Gate>, server: Arc<ServerConfig>, arrival: Arrival) {
    let Arrival { stream, party, input, timer, drain, draining } = arrival;
    let accepting = TlsAcceptor::from(server).accept(Ahead::new(stream, input));
    // Boxed, for it is large and soon over.
    let stream = match timeout(gate.settings().hello_timeout, Box::pin(accepting)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            return gate.counters().handshake(Handshake::Failed);
        }
        Err(_) => return gate.counters().handshake(Handshake::Slow),
    };
    gate.counters().handshake(Handshake::Done);
    let session = stream.get_ref().1;
    let server_name = session.server_name().and_then(read_name);
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let party = Party { secure: Some(Secure { server_name }), ..party };
    let input = Buffer::new(gate.settings().head_bytes_max);
    let arrival = Arrival { stream, party, input, timer, drain, draining };
    if is_http2 {
        Box::pin(http2::serve(gate, arrival)).await;
    } else {
        Box::pin(connection::serve(gate, arrival)).await;
    }
}

fn read_name(text: &str) -> Option<HostName> {
    HostName::read(host::split(text.as_bytes()).ok()?.of(text.as_bytes())).ok()
}
