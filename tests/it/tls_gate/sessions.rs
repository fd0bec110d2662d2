//! Whole sessions by rustls through the gate, and what they hide from it (D-T11, D-T12, D-T17, D-T18).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use icpgate::http::tls::counters::{Outcome as Counted, Retry};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned, SupportedProtocolVersion,
};

use super::super::harness::tls::record;
use super::super::harness::tls_origin::answer;
use super::{Outcome, TlsGate, hello};

/// Takes any certificate: these sessions are about octets, not about trust.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// Has a key, and octets in place of a certificate.
#[derive(Debug)]
struct Keyed(Arc<CertifiedKey>);

impl Keyed {
    fn new() -> Self {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.as_ref().to_vec()));
        let key = default_provider().key_provider.load_private_key(key).expect("a key");
        Self(Arc::new(CertifiedKey::new(vec![CertificateDer::from(vec![0x30, 0])], key)))
    }
}

impl ResolvesServerCert for Keyed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

fn with_groups(groups: &[&'static dyn SupportedKxGroup]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: groups.to_vec(), ..default_provider() })
}

/// A server that answers each line with that line; it ends after one session.
fn server(groups: &[&'static dyn SupportedKxGroup]) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let addr = listener.local_addr().expect("an address");
    let builder = ServerConfig::builder_with_provider(with_groups(groups));
    let config = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let config = Arc::new(config.with_cert_resolver(Arc::new(Keyed::new())));
    let running = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let mut stream = StreamOwned::new(ServerConnection::new(config).expect("a session"), stream);
        let mut buf = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buf) {
            stream.write_all(&buf[..count]).expect("writes");
        }
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    (addr, running)
}

type Session = StreamOwned<ClientConnection, TcpStream>;

fn client(
    gate: SocketAddr,
    name: &str,
    groups: &[&'static dyn SupportedKxGroup],
    versions: &[&'static SupportedProtocolVersion],
) -> Session {
    let builder = ClientConfig::builder_with_provider(with_groups(groups));
    let config = builder.with_protocol_versions(versions).expect("versions");
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Trusting)).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    StreamOwned::new(session, TcpStream::connect(gate).expect("connects"))
}

/// Sends a text and reads it back.
fn echo(session: &mut Session, text: &[u8]) -> std::io::Result<Vec<u8>> {
    session.write_all(text)?;
    let mut back = vec![0; text.len()];
    session.read_exact(&mut back)?;
    Ok(back)
}

const TLS_12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
const HYBRID: &[&dyn SupportedKxGroup] = &[kx_group::X25519MLKEM768, kx_group::X25519];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_both_versions_pass() {
    for versions in [TLS_13, TLS_12] {
        let (addr, serving) = server(HYBRID);
        let gate = TlsGate::with(super::fixture::view(super::Rules::default()), |s| s.fixed_tls = Some(addr)).await;
        let to = gate.addr;
        let asking = tokio::task::spawn_blocking(move || {
            let mut session = client(to, "www.here.cn", HYBRID, versions);
            assert_eq!(echo(&mut session, b"hello").expect("an echo"), b"hello");
            session.conn.send_close_notify();
            let _ = session.flush();
            drop(session);
            serving.join().expect("the server ends well");
        });
        asking.await.expect("no panic inside");
        assert_eq!(gate.counters().connections(Counted::Passed), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_session_fails_with_the_alert() {
    let gate = TlsGate::start().await;
    let to = gate.addr;
    let asking = tokio::task::spawn_blocking(move || {
        let mut session = client(to, "nofile.cn", HYBRID, rustls::DEFAULT_VERSIONS);
        echo(&mut session, b"hello").expect_err("an alert").to_string()
    });
    assert!(asking.await.expect("no panic inside").contains("UnrecognisedName"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t11_a_session_with_a_retry_passes() {
    // The client guesses a group that the server does not have.
    let (addr, serving) = server(&[kx_group::SECP384R1]);
    let gate = TlsGate::with(super::fixture::view(super::Rules::default()), |s| s.fixed_tls = Some(addr)).await;
    let to = gate.addr;
    let asking = tokio::task::spawn_blocking(move || {
        let groups: &[&dyn SupportedKxGroup] = &[kx_group::X25519, kx_group::SECP384R1];
        let mut session = client(to, "here.cn", groups, TLS_13);
        assert_eq!(echo(&mut session, b"hello").expect("an echo"), b"hello");
        assert_eq!(session.conn.handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
        drop(session);
        serving.join().expect("the server ends");
    });
    asking.await.expect("no panic inside");
    assert_eq!(gate.counters().retries(Retry::SameName), 1);
}

#[tokio::test]
async fn t12_a_hello_inside_an_answered_session_is_not_looked_at() {
    // A renegotiation of TLS 1.2 is encrypted; even in the open, what follows the answer is the session's own.
    let gate = TlsGate::start().await;
    let mut client = gate.connect().await;
    client.send(&hello("here.cn")).await;
    assert_eq!(client.octets(answer().len()).await, answer());
    assert_eq!(client.octets(hello("here.cn").len()).await, hello("here.cn"));
    client.send(&hello("nofile.cn")).await;
    assert_eq!(client.octets(hello("nofile.cn").len()).await, hello("nofile.cn"), "residual: it passes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t17_t18_hosts_inside_a_session_are_not_seen() {
    // Fronting, and a browser that uses one connection for two names of a certificate: residual, both pass.
    let (addr, serving) = server(HYBRID);
    let gate = TlsGate::with(super::fixture::view(super::Rules::default()), |s| s.fixed_tls = Some(addr)).await;
    let to = gate.addr;
    let asking = tokio::task::spawn_blocking(move || {
        let mut session = client(to, "here.cn", HYBRID, rustls::DEFAULT_VERSIONS);
        for host in ["nofile.cn", "here.cn", "nofile.cn"] {
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(echo(&mut session, request.as_bytes()).expect("an echo"), request.as_bytes());
        }
        drop(session);
        serving.join().expect("the server ends");
    });
    asking.await.expect("no panic inside");
    assert_eq!(gate.counters().connections(Counted::Passed), 1);
    // In the open the same host is judged.
    let early = [hello("nofile.cn"), record(23, b"GET / HTTP/1.1\r\nHost: here.cn\r\n\r\n")].concat();
    assert_eq!(gate.outcome(&early).await, Outcome::Alert(super::UNRECOGNIZED_NAME));
}
