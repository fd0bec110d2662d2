//! The line that says how far a load is: on a terminal while the load lasts, nowhere else.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::harness::program::{DNS, Site};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the program on a terminal of its own while it reads `slow.csv`, which stays open until `is_enough` of what the
/// terminal shows; gives all it showed.
fn on_terminal(site: &Site, command: &str, is_enough: impl Fn(&str) -> bool) -> String {
    let directory = site.directory.path();
    let slow = directory.join("slow.csv");
    assert!(Command::new("mkfifo").arg(&slow).status().expect("mkfifo runs").success());
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command", command, "/dev/null"])
        .current_dir(directory)
        .env("TERM", "xterm")
        .env("ICPGATE", env!("CARGO_BIN_EXE_icpgate"))
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script of util-linux runs");
    let shown = read_on(script.stdout.take().expect("a pipe"));
    let file = write_rows(&slow);
    let (deadline, mut text) = (Instant::now() + PATIENCE, String::new());
    while !is_enough(&text) {
        let left = deadline.saturating_duration_since(Instant::now());
        text.push_str(&shown.recv_timeout(left).unwrap_or_else(|_| panic!("not shown: {text:?}")));
    }
    drop(file);
    text.extend(shown.iter());
    assert!(script.wait().expect("ends").success(), "{text}");
    text
}

/// Opens the pipe, once the program reads it, and writes more than is read at once.
fn write_rows(path: &Path) -> File {
    let mut file = File::options().write(true).open(path).expect("opens");
    file.write_all(b"domain,site_no,access\n").expect("writes");
    let rows: String =
        (0..40_000).map(|n| format!("name{n}.cn,\u{4eac}ICP\u{5907}2021{n:06}\u{53f7}-1,self\n")).collect();
    file.write_all(rows.as_bytes()).expect("writes");
    file
}

fn read_on(mut out: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = out.read(&mut buffer) {
            if sender.send(String::from_utf8_lossy(&buffer[..count]).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

#[test]
fn a_terminal_shows_how_far_a_load_is() {
    let site = Site::new("rows.csv", "domain,access\n", DNS);
    let command = "$ICPGATE registry stat slow.csv --config icpgate.toml";
    let lines = |text: &str| text.matches("\r\u{1b}[Kloading  ").count();
    let text = on_terminal(&site, command, |text| lines(text) >= 2 && text.contains(','));
    assert!(text.contains(" MB/s  0 issues"), "{text:?}");
    // What was shown is gone before anything else is written.
    let (_, rest) = text.rsplit_once("\r\u{1b}[K").expect("a line that was removed");
    assert!(rest.contains("40000 rows, digest "), "{text:?}");
}

#[test]
fn elsewhere_nothing_is_shown() {
    let site = Site::new("rows.csv", "domain,access\n", DNS);
    let command = "$ICPGATE registry stat slow.csv --config icpgate.toml 2>errors; echo; cat errors";
    let text = on_terminal(&site, command, |_| true);
    assert!(text.contains("40000 rows, digest ") && !text.contains("loading"), "{text:?}");
}
