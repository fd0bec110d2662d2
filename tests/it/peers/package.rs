//! The Debian package and the service's unit, looked at by Debian's and systemd's own tools: what is in it, that it is the
//! same whoever builds it, that it installs into an empty root and leaves nothing there, and how far the unit is shut in.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::super::harness::binary::run;
use super::super::observing::path;

/// What `systemd-analyze security` may say at most; 10 is a service that is not shut in at all.
const EXPOSURE_MAX: f64 = 2.5;
/// Longest time until the packaged gate serves, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program that is packed: one that was built to be fast, where there is one.
fn program() -> String {
    let fast = std::env::var("ICPGATE_TEST_PROGRAM").ok();
    fast.unwrap_or_else(|| env!("CARGO_BIN_EXE_icpgate").to_owned())
}

/// Builds the package into a directory; its path.
fn build(dir: &Path) -> PathBuf {
    let output = Command::new(path("conf/debian/build"))
        .args([&program(), &dir.display().to_string()])
        // A day in 2026; quick to pack, for it is unpacked here alone.
        .envs([("SOURCE_DATE_EPOCH", "1790000000"), ("DPKG_DEB_COMPRESSOR_TYPE", "gzip")])
        .env("DPKG_DEB_COMPRESSOR_LEVEL", "1")
        .output()
        .expect("the script runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// Every file and directory below `root` but dpkg's own, relative to it.
fn contents(root: &Path) -> BTreeSet<String> {
    let mut res = BTreeSet::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below the root").display().to_string();
            if name == "var/lib/dpkg" {
                continue;
            }
            if path.is_dir() && !path.is_symlink() {
                left.push(path);
            }
            res.insert(name);
        }
    }
    res
}

/// An empty root that dpkg can work on.
fn empty_root() -> TempDir {
    let root = TempDir::new().expect("a directory");
    for dir in ["etc", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"] {
        fs::create_dir_all(root.path().join(dir)).expect("a directory");
    }
    for file in ["status", "available"] {
        fs::write(root.path().join("var/lib/dpkg").join(file), "").expect("writes");
    }
    root
}

fn dpkg(root: &Path, arguments: &[&str]) {
    let (at, log) = (format!("--root={}", root.display()), format!("--log={}/var/lib/dpkg/log", root.display()));
    // The scripts are told of the root, for there is no shell in it; what the package depends on is not in it either.
    let options = [at.as_str(), &log, "--force-script-chrootless", "--force-depends", "--no-triggers"];
    run("dpkg", &[&options[..], arguments].concat());
}

#[test]
fn package_is_the_same_twice_and_as_its_tools_want_it() {
    if !super::are_asked_for() {
        return;
    }
    let [first, second] = [TempDir::new(), TempDir::new()].map(|dir| dir.expect("a directory"));
    let (package, other) = (build(first.path()), build(second.path()));
    assert!(fs::read(&package).expect("a file") == fs::read(&other).expect("a file"), "two builds differ");
    let package = package.display().to_string();
    let info = run("dpkg-deb", &["--info", &package]);
    for text in ["Package: icpgate", "libc6 (>= ", env!("CARGO_PKG_VERSION"), "Architecture: "] {
        assert!(info.contains(text), "{text}: {info}");
    }
    let contents = run("dpkg-deb", &["--contents", &package]);
    for file in [
        "-rwxr-xr-x root/root",
        " ./usr/bin/icpgate\n",
        " ./lib/systemd/system/icpgate.service\n",
        " ./lib/systemd/system/icpgate.socket\n",
        " ./etc/icpgate/icpgate.toml\n",
        " ./usr/share/man/man1/icpgate.1.gz\n",
        " ./usr/share/bash-completion/completions/icpgate\n",
        " ./usr/share/doc/icpgate/copyright\n",
        " ./usr/share/icpgate/ranges/mainland-v4.txt\n",
        // Where README and alerts say that they are.
        " ./usr/share/doc/icpgate/conf/README.md\n",
        " ./usr/share/doc/icpgate/conf/icpgate.full.toml\n",
    ] {
        assert!(contents.contains(file), "{file}: {contents}");
    }
    assert!(contents.lines().all(|line| line.contains(" root/root ")), "{contents}");
    let said = run("lintian", &["--allow-root", "--fail-on", "error,warning", &package]);
    assert!(!said.contains("E: ") && !said.contains("W: "), "{said}");
}

#[test]
fn package_installs_serves_and_leaves_nothing() {
    if !super::are_asked_for() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: dpkg installs as root");
        return;
    }
    let dir = TempDir::new().expect("a directory");
    let package = build(dir.path()).display().to_string();
    let root = empty_root();
    let at = |name: &str| root.path().join(name);
    dpkg(root.path(), &["--install", &package]);
    let users = fs::read_to_string(at("etc/passwd")).expect("users");
    assert!(users.starts_with("icpgate:x:"), "{users}");
    assert!(at("var/lib/icpgate").is_dir() && at("var/log/icpgate").is_dir());
    runbooks_are_there(root.path());
    serves(root.path());
    // What the gate adds goes with the rest, and what an operator adds stays.
    fs::create_dir_all(at("etc/systemd/system/icpgate.service.d")).expect("a directory");
    let kept = ["etc/icpgate/registry/more.csv", "etc/systemd/system/icpgate.service.d/override.conf"];
    for file in kept.into_iter().chain(["var/lib/icpgate/registry.snap", "var/log/icpgate/verdicts.jsonl.1"]) {
        fs::write(at(file), "").expect("writes");
    }
    dpkg(root.path(), &["--remove", "icpgate"]);
    assert!(
        at("etc/icpgate/icpgate.toml").exists() && !at("usr/bin/icpgate").exists(),
        "a removal keeps configuration"
    );
    dpkg(root.path(), &["--purge", "icpgate"]);
    let left = contents(root.path());
    let is_others = |name: &String| {
        let files = ["passwd", "group", "shadow", "gshadow", ".pwd.lock", "subuid", "subgid"];
        let of_users = name.strip_prefix("etc/").is_some_and(|name| files.contains(&name.trim_end_matches('-')));
        let is_kept = kept.iter().any(|file| Path::new(file).starts_with(name));
        of_users || is_kept || ["var", "var/lib", "var/log", "run"].contains(&name.as_str())
    };
    assert_eq!(left.iter().filter(|name| !is_others(name)).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(kept.iter().all(|file| at(file).exists()));
    // Files that the user owns elsewhere must not become another user's.
    let users = fs::read_to_string(at("etc/passwd")).expect("users");
    assert!(users.starts_with("icpgate:x:"), "{users}");
}

/// The alerts that are installed name pages and sections that are installed.
fn runbooks_are_there(root: &Path) {
    let alerts = fs::read_to_string(root.join("usr/share/icpgate/prometheus/alerts.yml")).expect("alerts");
    let urls: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: ")).collect();
    assert!(urls.len() > 30, "{urls:?}");
    for url in urls {
        let (page, section) = url.strip_prefix("file:///").and_then(|url| url.split_once('#')).expect(url);
        let text = fs::read_to_string(root.join(page)).expect(page);
        assert!(text.lines().any(|line| line.to_lowercase() == format!("### {section}")), "{url}");
    }
}

/// Has the package's script follow an upgrade, with a `systemctl` that says `pids` one after the other and then the last
/// for ever; what it says.
fn followed(pids: &[u32]) -> String {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().expect("a directory");
    let left: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
    fs::write(dir.path().join("pids"), left).expect("writes");
    // Time passes without a wait.
    let systemctl = "[ $1 = show ] || exit 0\ncd \"$(dirname \"$0\")\"\nhead -1 pids\n\
                     [ $(wc -l <pids) = 1 ] || sed -i 1d pids\n";
    for (name, text) in [("systemctl", systemctl), ("sleep", "")] {
        let file = dir.path().join(name);
        fs::write(&file, format!("#!/bin/sh\n{text}")).expect("writes");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("rights");
    }
    let paths = format!("{}:{}", dir.path().display(), std::env::var("PATH").expect("paths"));
    let script = format!("set -- none; . {}; follow 2>&1", path("conf/debian/postinst").display());
    let output = Command::new("sh").args(["-c", &script]).env("PATH", paths).output().expect("a shell");
    assert!(output.status.success(), "{output:?}");
    let asked = fs::read_to_string(dir.path().join("pids")).expect("a file").lines().count();
    format!("{}{asked} left", String::from_utf8_lossy(&output.stdout))
}

#[test]
fn an_upgrade_waits_for_a_gate_that_lives_and_for_no_other() {
    // A process without a child, and one whose child lives for as long as it does.
    let alone = Process(Command::new("cat").stdin(Stdio::piped()).spawn().expect("starts"));
    let with_next = Command::new("sh").args(["-c", "cat; :"]).stdin(Stdio::piped()).spawn().expect("starts");
    let (before, with_next) = (alone.0.id(), Process(with_next));
    let said = followed(&[before; 50]);
    assert!(said.contains("did not come to serve, the old one goes on"), "{said}");
    assert!(said.ends_with("44 left"), "after five looks: {said}");
    let said = followed(&[before, before, 4711]);
    assert!(said.contains("icpgate: process 4711 serves"), "{said}");
    let before = with_next.0.id();
    if !Path::new(&format!("/proc/{before}/task/{before}/children")).exists() {
        eprintln!("skipped: this kernel does not tell the children of a process");
        return;
    }
    let begun = Instant::now();
    while !Command::new("grep")
        .args(["-q", ".", &format!("/proc/{before}/task/{before}/children")])
        .status()
        .is_ok_and(|status| status.success())
    {
        assert!(begun.elapsed() < Duration::from_secs(30), "its child is there in time");
        std::thread::yield_now();
    }
    let pids: Vec<u32> = std::iter::repeat_n(before, 100).chain([4712]).collect();
    let said = followed(&pids);
    assert!(said.contains("icpgate: process 4712 serves"), "{said}");
}

/// A child that ends with the value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the installed gate with the installed configuration, whose paths lead into the root; it becomes ready.
fn serves(root: &Path) {
    let at = root.display().to_string();
    let shipped = fs::read_to_string(root.join("etc/icpgate/icpgate.toml")).expect("a configuration");
    let ports = [(":53\"", ":0\""), (":9153\"", ":0\"")];
    let text = ports
        .iter()
        .fold(shipped, |text, (from, to)| text.replace(&format!("127.0.0.1{from}"), &format!("127.0.0.1{to}")));
    let dirs = ["/etc/icpgate", "/usr/share/icpgate", "/var/lib/icpgate", "/var/log/icpgate", "/run/icpgate"];
    let text = dirs.iter().fold(text, |text, dir| text.replace(&format!("\"{dir}"), &format!("\"{at}{dir}")));
    let scratch = TempDir::new().expect("a directory");
    let config = scratch.path().join("icpgate.toml");
    // A path of a socket is short.
    let text = text.replace(&format!("{at}/run/icpgate/handover"), &scratch.path().join("next").display().to_string());
    fs::write(&config, text).expect("writes");
    let notify = UnixDatagram::bind(scratch.path().join("notify")).expect("a socket");
    notify.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut command = Command::new(root.join("usr/bin/icpgate"));
    command.args(["serve", "--config"]).arg(&config).env("NOTIFY_SOCKET", scratch.path().join("notify"));
    let _process = Process(command.stderr(Stdio::null()).spawn().expect("the program starts"));
    let mut octets = [0; 512];
    let count = notify.recv(&mut octets).expect("a word in time");
    let said = String::from_utf8_lossy(&octets[..count]);
    assert!(said.starts_with("READY=1\nSTATUS=stance observe"), "{said}");
}

#[test]
fn unit_is_valid_and_shut_in() {
    if !super::are_asked_for() {
        return;
    }
    let dir = TempDir::new().expect("a directory");
    for unit in ["icpgate.service", "icpgate.socket"] {
        let text = fs::read_to_string(path("conf/systemd").join(unit)).expect(unit);
        let text = text.replace("=/usr/bin/icpgate", &format!("={}", env!("CARGO_BIN_EXE_icpgate")));
        fs::write(dir.path().join(unit), text).expect("writes");
    }
    let unit = dir.path().join("icpgate.service").display().to_string();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no", &unit]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("icpgate.s"), "{said}");
    let said = run("systemd-analyze", &["security", "--offline=true", "--no-pager", &unit]);
    let exposure =
        said.split("Overall exposure level for icpgate.service: ").nth(1).and_then(|rest| rest.split(' ').next());
    let exposure: f64 = exposure.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert!(exposure <= EXPOSURE_MAX, "{exposure}: {said}");
}
