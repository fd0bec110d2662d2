//! Keys set by the environment: `ICPGATE_DNS_BLOCK_TTL_SECONDS=10` is `dns.block.ttl-seconds = 10`.

use serde_json::Value as Json;

use super::Problem;
use super::shape::suggestion;
use super::tree::{Node, Place, Value, join, parse_value};

/// What names of variables begin with.
const PREFIX: &str = "ICPGATE_";

/// Puts the variables of `environment` over `tree`; wrong ones are problems, unknown ones warnings.
///
/// Unknown ones cannot be errors: a container platform may set variables of this form for a service of that name.
pub fn overlay(
    schema: &Json,
    environment: &[(String, String)],
    tree: &mut Node,
    warnings: &mut Vec<String>,
) -> Vec<Problem> {
    let known = variables(schema);
    let mut res = Vec::new();
    for (name, text) in environment.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let Some((_, path, key_schema)) = known.iter().find(|(known, _, _)| known == name) else {
            let names: Vec<&str> = known.iter().map(|(name, _, _)| name.as_str()).collect();
            let is_ours = names.iter().any(|known| shares_section(known, name));
            if is_ours {
                let near = suggestion(name, &names);
                let advice = if near.starts_with("did") { near } else { "it is ignored".to_owned() };
                warnings.push(format!("environment {name}: no such key; {advice}"));
            }
            continue;
        };
        let place = Place::Environment(name.clone());
        match read(key_schema, &place, text) {
            Ok(node) => tree.insert(path, node),
            Err(message) => {
                res.push(Problem { place, key: path.clone(), value: Some(format!("{text:?}")), message });
            }
        }
    }
    res
}

/// Every variable with its key and schema.
fn variables(schema: &Json) -> Vec<(String, String, Json)> {
    let mut res = Vec::new();
    collect(schema, "", &mut res);
    res.retain(|(_, path, _)| path != "version");
    res
}

fn collect(schema: &Json, path: &str, res: &mut Vec<(String, String, Json)>) {
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = join(path, key);
        if inner["properties"].is_object() {
            collect(inner, &path, res);
        } else {
            let name = format!("{PREFIX}{}", path.replace(['.', '-'], "_").to_ascii_uppercase());
            res.push((name, path, inner.clone()));
        }
    }
}

fn shares_section(known: &str, name: &str) -> bool {
    let section = |text: &str| text.split('_').nth(1).map(str::to_owned);
    section(known) == section(name)
}

/// Texts and words stand as they are; lists are TOML in brackets or texts between commas; the rest is TOML.
fn read(schema: &Json, place: &Place, text: &str) -> Result<Node, String> {
    let as_text = |text: &str| Node { place: place.clone(), value: Value::Text(text.to_owned()) };
    match schema["type"].as_str() {
        Some("integer" | "boolean") => parse_value(place, text.trim()),
        Some("array") if text.trim_start().starts_with('[') => parse_value(place, text.trim()),
        Some("array") => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(as_text);
            Ok(Node { place: place.clone(), value: Value::List(items.collect()) })
        }
        _ => Ok(as_text(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        let schema = crate::config::spec::schema();
        let mut names: Vec<String> = variables(&schema).into_iter().map(|(name, _, _)| name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.contains(&"ICPGATE_DNS_BLOCK_TTL_SECONDS".to_owned()));
    }
}
