//! A command's output: gathered, then written at once, so that a reader who goes away is no error.

use std::fmt::{self, Display};
use std::io::{IsTerminal, Write};

/// The text of one command.
pub struct Text {
    lines: String,
    has_colours: bool,
}

impl Text {
    /// An empty text; colours on a terminal only, and never where NO_COLOR is set (no-color.org).
    pub fn new() -> Self {
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { lines: String::new(), has_colours: std::io::stdout().is_terminal() && !is_refused }
    }

    /// Adds a line.
    pub fn line(&mut self, line: impl Display) {
        self.lines.push_str(&line.to_string());
        self.lines.push('\n');
    }

    /// Adds text as it is.
    pub fn raw(&mut self, text: &str) {
        self.lines.push_str(text);
    }

    /// Adds an empty line.
    pub fn gap(&mut self) {
        self.lines.push('\n');
    }

    /// Adds a value as JSON on several lines.
    pub fn json(&mut self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        self.line(serde_json::to_string_pretty(value)?);
        Ok(())
    }

    /// `text` as a heading.
    pub fn strong(&self, text: impl Display) -> Painted {
        self.painted(text, "1")
    }

    /// `text` as something good.
    pub fn good(&self, text: impl Display) -> Painted {
        self.painted(text, "32")
    }

    /// `text` as something bad.
    pub fn bad(&self, text: impl Display) -> Painted {
        self.painted(text, "31")
    }

    /// `text` as something to look at.
    pub fn doubtful(&self, text: impl Display) -> Painted {
        self.painted(text, "33")
    }

    /// Writes it all to standard output.
    pub fn print(self) -> anyhow::Result<()> {
        match std::io::stdout().lock().write_all(self.lines.as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    fn painted(&self, text: impl Display, code: &'static str) -> Painted {
        Painted { text: text.to_string(), code: self.has_colours.then_some(code) }
    }
}

/// A piece of text with its colour; width and alignment apply to the text alone.
pub struct Painted {
    text: String,
    code: Option<&'static str>,
}

impl Display for Painted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(code) = self.code else { return f.pad(&self.text) };
        write!(f, "\x1b[{code}m")?;
        f.pad(&self.text)?;
        f.write_str("\x1b[0m")
    }
}
