//! Range files: formats, findings with their place, and files refused whole.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use icpgate::model::{OriginSide, Product, Region};
use icpgate::ranges::{Loaded, RangeMatch, Settings, load_paths};
use icpgate::registry::Severity;
use tempfile::TempDir;

use crate::harness::fixture::name;

/// Loads one file of the given key.
fn load(key: &str, file: &str, octets: impl AsRef<[u8]>) -> Result<Arc<Loaded>, String> {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join(file);
    fs::write(&path, octets).expect("a writable directory");
    let mut settings = Settings::new("self");
    match key {
        "mainland" => settings.mainland.push(path),
        "tags" => settings.tags.push(path),
        _ => settings.cnames.push(path),
    }
    load_paths(&settings, SystemTime::UNIX_EPOCH).map_err(|error| strip(&error.to_string(), dir.path()))
}

/// The text without the scratch directory's name.
fn strip(text: &str, dir: &Path) -> String {
    text.replace(&format!("{}/", dir.display()), "")
}

/// Every finding, from the file's name on.
fn issues(loaded: &Loaded) -> Vec<String> {
    let cut = |text: String| {
        let end = text.find(": ").unwrap_or(text.len());
        let start = text[..end].rfind('/').map_or(0, |at| at + 1);
        text[start..].to_owned()
    };
    loaded.issues.iter().map(|issue| cut(issue.to_string())).collect()
}

fn at(loaded: &Loaded, addr: &str) -> Option<RangeMatch> {
    loaded.ranges.lookup(addr.parse::<IpAddr>().expect(addr))
}

fn is_mainland(loaded: &Loaded, addr: &str) -> bool {
    at(loaded, addr).is_some_and(|found| found.region == Region::Mainland)
}

//--- Formats ---------------------------------------------------------------------------------------------------------

#[test]
fn a_list_holds_prefixes_addresses_and_ranges() {
    let text = "# a comment\r\n1.0.1.0/24\r\n\r\n  1.0.3.7 # one server\r\n1.0.5.0-1.0.5.9\r\n2400:3200::/32\r\n";
    let gz = {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).expect("compresses");
        encoder.finish().expect("compresses")
    };
    let zst = zstd::encode_all(text.as_bytes(), 1).expect("compresses");
    let marked = format!("\u{feff}{text}");
    for (file, octets) in
        [("a.txt", text.as_bytes().to_vec()), ("a.txt.gz", gz), ("a.txt.zst", zst), ("a.txt", marked.into_bytes())]
    {
        let loaded = load("mainland", file, octets).expect(file);
        assert!(loaded.issues.is_empty(), "{file}: {:?}", loaded.issues);
        assert_eq!(loaded.files[0].rows, 4, "{file}");
        for inside in ["1.0.1.0", "1.0.1.255", "1.0.3.7", "1.0.5.0", "1.0.5.9", "2400:3200:ffff::"] {
            assert!(is_mainland(&loaded, inside), "{file}: {inside}");
        }
        for outside in ["1.0.0.255", "1.0.2.0", "1.0.3.8", "1.0.5.10", "2400:3201::"] {
            assert!(!is_mainland(&loaded, outside), "{file}: {outside}");
        }
    }
}

#[test]
fn tags_are_read_in_any_column_order() {
    let text = "x_note,product,prefix,origin,provider,region\n# mine\nfree,OSS,198.51.100.64/26,self,self,CN\n\
                ,,198.51.100.128/26,,,hk\n,cdn,198.51.100.192/26,elsewhere,other,\n";
    let loaded = load("tags", "t.csv", text).expect("sound");
    assert!(loaded.issues.is_empty(), "{:?}", loaded.issues);
    let found = at(&loaded, "198.51.100.65").expect("a row");
    assert_eq!((found.region, found.product, found.is_ours), (Region::Mainland, Product::Oss, true));
    assert_eq!(found.origin, OriginSide::Ours);
    assert_eq!(at(&loaded, "198.51.100.129").expect("a row").region, Region::HongKong);
    let found = at(&loaded, "198.51.100.193").expect("a row");
    assert_eq!((found.region, found.product, found.is_ours), (Region::Overseas, Product::Cdn, false));
    assert_eq!(found.origin, OriginSide::Other);
    let few =
        load("tags", "t.csv", "prefix,region\n203.0.113.0/24,mainland\n").expect("optional columns may be absent");
    assert!(is_mainland(&few, "203.0.113.1"));
}

#[test]
fn cname_suffixes_are_read() {
    let text =
        "cname_suffix,product,region\ncdn-global.self.example,cdn,global\nCDN-Overseas.self.example.,cdn,overseas\n";
    let loaded = load("cnames", "c.csv", text).expect("sound");
    assert!(loaded.issues.is_empty(), "{:?}", loaded.issues);
    let region = |target: &str| loaded.ranges.cname(name(target).as_ref()).map(|found| found.region);
    assert_eq!(region("a.cdn-global.self.example"), Some(Region::Global));
    assert_eq!(region("a.cdn-overseas.self.example"), Some(Region::Overseas));
}

#[test]
fn directories_are_read_in_order_and_hidden_files_are_not() {
    let dir = TempDir::new().expect("a directory");
    let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).expect("writes");
    write("10.csv", "prefix,region,provider\n203.0.113.0/24,mainland,self\n");
    write("20.csv", "prefix,region\n203.0.113.0/24,overseas\n");
    write(".30.csv", "not a table\n");
    write("README.csv", "not a table\n");
    write("list.txt", "1.0.1.0/24\n");
    let mut settings = Settings::new("self");
    settings.tags.push(dir.path().to_owned());
    settings.mainland.push(dir.path().to_owned());
    let loaded = load_paths(&settings, SystemTime::UNIX_EPOCH).expect("sound");
    assert_eq!(loaded.files.len(), 3);
    let found = at(&loaded, "203.0.113.1").expect("a row");
    assert_eq!((found.region, found.is_ours), (Region::Overseas, true));
    assert!(is_mainland(&loaded, "1.0.1.1"));
}

//--- Findings --------------------------------------------------------------------------------------------------------

#[test]
fn a_bad_row_names_its_place_and_never_stops_the_rest() {
    let text =
        "1.0.1.0/24\n  1.0.2.0/33\n1.0.4.1/24\n10.0.0.0/8\n0.0.0.0/0\nfe80::/10\nCN\n1.0.8.9-1.0.8.1\n1.0.16.0/20\n";
    let loaded = load("mainland", "m.txt", text).expect("few bad rows");
    let expected = [
        "m.txt:2:3: error[format]: prefix = \"1.0.2.0/33\": /33 is no prefix length; expected a number from 0 to 32",
        "m.txt:3:1: warning[format]: prefix = \"1.0.4.1/24\": has bits set below the prefix length; read as 1.0.4.0/24",
        "m.txt:4:1: error[special-purpose]: prefix = \"10.0.0.0/8\": 10.0.0.0/8 is private",
        "m.txt:5:1: error[special-purpose]: prefix = \"0.0.0.0/0\": ",
        "m.txt:6:1: error[special-purpose]: prefix = \"fe80::/10\": ",
        "m.txt:7:1: error[format]: prefix = \"CN\": \"CN\" is no address; expected a prefix such as",
        "m.txt:8:1: error[format]: prefix = \"1.0.8.9-1.0.8.1\": 1.0.8.1 is below 1.0.8.9",
    ];
    let found = issues(&loaded);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    assert_eq!((loaded.files[0].rows, loaded.files[0].bad_rows), (3, 6));
    assert!(
        is_mainland(&loaded, "1.0.4.200") && is_mainland(&loaded, "1.0.31.255") && !is_mainland(&loaded, "10.1.1.1")
    );
}

#[test]
fn a_bad_tag_names_the_cell_and_what_would_be_right() {
    let text = "prefix,region,provider,product,origin\n# a comment\n203.0.113.0/24,mainlnd,self,ecs,\n\
                203.0.113.0/24,mainland,self,vps,\n203.0.113/24,mainland,self,ecs,\n203.0.113.0/24,mainland\n\
                203.0.113.0/24,mainland,my self,ecs,\n203.0.113.0/24,,,,\n203.0.113.9/24,,self,,\n10.0.0.0/8,mainland,self,,\n";
    let loaded = load("tags", "t.csv", text).expect("few bad rows");
    let expected = [
        "t.csv:3:2: error[format]: region = \"mainlnd\": unknown region; expected one of global, hong-kong (hk), ",
        "t.csv:4:4: error[format]: product = \"vps\": unknown product; expected one of cdn, ddos, ecs, ",
        "t.csv:5:1: error[format]: prefix = \"203.0.113/24\": \"203.0.113\" is no address",
        "t.csv:6: error[format]: 2 fields; expected 5 as in the header",
        "t.csv:7:3: error[format]: provider = \"my self\": expected a provider id",
        "t.csv:8:1: warning[format]: prefix = \"203.0.113.0/24\": the row says nothing",
        "t.csv:9:1: warning[format]: prefix = \"203.0.113.9/24\": has bits set below",
        "t.csv:9:1: warning[duplicate]: prefix = \"203.0.113.9/24\": 203.0.113.0/24 stands in line 8 too",
    ];
    let found = issues(&loaded);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    assert!(is_mainland(&loaded, "10.1.1.1"), "tags may speak of private space");
}

#[test]
fn a_bad_cname_suffix_names_the_cell() {
    let text = "cname_suffix,product,region\n*.cdn.example,cdn,global\ncom,cdn,global\na..example,cdn,global\n\
                a.example,cdn,\nb.example,cdn,global\nb.example,cdn,overseas\n";
    let found = issues(&load("cnames", "c.csv", text).expect("few bad rows"));
    for (found, expected) in found.iter().zip([
        "c.csv:2:1: error[format]: cname_suffix = \"*.cdn.example\": a suffix holds all names below it",
        "c.csv:3:1: error[format]: cname_suffix = \"com\": a suffix of one label would hold every name below it",
        "c.csv:4:1: error[format]: cname_suffix = \"a..example\": ",
        "c.csv:5:3: error[format]: region = \"\": is missing; expected one of ",
        "c.csv:7:1: warning[duplicate]: cname_suffix = \"b.example\": appears before with other cells",
    ]) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    assert_eq!(found.len(), 5, "{found:#?}");
}

#[test]
fn comments_alone_are_worth_a_warning() {
    let loaded = load("mainland", "m.txt", "# nothing yet\n").expect("no error");
    assert_eq!(loaded.issues.len(), 1);
    assert_eq!(loaded.issues[0].severity, Severity::Warning);
}

//--- Files refused whole ---------------------------------------------------------------------------------------------

#[test]
fn an_unfit_file_is_refused_with_the_reason() {
    let many_bad = "no prefix\n".repeat(101);
    let cut = &zstd::encode_all(&b"1.0.1.0/24\n"[..], 1).expect("compresses")[..12];
    for (key, file, octets, expected) in [
        ("mainland", "m.txt", &b""[..], "m.txt: is empty; expected one prefix"),
        ("mainland", "m.txt", b"1.0.1.0/24\n1.0.2.0/2", "m.txt: line 2: the file ends in the middle of a row"),
        ("mainland", "m.txt", b"1.0.1.0/24\n1.0.2.1", "m.txt: line 2: the file ends in the middle of a row"),
        ("mainland", "m.txt", b"1.0.1.0/24\n1.0.", "m.txt: line 2: the file ends in the middle of a row"),
        ("mainland", "m.txt", many_bad.as_bytes(), "m.txt: 101 bad rows; at most 100 are accepted; the first: "),
        ("mainland", "m.txt", b"1.0.1.0/24\n\xff\n", "m.txt: line 2 is not UTF-8"),
        ("mainland", "m.txt.zst", cut, "m.txt.zst: the compressed stream is damaged or cut"),
        ("tags", "t.csv", b"", "t.csv: is empty; expected a header line and rows"),
        (
            "tags",
            "t.csv",
            b"prefix,regoin\n",
            "t.csv: header, column 2: unknown column \"regoin\"; expected prefix,region,",
        ),
        ("tags", "t.csv", b"prefix,prefix\n", "t.csv: header, column 2: prefix appears twice"),
        ("tags", "t.csv", b"region,product\n", "t.csv: header: column prefix is missing"),
        ("tags", "t.csv", b"prefix,region\n1.0.1.0/24", "t.csv: line 2: the file ends in the middle of a row"),
        // All fields are there, and the last may be half of what it will be.
        ("tags", "t.csv", b"prefix,region\n1.0.1.0/24,cn", "t.csv: line 2: the file ends in the middle of a row"),
        ("tags", "t.csv", b"prefix,region\n1.0.1.0/24,\"cn", "t.csv: line 2: the file ends in the middle of a row"),
        ("cnames", "c.csv", b"cname_suffix,product\n", "c.csv: header: column region is missing"),
    ] {
        let refusal = load(key, file, octets).err().unwrap_or_else(|| panic!("{file}: {expected}: no refusal"));
        assert!(refusal.starts_with(expected), "{refusal}\n{expected}");
    }
    load("mainland", "m.txt", "1.0.1.0/24\n1.0.2.0/23").expect("a last line that cannot have been cut");
}

#[test]
fn a_missing_file_and_no_file_are_told_apart() {
    let mut settings = Settings::new("self");
    let refusal = load_paths(&settings, SystemTime::UNIX_EPOCH).err().expect("a refusal").to_string();
    assert!(refusal.contains("no range file; expected ranges.mainland"), "{refusal}");
    settings.mainland.push("/nonexistent/m.txt".into());
    let refusal = load_paths(&settings, SystemTime::UNIX_EPOCH).err().expect("a refusal").to_string();
    assert!(refusal.starts_with("/nonexistent/m.txt: "), "{refusal}");
}
