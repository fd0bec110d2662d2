//! `icpgate ranges import|stat|lookup|diff`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};

use super::text::Text;
use super::{Common, Status, data};
use crate::count::plural;
use crate::model;
use crate::ranges::import::{self, ImportRequest, Kind, Source};
use crate::ranges::{Family, Ranges, Settings, diff, load_paths, stat};

const EXAMPLES: &str = "\
Examples:
  icpgate ranges lookup 203.0.113.10 2400:3200::1
  icpgate ranges stat --config icpgate.toml
  icpgate ranges diff old/mainland-v4.txt conf/ranges/mainland-v4.txt
  icpgate ranges import delegated-apnic-latest dbip-country.csv geo.mmdb --votes 2 \\
      --out-v4 mainland-v4.txt --out-v6 mainland-v6.txt";

/// Lines of a difference printed unless told `--all`.
const LINES_SHOWN: usize = 50;

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Print what two mainland lists differ in; exit status 1 if they do
    #[command(after_help = EXAMPLES)]
    Diff(DiffArguments),
    /// Make a mainland list from published country data: several sources vote, address by address
    #[command(after_help = EXAMPLES)]
    Import(ImportArguments),
    /// Print what is known of addresses; exit status 1 if one is in no range
    #[command(after_help = EXAMPLES)]
    Lookup(LookupArguments),
    /// Print how much space there is of what
    #[command(after_help = EXAMPLES)]
    Stat,
}

/// What `diff` takes.
#[derive(Args)]
pub struct DiffArguments {
    /// Mainland list before
    old: PathBuf,
    /// Mainland list after
    new: PathBuf,
    /// Print every prefix
    #[arg(long)]
    all: bool,
}

/// What `lookup` takes.
#[derive(Args)]
pub struct LookupArguments {
    /// IPv4 or IPv6 addresses
    #[arg(required = true)]
    addresses: Vec<IpAddr>,
}

/// What `import` takes.
#[derive(Args)]
pub struct ImportArguments {
    /// Files that vote: delegated statistics, prefix lists, CSV, MMDB; also .gz and .zst
    #[arg(required = true)]
    sources: Vec<PathBuf>,
    /// How many sources must agree on an address
    #[arg(long, default_value_t = 1)]
    votes: usize,
    /// Form of the files
    #[arg(long, value_enum, default_value = "auto")]
    kind: KindWord,
    /// Country, two upper-case letters
    #[arg(long, default_value = "CN")]
    country: String,
    /// AS numbers with their country (asn,country,name), for sources by AS number
    #[arg(long, value_name = "FILE")]
    operators: Option<PathBuf>,
    /// Files whose Hong Kong, Macau and Taiwan space (of lists: all space) is never taken
    #[arg(long, value_name = "FILE")]
    minus: Vec<PathBuf>,
    /// Where to write IPv4 prefixes; standard output without
    #[arg(long, value_name = "FILE")]
    out_v4: Option<PathBuf>,
    /// Where to write IPv6 prefixes; standard output without
    #[arg(long, value_name = "FILE")]
    out_v6: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindWord {
    /// Told from the content
    Auto,
    /// network,country or first,last,country
    Csv,
    /// Statistics file of a registry, plain or extended
    Delegated,
    /// One prefix a line
    List,
    /// MaxMind database
    Mmdb,
}

impl From<KindWord> for Kind {
    fn from(word: KindWord) -> Self {
        match word {
            KindWord::Auto => Self::Auto,
            KindWord::Csv => Self::Csv,
            KindWord::Delegated => Self::Delegated,
            KindWord::List => Self::List,
            KindWord::Mmdb => Self::Mmdb,
        }
    }
}

/// Runs one of them.
pub fn run(common: &Common, command: &Command) -> anyhow::Result<Status> {
    let now = SystemTime::now();
    match command {
        Command::Diff(arguments) => print_diff(arguments, now),
        Command::Import(arguments) => import(arguments),
        Command::Lookup(arguments) => {
            lookup(&data::ranges(&data::configuration(common)?, now)?.ranges, &arguments.addresses)
        }
        Command::Stat => {
            let loaded = data::ranges(&data::configuration(common)?, now)?;
            let mut text = Text::new();
            text.line(stat(&loaded.ranges).to_string().trim_end());
            for file in &loaded.files {
                text.line(format_args!("{}  {}, {} bad", file.path.display(), plural(file.rows, "row"), file.bad_rows));
            }
            text.print()?;
            Ok(Status::Good)
        }
    }
}

fn print_diff(arguments: &DiffArguments, now: SystemTime) -> anyhow::Result<Status> {
    let load = |path: &Path| {
        let settings = Settings { mainland: vec![path.to_owned()], ..Settings::new("") };
        load_paths(&settings, now).with_context(|| path.display().to_string())
    };
    let (old, new) = (load(&arguments.old)?, load(&arguments.new)?);
    let found = diff(&old.ranges, &new.ranges);
    let mut text = Text::new();
    let lines = found.to_string();
    let shown = if arguments.all { usize::MAX } else { LINES_SHOWN };
    lines.lines().take(shown).for_each(|line| text.line(line));
    let hidden = lines.lines().count().saturating_sub(shown);
    if hidden > 0 {
        text.line(format_args!("… {hidden} more; --all prints them"));
    }
    for (sign, space) in [("added", &found.added), ("removed", &found.removed)] {
        text.line(format_args!("{sign}: {} IPv4 addresses, {} IPv6 /48", space.v4.count(), space.v6.count() >> 80));
    }
    text.print()?;
    Ok(if found.is_empty() { Status::Good } else { Status::Findings })
}

fn import(arguments: &ImportArguments) -> anyhow::Result<Status> {
    let source = |path: &PathBuf| Source { kind: arguments.kind.into(), path: path.clone() };
    let request = ImportRequest {
        sources: arguments.sources.iter().map(source).collect(),
        votes: arguments.votes,
        country: arguments.country.clone(),
        operators: arguments.operators.clone(),
        minus: arguments.minus.iter().map(|path| Source { kind: Kind::Auto, path: path.clone() }).collect(),
    };
    let imported = import::run(&request).context("import")?;
    for issue in imported.report.sources.iter().flat_map(|source| &source.issues) {
        eprintln!("{issue}");
    }
    for (family, path) in [(Family::V4, &arguments.out_v4), (Family::V6, &arguments.out_v6)] {
        let Some(path) = path else {
            let mut octets = Vec::new();
            imported.write(family, &mut octets)?;
            let mut text = Text::new();
            String::from_utf8_lossy(&octets).lines().for_each(|line| text.line(line));
            text.print()?;
            continue;
        };
        let file = File::create(path).with_context(|| path.display().to_string())?;
        let mut writer = BufWriter::new(file);
        imported
            .write(family, &mut writer)
            .and_then(|()| writer.flush())
            .with_context(|| path.display().to_string())?;
    }
    // The result may go to standard output; what is told of it goes beside.
    eprint!("{}", imported.report);
    Ok(Status::Good)
}

fn lookup(ranges: &Ranges, addresses: &[IpAddr]) -> anyhow::Result<Status> {
    let mut text = Text::new();
    let mut status = Status::Good;
    for &addr in addresses {
        let mut forms = vec![addr];
        if let IpAddr::V6(v6) = addr {
            forms.extend(model::unwrap(v6, ranges.nat64()).iter().map(IpAddr::V4));
        }
        let mut is_found = false;
        for form in forms {
            let Some(found) = ranges.lookup(form) else { continue };
            is_found = true;
            let shown = if form == addr { String::new() } else { format!(" (carries {form})") };
            text.line(format_args!("{addr}{shown}  {}", ranges.describe(&found)));
        }
        if !is_found {
            status = Status::Findings;
            text.line(format_args!("{addr}  in no range: counts as outside the mainland"));
        }
    }
    text.print()?;
    Ok(status)
}
