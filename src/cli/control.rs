//! `icpgate status`, `reload`, `drain`: talking to a running gate through its admin listener.

use std::net::SocketAddr;

use anyhow::bail;
use clap::Args;
use serde_json::Value;

use super::client::{self, Answer};
use super::text::Text;
use super::{Common, Status, data};
use crate::count::plural;
use crate::ops::AdminSettings;

/// Shown below the help of each.
pub const EXAMPLES: &str = "\
Examples:
  icpgate status --config /etc/icpgate/icpgate.toml
  icpgate reload --dry-run
  icpgate reload --accept-shrink
  icpgate drain --admin 127.0.0.1:9153

A reload reads the data again (registry, ranges, zones, pages, certificates, secrets) and not the configuration file;
--dry-run covers the registry only.
The address and the token file come from [admin] of the configuration.";

/// The way to the gate.
#[derive(Args)]
pub struct Way {
    /// Address and port of the admin listener, instead of admin.listen
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

/// What `status` takes.
#[derive(Args)]
pub struct StatusArguments {
    #[command(flatten)]
    way: Way,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What `reload` takes.
#[derive(Args)]
pub struct ReloadArguments {
    #[command(flatten)]
    way: Way,
    /// Accept a loss of rows or addresses beyond the configured share, this once
    #[arg(long)]
    accept_shrink: bool,
    /// Say what a reload would make of the registry, and publish nothing
    #[arg(long, conflicts_with = "accept_shrink")]
    dry_run: bool,
}

fn settings(common: &Common, way: &Way) -> anyhow::Result<AdminSettings> {
    let settings = data::configuration(common)?.config.admin;
    // An address that was asked for is meant.
    let socket = settings.socket.filter(|_| way.admin.is_none());
    Ok(AdminSettings {
        listen: way.admin.or(settings.listen),
        socket,
        token: settings.token,
        tls: settings.tls,
        ..AdminSettings::default()
    })
}

/// Prints the state; exit status 1 when the gate is not ready.
pub fn status(common: &Common, arguments: &StatusArguments) -> anyhow::Result<Status> {
    let answer = client::ask(&settings(common, &arguments.way)?, "GET", "/v1/status")?;
    refuse_unexpected(&answer, &[200])?;
    let mut text = Text::new();
    if arguments.json {
        text.json(&answer.body)?;
    } else {
        print_status(&answer.body, &mut text);
    }
    text.print()?;
    Ok(if answer.body["ready"] == true { Status::Good } else { Status::Findings })
}

/// Asks for a reload; exit status 1 when some part was refused.
pub fn reload(common: &Common, arguments: &ReloadArguments) -> anyhow::Result<Status> {
    let path = match (arguments.accept_shrink, arguments.dry_run) {
        (true, _) => "/v1/reload?accept-shrink=true",
        (_, true) => "/v1/reload?dry-run=true",
        (false, false) => "/v1/reload",
    };
    let answer = client::ask(&settings(common, &arguments.way)?, "POST", path)?;
    refuse_unexpected(&answer, &[200, 409])?;
    let mut text = Text::new();
    for line in texts(&answer.body["done"]) {
        text.line(line);
    }
    for line in texts(&answer.body["refused"]) {
        text.line(text.bad(line));
    }
    text.print()?;
    Ok(if answer.status == 200 { Status::Good } else { Status::Findings })
}

/// Asks for a drain.
pub fn drain(common: &Common, way: &Way) -> anyhow::Result<Status> {
    let answer = client::ask(&settings(common, way)?, "POST", "/v1/drain")?;
    refuse_unexpected(&answer, &[200, 202])?;
    let mut text = Text::new();
    text.line("draining: no new work is taken, the gate stops when the present work is done");
    text.print()?;
    Ok(Status::Good)
}

fn refuse_unexpected(answer: &Answer, expected: &[u16]) -> anyhow::Result<()> {
    if expected.contains(&answer.status) {
        return Ok(());
    }
    let said = answer.body["error"].as_str().map_or_else(|| answer.body.to_string(), str::to_owned);
    match answer.status {
        401 | 403 => bail!("the gate refuses the token ({}): {said}; see admin.token-file", answer.status),
        status => bail!("the gate answered {status}: {said}"),
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A count of the state, with its noun.
fn counted(count: &Value, noun: &str) -> String {
    plural(count.as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0), noun)
}

fn print_status(body: &Value, text: &mut Text) {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let ready = if body["ready"] == true { text.good("ready") } else { text.bad("not ready") };
    text.line(format_args!(
        "icpgate {} {ready}, mode {}, stance {}, up {} s",
        shown(&body["version"]),
        shown(&body["mode"]),
        shown(&body["stance"]),
        shown(&body["uptime_seconds"])
    ));
    for (kind, is_bad) in [("reasons", true), ("warnings", false)] {
        for note in body[kind].as_array().into_iter().flatten() {
            let cause = shown(&note["cause"]);
            let cause = if is_bad { text.bad(cause) } else { text.doubtful(cause) };
            text.line(format_args!("  {cause}: {}", shown(&note["text"])));
        }
    }
    for part in ["registry", "ranges"] {
        let data = &body[part];
        text.line(format_args!(
            "{part:<9} generation {}, {} of {}, {}, {}",
            shown(&data["generation"]),
            counted(&data["rows"], "row"),
            counted(&data["files"], "file"),
            counted(&data["issues"], "finding"),
            data["loaded_at"].as_str().map_or_else(|| "not loaded".to_owned(), |at| format!("loaded {at}"))
        ));
    }
    let shadow = &body["shadow"];
    if shadow.is_object() {
        text.line(format_args!(
            "shadow    {}, {} differ",
            counted(&shadow["judged"], "verdict"),
            shown(&shadow["differing"])
        ));
    }
    for list in body["lists"].as_array().into_iter().flatten() {
        let file = list["file"].as_str().filter(|file| !file.is_empty()).unwrap_or("compiled in");
        text.line(format_args!("list      {} of {}, {file}", shown(&list["key"]), shown(&list["date"])));
    }
    for plane in body["planes"].as_array().into_iter().flatten() {
        let addrs: Vec<&str> = texts(&plane["addresses"]).collect();
        text.line(format_args!("{:<9} {} ({})", shown(&plane["plane"]), addrs.join(" "), shown(&plane["transports"])));
    }
    for upstream in body["upstreams"].as_array().into_iter().flatten() {
        let up = if upstream["up"] == true { text.good("up") } else { text.bad("down") };
        text.line(format_args!("upstream  {} {up}", shown(&upstream["server"])));
    }
    for counter in body["counters"].as_array().into_iter().flatten() {
        text.line(format_args!("{:<24} {}", shown(&counter["name"]), shown(&counter["value"])));
    }
}
