//! Importers: single lines, whole files of every form, and the vote.

use std::fs;
use std::path::{Path, PathBuf};

use icpgate::ranges::Family;
use icpgate::ranges::import::Operators;
use icpgate::ranges::import::{ImportRequest, Imported, Kind, Line, Source, parse_line, run};
use tempfile::TempDir;

use crate::harness::shared;

fn prefixes(imported: &Imported) -> String {
    let all = Family::ALL.into_iter().flat_map(|family| imported.prefixes(family));
    all.map(|prefix| prefix.to_string()).collect::<Vec<_>>().join(" ")
}

/// Imports files written for the test.
fn import(files: &[(&str, &str)], votes: usize) -> Result<Imported, String> {
    import_with(files, |request| request.votes = votes)
}

fn import_with(files: &[(&str, &str)], change: impl FnOnce(&mut ImportRequest)) -> Result<Imported, String> {
    let dir = TempDir::new().expect("a directory");
    let mut paths = Vec::new();
    for (name, text) in files {
        paths.push(dir.path().join(name));
        fs::write(dir.path().join(name), text).expect("a writable directory");
    }
    let mut request = ImportRequest::new(paths);
    change(&mut request);
    run(&request).map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

//--- Delegated files -------------------------------------------------------------------------------------------------

#[test]
fn every_single_line_is_read_as_expected() {
    let Some(table) = shared::text("ranges/delegated/rows-expected.csv") else { return };
    let mut reader = csv::ReaderBuilder::new().from_reader(table.as_bytes());
    let mut rows = 0;
    for record in reader.records() {
        let record = record.expect("a sound table");
        let (line, expected, why) = (&record[0], &record[1], &record[2]);
        let found = match parse_line(line) {
            Err(_) => "error".to_owned(),
            Ok(Line::Space { country: "CN", family, span, is_date_odd }) => {
                assert_eq!(is_date_odd, why.starts_with("odd date"), "{line}");
                span.cidrs(family).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            }
            Ok(Line::Space { .. } | Line::Skip | Line::Summary { .. }) => "skip".to_owned(),
        };
        assert_eq!(found, expected, "{line:?}: {why}");
        rows += 1;
    }
    assert_eq!(rows, 42);
}

#[test]
fn a_delegated_file_that_was_cut_short_is_refused() {
    let whole = "2|apnic|20260214|3|19830613|20260213|+1000\napnic|*|ipv4|*|2|summary\n\
                 apnic|CN|ipv4|1.0.1.0|256|20110414|allocated\napnic|JP|ipv4|1.0.16.0|4096|20110412|allocated\n";
    assert_eq!(prefixes(&import(&[("delegated", whole)], 1).expect("whole")), "1.0.1.0/24");
    let cut = &whole[..whole.rfind("apnic|JP").expect("the last line")];
    let refusal = import(&[("delegated", cut)], 1).expect_err("a refusal");
    assert_eq!(refusal, "delegated: holds 1 of the 2 ipv4 records its summary names; it was cut short");
}

#[test]
fn rows_of_other_countries_are_not_our_business() {
    let text = "apnic|CN|ipv4|1.0.1.0|256|2011-04-14|allocated\napnic|JP|ipv4|nonsense|256|20110414|allocated\n\
                apnic|CN|ipv4|nonsense|256|20110414|allocated\n";
    let imported = import(&[("delegated", text)], 1).expect("one good row");
    let source = &imported.report.sources[0];
    assert_eq!((source.kind, source.rows, source.bad_rows, source.issues.len()), (Kind::Delegated, 1, 1, 2));
    let issues: Vec<String> = source.issues.iter().map(ToString::to_string).collect();
    assert!(issues[0].contains("delegated:1: warning[format]") && issues[0].contains("odd date"), "{issues:?}");
    assert!(issues[1].contains("delegated:3: error[format]") && issues[1].contains("no address"), "{issues:?}");
}

//--- Whole published files -------------------------------------------------------------------------------------------

/// The figures that the data set's own comparison gives for a source.
fn expected_figures(source: &str, family: &str) -> Option<(u64, u64, u64)> {
    let table: serde_json::Value = serde_json::from_str(&shared::text("ranges/compare.json")?).expect("JSON");
    let figures = &table[family][source];
    let number = |key: &str| figures[key].as_f64().map(|number| number as u64);
    Some((number("ranges")?, number("cidrs")?, number("units")?))
}

fn import_shared(path: &str) -> Option<Imported> {
    let imported = run(&ImportRequest::new([shared::data_path(path)?])).expect(path);
    Some(imported)
}

#[test]
fn published_files_give_the_expected_figures() {
    for (path, source, kind, families) in [
        ("ranges/delegated/delegated-apnic-20260214.txt.zst", "apnic", Kind::Delegated, "46"),
        ("ranges/delegated/delegated-apnic-20210715.txt.zst", "apnic-2021-07-15", Kind::Delegated, "4"),
        ("ranges/sources/cn4-apnic-delegated.txt.zst", "apnic", Kind::List, "4"),
        ("ranges/sources/cn4-nro-asn-country.txt.zst", "nro-asn", Kind::List, "4"),
        ("ranges/sources/cn4-dbip-lite.txt.zst", "dbip", Kind::List, "4"),
        ("ranges/sources/cn4-bgp-operators.txt.zst", "bgp-operators", Kind::List, "4"),
        ("ranges/sources/cn6-apnic-delegated.txt.zst", "apnic", Kind::List, "6"),
        ("ranges/sources/cn6-nro-asn-country.txt.zst", "nro-asn", Kind::List, "6"),
        ("ranges/sources/cn6-dbip-lite.txt.zst", "dbip", Kind::List, "6"),
        ("ranges/mmdb/chnroutes2.mmdb", "chnroutes2", Kind::Mmdb, "4"),
    ] {
        let Some(imported) = import_shared(path) else { return };
        assert_eq!(imported.report.sources[0].kind, kind, "{path}");
        assert_eq!(imported.report.sources[0].bad_rows, 0, "{path}");
        for (family, figures) in [("4", imported.report.v4), ("6", imported.report.v6)] {
            if !families.contains(family) {
                continue;
            }
            let Some((ranges, cidrs, units)) = expected_figures(source, family) else { return };
            let found = (figures.ranges as u64, figures.prefixes as u64, figures.units as u64);
            assert_eq!(found, (ranges, cidrs, units), "{path} IPv{family}");
        }
    }
}

#[test]
fn extended_files_and_both_mmdb_shapes_are_read() {
    // The flat shape; the database holds a little less than the table it was made from.
    let Some(imported) = import_shared("ranges/mmdb/geo-whois-asn-country.mmdb.zst") else { return };
    let figures = imported.report.v4;
    assert_eq!((figures.ranges, figures.prefixes, figures.units), (5037, 6948, 343_327_597));
    let Some(imported) = import_shared("ranges/delegated/delegated-apnic-extended-sample.txt.zst") else { return };
    assert!(imported.report.v4.units > 1_000_000, "{}", imported.report);
    let Some(imported) = import_shared("ranges/mmdb/country-geolite-shape.mmdb.zst") else { return };
    let text = |file: &str| shared::text(file).map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    let (Some(v4), Some(v6)) = (text("ranges/mainland4.txt"), text("ranges/mainland6.txt")) else { return };
    let written = |family| imported.prefixes(family).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(written(Family::V4), v4);
    assert_eq!(written(Family::V6), v6);
    for path in ["ranges/mmdb/GeoLite2-Country-Test.mmdb", "ranges/mmdb/GeoIP2-Country-Test.mmdb"] {
        let Some(imported) = import_shared(path) else { return };
        assert!(!imported.space.is_empty(), "{path}");
    }
}

#[test]
fn a_file_without_the_country_is_refused() {
    let Some(path) = shared::data_path("ranges/delegated/delegated-afrinic-extended-20240105.txt.zst") else { return };
    let mut request = ImportRequest::new([path]);
    let refusal = run(&request).expect_err("AFRINIC delegates nothing to CN").to_string();
    assert!(refusal.ends_with("no address of CN in it, read as delegated"), "{refusal}");
    request.country = "ZA".to_owned();
    assert!(run(&request).expect("South Africa").report.v4.units > 1_000_000);
}

//--- Tables ----------------------------------------------------------------------------------------------------------

#[test]
fn tables_are_read_in_every_layout() {
    for text in [
        "1.0.1.0,1.0.1.255,CN\n1.0.2.0,1.0.2.255,JP\n2400:3200::,2400:3200:ffff:ffff:ffff:ffff:ffff:ffff,CN\n",
        "16777472,16777727,CN\n47853221968737154008058251532656705536,47853222047965316522322589126200655871,CN\n",
        "1.0.1.0/24,CN\n1.0.2.0/24,JP\n2400:3200::/32,CN\n",
        "network,geoname_id,country_iso_code\n1.0.1.0/24,1814991,CN\n2400:3200::/32,1814991,CN\n",
        "start_ip,end_ip,country,country_name\n1.0.1.0,1.0.1.255,CN,China\n2400:3200::,2400:3200:ffff:ffff:ffff:ffff:ffff:ffff,CN,China\n",
        "cidr,region\n1.0.1.0/24,cn\n2400:3200::/32,cn\n",
    ] {
        let imported = import(&[("t.csv", text)], 1).expect(text);
        assert_eq!(imported.report.sources[0].kind, Kind::Csv);
        assert_eq!(prefixes(&imported), "1.0.1.0/24 2400:3200::/32", "{text}");
    }
    let refusal = import(&[("t.csv", "hello,world\n")], 1).expect_err("a refusal");
    assert!(refusal.starts_with("t.csv: line 1: expected network,country or first,last,country"), "{refusal}");
    let text = "1.0.1.0,1.0.1.255,CN\n1.0.9.0,1.0.8.0,CN\n";
    let issues = &import(&[("t.csv", text)], 1).expect("one good row").report.sources[0].issues;
    assert!(issues[0].to_string().contains("t.csv:2: error[format]: row = \"1.0.9.0,1.0.8.0,CN\""), "{issues:?}");
}

#[test]
fn origin_networks_vote_by_the_list_of_operators() {
    let routes = "1.0.1.0,1.0.1.255,4134,Chinanet\n1.0.2.0,1.0.2.255,45102,\"Elsewhere, Ltd.\"\n";
    let refusal = import(&[("routes.csv", routes)], 1).expect_err("a refusal");
    assert!(refusal.contains("names AS numbers; expected a list of operators"), "{refusal}");
    let dir = TempDir::new().expect("a directory");
    let operators = dir.path().join("operators.csv");
    fs::write(&operators, "# ours\nasn,country,name\nAS4134,CN,one\n9304,HK,two\n").expect("writes");
    let imported = import_with(&[("routes.csv", routes)], |request| request.operators = Some(operators));
    assert_eq!(prefixes(&imported.expect("operators given")), "1.0.1.0/24");
    for (text, expected) in [
        ("number,country\n1,CN\n", "expected the header asn,country,name"),
        ("asn,country,name\nx,CN,\n", "line 2: \"x\" is no AS number"),
        ("asn,country,name\n1,China,\n", "line 2: \"China\" is no country"),
    ] {
        let error = Operators::parse(text).expect_err(text);
        assert!(error.contains(expected), "{error}");
    }
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/ranges/operators.csv");
    let shipped = Operators::parse(&fs::read_to_string(shipped).expect("reads")).expect("sound");
    assert_eq!((shipped.country(37963), shipped.country(45102)), (Some("CN"), None));
}

//--- The vote --------------------------------------------------------------------------------------------------------

const VOTERS: [(&str, &str); 3] = [
    ("a.csv", "1.0.0.0/22,CN\n1.0.8.0/24,HK\n1.0.9.0/24,CN\n"),
    ("b.csv", "1.0.1.0/24,CN\n1.0.1.0/25,CN\n1.0.2.0/24,CN\n1.0.8.0/24,CN\n1.0.9.0/24,CN\n2400::/32,CN\n"),
    ("c.txt", "1.0.2.0/23\n1.0.9.0/24\n10.0.0.0/8\n"),
];

#[test]
fn an_address_is_taken_with_the_votes_asked_for() {
    for (votes, expected) in
        [(1, "1.0.0.0/22 1.0.9.0/24 2400::/32"), (2, "1.0.1.0/24 1.0.2.0/23 1.0.9.0/24"), (3, "1.0.2.0/24 1.0.9.0/24")]
    {
        let imported = import(&VOTERS, votes).expect("sound sources");
        assert_eq!(prefixes(&imported), expected, "{votes} votes");
    }
    let mut written = Vec::new();
    import(&VOTERS, 3).expect("sound sources").write_v4(&mut written).expect("writes");
    assert_eq!(written, b"1.0.2.0/24\n1.0.9.0/24\n");
}

#[test]
fn hong_kong_macau_and_taiwan_are_outvoted_only_by_more() {
    let text = |country: &str| format!("1.0.1.0/24,{country}\n1.0.0.0/24,CN\n");
    let taken = |countries: &[&str]| {
        let texts: Vec<String> = countries.iter().map(|country| text(country)).collect();
        let names = ["a.csv", "b.csv", "c.csv"];
        let files: Vec<(&str, &str)> = names.into_iter().zip(texts.iter().map(String::as_str)).collect();
        prefixes(&import(&files, 1).expect("sound sources")).contains("1.0.0.0/23")
    };
    assert!(taken(&["CN"]) && taken(&["CN", "US"]) && taken(&["CN", "CN", "HK"]));
    for countries in [&["HK"][..], &["CN", "HK"], &["CN", "MO", "TW"], &["CN", "TW", "US"]] {
        assert!(!taken(countries), "{countries:?}");
    }
}

#[test]
fn what_the_minus_files_hold_is_never_taken() {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("m.csv"), "cidr,region\n1.0.2.0/24,HK\n1.0.9.0/24,CN\n").expect("writes");
    fs::write(dir.path().join("m.txt"), "1.0.9.0/25\n").expect("writes");
    let minus = |file: &str| Source { kind: Kind::Auto, path: dir.path().join(file) };
    let imported = import_with(&VOTERS, |request| {
        request.votes = 2;
        request.minus = vec![minus("m.csv"), minus("m.txt")];
    });
    assert_eq!(prefixes(&imported.expect("sound sources")), "1.0.1.0/24 1.0.3.0/24 1.0.9.128/25");
}

#[test]
fn requests_that_cannot_be_met_say_why() {
    let none = run(&ImportRequest::new(Vec::<PathBuf>::new())).expect_err("no source").to_string();
    assert_eq!(none, "0 sources; expected 1 to 64");
    for votes in [0, 4] {
        let error = import(&VOTERS, votes).expect_err("votes");
        assert_eq!(error, format!("{votes} votes of 3 sources; expected 1 to 3"));
    }
    let error = import_with(&VOTERS, |request| request.country = "cn".to_owned()).expect_err("country");
    assert!(error.contains("expected two upper-case letters"), "{error}");
    let error = run(&ImportRequest::new([PathBuf::from("/nonexistent/x")])).expect_err("a file").to_string();
    assert!(error.starts_with("/nonexistent/x: "), "{error}");
    let noise = "what is this\n".repeat(200);
    let error = import(&[("x", &noise)], 1).expect_err("noise");
    assert!(error.starts_with("x: more than 100 bad rows, read as list; the first: "), "{error}");
    let error = import(&[("x", "garbage \u{fffd}"), ("y", "1.0.1.0/24\n")], 1).expect_err("nothing in it");
    assert!(error.contains("no address of CN in it"), "{error}");
}
