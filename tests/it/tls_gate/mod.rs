//! Every TLS bypass of the catalogue (D-T1 to D-T21), from a client's socket to what a scripted origin saw.
//!
//! U is an unfiled name (`nofile.cn`), F a filed one that is accessed here (`here.cn`). What TLS hides from whoever does not
//! open it is residual, and pinned as it is today.

mod acme;
mod cuts;
mod hellos;
mod modes;
mod origins;
mod retries;
mod sessions;
mod tunnels;

use std::net::SocketAddr;

use icpgate::http::Settings;
use icpgate::policy::{Rules, View};
use tokio::io::AsyncWriteExt;

use super::harness::fixture;
use super::harness::http::{Client, HttpGate};
use super::harness::tls::Sketch;
use super::harness::tls_origin::{TlsOrigin, answer};
use super::harness::until;

/// The alert that refuses a name.
const UNRECOGNIZED_NAME: u8 = 112;
const DECODE_ERROR: u8 = 50;
const ILLEGAL_PARAMETER: u8 = 47;
const INTERNAL_ERROR: u8 = 80;
const UNEXPECTED_MESSAGE: u8 = 10;

/// A gate for TLS before a scripted origin.
struct TlsGate {
    http: HttpGate,
    origin: TlsOrigin,
    addr: SocketAddr,
}

impl TlsGate {
    async fn start() -> Self {
        Self::with(fixture::view(Rules::default()), |_| {}).await
    }

    async fn with(view: View, change: impl FnOnce(&mut Settings)) -> Self {
        let origin = TlsOrigin::start().await;
        let fixed = origin.addr;
        let http = HttpGate::with(view, |settings| {
            settings.tls_listen = vec!["127.0.0.1:0".parse().expect("an address")];
            settings.fixed_tls = Some(fixed);
            change(settings);
        })
        .await;
        let addr = http.tls.expect("a listener for TLS");
        Self { http, origin, addr }
    }

    async fn connect(&self) -> Client {
        let res = Client::connect(self.addr).await;
        res.stream.set_nodelay(true).expect("a TCP socket");
        res
    }

    /// Sends octets in one piece and ends; what comes back.
    async fn outcome(&self, octets: &[u8]) -> Outcome {
        self.outcome_of(&[octets]).await
    }

    /// Sends pieces one after the other, each in its own segment, and ends; what comes back.
    async fn outcome_of(&self, pieces: &[&[u8]]) -> Outcome {
        let mut client = self.connect().await;
        for piece in pieces {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        let _ = client.stream.shutdown().await;
        Outcome::read(client.rest().await)
    }

    /// What the gate counts now.
    fn counters(&self) -> &icpgate::http::tls::Counters {
        &self.http.counters.tls
    }
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// A fatal alert and the end.
    Alert(u8),
    /// The end.
    Closed,
    /// The origin's answer, then what the origin was sent.
    Passed(Vec<u8>),
    /// Anything else.
    Other(Vec<u8>),
}

impl Outcome {
    fn read(octets: Vec<u8>) -> Self {
        match &octets[..] {
            [] => Self::Closed,
            [21, 3, 3, 0, 2, 2, alert] => Self::Alert(*alert),
            octets => match octets.strip_prefix(&answer()[..]) {
                Some(echo) => Self::Passed(echo.to_vec()),
                None => Self::Other(octets.to_vec()),
            },
        }
    }
}

/// The hello of a plain client for a name.
fn hello(name: &str) -> Vec<u8> {
    Sketch::new(name).stream()
}
