//! Holds a tree against the JSON schema: unknown keys, wrong kinds, words and numbers out of bounds, all at once.
//!
//! What passes here can be read into a `Spec`; what it means is checked in [`super::checks`].

use serde_json::Value as Json;

use super::Problem;
use super::tree::{Node, Place, Value, join};

/// Keys that are not of this format although one might expect them, with advice; keys of later releases that are removed
/// or renamed come here too.
const TOMBSTONES: [(&str, &str); 12] = [
    ("dns.forward", "upstream servers are [[dns.upstream]] tables with suffix and servers"),
    ("dns.ttl", "the TTL of block answers is dns.block.ttl-seconds"),
    ("dns.upstreams", "upstream servers are [[dns.upstream]] tables, in the singular"),
    ("http.origin-address", "the origin's address is http.fixed"),
    ("http.pages", "page templates are http.block.pages"),
    ("http.status", "the status of block answers is http.block.status"),
    ("log", "the log has no keys: use --log-format and RUST_LOG"),
    ("policy.bind-check", "the check of addresses against rows is registry.bind-check"),
    ("policy.mixed", "it is called policy.mixed-answer"),
    ("policy.provisional", "provisional access is a column of the registry, provisional_access_until"),
    ("registry.file", "it is a list called registry.paths"),
    ("registry.provider", "our id is provider.id"),
];

/// Finds everything in `node` that `schema` does not allow.
pub fn check(schema: &Json, node: &Node) -> Vec<Problem> {
    let mut res = Vec::new();
    let Value::Table(table) = &node.value else { return res };
    if !table.contains_key("version") {
        res.push(Problem {
            place: node.place.clone(),
            key: "version".to_owned(),
            value: None,
            message: "is missing; expected version = 1".to_owned(),
        });
    }
    value(schema, "", node, &mut res);
    res
}

fn value(schema: &Json, path: &str, node: &Node, res: &mut Vec<Problem>) {
    if let Some(branches) = branches(schema) {
        return choice(&branches, path, node, res);
    }
    let mut refuse = |expected: String| {
        let message = format!("is {}; expected {expected}", node.value.kind());
        res.push(Problem { place: node.place.clone(), key: path.to_owned(), value: node.value.shown(), message });
    };
    match (kind_of(schema), &node.value) {
        ("object", Value::Table(table)) => {
            missing_keys(schema, path, node, res);
            for (key, (place, inner)) in table {
                match schema["properties"].get(key) {
                    Some(inner_schema) => value(inner_schema, &join(path, key), inner, res),
                    None => res.push(unknown_key(schema, path, key, place)),
                }
            }
        }
        ("array", Value::List(items)) => {
            for (i, item) in items.iter().enumerate() {
                value(&schema["items"], &format!("{path}[{i}]"), item, res);
            }
        }
        ("integer", Value::Whole(number)) => {
            let bound = |key: &str| schema[key].as_f64();
            #[allow(clippy::cast_precision_loss)] // the bounds of the schema are exact in a double
            let written = *number as f64;
            if bound("minimum").is_some_and(|min| written < min) || bound("maximum").is_some_and(|max| written > max) {
                refuse_number(schema, path, node, *number, res);
            }
        }
        ("string", Value::Text(_)) | ("boolean", Value::Truth(_)) => {}
        ("object", _) => refuse("a table".to_owned()),
        ("array", _) => refuse("a list, such as [\"…\"]".to_owned()),
        ("integer", _) => refuse(format!("a whole number{}", bounds(schema))),
        ("boolean", _) => refuse("true or false".to_owned()),
        _ => refuse("a text in quotes".to_owned()),
    }
}

fn refuse_number(schema: &Json, path: &str, node: &Node, number: i64, res: &mut Vec<Problem>) {
    let message = if path == "version" {
        "this program reads version 1 of the format; expected version = 1".to_owned()
    } else {
        format!("out of bounds; expected a whole number{}", bounds(schema))
    };
    res.push(Problem { place: node.place.clone(), key: path.to_owned(), value: Some(number.to_string()), message });
}

/// The alternatives of a schema that has some: words, or kinds.
fn branches(schema: &Json) -> Option<Vec<Json>> {
    if let Some(words) = schema["enum"].as_array() {
        return Some(words.iter().map(|word| serde_json::json!({ "const": word })).collect());
    }
    if !schema["const"].is_null() {
        return Some(vec![schema.clone()]);
    }
    let list = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array())?;
    // A branch may itself be a list of words.
    Some(list.iter().flat_map(|branch| branches(branch).unwrap_or_else(|| vec![branch.clone()])).collect())
}

fn choice(branches: &[Json], path: &str, node: &Node, res: &mut Vec<Problem>) {
    let is_word = |branch: &Json| !branch["const"].is_null();
    if branches.iter().all(is_word) {
        let words: Vec<&str> = branches.iter().filter_map(|branch| branch["const"].as_str()).collect();
        let written = if let Value::Text(text) = &node.value { text.as_str() } else { "" };
        if !words.contains(&written) {
            let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            let message = format!("expected {}", one_of(&words));
            res.push(Problem { place: node.place.clone(), key: path.to_owned(), value: node.value.shown(), message });
        }
        return;
    }
    // Of a text and a table, the one that was written is meant.
    let wanted = if matches!(node.value, Value::Table(_)) { "object" } else { "string" };
    if let Some(branch) = branches.iter().find(|branch| kind_of(branch) == wanted) {
        value(branch, path, node, res);
    }
}

fn missing_keys(schema: &Json, path: &str, node: &Node, res: &mut Vec<Problem>) {
    let Value::Table(table) = &node.value else { return };
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
    for key in required.filter(|key| *key != "version" && !table.contains_key(*key)) {
        let message = format!("{key} is missing");
        res.push(Problem { place: node.place.clone(), key: path.to_owned(), value: None, message });
    }
}

fn unknown_key(schema: &Json, path: &str, key: &str, place: &Place) -> Problem {
    let written = join(path, key);
    let message = match TOMBSTONES.iter().find(|(gone, _)| *gone == written) {
        Some((_, advice)) => format!("unknown key; {advice}"),
        None => {
            let known: Vec<&str> =
                schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
            format!("unknown key; {}", suggestion(key, &known))
        }
    };
    Problem { place: place.clone(), key: written, value: None, message }
}

/// "did you mean …?" or, if nothing is near, what there is.
pub fn suggestion(written: &str, known: &[&str]) -> String {
    match nearest(written, known) {
        Some(key) => format!("did you mean {key}?"),
        None => format!("available: {}", known.join(", ")),
    }
}

/// The known key that `written` is most likely a mistyping of: at most a third of its letters are wrong.
pub fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let written = written.to_lowercase().replace('_', "-");
    let distance = |key: &str| edits(&key.to_lowercase().replace('_', "-"), &written);
    let near = known.iter().map(|&key| (distance(key), key)).min()?;
    (near.0 * 3 <= near.1.len().max(3)).then_some(near.1)
}

/// Letters to insert, delete, replace, or swap with their neighbour, to turn `a` into `b`.
///
/// Cost: the product of the lengths, so texts are cut to [`EDIT_CHARS_MAX`].
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(EDIT_CHARS_MAX).collect(), b.chars().take(EDIT_CHARS_MAX).collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// Characters that are compared of a key; the longest known one has fewer.
const EDIT_CHARS_MAX: usize = 80;

fn kind_of(schema: &Json) -> &str {
    schema["type"].as_str().unwrap_or("object")
}

fn bounds(schema: &Json) -> String {
    match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (Some(min), None) => format!(" of at least {min}"),
        (None, Some(max)) => format!(" of at most {max}"),
        (None, None) => String::new(),
    }
}

/// "a", "a or b", "a, b or c".
pub fn one_of(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [firsts @ .., last] => format!("{} or {last}", firsts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_keys_are_found_and_far_ones_are_not() {
        let known = ["listen", "zones", "allow-from", "inflight-max"];
        for (written, expected) in [
            ("lisen", Some("listen")),
            ("lsiten", Some("listen")),
            ("Listen", Some("listen")),
            ("zone", Some("zones")),
            ("allow_from", Some("allow-from")),
            ("inflight", Some("inflight-max")),
            ("flight", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, &known), expected, "{written}");
        }
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "ab"), 2);
    }
}
