//! What the READMEs promise: the tour's output is what the program says, the set-up is two commands, the metrics table is
//! the program's own, the keys they name exist, and the two say the same.
//!
//! In a tour's output `…` stands for anything within a line, and alone on a line for any lines.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use icpgate::ops::metrics::FAMILIES;
use icpgate::policy::Reason;
use icpgate::registry::lint::CHECKS;

use super::harness::binary::Binary;

const READMES: [&str; 2] = ["README.md", "README.zh-CN.md"];
/// Longest time until a change of a file shows, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn readme(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect(name)
}

/// The inline code of a text, outside its fenced blocks.
fn inline_code(text: &str) -> Vec<String> {
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    // Every line has its own marks, so that one that is missing spoils no other line.
    let lines = prose.iter().flat_map(|part| part.lines());
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The contents of the fenced blocks of one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or("").to_owned()).collect()
}

/// A command with the lines it is said to print.
#[derive(Debug, PartialEq)]
struct Step {
    command: String,
    expected: Vec<String>,
}

fn steps(text: &str) -> Vec<Step> {
    let mut res: Vec<Step> = Vec::new();
    for line in blocks(text, "console").iter().flat_map(|block| block.lines()) {
        match (line.strip_prefix("$ "), res.last_mut()) {
            (Some(command), _) => res.push(Step { command: command.to_owned(), expected: Vec::new() }),
            (None, Some(step)) => step.expected.push(line.to_owned()),
            (None, None) => panic!("output before any command: {line}"),
        }
    }
    res
}

/// True when `line` is `pattern` with something in place of each `…`.
fn line_fits(pattern: &str, line: &str) -> bool {
    let Some((before, after)) = pattern.split_once('…') else { return pattern == line };
    let Some(rest) = line.strip_prefix(before) else { return false };
    rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| line_fits(after, &rest[at..]))
}

/// True when `lines` are `patterns`, a lone `…` standing for any lines.
fn lines_fit(patterns: &[String], lines: &[&str]) -> bool {
    match patterns.split_first() {
        None => lines.is_empty(),
        Some((any, rest)) if any == "…" => (0..=lines.len()).any(|skipped| lines_fit(rest, &lines[skipped..])),
        Some((first, rest)) => {
            lines.split_first().is_some_and(|(line, after)| line_fits(first, line) && lines_fit(rest, after))
        }
    }
}

/// Runs a step's command in the gate's directory, with the README's ports in place of the gate's.
fn output(gate: &Binary, command: &str) -> String {
    let ports = [
        ("127.0.0.1 -p 5300", format!("127.0.0.1 -p {}", gate.dns.port())),
        ("127.0.0.1:8080", gate.http.to_string()),
        ("127.0.0.1:9153", gate.admin.to_string()),
    ];
    let command = ports.iter().fold(command.to_owned(), |text, (written, real)| text.replace(written, real));
    let program = Path::new(env!("CARGO_BIN_EXE_icpgate")).parent().expect("a directory").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .args(["-c", &command])
        .current_dir(gate.dir.path())
        .env("PATH", format!("{program}:{path}"))
        .env("ICPGATE_ADMIN_LISTEN", gate.admin.to_string())
        .env("NO_COLOR", "1")
        .output()
        .expect("bash runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_tour_is_what_the_program_says() {
    let has_peers = std::env::var_os("ICPGATE_TEST_PEERS").is_some_and(|value| value == "1");
    let gate = Binary::demo();
    for step in steps(&readme("README.md")) {
        if !has_peers && (step.command.contains("kdig ") || step.command.contains("curl ")) {
            continue;
        }
        // A change of a file is waited for instead of slept on.
        let (command, waits) = match step.command.strip_prefix("sleep 1; ") {
            Some(command) => (command, true),
            None => (step.command.as_str(), !has_peers),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = output(&gate, command);
            if lines_fit(&step.expected, &text.lines().collect::<Vec<_>>()) {
                break;
            }
            assert!(waits && Instant::now() < deadline, "$ {command}\n{text}\nexpected:\n{}", step.expected.join("\n"));
        }
    }
}

#[test]
fn both_readmes_have_the_same_tour() {
    let [english, chinese] = READMES.map(|name| steps(&readme(name)));
    assert!(english.len() >= 8, "a tour");
    assert_eq!(english, chinese);
}

#[test]
fn setting_up_is_exactly_two_commands() {
    for name in READMES {
        let first = blocks(&readme(name), "sh").into_iter().next().expect("a set-up block");
        let commands: Vec<&str> = first.lines().map(|line| line.split('#').next().unwrap_or("").trim()).collect();
        assert_eq!(commands, ["cargo run --release", "tests/run"], "{name}");
    }
}

#[test]
fn the_metrics_table_is_the_programs() {
    for name in READMES {
        let text = readme(name);
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `icpgate_"));
        let found: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        let known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(found, known, "{name}");
        for family in FAMILIES {
            let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let row = format!("| `icpgate_{}` | {} | {} |", family.name, family.kind.label(), labels.join(" "));
            assert!(text.contains(&row), "{name}: expected {row}");
        }
    }
}

#[test]
fn configurations_shown_are_accepted() {
    for name in READMES {
        let shown = blocks(&readme(name), "toml");
        assert!(!shown.is_empty(), "{name}");
        for text in shown {
            icpgate::config::parse(name, &text, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn keys_named_in_the_text_exist() {
    let full =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/icpgate.full.toml")).expect("a file");
    let full: toml::Table = full.parse().expect("the full configuration");
    let mut named = 0;
    for name in READMES {
        for code in inline_code(&readme(name)) {
            let key = code.split(" = ").next().unwrap_or_default();
            let mut words = key.split('.');
            let Some(mut value) = words.next().and_then(|section| full.get(section)) else { continue };
            // A section alone is an ordinary word, a key that ends in an ellipsis stands for several.
            for word in words.filter(|word| !word.ends_with('…')) {
                value = value.get(word).unwrap_or_else(|| panic!("{name}: {key}: no such key"));
                named += 1;
            }
        }
    }
    assert!(named >= 40, "only {named} keys were found");
}

#[test]
fn reasons_and_rules_of_the_table_are_the_programs() {
    let rules =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policy/verdict.rs")).expect("a file");
    for name in READMES {
        let text = readme(name);
        let rows = text.lines().filter(|line| {
            ["| allow |", "| block |", "| 放行 |", "| 拦截 |"].iter().any(|start| line.starts_with(start))
        });
        let cells: Vec<Vec<&str>> = rows.map(|row| row.split('|').map(str::trim).collect()).collect();
        let mut shown: Vec<&str> = cells.iter().flat_map(|row| row[2].split('`').skip(1).step_by(2)).collect();
        let mut known = Reason::ALL.map(Reason::label);
        shown.sort_unstable();
        known.sort_unstable();
        assert_eq!(shown, known, "{name}");
        for id in cells.iter().flat_map(|row| row[3].split([',', '、'])).map(str::trim) {
            // An id that ends in an ellipsis stands for several.
            let quoted = id.strip_suffix('…').map_or_else(|| format!("\"{id}\""), |start| format!("\"{start}"));
            assert!(rules.contains(&quoted), "{name}: {id}: no such rule");
        }
    }
}

#[test]
fn the_table_of_findings_is_the_programs() {
    for name in READMES {
        let text = readme(name);
        let heading = "| check | severity | 检查项 · what | 应为 · what would be right | reads | source |";
        let rows = text.lines().skip_while(|line| *line != heading).skip(2).take_while(|line| line.starts_with('|'));
        let known = CHECKS.iter().map(|check| {
            let (severity, reads) = (check.severity.label(), check.reads.label());
            let fix = format!("{} · {}", check.fix_zh, check.fix_en);
            format!("| `{}` | {severity} | {} | {fix} | {reads} | {} |", check.id, check.title(), check.source)
        });
        assert_eq!(rows.map(str::to_owned).collect::<Vec<_>>(), known.collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn files_linked_to_exist() {
    for name in READMES {
        let text = readme(name);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let path = link.split('#').next().unwrap_or_default();
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{name}: {link}: no such file");
        }
    }
}

#[test]
fn both_readmes_have_the_same_shape() {
    let [english, chinese] = READMES.map(|name| {
        let text = readme(name);
        // Tables and settings are the same in both, whatever the language between them.
        let starts = |prefix: &str| text.lines().filter(|line| line.starts_with(prefix)).count();
        let headings = ["## ", "### "].map(starts);
        (headings, starts("|"), blocks(&text, "toml"))
    });
    assert_eq!(english, chinese);
}

#[test]
fn an_ellipsis_stands_for_anything() {
    assert!(line_fits("id: …, up … s", "id: 7, up 12 s"));
    assert!(!line_fits("id: …, up … s", "id: 7, up 12 min"));
    assert!(line_fits("whole", "whole") && !line_fits("whole", "whole thing"));
    let patterns = ["a", "…", "d"].map(str::to_owned);
    assert!(lines_fit(&patterns, &["a", "b", "c", "d"]) && lines_fit(&patterns, &["a", "d"]));
    assert!(!lines_fit(&patterns, &["a", "b", "c"]));
}
