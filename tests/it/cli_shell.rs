//! What packages make of the program itself: completions that a shell takes, man pages that roff takes.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use super::harness::program::icpgate;

/// Every command, as `--help` lists them.
const COMMANDS: [&str; 12] = [
    "serve",
    "check",
    "explain",
    "registry",
    "ranges",
    "journal",
    "status",
    "reload",
    "drain",
    "config",
    "completions",
    "man",
];

#[test]
fn completions_of_every_shell_know_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let run = icpgate(&["completions", shell]);
        run.expect(0, &COMMANDS);
        // As fish writes an option, or as all others do.
        assert!(run.out().contains("-l config") || run.out().contains("--config"), "{shell}");
    }
    icpgate(&["completions", "cmd"]).expect(2, &["bash", "zsh"]);
}

#[test]
fn bash_completes_commands_and_options() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("icpgate");
    fs::write(&file, icpgate(&["completions", "bash"]).out()).expect("writes");
    let complete = |words: &[&str]| {
        let (list, at) = (words.join(" "), words.len() - 1);
        let (last, before) = (words[at], words.get(at.wrapping_sub(1)).copied().unwrap_or_default());
        let script = format!(
            "source {} && COMP_WORDS=({list}) COMP_CWORD={at} && _icpgate icpgate {last} {before} && echo \"${{COMPREPLY[@]}}\"",
            file.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &script]).output().expect("bash runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(complete(&["icpgate", "exp"]), "explain");
    assert_eq!(complete(&["icpgate", "registry", "loo"]), "lookup");
    assert!(complete(&["icpgate", "reload", "--a"]).contains("--accept-shrink"));
}

#[test]
fn every_command_has_a_man_page() {
    let dir = tempfile::tempdir().expect("a directory");
    let directory = dir.path().display().to_string();
    icpgate(&["man", &directory]).expect(0, &[]);
    let pages: BTreeSet<String> = fs::read_dir(dir.path())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    for command in COMMANDS {
        assert!(pages.contains(&format!("icpgate-{command}.1")), "{command}: {pages:?}");
    }
    assert!(pages.contains("icpgate.1") && pages.contains("icpgate-registry-lookup.1"), "{pages:?}");
    let first = fs::read_to_string(dir.path().join("icpgate.1")).expect("a page");
    assert_eq!(icpgate(&["man"]).out(), first, "without a directory it is printed");
    assert!(first.contains(".TH icpgate 1") && first.contains("Exit status: 0 good"), "{first}");
    icpgate(&["man", "/nonexistent/directory"]).expect(2, &["/nonexistent/directory"]);
    if std::env::var_os("ICPGATE_TEST_PEERS").is_none_or(|value| value != "1") {
        return;
    }
    for page in pages {
        let path = dir.path().join(&page).display().to_string();
        let output = Command::new("man").args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", &path]).output();
        let output = output.expect("man runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{page}: {said}");
    }
}
