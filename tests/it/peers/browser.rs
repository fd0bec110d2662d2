//! Chromium without a screen before the block page; its picture is kept in `target/artefacts`.

use std::path::Path;

use super::super::harness::binary::{Binary, run};

/// A real browser's way to `host` on the gate.
fn chromium(gate: &Binary, host: &str, more: &[&str]) -> String {
    let profile = format!("--user-data-dir={}", gate.path("profile").display());
    let url = format!("http://{host}:{}/", gate.http.port());
    let fixed = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * 127.0.0.1",
        &profile,
    ];
    run("chromium", &[&fixed[..], more, &[&url]].concat())
}

#[test]
fn chromium_shows_the_page_and_its_picture_is_kept() {
    if !super::are_asked_for() {
        return;
    }
    let gate = Binary::demo();
    let artefacts = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/artefacts");
    std::fs::create_dir_all(&artefacts).expect("a directory");
    for (name, size, more) in [
        ("block-page", "1200,900", &[][..]),
        ("block-page-narrow", "500,900", &[]),
        ("block-page-dark", "1200,900", &["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]),
    ] {
        let file = artefacts.join(format!("{name}.png"));
        let _ = std::fs::remove_file(&file);
        let (shot, size) = (format!("--screenshot={}", file.display()), format!("--window-size={size}"));
        chromium(&gate, "www.unfiled.example", &[&[shot.as_str(), &size, "--accept-lang=zh-CN"], more].concat());
        let octets = std::fs::metadata(&file).expect("a picture").len();
        assert!(octets > 5000, "{name}: {octets} octets");
    }
    let page = chromium(&gate, "www.unfiled.example", &["--dump-dom", "--accept-lang=zh-CN"]);
    assert!(page.contains("unfiled.example") && page.contains("备案"), "{page}");
    let filed = chromium(&gate, "www.filed.example", &["--dump-dom"]);
    assert!(!filed.contains("not_filed"), "{filed}");
}
