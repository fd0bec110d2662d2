//! Effective values with their origin, for `config show`.

use serde::Serialize;
use serde_json::Value as Json;

use super::Loaded;
use super::tree::{Place, join};

/// One key as it takes effect.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// The key with its section.
    pub key: String,
    /// Its value.
    pub value: Json,
    /// `default`, `FILE:LINE:COLUMN` or `environment VARIABLE`.
    pub origin: String,
}

/// Every key, in order of sections and keys. Files that hold secrets are named, never opened.
pub fn effective(loaded: &Loaded) -> Vec<Shown> {
    let mut res = Vec::new();
    let spec = serde_json::to_value(&loaded.spec).unwrap_or_default();
    walk(loaded, "", &spec, &mut res);
    // Version first, as in a file.
    res.sort_by_key(|shown| shown.key != "version");
    res
}

fn walk(loaded: &Loaded, path: &str, value: &Json, res: &mut Vec<Shown>) {
    if let Json::Object(members) = value {
        for (key, inner) in members {
            walk(loaded, &join(path, key), inner, res);
        }
        return;
    }
    let origin = loaded.places.get(path).unwrap_or(&Place::Default).to_string();
    res.push(Shown { key: path.to_owned(), value: value.clone(), origin });
}

/// A value in TOML's spelling, on one line.
pub fn toml_text(value: &Json) -> String {
    match value {
        Json::Array(items) => format!("[{}]", items.iter().map(toml_text).collect::<Vec<_>>().join(", ")),
        Json::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(key, value)| format!("{key} = {}", toml_text(value))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        Json::String(text) => toml::Value::String(text.clone()).to_string(),
        Json::Bool(_) | Json::Null | Json::Number(_) => value.to_string(),
    }
}
