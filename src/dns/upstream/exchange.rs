//! One question to one server over UDP, TCP, TLS or HTTPS, by hickory's client streams.
//!
//! UDP uses a fresh socket with a random port for every question (RFC 5452 section 4.5) and TCP on truncation; stream
//! connections are kept and shared.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hickory_net::h2::HttpsClientStream;
use hickory_net::proto::op::{DnsRequest, DnsRequestOptions, Message};
use hickory_net::tcp::TcpClientStream;
use hickory_net::tls::tls_exchange;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::{DnsExchange, FirstAnswer};
use hickory_net::{DnsHandle, NetError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::sync::Mutex;

use super::sockets::Sockets;
use crate::dns::question::{self, Question};
use crate::dns::settings::{UpstreamServer, UpstreamTransport};

/// Questions one kept connection carries at a time.
const ACTIVE_MAX: usize = 256;

/// Why an exchange failed. The upstream or the way to it is at fault.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// Our own encoding was not understood.
    #[error("question cannot be encoded: {0}")]
    Encode(String),
    /// Connection, timeout or protocol.
    #[error("{0}")]
    Net(#[from] NetError),
    /// A server name that is none.
    #[error("{0:?} is not a name a certificate can hold")]
    ServerName(String),
}

impl ExchangeError {
    /// True where nothing came in time, as against an end that somebody made.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Net(NetError::Timeout))
    }
}

/// The TLS settings all servers share.
pub type TlsSettings = Arc<ClientConfig>;

type Connection = DnsExchange<Sockets>;

/// The way to one server.
pub struct Link {
    addr: SocketAddr,
    transport: UpstreamTransport,
    tls: TlsSettings,
    timeout: Duration,
    udp_octets: u16,
    /// Drives the connections: what it started ends with its last clone, so it lives as long as the link.
    provider: Sockets,
    /// The kept stream connection; TCP for servers asked over UDP.
    kept: Mutex<Option<Connection>>,
}

impl Link {
    /// The way to `server`; connects to nothing.
    pub fn new(server: &UpstreamServer, tls: &TlsSettings, timeout: Duration, udp_octets: u16) -> Self {
        let (addr, transport) = (server.addr, server.transport.clone());
        Self {
            addr,
            transport,
            tls: tls.clone(),
            timeout,
            udp_octets,
            provider: Sockets::default(),
            kept: Mutex::new(None),
        }
    }

    /// Asks, and returns the message with ID 0.
    pub async fn ask(&self, question: &Question, timeout: Duration) -> Result<Bytes, ExchangeError> {
        if self.transport == UpstreamTransport::Udp {
            let builder = UdpClientStream::builder(self.addr, self.provider.clone())
                .with_timeout(Some(timeout.min(self.timeout)));
            let message = send(&builder.exchange(), self.request(question)?).await?;
            let is_truncated = message.get(2).is_some_and(|octet| octet & 0x02 != 0);
            if !is_truncated {
                return Ok(message);
            }
        }
        self.ask_kept(question).await
    }

    /// Asks over the kept connection. One that turns out dead is opened again, once.
    async fn ask_kept(&self, question: &Question) -> Result<Bytes, ExchangeError> {
        let (connection, is_old) = self.connection().await?;
        let failed = match send(&connection, self.request(question)?).await {
            Ok(message) => return Ok(message),
            Err(error) => error,
        };
        self.kept.lock().await.take();
        if !is_old {
            return Err(failed.into());
        }
        let (connection, _) = self.connection().await?;
        Ok(send(&connection, self.request(question)?).await?)
    }

    /// The kept connection, or a new one; true when it was used before.
    async fn connection(&self) -> Result<(Connection, bool), ExchangeError> {
        let mut kept = self.kept.lock().await;
        if let Some(connection) = &*kept {
            return Ok((connection.clone(), true));
        }
        let connection = self.connect().await?;
        *kept = Some(connection.clone());
        Ok((connection, false))
    }

    async fn connect(&self) -> Result<Connection, ExchangeError> {
        let provider = self.provider.clone();
        let config = || ClientConfig::clone(&self.tls);
        match &self.transport {
            UpstreamTransport::Tcp | UpstreamTransport::Udp => {
                Ok(TcpClientStream::exchange(self.addr, None, self.timeout, Some(ACTIVE_MAX), provider).await?)
            }
            UpstreamTransport::Tls { server_name } => {
                let name = ServerName::try_from(server_name.clone())
                    .map_err(|_| ExchangeError::ServerName(server_name.clone()))?;
                Ok(tls_exchange(self.addr, name, config(), self.timeout, Some(ACTIVE_MAX), provider).await?)
            }
            UpstreamTransport::Https { path, server_name } => {
                let mut config = config();
                config.alpn_protocols = vec![b"h2".to_vec()];
                let mut builder = HttpsClientStream::builder(Arc::new(config), provider);
                builder.request_timeout(self.timeout);
                Ok(builder.exchange(self.addr, server_name.as_str().into(), path.as_str().into()).await?)
            }
        }
    }

    fn request(&self, question: &Question) -> Result<DnsRequest, ExchangeError> {
        // RFC 8484 section 4.1 asks for ID 0 over HTTPS, where it keys nothing; elsewhere it must not be guessed.
        let id = if matches!(self.transport, UpstreamTransport::Https { .. }) { 0 } else { random_id() };
        let octets = question::encode(question, id, self.udp_octets);
        let message = Message::from_vec(&octets).map_err(|error| ExchangeError::Encode(error.to_string()))?;
        Ok(DnsRequest::new(message, DnsRequestOptions::default()))
    }
}

/// An ID nobody can foresee: the standard library's hash keys come from the system's random source.
fn random_id() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static KEYS: std::sync::OnceLock<RandomState> = std::sync::OnceLock::new();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    KEYS.get_or_init(RandomState::new).hash_one(count) as u16
}

async fn send(connection: &Connection, request: DnsRequest) -> Result<Bytes, NetError> {
    let mut message = connection.send(request).first_answer().await?.into_buffer();
    if let Some(id) = message.get_mut(..2) {
        id.fill(0);
    }
    Ok(Bytes::from(message))
}
