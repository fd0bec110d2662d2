//! `icpgate completions` and `icpgate man`: what packages install, made from the arguments themselves.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Status;
use super::text::Text;

/// Shown below the help.
pub const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  icpgate completions bash > /usr/share/bash-completion/completions/icpgate
  source <(icpgate completions bash)";

/// Shown below the help.
pub const MAN_EXAMPLES: &str = "\
Examples:
  icpgate man | man -l -
  icpgate man /usr/share/man/man1";

/// The name of the program, and of its first man page.
const PROGRAM: &str = "icpgate";

/// What `completions` takes.
#[derive(Args)]
pub struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

/// What `man` takes.
#[derive(Args)]
pub struct ManArguments {
    /// Directory for the pages of all commands; without one the first page goes to standard output
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Prints the completions of one shell.
pub fn completions(mut program: Command, arguments: &CompletionsArguments) -> anyhow::Result<Status> {
    let mut octets = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, PROGRAM, &mut octets);
    print(&octets)
}

/// Prints the first page, or writes all into a directory.
pub fn man(program: Command, arguments: &ManArguments) -> anyhow::Result<Status> {
    let Some(directory) = &arguments.directory else {
        let mut octets = Vec::new();
        // As the pages of a directory have it.
        Man::new(program.disable_help_subcommand(true)).render(&mut octets)?;
        return print(&octets);
    };
    let written = || clap_mangen::generate_to(program, directory);
    written().with_context(|| format!("writing man pages into {}", directory.display()))?;
    Ok(Status::Good)
}

fn print(octets: &[u8]) -> anyhow::Result<Status> {
    let mut text = Text::new();
    text.line(String::from_utf8_lossy(octets).trim_end());
    text.print()?;
    Ok(Status::Good)
}
