//! The console in Chromium: live rates, a verdict with all its steps, a reload, errors; pictures in `target/artefacts`.

use std::path::{Path, PathBuf};

use super::super::harness::app::{App, FILINGS};
use super::super::harness::devtools::Browser;

const TOKEN: &str = "0123456789abcdef";

fn artefacts() -> PathBuf {
    let res = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/artefacts");
    std::fs::create_dir_all(&res).expect("a directory");
    res
}

/// Runs what drives a browser on a thread of its own, beside the gate.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the browser's part")
}

#[tokio::test(flavor = "multi_thread")]
async fn console_shows_rates_verdicts_and_reloads() {
    if !super::are_asked_for() {
        return;
    }
    let app = App::start().await;
    let url = format!("http://{}", app.admin());
    let mut browser = beside(move || {
        let mut browser = Browser::start("zh-CN");
        browser.look(1440, 900, "light");
        browser.open(&format!("{url}/#name=www.unfiled.example&address=203.0.113.11"));
        browser.until("document.querySelectorAll('#verdict .chain li').length === 7");
        browser.until("document.querySelector('#live').dataset.state === 'on'");
        browser.until("document.querySelector('#state').textContent.length > 0");
        browser
    })
    .await;
    for _ in 0..5 {
        app.ask("www.unfiled.example", "A").await;
    }
    app.ask("www.filed.example", "A").await;
    let mut browser = beside(move || {
        browser.until("document.querySelector('#tiles').innerText.includes('累计 5')");
        browser.until("document.querySelector('#top').innerText.includes('unfiled.example')");
        let verdict = browser.value("document.querySelector('#verdict').innerText");
        let verdict = verdict.as_str().expect("a text");
        for text in ["拦截", "not_filed", "规则 B1", "203.0.113.0/25", "网站主办者要做什么", "备案情况如何"]
        {
            assert!(verdict.contains(text), "{text}: {verdict}");
        }
        for (name, width, scheme) in [("light", 1440, "light"), ("dark", 1440, "dark"), ("phone", 360, "light")] {
            browser.look(width, 900, scheme);
            browser.value("scrollTo(0, 0)");
            browser.until("document.querySelectorAll('.tile path.area').length === 4");
            let wide = browser.value("document.documentElement.scrollWidth").as_u64().expect("a width");
            assert!(wide <= u64::from(width), "{name}: {wide} is wider than the window");
            browser.picture(&artefacts().join(format!("console-{name}.png")));
        }
        browser
    })
    .await;
    app.write(
        "registry/filings.csv",
        &format!("{FILINGS}new.example,京ICP备2021000003号-1,self,active\nnot a domain,,self,active\n"),
    );
    let mut browser = beside(move || {
        browser.until("document.querySelector('#registry').innerText.includes('+ new.example')");
        browser.until("document.querySelector('#registry').innerText.includes('not a domain')");
        // Keyboard: the first Tab is the way past the header, "/" leads to the search, Enter asks.
        browser.value("document.activeElement.blur()");
        let key = |key: &str, code: u32, text: &str| {
            serde_json::json!({"type": "keyDown", "key": key, "windowsVirtualKeyCode": code, "text": text})
        };
        browser.call("Input.dispatchKeyEvent", &key("/", 191, "/"));
        browser.until("document.activeElement.id === 'name'");
        browser.call("Input.insertText", &serde_json::json!({"text": "<img src=x onerror=alert(1)>"}));
        browser.call("Input.dispatchKeyEvent", &key("Enter", 13, "\r"));
        browser.until("document.querySelector('#verdict .who').textContent.includes('<img')");
        assert_eq!(browser.value("document.images.length"), 0, "a name is text");
        assert_eq!(browser.value("document.querySelectorAll('#verdict .chain li').length"), 1, "no name: one step");
        browser.value("document.querySelector('#address').value = '1.2.3'; document.querySelector('#ask').requestSubmit()");
        browser.until("document.querySelector('#ask-error').textContent.includes('1.2.3')");
        browser.value("document.querySelector('#language').click()");
        browser.until("document.documentElement.lang === 'en' && document.body.innerText.includes('Live rates')");
        let policy: Vec<&String> = browser.said.iter().filter(|line| line.contains("Content Security Policy")).collect();
        assert!(policy.is_empty(), "{policy:?}");
        assert!(!browser.said.iter().any(|line| line.contains("exceptionDetails")), "{:?}", browser.said);
        assert_eq!(browser.value("document.querySelector('#control').disabled"), true, "read-only without a token");
        browser
    })
    .await;
    app.drain().await;
    beside(move || {
        browser.until(
            "!document.querySelector('#gone').hidden && document.querySelector('#live').dataset.state === 'gone'",
        );
        assert!(browser.text().contains("The gate does not answer"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn console_asks_for_the_token_and_reloads_with_it() {
    if !super::are_asked_for() {
        return;
    }
    let app = App::with(|config, _| config.admin.token = Some(TOKEN.to_owned())).await;
    let url = format!("http://{}/", app.admin());
    beside(move || {
        let mut browser = Browser::start("en-GB");
        browser.look(1000, 700, "dark");
        browser.open(&url);
        browser.until("!document.querySelector('#lock').hidden");
        assert_eq!(browser.value("document.querySelector('#desk').hidden"), true, "nothing is shown before");
        let enter = |token: &str| {
            format!(
                "document.querySelector('#token').value = '{token}'; document.querySelector('#lock').requestSubmit()"
            )
        };
        browser.value(&enter("wrong"));
        browser.until("document.querySelector('#lock-error').textContent.includes('Not the token')");
        browser.picture(&artefacts().join("console-locked.png"));
        browser.value(&enter(TOKEN));
        browser.until("!document.querySelector('#desk').hidden && !document.querySelector('#control').disabled");
        browser.value("document.querySelector('#control').click(); document.querySelector('#reload-do').click()");
        browser.until("document.querySelector('#reload-result').innerText.includes('registry: unchanged')");
        let kept = browser.value("JSON.stringify([localStorage.length, sessionStorage.length, document.cookie])");
        assert_eq!(kept, "[0,0,\"\"]", "the token is in memory only");
    })
    .await;
    app.drain().await;
}
