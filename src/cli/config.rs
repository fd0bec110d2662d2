//! `icpgate config show|schema`.

use clap::{Args, Subcommand};

use super::text::Text;
use super::{Common, Status, data};
use crate::config::{show, spec};

const EXAMPLES: &str = "\
Examples:
  icpgate config show --config icpgate.toml
  icpgate config show --changed
  ICPGATE_POLICY_MODE=observe icpgate config show | grep mode";

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Print every key with its value and where it was set; no secret is printed
    #[command(after_help = EXAMPLES)]
    Show(ShowArguments),
    /// Print the JSON schema of the configuration file
    Schema,
}

/// What `show` takes.
#[derive(Args)]
pub struct ShowArguments {
    /// Only what is not a default
    #[arg(long)]
    changed: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Runs one of them.
pub fn run(common: &Common, command: &Command) -> anyhow::Result<Status> {
    let mut text = Text::new();
    match command {
        Command::Schema => text.json(&spec::schema())?,
        Command::Show(arguments) => {
            let loaded = data::configuration(common)?;
            let mut shown = show::effective(&loaded);
            shown.retain(|key| !arguments.changed || key.origin != "default");
            if arguments.json {
                text.json(&shown)?;
            } else {
                print_keys(&shown, &mut text);
            }
        }
    }
    text.print()?;
    Ok(Status::Good)
}

/// `key = value` lines with the origin as a comment, aligned: TOML that can be read again.
fn print_keys(shown: &[show::Shown], text: &mut Text) {
    /// Columns up to which origins are aligned; longer values stand out.
    const WIDTH_MAX: usize = 60;
    let lines: Vec<String> = shown.iter().map(|key| format!("{} = {}", key.key, show::toml_text(&key.value))).collect();
    let width = lines.iter().map(String::len).filter(|width| *width <= WIDTH_MAX).max().unwrap_or(0);
    for (line, key) in lines.iter().zip(shown) {
        text.line(format_args!("{line:width$}  # {}", key.origin));
    }
}
