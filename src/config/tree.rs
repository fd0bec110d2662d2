//! TOML text to a tree in which every value knows where it was written. Functions of their arguments.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::Problem;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it is the default.
    Default,
    /// In an environment variable.
    Environment(String),
    /// In a file.
    File {
        /// The path as given.
        file: Arc<str>,
        /// Line from 1.
        line: usize,
        /// Column from 1, in characters.
        column: usize,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
        }
    }
}

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it was written.
    pub place: Place,
    /// What was written.
    pub value: Value,
}

/// What TOML can say, as far as the format uses it.
#[derive(Clone, Debug)]
pub enum Value {
    /// A list.
    List(Vec<Node>),
    /// A kind the format has no use for; its name.
    Other(&'static str),
    /// A table; each key with the place of the key itself.
    Table(BTreeMap<String, (Place, Node)>),
    /// A text.
    Text(String),
    /// true or false.
    Truth(bool),
    /// A whole number.
    Whole(i64),
}

impl Value {
    /// The kind, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::List(_) => "a list",
            Self::Other(kind) => kind,
            Self::Table(_) => "a table",
            Self::Text(_) => "a text",
            Self::Truth(_) => "a truth value",
            Self::Whole(_) => "a whole number",
        }
    }

    /// The value as written, near enough, for messages; empty for tables and lists.
    pub fn shown(&self) -> Option<String> {
        match self {
            Self::List(_) | Self::Other(_) | Self::Table(_) => None,
            Self::Text(text) => Some(format!("{text:?}")),
            Self::Truth(truth) => Some(truth.to_string()),
            Self::Whole(number) => Some(number.to_string()),
        }
    }

    /// The same as JSON, places left out.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Self::Other(kind) => (*kind).into(),
            Self::Table(table) => {
                let members = table.iter().map(|(key, (_, node))| (key.clone(), node.value.to_json()));
                serde_json::Value::Object(members.collect())
            }
            Self::Text(text) => text.as_str().into(),
            Self::Truth(truth) => (*truth).into(),
            Self::Whole(number) => (*number).into(),
        }
    }
}

impl Node {
    /// Puts `node` at `path`, making tables on the way; a value in the way that is no table is replaced.
    pub fn insert(&mut self, path: &str, node: Node) {
        let mut at = self;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            if !matches!(at.value, Value::Table(_)) {
                at.value = Value::Table(BTreeMap::new());
            }
            let Value::Table(table) = &mut at.value else { return };
            if parts.peek().is_none() {
                table.insert(part.to_owned(), (node.place.clone(), node));
                return;
            }
            let empty = || Node { place: node.place.clone(), value: Value::Table(BTreeMap::new()) };
            at = &mut table.entry(part.to_owned()).or_insert_with(|| (node.place.clone(), empty())).1;
        }
    }

    /// Calls `visit` with the path and place of this value and all inside it.
    pub fn each_place(&self, path: &str, visit: &mut impl FnMut(String, &Place)) {
        visit(path.to_owned(), &self.place);
        match &self.value {
            Value::Table(table) => {
                for (key, (_, node)) in table {
                    node.each_place(&join(path, key), visit);
                }
            }
            Value::List(items) => {
                for (i, node) in items.iter().enumerate() {
                    node.each_place(&format!("{path}[{i}]"), visit);
                }
            }
            Value::Other(_) | Value::Text(_) | Value::Truth(_) | Value::Whole(_) => {}
        }
    }
}

/// The path of `key` inside `path`.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Reads a file's text; syntax errors, all of them, instead.
pub fn parse_file(file: &str, text: &str) -> Result<Node, Vec<Problem>> {
    let file: Arc<str> = file.into();
    let lines = Lines::of(&file, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let start = Place::File { file: file.clone(), line: 1, column: 1 };
        return Ok(Node { place: start, value: lines.table(table.get_ref()) });
    }
    let problem = |error: &toml::de::Error| Problem {
        place: lines.place(error.span().map_or(0, |span| span.start)),
        key: String::new(),
        value: None,
        message: error.message().to_owned(),
    };
    Err(errors.iter().map(problem).collect())
}

/// Reads one value written in TOML, for the environment.
pub fn parse_value(place: &Place, text: &str) -> Result<Node, String> {
    let value = DeValue::parse(text).map_err(|error| error.message().to_owned())?;
    let file = "".into();
    let mut res = Node { place: place.clone(), value: Lines::of(&file, text).value(value.get_ref()) };
    replace_places(&mut res, place);
    Ok(res)
}

fn replace_places(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.value {
        Value::Table(table) => table.values_mut().for_each(|(at, node)| {
            *at = place.clone();
            replace_places(node, place);
        }),
        Value::List(items) => items.iter_mut().for_each(|node| replace_places(node, place)),
        Value::Other(_) | Value::Text(_) | Value::Truth(_) | Value::Whole(_) => {}
    }
}

/// Turns octet offsets into lines.
struct Lines<'a> {
    file: &'a Arc<str>,
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(file: &'a Arc<str>, text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        Self { file, text, starts: starts.collect() }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|i| self.starts.get(i)).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or("");
        Place::File { file: self.file.clone(), line, column: before.chars().count() + 1 }
    }

    fn table(&self, table: &DeTable<'_>) -> Value {
        let members = table.iter().map(|(key, value)| {
            let node = Node { place: self.place(value.span().start), value: self.value(value.get_ref()) };
            (key.get_ref().to_string(), (self.place(key.span().start), node))
        });
        Value::Table(members.collect())
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::Array(items) => {
                let node = |item: &toml::Spanned<DeValue<'_>>| Node {
                    place: self.place(item.span().start),
                    value: self.value(item.get_ref()),
                };
                Value::List(items.iter().map(node).collect())
            }
            DeValue::Boolean(truth) => Value::Truth(*truth),
            DeValue::Datetime(_) => Value::Other("a date or time"),
            DeValue::Float(_) => Value::Other("a number with a fraction"),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Value::Other("a whole number beyond 64 bits"), Value::Whole),
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Table(table) => self.table(table),
        }
    }
}
