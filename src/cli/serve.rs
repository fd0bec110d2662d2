//! `icpgate serve`: the gate itself, and what `icpgate` does without a command.

use std::time::Duration;

use anyhow::{Context, bail};

use super::{Common, Status, data};
use crate::app::{self, RunError};
use crate::ops::activation;
use crate::ops::log;

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  icpgate                                    the demo on loopback; then: kdig @127.0.0.1 -p 5300 www.unfiled.example
  icpgate serve --config /etc/icpgate/icpgate.toml --log-format json
  RUST_LOG=debug icpgate serve

Signals: SIGHUP loads all files again, SIGTERM and SIGINT drain, a second one stops at once. During the
start, SIGTERM and SIGINT end it there. SIGUSR2 starts the next gate (admin.handover).";

/// Time for what still runs on blocking threads at the end, such as a snapshot file half written: cutting it off costs no
/// more than a leftover that the next writer replaces.
const LEFTOVERS_MAX: Duration = Duration::from_millis(500);

/// Runs until a signal or a drain ends it.
pub fn run(common: &Common) -> anyhow::Result<Status> {
    log::start(common.log_format.into());
    // While there is one thread: the environment is changed.
    let opened = activation::sockets_given()?;
    let mut loaded = data::configuration(common)?;
    let config = &loaded.config;
    let (dns, http) = (&config.dns, &config.http);
    let of_dns = [&dns.listen, &dns.proxy_protocol.listen, &dns.tls.listen, &dns.https.listen, &dns.quic.listen];
    let of_http = [&http.listen, &http.tls_listen, &http.quic_listen];
    let serves = of_dns.into_iter().chain(of_http).any(|listen| !listen.is_empty());
    if !serves && config.admin.listen.is_none() && config.admin.socket.is_none() {
        bail!("nothing to serve: dns.listen, http.listen, http.tls-listen, admin.listen and all others are empty");
    }
    if let Some(demo) = &mut loaded.demo {
        demo.keep();
        match demo.directory() {
            Some(directory) => {
                let directory = directory.join("conf");
                tracing::info!(directory = %directory.display(), "no --config: running the demo on data laid out here");
            }
            None => tracing::info!(directory = "conf", "no --config: running the demo on the data of this checkout"),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let ended = runtime.block_on(app::run(loaded.config, opened));
    // A load that still runs is of no use any more; dropping the runtime would wait for it, however long it takes.
    runtime.shutdown_timeout(LEFTOVERS_MAX);
    match ended {
        Ok(()) => Ok(Status::Good),
        Err(RunError::Start(error)) if error.exit_status() == 3 => {
            eprintln!("icpgate: {error}");
            Ok(Status::CannotBind)
        }
        Err(error) => Err(error.into()),
    }
}
