//! Files of expected output. `ICPGATE_GOLDEN=write` rewrites them; look at the difference before committing it.

use std::path::PathBuf;

/// Holds `actual` against `tests/golden/{name}`.
pub fn check(name: &str, actual: &[u8]) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var("ICPGATE_GOLDEN").is_ok_and(|what| what == "write") {
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("makes the directory");
        std::fs::write(&file, actual).expect("writes the golden file");
    }
    let expected = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let (expected, actual) = (String::from_utf8_lossy(&expected), String::from_utf8_lossy(actual));
    if let Some((line, (e, a))) = expected.lines().zip(actual.lines()).enumerate().find(|(_, (e, a))| e != a) {
        panic!("{name}:{}: expected\n{e}\ngot\n{a}", line + 1);
    }
    assert_eq!(expected.len(), actual.len(), "{name}: one is longer");
}
