//! The `icpgate` command; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    icpgate::cli::run()
}
