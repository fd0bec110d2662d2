//! What the tests stand on: the rule book's fixture, servers on port 0, scripted peers.

pub mod app;
pub mod binary;
pub mod devtools;
pub mod dns;
pub mod dnstap;
pub mod fixture;
pub mod golden;
pub mod h2;
pub mod http;
pub mod program;
pub mod quic;
pub mod quic_gate;
pub mod shared;
pub mod tls;
pub mod tls_origin;
pub mod upstream;

use std::time::{Duration, Instant};

/// Looks again and again until something holds, or patience ends.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + http::PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        // Other tasks of this thread have to run.
        tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await.unwrap_or_default();
    }
}
