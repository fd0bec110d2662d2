//! Third-party test data, used in place and never copied; a test says so and returns where it is absent.

use std::io::Read;
use std::path::PathBuf;

/// The octets of `../shared/data/{path}`, decompressed if it ends in `.zst`; `None`, with a line on stderr, if absent.
pub fn data(path: &str) -> Option<Vec<u8>> {
    let file = data_path(path)?;
    let octets = std::fs::read(&file).expect("a readable data file");
    if !path.ends_with(".zst") {
        return Some(octets);
    }
    let mut res = Vec::new();
    zstd::stream::read::Decoder::new(&octets[..])
        .expect("a zstd stream")
        .read_to_end(&mut res)
        .expect("a whole zstd stream");
    Some(res)
}

/// The text of a data file, see [`data`].
pub fn text(path: &str) -> Option<String> {
    data(path).map(|octets| String::from_utf8(octets).expect("UTF-8 data"))
}

/// Where a data file lies; `None`, with a line on stderr, if absent.
pub fn data_path(path: &str) -> Option<PathBuf> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(path);
    if file.exists() {
        return Some(file);
    }
    eprintln!("skipped: ../shared/data/{path} is absent");
    None
}
