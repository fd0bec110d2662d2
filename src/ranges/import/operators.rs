//! Whose networks serve in a country: AS numbers of operators, for sources that name the origin AS of a route.

use std::collections::HashMap;

/// Entries of one list; there are fewer than two hundred thousand AS numbers in use.
const OPERATORS_MAX: usize = 1_000_000;

/// Countries of AS numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operators(HashMap<u32, String>);

impl Operators {
    /// Reads `asn,country,name` lines after a header; `#` begins a comment line, `AS` before a number is fine.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).comment(Some(b'#')).from_reader(text.as_bytes());
        let header = reader.headers().map_err(|error| error.to_string())?;
        if header.get(0) != Some("asn") || header.get(1) != Some("country") {
            return Err("line 1: expected the header asn,country,name".to_owned());
        }
        let mut res = HashMap::new();
        for record in reader.records() {
            let record = record.map_err(|error| error.to_string())?;
            let line = record.position().map_or(0, csv::Position::line);
            let (number, country) = (record.get(0).unwrap_or("").trim(), record.get(1).unwrap_or("").trim());
            let digits = number.strip_prefix("AS").unwrap_or(number);
            let number = digits.parse().map_err(|_| format!("line {line}: {number:?} is no AS number"))?;
            if country.len() != 2 || !country.bytes().all(|octet| octet.is_ascii_uppercase()) {
                return Err(format!("line {line}: {country:?} is no country; expected two upper-case letters"));
            }
            res.insert(number, country.to_owned());
            if res.len() > OPERATORS_MAX {
                return Err(format!("more than {OPERATORS_MAX} operators"));
            }
        }
        Ok(Self(res))
    }

    /// The country an AS serves in, if it is listed.
    pub fn country(&self, number: u32) -> Option<&str> {
        self.0.get(&number).map(String::as_str)
    }

    /// True when nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
