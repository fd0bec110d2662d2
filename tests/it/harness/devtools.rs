//! Chromium without a screen, driven by the DevTools protocol over a pipe: messages of JSON, each ended by a zero octet.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest time for a browser to answer, and for a page to come to what is waited for, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// A browser with one page.
pub struct Browser {
    process: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: String,
    last: u64,
    /// What the page's console and the browser's log said.
    pub said: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Starts the browser, which reads commands from descriptor 3 and writes to 4.
    pub fn start(language: &str) -> Self {
        let profile = TempDir::new().expect("a directory");
        let redirected = "exec chromium \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>&1";
        let mut process = Command::new("sh")
            .args([
                "-c",
                redirected,
                "sh",
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args(["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--remote-debugging-pipe", "--hide-scrollbars"])
            .arg(format!("--accept-lang={language}"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("chromium starts");
        let commands = process.stdin.take().expect("a pipe");
        let mut output = BufReader::new(process.stdout.take().expect("a pipe"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut octets = Vec::new();
            while output.read_until(0, &mut octets).is_ok_and(|length| length > 0) {
                octets.pop();
                let Ok(message) = serde_json::from_slice(&octets) else { return };
                octets.clear();
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let session = String::new();
        let mut res = Self { process, commands, messages, session, last: 0, said: Vec::new(), _profile: profile };
        let target = res.call("Target.createTarget", &json!({"url": "about:blank"}))["targetId"].clone();
        let attached = res.call("Target.attachToTarget", &json!({"targetId": target, "flatten": true}));
        res.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            res.call(domain, &json!({}));
        }
        res
    }

    /// Calls a method and returns its result.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        let mut octets = message.to_string().into_bytes();
        octets.push(0);
        self.commands.write_all(&octets).expect("the browser reads");
        loop {
            let message = self.messages.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no answer to {method}"));
            if message["id"] == self.last {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            if ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"]
                .iter()
                .any(|event| message["method"] == *event)
            {
                self.said.push(message["params"].to_string());
            }
        }
    }

    /// The page's size in CSS pixels and its scheme of colours, `light` or `dark`.
    pub fn look(&mut self, width: u32, height: u32, scheme: &str) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// Opens a page.
    pub fn open(&mut self, url: &str) {
        // A page that differs in its fragment only would not be loaded again.
        self.call("Page.navigate", &json!({"url": "about:blank"}));
        self.call("Page.navigate", &json!({"url": url}));
    }

    /// The value of a JavaScript expression.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let res = self.call("Runtime.evaluate", &parameters);
        assert!(res.get("exceptionDetails").is_none(), "{expression}: {res}");
        res["result"]["value"].clone()
    }

    /// Waits until an expression is true, looking again as fast as the browser answers.
    pub fn until(&mut self, expression: &str) {
        let begun = Instant::now();
        // A page that is not there yet has none of its elements.
        let guarded = format!("(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()");
        while self.value(&guarded) != true {
            let text = || "document.body ? document.body.innerText : \"\"";
            if begun.elapsed() > PATIENCE {
                let page = self.value(text());
                panic!("waited for {expression}: {page}\n{:#?}", self.said);
            }
        }
    }

    /// The page's text as shown.
    pub fn text(&mut self) -> String {
        self.value("document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Writes a picture of the whole page.
    pub fn picture(&mut self, path: &Path) {
        let size = self.call("Page.getLayoutMetrics", &json!({}))["cssContentSize"].clone();
        let clip = json!({"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1});
        let parameters = json!({"format": "png", "clip": clip, "captureBeyondViewport": true});
        let data = self.call("Page.captureScreenshot", &parameters)["data"].clone();
        std::fs::write(path, from_base64(data.as_str().expect("a picture"))).expect("a writable directory");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Octets of base 64 (RFC 4648 section 4) that the browser made.
fn from_base64(text: &str) -> Vec<u8> {
    let digit = |octet: u8| match octet {
        b'A'..=b'Z' => u32::from(octet - b'A'),
        b'a'..=b'z' => u32::from(octet - b'a') + 26,
        b'0'..=b'9' => u32::from(octet - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let text = text.trim_end_matches('=').as_bytes();
    let part = |part: &[u8]| {
        let word = part.iter().fold(0, |word, &octet| word << 6 | digit(octet)) << (6 * (4 - part.len()));
        word.to_be_bytes()[1..part.len()].to_vec()
    };
    text.chunks(4).flat_map(part).collect()
}
