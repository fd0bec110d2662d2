//! Whether standard error takes lines that are written over themselves.

use std::ffi::OsStr;
use std::io::IsTerminal;

/// True where standard error is a terminal, NO_COLOR does not ask for plain output and TERM for a dumb one.
pub fn takes_live_lines() -> bool {
    let (plain, terminal) = (std::env::var_os("NO_COLOR"), std::env::var_os("TERM"));
    std::io::stderr().is_terminal() && wants_lines(plain.as_deref(), terminal.as_deref())
}

/// True on a terminal that a line may be written over itself on; no-color.org.
fn wants_lines(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_dumb_terminals_get_no_line() {
        let wants = |no_color: &str, term: &str| wants_lines(Some(OsStr::new(no_color)), Some(OsStr::new(term)));
        assert!(wants("", "xterm") && wants_lines(None, None));
        assert!(!wants("1", "xterm") && !wants("", "dumb"));
    }
}
