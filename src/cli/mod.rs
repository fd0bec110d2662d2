//! The commands: arguments in, one text out, an exit status that scripts can rely on.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | good |
//! | 1 | findings, or a block where a verdict was asked for |
//! | 2 | usage, unreadable or invalid input |
//! | 3 | cannot bind, or lost rights |
//!
//! Results go to standard output, errors and the log to standard error.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::ops::LogFormat;

mod audit;
mod check;
mod client;
mod config;
mod control;
mod data;
mod explain;
mod journal;
mod ranges;
mod registry;
mod serve;
mod shell;
mod text;

/// Runs the command the process was started with.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors; where their reader has gone away there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match arguments.run() {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("icpgate: {error:#}");
            Status::Invalid.into()
        }
    }
}

/// How a command ended; see the module's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    CannotBind,
    Findings,
    Good,
    Invalid,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(match status {
            Status::Good => 0,
            Status::Findings => 1,
            Status::Invalid => 2,
            Status::CannotBind => 3,
        })
    }
}

/// The ICP filing gate: passes filed web sites, answers the rest with the filing page.
#[derive(Parser)]
#[command(name = "icpgate", version, about, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes.
#[derive(Args)]
pub(crate) struct Common {
    /// Configuration file; without one the compiled-in demo: loopback, high ports, sample data
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Form of the log on standard error; RUST_LOG says how much
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogWord,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogWord {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl From<LogWord> for LogFormat {
    fn from(word: LogWord) -> Self {
        match word {
            LogWord::Json => Self::Json,
            LogWord::Text => Self::Text,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  icpgate                                                 the demo: DNS on 127.0.0.1:5300, HTTP on 8080, admin on 9153
  icpgate serve --config /etc/icpgate/icpgate.toml
  icpgate check --config /etc/icpgate/icpgate.toml
  icpgate explain www.unfiled.example --address 203.0.113.11

Exit status: 0 good; 1 findings or a block; 2 usage or invalid input; 3 cannot bind.";

#[derive(Subcommand)]
enum Command {
    /// Run the gate (the default)
    #[command(after_help = serve::EXAMPLES)]
    Serve,
    /// Parse and lint configuration, registry, ranges, zones and pages; bind nothing
    #[command(after_help = check::EXAMPLES)]
    Check(check::Arguments),
    /// Say what the gate would decide, step by step, with rule ids and sources
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::Arguments),
    /// Ask where many names lead, and tell what does not fit the registry
    #[command(after_help = audit::EXAMPLES)]
    Audit(audit::Arguments),
    /// Look into the registry
    #[command(subcommand)]
    Registry(registry::Command),
    /// Look into address ranges, and build them
    #[command(subcommand)]
    Ranges(ranges::Command),
    /// Look into the journal of verdicts
    #[command(subcommand)]
    Journal(journal::Command),
    /// Show the state of a running gate
    #[command(after_help = control::EXAMPLES)]
    Status(control::StatusArguments),
    /// Tell a running gate to load its files again
    #[command(after_help = control::EXAMPLES)]
    Reload(control::ReloadArguments),
    /// Tell a running gate to finish its work and stop
    #[command(after_help = control::EXAMPLES)]
    Drain(control::Way),
    /// Show the configuration that takes effect, or its schema
    #[command(subcommand)]
    Config(config::Command),
    /// Print the completions of a shell
    #[command(after_help = shell::COMPLETIONS_EXAMPLES)]
    Completions(shell::CompletionsArguments),
    /// Print the man page, or write those of all commands
    #[command(after_help = shell::MAN_EXAMPLES)]
    Man(shell::ManArguments),
}

impl Arguments {
    fn run(self) -> anyhow::Result<Status> {
        let common = self.common;
        match self.command.unwrap_or(Command::Serve) {
            Command::Serve => serve::run(&common),
            Command::Audit(arguments) => audit::run(&common, &arguments),
            Command::Check(arguments) => check::run(&common, &arguments),
            Command::Explain(arguments) => explain::run(&common, &arguments),
            Command::Registry(command) => registry::run(&common, &command),
            Command::Ranges(command) => ranges::run(&common, &command),
            Command::Journal(command) => journal::run(&common, &command),
            Command::Status(arguments) => control::status(&common, &arguments),
            Command::Reload(arguments) => control::reload(&common, &arguments),
            Command::Drain(way) => control::drain(&common, &way),
            Command::Config(command) => config::run(&common, &command),
            Command::Completions(arguments) => shell::completions(Self::command(), &arguments),
            Command::Man(arguments) => shell::man(Self::command(), &arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
