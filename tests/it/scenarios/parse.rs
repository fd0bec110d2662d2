//! From a scenario file to its steps. The format is explained in tests/scenarios/README.md.

/// One command with what stands indented below it.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where it stands, from 1.
    pub line: usize,
    /// The command: the first word, up to `@`.
    pub command: String,
    /// What follows `@`: which upstream is meant.
    pub peer: String,
    /// The other words.
    pub words: Vec<String>,
    /// The indented lines with their numbers.
    pub body: Vec<(usize, String)>,
}

impl Step {
    /// The words from `at` on as one text.
    pub fn rest(&self, at: usize) -> String {
        self.words.get(at..).unwrap_or_default().join(" ")
    }

    /// The word at `at`; a scenario without it is a mistake in the file.
    pub fn word(&self, at: usize) -> &str {
        self.words.get(at).unwrap_or_else(|| panic!("line {}: {} needs more words", self.line, self.command))
    }
}

/// Reads a scenario: a paragraph of prose, then commands.
pub fn parse(text: &str) -> Vec<Step> {
    let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line)).peekable();
    let prose: Vec<&str> =
        std::iter::from_fn(|| lines.next_if(|(_, line)| !line.trim().is_empty())).map(|(_, line)| line).collect();
    assert!(!prose.is_empty(), "a scenario begins with a sentence that says what it shows");
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in lines {
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if line.starts_with(' ') {
            let step = steps.last_mut().unwrap_or_else(|| panic!("line {number}: indented, but no command is above"));
            step.body.push((number, text.to_owned()));
            continue;
        }
        let mut words = text.split_whitespace().map(str::to_owned);
        let first = words.next().unwrap_or_default();
        let (command, peer) = first.split_once('@').unwrap_or((&first, ""));
        steps.push(Step {
            line: number,
            command: command.to_owned(),
            peer: peer.to_owned(),
            words: words.collect(),
            body: Vec::new(),
        });
    }
    assert!(!steps.is_empty(), "a scenario without steps");
    steps
}

#[test]
fn a_scenario_is_prose_and_commands_with_bodies() {
    let steps = parse("What it shows.\nMore.\n\n# a remark\nask@b here.cn A tcp\n  code NOERROR\n\n  ede none\ndown\n");
    assert_eq!(steps.len(), 2);
    assert_eq!((steps[0].line, steps[0].command.as_str(), steps[0].peer.as_str()), (5, "ask", "b"));
    assert_eq!(steps[0].words, ["here.cn", "A", "tcp"]);
    assert_eq!(steps[0].body, [(6, "code NOERROR".to_owned()), (8, "ede none".to_owned())]);
}
