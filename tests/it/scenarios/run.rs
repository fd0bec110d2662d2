//! Runs a scenario against a gate on port 0 before scripted upstreams.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use icpgate::dns::settings::ZoneFile;
use icpgate::drain::{DrainSignal, DrainWatch};
use icpgate::model::Day;
use icpgate::policy::{Fault, Outcome, Rules};
use icpgate::registry::reload::{ReloadRequest, run as run_reload};
use icpgate::registry::{ReloadOutcome, Settings, Shrink, Store};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::super::harness::dns::{Answer, Ask, DnsGate, PATIENCE, group, over_tcp, over_udp};
use super::super::harness::fixture::{self, PROVIDER};
use super::super::harness::http::Response;
use super::super::harness::upstream::{Reply, Upstream};
use super::expect;
use super::http::{self, Http};
use super::parse::{Step, parse};
use super::settings::{set_dns, set_registry, set_rule};

/// How long a client waits where silence is expected.
const SILENCE: Duration = Duration::from_millis(400);
/// Pause between two looks of `until`.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Runs the scenario of this text; panics with every expectation that was not met, by its line.
pub async fn run(file: &str, text: &str) {
    let mut runner = Runner::new(file);
    for step in parse(text) {
        runner.step(&step).await;
    }
    assert!(runner.failures.is_empty(), "\n{}\n", runner.failures.join("\n"));
}

/// A registry directory with the task that reloads it.
struct Watched {
    store: Arc<Store>,
    requests: mpsc::Sender<ReloadRequest>,
    _drain: DrainSignal,
}

struct Runner {
    file: String,
    failures: Vec<String>,
    // Before the gate runs.
    rules: Rules,
    settings: Vec<(String, String)>,
    zones: Vec<ZoneFile>,
    groups: Vec<(String, String)>,
    has_files: bool,
    dir: TempDir,
    // While it runs.
    gate: Option<DnsGate>,
    peers: HashMap<String, Upstream>,
    http: Option<Http>,
    http_settings: Vec<(String, String)>,
    watched: Option<Watched>,
}

impl Runner {
    fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            failures: Vec::new(),
            rules: Rules::default(),
            settings: Vec::new(),
            zones: Vec::new(),
            groups: Vec::new(),
            has_files: false,
            dir: TempDir::new().expect("a directory"),
            gate: None,
            peers: HashMap::new(),
            http: None,
            http_settings: Vec::new(),
            watched: None,
        }
    }

    fn fail(&mut self, line: usize, message: &str) {
        self.failures.push(format!("tests/scenarios/{}:{line}: {message}", self.file));
    }

    async fn step(&mut self, step: &Step) {
        match (step.command.as_str(), &self.gate) {
            ("set", None) => self.settings.push((step.word(0).to_owned(), step.rest(1))),
            ("zone", None) => self.zone(step),
            ("file", None) => self.write(step),
            ("group", None) => self.groups.push((step.word(0).to_owned(), step.rest(1))),
            ("set", Some(gate)) => {
                let (key, value) = (step.word(0).to_owned(), step.rest(1));
                let mut rules = Rules::clone(&gate.view.load().rules);
                assert!(
                    set_rule(&mut rules, &key, &value),
                    "line {}: {key} cannot be set while the gate runs",
                    step.line
                );
                let rules = Arc::new(rules);
                gate.view.update(|view| view.rules = rules.clone());
            }
            (_, None) => {
                self.start().await;
                Box::pin(self.step(step)).await;
            }
            (_, Some(_)) => self.act(step).await,
        }
    }

    //--- Before --------------------------------------------------------------------------------------------------------

    fn zone(&mut self, step: &Step) {
        let file = self.dir.path().join(format!("{}.zone", step.word(0)));
        let text: String = step.body.iter().map(|(_, line)| format!("{line}\n")).collect();
        std::fs::write(&file, text).expect("a writable directory");
        self.zones.push(ZoneFile { origin: fixture::name(step.word(0)), file });
    }

    async fn start(&mut self) {
        let mut view = fixture::view(Rules::default());
        let registry = self.dir.path().join("registry");
        let mut store_settings = Settings::new(PROVIDER, vec![registry]);
        store_settings.poll = Duration::from_secs(3600);
        let mut dns_settings = Vec::new();
        for (key, value) in std::mem::take(&mut self.settings) {
            if key.starts_with("http.") {
                self.http_settings.push((key, value));
            } else if !set_rule(&mut self.rules, &key, &value) && !set_registry(&mut store_settings, &key, &value) {
                dns_settings.push((key, value));
            }
        }
        view.rules = Arc::new(self.rules.clone());
        let store = self.has_files.then(|| Arc::new(Store::new(store_settings)));
        if let Some(store) = &store {
            match store.reload(now(), Shrink::Refuse) {
                ReloadOutcome::Published(snapshot, _) => view.registry = snapshot,
                ReloadOutcome::Refused(error) => panic!("the registry does not load: {error}"),
                ReloadOutcome::Unchanged => panic!("a first load changes something"),
            }
        }
        let mut groups = Vec::new();
        for (peer, suffix) in std::mem::take(&mut self.groups) {
            let upstream = Upstream::start().await;
            groups.push(group(&suffix, &[upstream.addr]));
            self.peers.insert(peer, upstream);
        }
        let zones = std::mem::take(&mut self.zones);
        let gate = DnsGate::with(view, |settings| {
            settings.zones = zones;
            settings.upstreams.extend(groups);
            for (key, value) in &dns_settings {
                assert!(set_dns(settings, key, value), "{key} is no key a scenario can set");
            }
        });
        let gate = gate.await;
        self.watched = store.map(|store| Self::watch(store, &gate));
        self.gate = Some(gate);
    }

    fn watch(store: Arc<Store>, gate: &DnsGate) -> Watched {
        let (drain, watch): (DrainSignal, DrainWatch) = DrainSignal::new();
        let (requests, asked) = mpsc::channel(1);
        let view = gate.view.clone();
        let publish = move |snapshot: Arc<icpgate::registry::Snapshot>| {
            view.update(|view| view.registry = snapshot.clone());
        };
        tokio::spawn(run_reload(store.clone(), publish, asked, watch));
        Watched { store, requests, _drain: drain }
    }

    //--- While it runs -------------------------------------------------------------------------------------------------

    fn gate(&self) -> &DnsGate {
        self.gate.as_ref().expect("the gate was started")
    }

    fn upstream(&self, peer: &str) -> &Upstream {
        if peer.is_empty() {
            &self.gate().upstream
        } else {
            self.peers.get(peer).unwrap_or_else(|| panic!("no group {peer}"))
        }
    }

    async fn act(&mut self, step: &Step) {
        match step.command.as_str() {
            "upstream" => drop(self.upstream(&step.peer).on(step.word(0), step.word(1), reply(step))),
            "down" => self.upstream(&step.peer).set_down(true),
            "up" => self.upstream(&step.peer).set_down(false),
            "day" => self.gate().set_day(step.word(0)),
            "fault" => self.fault(step),
            "file" => self.write(step),
            "append" => self.append(step),
            "delete" => std::fs::remove_file(self.registry_file(step.word(0))).expect("a file to delete"),
            "reload" => self.reload(step).await,
            "health" => self.health(step).await,
            "asked" => self.asked(step),
            "ask" => {
                let answer = self.exchange(step, &step.words).await;
                let missed = missed(step, answer.as_ref());
                self.report(missed, answer.as_ref());
            }
            "until" if step.word(0) == "get" => self.until_get(step).await,
            "until" => self.until(step).await,
            "get" => {
                let answer = self.http().await.get(step, &step.words).await;
                self.report_get(http::missed(step, &answer), &answer);
            }
            "reached" => {
                if let Err(found) = self.http().await.reached(step) {
                    self.fail(step.line, &found);
                }
            }
            "together" => self.together(step).await,
            other => panic!("line {}: {other} is no command; see tests/scenarios/README.md", step.line),
        }
    }

    fn fault(&self, step: &Step) {
        let fault = Fault::ALL.into_iter().find(|fault| fault.label() == step.word(0)).expect("a fault");
        let outcome = match step.word(1) {
            "serve" => Outcome::Serve,
            "observe" => Outcome::Observe,
            "block" => Outcome::Block,
            other => panic!("{other}: expected serve, observe or block"),
        };
        self.gate().view.update(|view| view.faults = vec![(fault, outcome)]);
    }

    fn registry_file(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join("registry");
        std::fs::create_dir_all(&dir).expect("a directory");
        dir.join(name)
    }

    /// Writes a file whole, by renaming over it.
    fn write(&mut self, step: &Step) {
        self.has_files = true;
        let target = self.registry_file(step.word(0));
        let text = if step.words.get(1).is_some_and(|word| word == "fixture") {
            fixture::REGISTRY.to_owned()
        } else {
            lines(step)
        };
        let draft = self.dir.path().join("draft");
        std::fs::write(&draft, text).expect("a writable directory");
        std::fs::rename(draft, target).expect("renames");
    }

    fn append(&self, step: &Step) {
        use std::io::Write;
        let file = std::fs::OpenOptions::new().append(true).create(true).open(self.registry_file(step.word(0)));
        file.expect("opens").write_all(lines(step).as_bytes()).expect("appends");
    }

    /// Asks for a reload by hand; the words after it begin the answer.
    async fn reload(&mut self, step: &Step) {
        let (shrink, expected) = match step.words.first().map(String::as_str) {
            Some("accept-shrink") => (Shrink::Accept, step.rest(1)),
            _ => (Shrink::Refuse, step.rest(0)),
        };
        let watched = self.watched.as_ref().expect("a registry of files");
        let (answer, answered) = tokio::sync::oneshot::channel();
        watched.requests.send(ReloadRequest { shrink, answer }).await.expect("the task runs");
        let (Ok(text) | Err(text)) = answered.await.expect("an answer");
        if !text.contains(&expected) {
            self.fail(step.line, &format!("expected {expected:?}, found {text:?}"));
        }
    }

    async fn health(&mut self, step: &Step) {
        let expected = step.rest(0);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.watched.as_ref().expect("a registry of files").store.health().join("; ");
            if if expected == "good" { found.is_empty() } else { found.contains(&expected) } {
                return;
            }
            if Instant::now() > deadline {
                return self.fail(step.line, &format!("expected {expected:?}, found {found:?}"));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// `asked NAME TYPE COUNT marks…`: how often, and how the last time.
    fn asked(&mut self, step: &Step) {
        let upstream = self.upstream(&step.peer);
        let count = upstream.count(step.word(0), step.word(1));
        let last = upstream
            .log()
            .into_iter()
            .rfind(|asked| asked.name == step.word(0) && asked.qtype.to_string() == step.word(1));
        if count.to_string() != step.word(2) {
            return self.fail(step.line, &format!("asked {count} times"));
        }
        for mark in step.words.iter().skip(3) {
            let (is_wanted, mark) = mark.strip_prefix('!').map_or((true, mark.as_str()), |mark| (false, mark));
            let found = last.as_ref().is_some_and(|asked| match mark {
                "cd" => asked.checking_disabled,
                "do" => asked.dnssec_ok,
                "rd" => asked.recursion_desired,
                "ecs" => asked.has_ecs,
                "tcp" => asked.over_tcp,
                other => panic!("{other}: expected cd, do, rd, ecs or tcp"),
            });
            if found != is_wanted {
                self.fail(step.line, &format!("{mark} is {found} in {last:?}"));
            }
        }
    }

    async fn exchange(&self, step: &Step, words: &[String]) -> Option<Answer> {
        let (packet, is_tcp) = packet(step, words);
        let waits_in_vain = step.body.iter().any(|(_, line)| line == "silence");
        let patience = if waits_in_vain { SILENCE } else { PATIENCE };
        let octets = if is_tcp {
            over_tcp(self.gate().addr, &packet).await
        } else {
            over_udp(self.gate().addr, &packet, patience).await
        };
        octets.map(Answer)
    }

    fn report(&mut self, missed: Vec<(usize, String)>, answer: Option<&Answer>) {
        let shown = answer.map_or_else(|| "no answer".to_owned(), expect::show);
        for (line, message) in missed {
            self.fail(line, &format!("{message}\n    in: {shown}"));
        }
    }

    /// The HTTP plane, which starts at the first command that needs it.
    async fn http(&mut self) -> &mut Http {
        if self.http.is_none() {
            self.http = Some(Http::start(self.gate().view.clone(), &self.http_settings).await);
        }
        self.http.as_mut().expect("it was just started")
    }

    fn report_get(&mut self, missed: Vec<(usize, String)>, answer: &Response) {
        for (line, message) in missed {
            self.fail(line, &format!("{message}\n    in: {} {:?}", answer.status, answer.headers));
        }
    }

    /// Requests again until every expectation is met.
    async fn until_get(&mut self, step: &Step) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.http().await.get(step, &step.words[1..]).await;
            let missed = http::missed(step, &answer);
            if missed.is_empty() || Instant::now() > deadline {
                return self.report_get(missed, &answer);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Asks again until every expectation is met.
    async fn until(&mut self, step: &Step) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.exchange(step, &step.words[1..]).await;
            let missed = missed(step, answer.as_ref());
            if missed.is_empty() || Instant::now() > deadline {
                return self.report(missed, answer.as_ref());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// `together N ask …`: N clients at the same time, each of whose answers must meet the expectations.
    async fn together(&mut self, step: &Step) {
        let count: usize = step.word(0).parse().expect("a number");
        let (packet, _) = packet(step, &step.words[2..]);
        let addr = self.gate().addr;
        let asking: Vec<_> = (0..count)
            .map(|_| {
                let packet = packet.clone();
                tokio::spawn(async move { over_udp(addr, &packet, PATIENCE).await })
            })
            .collect();
        for one in asking {
            let answer = one.await.expect("the task ran").map(Answer);
            let missed = missed(step, answer.as_ref());
            self.report(missed, answer.as_ref());
        }
    }
}

fn now() -> SystemTime {
    Day::parse(fixture::TODAY).expect("a day").begins_at() + Duration::from_secs(3600)
}

fn lines(step: &Step) -> String {
    step.body.iter().map(|(_, line)| format!("{line}\n")).collect()
}

/// `upstream NAME TYPE marks…` with the records below it.
fn reply(step: &Step) -> Reply {
    let mut res = Reply::default();
    for mark in step.words.iter().skip(2) {
        match mark.split_once('=') {
            Some(("code", code)) => {
                let number: u16 = code.parse().expect("code=NUMBER");
                res.rcode = Some(hickory_proto::op::ResponseCode::from(0, u8::try_from(number).expect("a code")));
            }
            Some(("ede", code)) => res.ede = Some((code.parse().expect("ede=NUMBER"), "from upstream".to_owned())),
            None if mark == "tc" => res.truncated = true,
            None if mark == "ad" => res.authentic = true,
            None if mark == "silent" => res.silent = true,
            _ => panic!("line {}: {mark}: expected code=N, ede=N, tc, ad or silent", step.line),
        }
    }
    for (_, line) in &step.body {
        let (section, record) = match line.split_once(": ") {
            Some(("authority", record)) => (&mut res.authority, record),
            Some(("additional", record)) => (&mut res.additional, record),
            _ => (&mut res.answers, line.as_str()),
        };
        section.push(record.to_owned());
    }
    res
}

/// `NAME TYPE marks…` as a packet, and whether it goes over TCP.
fn packet(step: &Step, words: &[String]) -> (Vec<u8>, bool) {
    let mut ask = Ask::new(&words[0], &words[1]);
    let mut patches = Vec::new();
    for mark in &words[2..] {
        match mark.split_once('=') {
            None => match mark.as_str() {
                "tcp" => ask.tcp = true,
                "no-edns" => ask.edns = false,
                "do" => ask.dnssec_ok = true,
                "ad" => ask.authentic_data = true,
                "cd" => ask.checking_disabled = true,
                "no-rd" => ask.recursion_desired = false,
                other => panic!("line {}: {other} is no mark of a question", step.line),
            },
            Some(("size", octets)) => ask.udp_octets = octets.parse().expect("size=OCTETS"),
            Some(("option", code)) => ask.options.push((code.parse().expect("option=CODE"), vec![0, 1, 0, 0])),
            Some(patch) => patches.push(patch),
        }
    }
    let mut octets = ask.octets();
    let question_end = 12 + octets[12..].iter().position(|&octet| octet == 0).expect("a root") + 5;
    for (what, value) in patches {
        let number: usize = value.parse().expect("a number");
        let small = u8::try_from(number % 256).expect("below 256");
        let last = octets.len();
        match what {
            "opcode" => octets[2] |= small << 3,
            "class" => octets[question_end - 1] = small,
            "version" => octets[last - 5] = small,
            "questions" => octets[5] = small,
            "cut" => octets.truncate(number),
            other => panic!("line {}: {other} is no mark of a question", step.line),
        }
    }
    (octets, ask.tcp)
}

/// The expectations that are not met.
fn missed(step: &Step, answer: Option<&Answer>) -> Vec<(usize, String)> {
    let mut res = Vec::new();
    let mut sections: Vec<(&str, usize, Vec<&str>)> = Vec::new();
    for (number, line) in &step.body {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        if matches!(what, "answer" | "authority" | "additional") {
            match sections.iter_mut().find(|(section, ..)| *section == what) {
                Some((_, _, lines)) => lines.push(rest),
                None => sections.push((what, *number, vec![rest])),
            }
        } else if let Err(found) = expect::check(line, answer) {
            res.push((*number, format!("expected {line:?}, found {found:?}")));
        }
    }
    for (section, number, lines) in sections {
        let checked = answer.ok_or_else(|| "no answer".to_owned());
        if let Err(found) = checked.and_then(|answer| expect::check_section(section, &lines, answer)) {
            res.push((number, format!("expected {section} {lines:?}, found {found}")));
        }
    }
    res
}
