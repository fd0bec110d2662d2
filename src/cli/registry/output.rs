//! `icpgate registry compile|export`: the registry as a gate loads it, written out for gates and for other programs.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use ipnet::IpNet;

use crate::cli::text::Text;
use crate::cli::{Status, data};
use crate::config::Loaded;
use crate::count::plural;
use crate::model::{Day, DomainName};
use crate::ops::load_line::LoadLine;
use crate::ranges::Ranges;
use crate::ranges::span::{Family, Space};
use crate::registry::diff::Standing;
use crate::registry::export::{PolicyZone, csv, json_lines, policy_zone};
use crate::registry::saved::SigningKey;
use crate::registry::{Settings, Snapshot, Store, load_store};
use crate::whole::write_whole;

/// Shown below the help of `compile`.
pub const COMPILE_EXAMPLES: &str = "\
Examples:
  icpgate registry compile --config /etc/icpgate/icpgate.toml
  icpgate registry compile --out /var/lib/icpgate/registry.snapshot
  openssl genpkey -algorithm ed25519 -out registry.key && chmod 600 registry.key
  openssl pkey -in registry.key -pubout -out registry.pub
  icpgate registry compile --sign registry.key

A gate with the same registry.paths and provider starts from the copy that registry.snapshot names;
with registry.snapshot-key only from one that this key signed.";

/// Shown below the help of `export`.
pub const EXPORT_EXAMPLES: &str = "\
Examples:
  icpgate registry export --format csv --out filings.csv
  icpgate registry export --format jsonl | jq .domain
  icpgate registry export --format rpz --zone icp.rpz --out /var/lib/knot/icp.rpz.zone

A policy zone is coarser than the gate: it knows no products, CNAME chains, exemptions or ports. Names with access here pass,
other answers on this provider's mainland servers become the block addresses of [dns].";

/// What `compile` takes.
#[derive(Args)]
pub struct CompileArguments {
    /// Where to write it, instead of registry.snapshot
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Sign it with this Ed25519 private key: PKCS#8 PEM, not encrypted, not readable by every user
    #[arg(long, value_name = "KEYFILE")]
    sign: Option<PathBuf>,
}

/// What `export` takes.
#[derive(Args)]
pub struct ExportArguments {
    /// Form of the output
    #[arg(long, value_enum)]
    format: Format,
    /// Where to write it; standard output without
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Name of the policy zone
    #[arg(long, value_name = "NAME", default_value = "icpgate.rpz")]
    zone: String,
}

/// The form of an export.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A table with every column, which reads back the same
    Csv,
    /// One JSON object a line, which reads back the same
    Jsonl,
    /// A response policy zone
    Rpz,
}

/// Writes the compiled copy that a gate starts from.
pub fn compile(settings: &Settings, arguments: &CompileArguments, now: SystemTime) -> anyhow::Result<Status> {
    let Some(path) = arguments.out.as_ref().or(settings.snapshot.as_ref()) else {
        bail!("registry.snapshot is empty; expected it set, or --out FILE");
    };
    let key = signing_key(settings, arguments, path)?;
    // From the tables alone, whatever an older copy says.
    let store = Store::new(Settings { snapshot: None, ..settings.clone() });
    let line = LoadLine::begin(store.progress());
    load_store(&store, now).context("registry")?;
    drop(line);
    match &key {
        Some(key) => store.save_signed(path, key),
        None => store.save_as(path),
    }
    .with_context(|| path.display().to_string())?;
    let octets = fs::metadata(path).with_context(|| path.display().to_string())?.len();
    let rows = store.loaded().map_or(0, |loaded| loaded.snapshot.len());
    let mut text = Text::new();
    let signed = key.map(|key| format!(", signed by {}", key.id())).unwrap_or_default();
    text.line(format_args!("{}: {}, {octets} octets{signed}", path.display(), plural(rows, "row")));
    text.print()?;
    Ok(Status::Good)
}

/// The key to sign with; refuses to write what a gate of this configuration would not take from `path`.
fn signing_key(settings: &Settings, arguments: &CompileArguments, path: &Path) -> anyhow::Result<Option<SigningKey>> {
    let expected = settings.snapshot_keys.as_ref();
    let Some(file) = &arguments.sign else {
        if let Some(keys) = expected.filter(|_| settings.snapshot.as_deref() == Some(path)) {
            bail!(
                "registry.snapshot-key ({}) is set, a copy without signature would be refused; expected --sign KEYFILE, or --out FILE",
                keys.path().display()
            );
        }
        return Ok(None);
    };
    let key = SigningKey::read(file)?;
    if let Some(keys) = expected.filter(|keys| !keys.include(&key)) {
        let (file, known) = (file.display(), keys.path().display());
        bail!("{file}: its public key is {}; expected {keys}, which registry.snapshot-key ({known}) holds", key.id());
    }
    Ok(Some(key))
}

/// Writes every row, or the policy zone that follows from them.
pub fn export(loaded: &Loaded, arguments: &ExportArguments, now: SystemTime) -> anyhow::Result<Status> {
    let registry = data::registry(loaded, now)?;
    let snapshot = &registry.snapshot;
    let zone = match arguments.format {
        Format::Rpz => Some(Zone::new(loaded, &arguments.zone, now)?),
        Format::Csv | Format::Jsonl => None,
    };
    let write = |out: &mut dyn Write| match (arguments.format, &zone) {
        (Format::Jsonl, _) => json_lines(snapshot, out),
        (_, Some(zone)) => zone.write(snapshot, out),
        (_, None) => csv(snapshot, out),
    };
    match &arguments.out {
        Some(path) => write_whole(path, write).with_context(|| path.display().to_string())?,
        None => match write(&mut BufWriter::new(io::stdout().lock())) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        },
    }
    Ok(Status::Good)
}

/// What the policy zone says beside the filed names.
struct Zone {
    origin: String,
    serial: u32,
    prefixes: Vec<IpNet>,
    block: Vec<IpAddr>,
    today: Day,
}

impl Zone {
    fn new(loaded: &Loaded, name: &str, now: SystemTime) -> anyhow::Result<Self> {
        let Ok(origin) = DomainName::from_text(name) else { bail!("--zone {name:?} is not a domain name") };
        let block = &loaded.config.dns.block;
        let v4 = block.ipv4.iter().copied().map(IpAddr::V4);
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Self {
            origin: origin.to_string().trim_end_matches('.').to_owned(),
            // Serials wrap around, and are compared so (RFC 1982).
            serial: (since & u64::from(u32::MAX)) as u32,
            prefixes: our_mainland(&data::ranges(loaded, now)?.ranges),
            block: v4.chain(block.ipv6.iter().copied().map(IpAddr::V6)).collect(),
            today: Day::at(now),
        })
    }

    fn write(&self, snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
        let Self { origin, serial, prefixes, block, today } = self;
        let passes = Standing::Here;
        let (serial, today) = (*serial, *today);
        policy_zone(snapshot, &PolicyZone { origin, serial, prefixes, block, passes, today }, out)
    }
}

/// This provider's addresses on the mainland.
fn our_mainland(ranges: &Ranges) -> Vec<IpNet> {
    let spans = [Family::V4, Family::V6].into_iter().flat_map(|family| {
        let ours = ranges.segments(family).into_iter().filter_map(|(span, found)| {
            found.filter(|found| found.is_ours && found.region.needs_filing()).map(|_| (family, span))
        });
        ours.collect::<Vec<_>>()
    });
    Space::new(spans).cidrs()
}
