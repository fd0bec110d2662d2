//! `icpgate audit`: asks where many names lead, and tells what does not fit the registry.

use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use time::OffsetDateTime;

use super::{Common, Status, data};
use crate::audit::ask::{Asker, Pace, ask_all};
use crate::audit::certificates;
use crate::audit::drift::{findings, hosts_of};
use crate::audit::progress::Line;
use crate::audit::report::Report;
use crate::audit::state::{Outcome, State, seconds_of};
use crate::audit::targets::{Source, Targets};
use crate::config::{Loaded, upstream};
use crate::dns::settings::UpstreamServer;
use crate::dns::zones;
use crate::model::DomainName;
use crate::policy::View;
use crate::whole::write_whole;

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  icpgate audit --config /etc/icpgate/icpgate.toml                       every domain of the registry, and www. of it
  icpgate audit --log /var/log/named/queries.log --format csv --out today.csv
  icpgate audit --zone /etc/bind/example.cn.zone --names seen.txt --resolver 192.0.2.53
  icpgate audit --certificate 203.0.113.9:443#www.example.cn             what stands on an origin's certificate
  icpgate audit --state /var/lib/icpgate/audit.jsonl --max-age 7d --rate 2000 --format html --out /var/lib/icpgate/audit.html
  icpgate audit --format prometheus --out /var/lib/node_exporter/icpgate.prom

Each host is asked for A and AAAA, at most --rate hosts a second. With --state a run that was ended goes on where it was, and
hosts that were asked for within --max-age are judged again without being asked for.

A server of --certificate that shows none is a warning and stands in the report. A report names owners and addresses: keep it
where the web does not see it.

Exit status: 0 nothing found, 1 findings, 2 invalid input, ended before its end, or more than 20 % of the hosts unknown.";

/// Most hosts a second: more than a resolver on this machine answers.
const RATE_MAX: i64 = 100_000;
/// Most hosts at a time; each has a socket or two.
const IN_FLIGHT_MAX: i64 = 10_000;

/// Hosts of a hundred that nobody could answer for, above which a report tells too little. Domains that were given up are
/// often delegated to servers that do not know them: some of a hundred are ordinary. No official reference.
const UNKNOWN_PERCENT_MAX: usize = 20;

/// What `audit` takes.
#[derive(Args)]
pub struct Arguments {
    /// Every domain of the registry (the default without another source)
    #[arg(long)]
    registry: bool,
    /// A list, a name a line
    #[arg(long, value_name = "FILE")]
    names: Vec<PathBuf>,
    /// A master file named after its origin, or a directory of such
    #[arg(long, value_name = "PATH")]
    zone: Vec<PathBuf>,
    /// A log of queries: icpgate's journal, BIND, Unbound, PowerDNS, dnsmasq
    #[arg(long, value_name = "FILE")]
    log: Vec<PathBuf>,
    /// The names on a certificate: a PEM file, or ADDRESS:PORT[#NAME] of a server
    #[arg(long, value_name = "CERTIFICATE")]
    certificate: Vec<String>,
    /// Who is asked: ADDRESS, udp://…, tcp://…, tls://…, https://… [default: dns.upstream for all names]
    #[arg(long, value_name = "SERVER")]
    resolver: Vec<String>,
    /// Hosts a second
    #[arg(long, value_name = "HOSTS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=RATE_MAX))]
    rate: u32,
    /// Hosts at a time
    #[arg(long, value_name = "HOSTS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=IN_FLIGHT_MAX))]
    in_flight: u32,
    /// Where observations are kept, read first if it is there
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// How old an observation may be: 90s, 15m, 6h, 7d
    #[arg(long, value_name = "AGE", default_value = "1d", value_parser = read_age)]
    max_age: Duration,
    /// Form of the report
    #[arg(long, value_enum, default_value = "text")]
    format: Form,
    /// Into a file, whole or not at all
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// A row a finding
    Csv,
    /// A page with charts
    Html,
    /// One object
    Json,
    /// Gauges for a node exporter's text files
    Prometheus,
    /// For a terminal
    Text,
}

/// Runs it.
pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Status> {
    let loaded = data::configuration(common)?;
    let mut notes = Vec::new();
    let view = data::view(&loaded, SystemTime::now(), &mut notes)?;
    for note in notes {
        eprintln!("icpgate: note: {note}");
    }
    let servers = resolvers(&loaded, &arguments.resolver)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (targets, unread) = runtime.block_on(targets(&view, arguments))?;
    let mut state = match &arguments.state {
        Some(path) => State::open(path, SystemTime::now(), arguments.max_age)?,
        None => State::in_memory(),
    };
    let now = SystemTime::now();
    let since = seconds_of(now).saturating_sub(arguments.max_age.as_secs());
    let is_known = |host: &DomainName, state: &State| state.knows(&host.to_string(), now, arguments.max_age);
    let hosts = || targets.iter().flat_map(|(name, sources)| hosts_of(&name, sources));
    let known = hosts().filter(|host| is_known(host, &state)).count();
    let open: Vec<_> = hosts().filter(|host| !is_known(host, &state)).collect();
    let asked = open.len();
    let pace = Pace { hosts_a_second: arguments.rate, in_flight: arguments.in_flight as usize };
    let is_whole = runtime.block_on(async {
        let asker = Asker::new(servers, pace, loaded.config.dns.upstream_ca.clone())?;
        let mut line = Line::new(asked);
        let asking = ask_all(&asker, pace, open, |observation| {
            line.done(observation.outcome == Outcome::Failed);
            state.keep(observation)
        });
        tokio::select! {
            done = asking => done.map(|()| true).map_err(anyhow::Error::from),
            _ = tokio::signal::ctrl_c() => anyhow::Ok(false),
        }
    })?;
    state.flush()?;
    if !is_whole {
        let how = if arguments.state.is_some() {
            "the same command goes on from here"
        } else {
            "--state keeps what was seen"
        };
        bail!("ended before all hosts were asked for; {how}");
    }
    let found = findings(&targets, &state, &view, SystemTime::now(), since);
    let provider = &loaded.config.registry.provider;
    let report = Report::new(OffsetDateTime::now_utc(), provider, (targets.len(), asked, known), found, unread);
    write(&report, arguments)?;
    let is_unknown =
        |host: &DomainName| state.get(&host.to_string()).is_none_or(|seen| seen.outcome == Outcome::Failed);
    let unknown = hosts().filter(is_unknown).count();
    if unknown * 100 > (asked + known) * UNKNOWN_PERCENT_MAX {
        bail!(
            "{unknown} of {} hosts could not be asked for, more than {UNKNOWN_PERCENT_MAX} %: the report tells too little; \
             see whether the resolvers answer, lower --rate, or name others with --resolver",
            asked + known
        );
    }
    Ok(if report.has_findings() { Status::Findings } else { Status::Good })
}

fn write(report: &Report, arguments: &Arguments) -> anyhow::Result<()> {
    let form = |out: &mut dyn Write| match arguments.format {
        Form::Csv => report.csv(out),
        Form::Html => report.html(out),
        Form::Json => report.json(out),
        Form::Prometheus => report.prometheus(out),
        Form::Text => report.text(out),
    };
    match &arguments.out {
        Some(path) => write_whole(path, form).with_context(|| path.display().to_string()),
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            match form(&mut out).and_then(|()| out.flush()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                other => Ok(other?),
            }
        }
    }
}

/// Everything that is to be looked at; and the servers that showed no certificate, with why.
async fn targets(view: &View, arguments: &Arguments) -> anyhow::Result<(Targets, Vec<String>)> {
    let (mut res, mut unread) = (Targets::new(), Vec::new());
    let Arguments { names, zone, log, certificate, .. } = arguments;
    let has_other = !(names.is_empty() && zone.is_empty() && log.is_empty() && certificate.is_empty());
    if arguments.registry || !has_other {
        res.add_registry(&view.registry)?;
    }
    names.iter().try_for_each(|path| res.add_list(path))?;
    log.iter().try_for_each(|path| res.add_log(path))?;
    for path in zone {
        for file in zones::files_in(path)? {
            for name in zones::hosts_in(&file)? {
                res.add(&name, Source::Zone)?;
            }
        }
    }
    for source in certificate {
        let (addr, name) = source.split_once('#').map_or((source.as_str(), None), |(addr, name)| (addr, Some(name)));
        let names = match addr.parse::<SocketAddr>() {
            Ok(addr) => certificates::of_server(addr, name).await.unwrap_or_else(|reason| {
                // One server that is down does not keep the others from being looked at.
                eprintln!("icpgate: warning: certificate: {reason}; its names are not looked at");
                unread.push(reason);
                Vec::new()
            }),
            Err(_) => certificates::of_file(Path::new(source)).map_err(anyhow::Error::msg).context("certificate")?,
        };
        names.iter().try_for_each(|name| res.add(name, Source::Certificate))?;
    }
    Ok((res, unread))
}

/// Who is asked.
fn resolvers(loaded: &Loaded, texts: &[String]) -> anyhow::Result<Vec<UpstreamServer>> {
    if texts.is_empty() {
        let configured = loaded.config.dns.upstreams.iter().find(|group| group.suffix.as_ref().is_root());
        return match configured {
            Some(group) => Ok(group.servers.clone()),
            None => bail!("nobody to ask; expected --resolver ADDRESS, or a [[dns.upstream]] with suffix = \"\""),
        };
    }
    let read = |text: &String| {
        let full = if text.contains("://") { text.clone() } else { format!("udp://{text}") };
        upstream::parse(&full).map_err(|what| anyhow::anyhow!("--resolver {text}: {what}"))
    };
    texts.iter().map(read).collect()
}

/// An age: a number and its unit.
fn read_age(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is no age; expected a number with s, m, h or d, as in 6h");
    let unit = text.chars().last().ok_or_else(expected)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(expected()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| expected())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(expected)
}
