//! The admin listener: metrics, health, verdicts, data, reload, drain, and the console.
//!
//! HTTP/1.1 on own sockets with own limits: a TCP listener, a Unix socket for our user and root, or both. An error of
//! `accept` never ends it. Without a token and without roots that vouch for clients (`tls`) the TCP listener stands on a
//! loopback address only. What a browser could be made
//! to send there is turned away (`access`), and nobody guesses a token for long (`attempts`). Every answer forbids to be
//! kept, framed, sniffed, or read by another site (`answer`).

mod access;
mod answer;
mod attempts;
mod console;
mod data;
mod plain;
mod routes;
mod seats;
mod stream;
pub mod tls;
mod verdict;

pub use attempts::Attempts;
pub use stream::READERS_MAX;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::access::Client;
use self::seats::{Seat, Seats, Watched, Work};
use self::tls::AdminTls;
use super::recent::Recent;
use super::reloader::Reloader;
use super::settings::AdminSettings;
use super::socket_path::{SocketPath, stranger};
use super::status::StatusSource;
use crate::count::{Counter, Labels, Observe, Sample};
use crate::drain::{DrainSignal, DrainWatch, Phase};
use crate::http::settings::ProviderText;
use crate::policy::Sink;
use crate::sockets::{SocketId, Sockets};

/// Connections at a time: scrapers, probes, a few people.
const CONNECTIONS_MAX: usize = 256;
/// Time for a whole request head, however its octets come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Octets of a request head; a question with 64 addresses has under 4 KiB.
const HEAD_OCTETS_MAX: usize = 16 << 10;
/// Pause after a failed `accept`, so that a lack of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why there is no admin listener.
#[derive(Debug, Error)]
pub enum BindError {
    /// The Unix socket could not be had.
    #[error("cannot listen on admin.socket {}: {source}", path.display())]
    Local {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The socket could not be had.
    #[error("cannot listen on tcp {addr}: {source}")]
    Socket {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Neither token nor roots of clients, and an address others can reach.
    #[error(
        "admin.listen {0} can be reached by others; expected a loopback address, a token in admin.token-file, or \
         admin.tls.client-ca"
    )]
    Unprotected(SocketAddr),
}

/// What the admin listener counts.
#[derive(Debug, Default)]
pub struct Counters {
    by_class: [Counter; 5],
    /// Errors of `accept`.
    pub socket_errors: Counter,
    /// TLS handshakes that failed.
    pub handshakes_failed: Counter,
    /// Connections turned away at the limit.
    pub connections_refused: Counter,
    /// Connections now.
    pub connections: crate::count::Gauge,
}

impl Counters {
    /// Counts a response.
    pub fn response(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.by_class[class].increment();
    }
}

impl Observe for Counters {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        for (class, counter) in ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(&self.by_class) {
            show("admin_requests_total", &[("status", class)], Sample::Count(counter.value()));
        }
        show("admin_handshakes_failed_total", &[], Sample::Count(self.handshakes_failed.value()));
        let plane = [("plane", "admin")];
        show("socket_errors_total", &plane, Sample::Count(self.socket_errors.value()));
        show("connections_refused_total", &plane, Sample::Count(self.connections_refused.value()));
        show("connections", &plane, Sample::Count(self.connections.value()));
    }
}

/// What requests are answered from.
pub struct Desk {
    /// The state of the gate.
    pub source: StatusSource,
    /// The ways to reload.
    pub reloader: Reloader,
    /// Recent verdicts.
    pub recent: Arc<Recent>,
    /// The sink, to ask for every verdict while somebody reads the stream.
    pub sink: Sink,
    /// The planes' way out, for `POST /v1/drain`.
    pub drain: Arc<DrainSignal>,
    /// The listener's own end, which is later than the planes'.
    pub end: DrainWatch,
    /// Places for readers of the stream, [`READERS_MAX`] of them.
    pub readers: Arc<Semaphore>,
    /// The bearer token.
    pub token: Option<String>,
    /// What ends TLS on the TCP listener.
    pub tls: Option<Arc<AdminTls>>,
    /// True where a client's certificate lets him in.
    pub asks_for_certificates: bool,
    /// Wrong tokens of late.
    pub attempts: Attempts,
    /// Host names by which browsers may come, beside addresses and `localhost`.
    pub names: Vec<String>,
    /// Us, as the page names us.
    pub provider: ProviderText,
    /// The listener's counters.
    pub counters: Arc<Counters>,
}

/// A bound listener.
pub struct Listener {
    door: Door,
    addr: Option<SocketAddr>,
}

/// What connections come by.
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener, SocketPath),
}

/// A connection, whatever it came by.
enum Came {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Door {
    async fn accept(&self) -> io::Result<Came> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| Came::Tcp(stream, peer)),
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Came::Unix(stream)),
        }
    }
}

impl Listener {
    /// Binds, unless that would let others in without a token.
    pub async fn bind(settings: &AdminSettings, sockets: &Sockets) -> Result<Option<Self>, BindError> {
        let Some(addr) = settings.listen else { return Ok(None) };
        if !settings.is_guarded() && !addr.ip().to_canonical().is_loopback() {
            return Err(BindError::Unprotected(addr));
        }
        let refused = |source| BindError::Socket { addr, source };
        let id = SocketId { plane: "admin", transport: "tcp", addr };
        let listener = match sockets.inherit(id) {
            Some(socket) => TcpListener::from_std(socket.into()).map_err(refused)?,
            None => TcpListener::bind(addr).await.map_err(refused)?,
        };
        sockets.offer(id, &listener);
        let addr = listener.local_addr().map_err(refused)?;
        Ok(Some(Self { door: Door::Tcp(listener), addr: Some(addr) }))
    }

    /// Binds the Unix socket, where one is configured. It stands at its path once [`Listener::run`] serves.
    pub fn bind_local(settings: &AdminSettings) -> Result<Option<Self>, BindError> {
        let Some(path) = &settings.socket else { return Ok(None) };
        let bound = SocketPath::bind(path).map_err(|source| BindError::Local { path: path.clone(), source })?;
        Ok(Some(Self { door: Door::Unix(bound.0, bound.1), addr: None }))
    }

    /// Where it listens; `None` for the Unix socket.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Serves until `desk.end` is draining; answers under way are finished until it is stopped.
    pub async fn run(mut self, desk: Arc<Desk>) {
        if let Door::Unix(_, place) = &mut self.door
            && let Err(error) = place.take_place()
        {
            tracing::error!(%error, path = %place.path().display(), "the admin socket cannot be put there");
        }
        let (mut end, mut drain) = (desk.end.clone(), desk.drain.watch());
        let (counters, tls) = (desk.counters.clone(), desk.tls.clone());
        let routes = routes::router(desk);
        let seats = Seats::new(CONNECTIONS_MAX);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.door.accept() => accepted,
                () = end.reached(Phase::Draining) => break,
                // The next gate answers there, and for itself.
                () = drain.handed_over() => {
                    if let Door::Unix(_, place) = &mut self.door {
                        place.leave();
                    }
                    break;
                }
            };
            while connections.try_join_next().is_some() {}
            let Ok(came) = accepted else {
                // ECONNABORTED, EMFILE: the listener stays.
                counters.socket_errors.increment();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Some(seat) = seats.take() else {
                counters.connections_refused.increment();
                continue;
            };
            let (routes, counters, end, tls) = (routes.clone(), counters.clone(), end.clone(), tls.clone());
            connections.spawn(async move {
                let _open = counters.connections.enter();
                let seat = Arc::new(seat);
                match came {
                    Came::Tcp(stream, peer) => {
                        // Small answers leave at once.
                        let _ = stream.set_nodelay(true);
                        let Some(tls) = tls else {
                            return serve(stream, Client::Remote(peer.ip()), seat, routes, end).await;
                        };
                        let (mut ending, over) = (end.clone(), seat.clone());
                        let accepted = tokio::select! {
                            accepted = tls.accept(stream) => accepted,
                            // Another one needs the place, or nobody is served any more.
                            () = over.over() => return,
                            () = ending.reached(Phase::Draining) => return,
                        };
                        match accepted {
                            Ok((stream, true)) => {
                                serve(stream, Client::Certified(peer.ip()), seat, routes, end).await;
                            }
                            Ok((stream, false)) => serve(stream, Client::Remote(peer.ip()), seat, routes, end).await,
                            Err(error) => {
                                counters.handshakes_failed.increment();
                                tracing::debug!(%error, "a TLS handshake of the admin listener failed");
                            }
                        }
                    }
                    Came::Unix(stream) => match stranger(&stream) {
                        Ok(None) => serve(stream, Client::Local, seat, routes, end).await,
                        Ok(Some(user)) => tracing::warn!(user, "another user is turned away from the admin socket"),
                        Err(error) => tracing::debug!(%error, "who opened the admin socket is not known"),
                    },
                }
            });
        }
        tokio::select! {
            () = async { while connections.join_next().await.is_some() {} } => {}
            () = end.reached(Phase::Stopped) => connections.abort_all(),
        }
    }
}

async fn serve<S>(stream: S, client: Client, seat: Arc<Seat>, routes: axum::Router, mut end: DrainWatch)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_OCTETS_MAX);
    let routes = TowerToHyperService::new(routes);
    let (answerer, watched) = (seat.clone(), Watched { stream, seat: seat.clone() });
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(client);
        let (seat, answering) = (answerer.clone(), routes.call(request));
        async move {
            seat.set(Work::Answering);
            let response = answering.await?;
            let is_stream = response.headers().get("content-type").is_some_and(|value| value == "text/event-stream");
            seat.set(if is_stream { Work::Streaming } else { Work::Idle });
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(watched), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = seat.over() => Ok(()),
        () = end.reached(Phase::Draining) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection => served,
                () = seat.over() => Ok(()),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}
