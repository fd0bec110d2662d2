//! The program against real peers: other people's clients, servers and a browser. `tests/run` installs them and asks for
//! these tests; without them each says so and returns.

mod admin;
mod audit;
mod backends;
mod browser;
mod clients;
mod console;
mod dns_secure;
mod dnsdist;
mod dnstap;
mod h2;
mod package;
mod profiles;
mod promtool;
mod quic;
mod redirect;
mod slow;
mod tls;
mod upstreams;

/// True when the peers are there.
fn are_asked_for() -> bool {
    let is_set = std::env::var_os("ICPGATE_TEST_PEERS").is_some_and(|value| value == "1");
    if !is_set {
        eprintln!("needs real peers: run by tests/run");
    }
    is_set
}
