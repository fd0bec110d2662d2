//! DNS over TLS, HTTPS and QUIC through real sockets: one verdict whatever the way, and each way's own rules.

mod discovery;
mod https;
mod keys;
mod limits;
mod options;
mod quic;
mod tls;
mod verdicts;

use std::net::SocketAddr;
use std::sync::Arc;

use icpgate::dns::Settings;
use icpgate::dns::settings::Secure;
use icpgate::policy::Rules;
use quinn::crypto::rustls::QuicClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::harness::dns::{DnsGate, PATIENCE};
use crate::harness::fixture;
use crate::harness::h2::{TlsClient, certificate};

/// An encrypted listener on a port chosen by the system, with a certificate of the tests.
pub fn listener(name: &str) -> Secure {
    Secure { listen: vec!["127.0.0.1:0".parse().expect("an address")], certificate: Some(certificate(name)) }
}

/// A gate with every transport, changed by `change`.
pub async fn gate_with(change: impl FnOnce(&mut Settings)) -> DnsGate {
    DnsGate::with(fixture::view(Rules::default()), |settings| {
        settings.tls = listener("here");
        settings.https = listener("here");
        settings.quic = listener("here");
        change(settings);
    })
    .await
}

fn addr(gate: &DnsGate, at: usize) -> SocketAddr {
    gate.secure[at].expect("it listens")
}

/// A client of DNS over TLS.
pub fn tls(gate: &DnsGate) -> TlsClient {
    TlsClient::new(addr(gate, 0))
}

/// A client of DNS over HTTPS.
pub fn https(gate: &DnsGate) -> TlsClient {
    TlsClient::new(addr(gate, 1))
}

/// Sends messages with their lengths, in one write.
pub async fn send(stream: &mut (impl AsyncWrite + Unpin), messages: &[&[u8]]) {
    let mut octets = Vec::new();
    for message in messages {
        octets.extend_from_slice(&u16::try_from(message.len()).expect("a message").to_be_bytes());
        octets.extend_from_slice(message);
    }
    stream.write_all(&octets).await.expect("writes");
    stream.flush().await.expect("writes");
}

/// The next message; `None` at a clean end.
pub async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let reading = async {
        let first = match stream.read_u8().await {
            Ok(octet) => octet,
            // Inside TLS only what was closed in good order is an end.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                assert!(!error.to_string().contains("close_notify"), "cut off: {error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let second = stream.read_u8().await.expect("a length");
        let mut res = vec![0; usize::from(u16::from_be_bytes([first, second]))];
        stream.read_exact(&mut res).await.expect("a message");
        Some(res)
    };
    timeout(PATIENCE, reading).await.expect("a message or an end in time")
}

/// One query over a new connection of DNS over TLS.
pub async fn over_tls(gate: &DnsGate, packet: &[u8]) -> Option<Vec<u8>> {
    let mut stream = tls(gate).connect("here.cn", &["dot"]).await.expect("TLS");
    send(&mut stream, &[packet]).await;
    receive(&mut stream).await
}

/// A client of QUIC and its connection.
pub struct Quic {
    pub connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

impl Quic {
    /// Opens a connection, with these protocols.
    pub async fn try_connect(addr: SocketAddr, trusted: &str, alpn: &[&str]) -> Result<Self, quinn::ConnectionError> {
        let config = TlsClient::trusting(addr, trusted).config(alpn);
        let config = QuicClientConfig::try_from(config).expect("a client");
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
        let name = if trusted == "here" { "here.cn" } else { "other.cn" };
        let connecting = endpoint.connect(addr, name).expect("an address to connect to");
        let connection = timeout(PATIENCE, connecting).await.expect("a handshake in time")?;
        Ok(Self { connection, _endpoint: endpoint })
    }

    /// Opens a connection to a gate.
    pub async fn connect(gate: &DnsGate) -> Self {
        Self::try_connect(addr(gate, 2), "here", &["doq"]).await.expect("a connection")
    }

    /// Sends octets on a stream of their own, and reads what comes back.
    pub async fn exchange(&self, octets: &[u8]) -> Result<Vec<u8>, String> {
        let work = async {
            let (mut send, mut receive) = self.connection.open_bi().await.map_err(|error| error.to_string())?;
            send.write_all(octets).await.map_err(|error| error.to_string())?;
            send.finish().map_err(|error| error.to_string())?;
            receive.read_to_end(65_537).await.map_err(|error| error.to_string())
        };
        timeout(PATIENCE, work).await.expect("an answer in time")
    }

    /// One query, whose ID becomes 0.
    pub async fn ask(&self, packet: &[u8]) -> Result<Vec<u8>, String> {
        let mut packet = packet.to_vec();
        packet[..2].fill(0);
        let length = u16::try_from(packet.len()).expect("a message").to_be_bytes();
        let answer = self.exchange(&[&length[..], &packet].concat()).await?;
        let (length, message) = answer.split_first_chunk::<2>().expect("a length");
        assert_eq!(usize::from(u16::from_be_bytes(*length)), message.len());
        Ok(message.to_vec())
    }

    /// The code by which the gate ended the connection.
    pub async fn closed(&self) -> u64 {
        match timeout(PATIENCE, self.connection.closed()).await.expect("an end in time") {
            quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("{other}"),
        }
    }
}

/// Base 64 for URLs, as a client writes it.
pub fn base64url(octets: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut res = String::new();
    for chunk in octets.chunks(3) {
        let mut bits = 0u32;
        for at in 0..3 {
            bits = bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0));
        }
        for at in 0..=chunk.len() {
            res.push(char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    res
}
