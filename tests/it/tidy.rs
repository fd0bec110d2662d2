//! House rules that a reader of one file cannot see: layers, module docs, lengths, leftovers, dead files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, ground first: a layer uses those before it (table in the crate's documentation). Those on one line do not
/// know each other.
const LAYERS: [&[&str]; 12] = [
    &["model"],
    &[
        "chance",
        "clients",
        "count",
        "credentials",
        "drain",
        "meter",
        "priority",
        "proxy_header",
        "sockets",
        "terminal",
        "watch",
        "whole",
    ],
    &["registry"],
    &["ranges"],
    &["policy"],
    &["dns", "http"],
    &["audit"],
    &["ops"],
    &["config"],
    &["app"],
    &["cli"],
    &["main"],
];

/// Lines of a source file; longer ones are split or argued for here.
const LINES_MAX: usize = 500;
/// Longer files, each with the reason.
const LONG_FILES: [(&str, &str); 2] = [
    ("src/model/name.rs", "owned and borrowed names are one subject, and a third of it is its tests"),
    ("tests/it/cli.rs", "one command after the other, each under its own heading"),
];
/// Longest line; longer ones hold one text or address that cannot be broken.
const COLUMNS_MAX: usize = 140;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below `dir` with one of these extensions, sorted, relative to the root.
fn files(dir: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut res = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().and_then(|end| end.to_str()).is_some_and(|end| extensions.contains(&end)) {
                res.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    res.sort();
    res
}

fn sources() -> Vec<PathBuf> {
    ["src", "tests/it", "tests/fuzz", "benches"].iter().flat_map(|dir| files(dir, &["rs"])).collect()
}

fn text(path: &Path) -> String {
    fs::read_to_string(root().join(path)).expect("a readable file")
}

/// Panics with every finding as `file:line: error: …`.
fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

fn finding(path: &Path, line: usize, message: &str) -> String {
    format!("{}:{line}: error: {message}", path.display())
}

fn rank(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&layer))
}

/// The layer a source file belongs to.
fn layer_of(path: &Path) -> String {
    let mut parts = path.components().skip(1).map(|part| part.as_os_str().to_string_lossy().into_owned());
    let first = parts.next().unwrap_or_default();
    first.strip_suffix(".rs").unwrap_or(&first).to_owned()
}

/// The layers that code names, each with its line; comments are left out.
fn layers_named(text: &str) -> Vec<(usize, String)> {
    let code: String = text.lines().map(|line| format!("{}\n", line.split("//").next().unwrap_or(""))).collect();
    let mut res = Vec::new();
    for prefix in ["crate::", "icpgate::"] {
        for (at, _) in code.match_indices(prefix) {
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + prefix.len()..];
            let names = match rest.strip_prefix('{') {
                Some(list) => first_words(list),
                None => vec![word(rest)],
            };
            res.extend(names.into_iter().map(|name| (line, name.to_owned())));
        }
    }
    res
}

/// The identifier at the start of `text`.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The first identifier of each item up to the brace that closes a list.
fn first_words(list: &str) -> Vec<&str> {
    let (mut res, mut depth, mut begins) = (Vec::new(), 0, true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && depth == 0 && !c.is_whitespace() => {
                res.push(word(&list[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    res
}

#[test]
fn layers_are_found_in_every_form_of_use() {
    let text = "use crate::model::{Day, Status};\nuse crate::{\n    dns::Settings,\n    http, ops::{a, b},\n};\n// crate::cli\n";
    let found = layers_named(text);
    let names: Vec<(usize, &str)> = found.iter().map(|(line, name)| (*line, name.as_str())).collect();
    assert_eq!(names, [(1, "model"), (2, "dns"), (2, "http"), (2, "ops")]);
}

#[test]
fn a_layer_uses_only_those_below_it() {
    let mut findings = Vec::new();
    for path in files("src", &["rs"]) {
        let layer = layer_of(&path);
        if layer == "lib" {
            continue;
        }
        let Some(own) = rank(&layer) else {
            findings.push(finding(&path, 1, &format!("{layer} is no layer of the table")));
            continue;
        };
        for (line, named) in layers_named(&text(&path)) {
            let Some(other) = rank(&named) else { continue };
            if named != layer && other >= own {
                findings.push(finding(&path, line, &format!("{layer} must not use {named}")));
            }
        }
    }
    none(&findings);
}

#[test]
fn the_crate_documentation_lists_the_layers_in_this_order() {
    let text = text(Path::new("src/lib.rs"));
    let mut at = 0;
    for names in LAYERS {
        for name in names.iter().filter(|name| **name != "main") {
            let link = format!("[`{name}`]");
            let found = text.lines().position(|line| line.starts_with("//! |") && line.contains(&link));
            let found = found.unwrap_or_else(|| panic!("src/lib.rs does not list {name}"));
            assert!(found >= at, "{name} stands too early in the table of src/lib.rs");
            at = found;
        }
    }
}

#[test]
fn every_source_file_begins_with_its_documentation() {
    let missing = sources().into_iter().filter(|path| !text(path).starts_with("//! "));
    none(&missing.map(|path| finding(&path, 1, "expected //! on the first line")).collect::<Vec<_>>());
}

#[test]
fn no_source_file_is_too_long() {
    let exceptions: BTreeMap<&str, &str> = LONG_FILES.into_iter().collect();
    let mut findings = Vec::new();
    for path in sources() {
        let lines = text(&path).lines().count();
        let is_exception = exceptions.contains_key(path.to_string_lossy().as_ref());
        if lines > LINES_MAX && !is_exception {
            findings.push(finding(&path, lines, &format!("{lines} lines, at most {LINES_MAX}")));
        }
    }
    none(&findings);
}

#[test]
fn every_source_file_is_a_module() {
    let mut findings = Vec::new();
    for path in sources() {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let dir = path.parent().unwrap_or(Path::new(""));
        let roots = ["src/lib.rs", "src/main.rs", "tests/it/main.rs", "tests/fuzz/lib.rs"];
        let is_root = roots.iter().any(|root| path == Path::new(root))
            || dir == Path::new("benches")
            || dir == Path::new("tests/fuzz/targets");
        if is_root {
            continue;
        }
        let (module, above) = if stem == "mod" {
            (dir.file_name().and_then(|name| name.to_str()).unwrap_or_default(), dir.parent().unwrap_or(dir))
        } else {
            (stem, dir)
        };
        let parents = [above.join("mod.rs"), above.join("lib.rs"), above.join("main.rs"), above.with_extension("rs")];
        let declares = |parent: &PathBuf| {
            fs::read_to_string(root().join(parent)).is_ok_and(|text| text.contains(&format!("mod {module};")))
        };
        if !parents.iter().any(declares) {
            findings.push(finding(&path, 1, "no module declares this file"));
        }
    }
    none(&findings);
}

#[test]
fn nothing_is_left_over() {
    // Put together here, so that this file does not hold what it looks for.
    let leftovers = [
        concat!("dbg", "!("),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
        concat!("TODO(corr", "ectness)"),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
    ];
    let mut findings = Vec::new();
    for path in sources() {
        for (i, line) in text(&path).lines().enumerate() {
            for leftover in leftovers.iter().filter(|leftover| line.contains(**leftover)) {
                findings.push(finding(&path, i + 1, &format!("{leftover} is left over")));
            }
            if line.contains(concat!("TO", "DO")) && !line.contains(concat!("TO", "DO(")) {
                findings.push(finding(&path, i + 1, "a reminder without its kind: limit or coverage"));
            }
        }
    }
    none(&findings);
}

#[test]
fn texts_are_clean() {
    let mut paths = sources();
    paths.extend(files("conf", &["toml", "zone", "md", "html", "css"]));
    paths.extend(files("tests/scenarios", &["scn", "md"]));
    paths.extend(files("tests/data", &["toml", "csv"]));
    paths.extend(
        ["Cargo.toml", "README.md", "README.zh-CN.md", "CHANGELOG.md", "tests/run", "tests/fuzz/run", ".ci/run"]
            .map(PathBuf::from),
    );
    let mut findings = Vec::new();
    for path in paths.iter().filter(|path| root().join(path).exists()) {
        let text = text(path);
        let is_code = path.starts_with("src");
        for (i, line) in text.lines().enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                findings.push(finding(path, i + 1, "ends in white space"));
            }
            if line.contains('\t') {
                findings.push(finding(path, i + 1, "holds a tab"));
            }
            if is_code && line.chars().count() > COLUMNS_MAX && !line.contains('"') {
                findings.push(finding(path, i + 1, &format!("is longer than {COLUMNS_MAX} columns")));
            }
        }
        if !text.ends_with('\n') || text.ends_with("\n\n") {
            findings.push(finding(path, text.lines().count(), "expected one line break at the end"));
        }
    }
    none(&findings);
}

#[test]
fn the_project_speaks_of_itself_alone() {
    // Places and tasks of whoever worked on it mean nothing to a reader. The third-party test data beside the checkout
    // are the one exception, in the module that finds them.
    let foreign = [concat!("/wo", "rk/"), concat!("/tm", "p/wt"), concat!("CONTR", "ACT.md"), concat!("issue", " #")];
    let mut paths = sources();
    paths.extend(files("conf", &["toml", "zone", "md", "html"]));
    paths.extend(files("tests/scenarios", &["scn", "md"]));
    paths.extend(
        ["Cargo.toml", "README.md", "README.zh-CN.md", "CHANGELOG.md", "tests/run", "tests/fuzz/run", ".ci/run"]
            .map(PathBuf::from),
    );
    let mut findings = Vec::new();
    for path in paths.iter().filter(|path| root().join(path).exists()) {
        for (i, line) in text(path).lines().enumerate() {
            for word in foreign.iter().filter(|word| line.contains(**word)) {
                findings.push(finding(path, i + 1, &format!("{word} means nothing to a reader")));
            }
        }
    }
    none(&findings);
}
