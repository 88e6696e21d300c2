//! Syntax tree of a declaration with line numbers, from a TOML file or from canonical JSON in
//! the store.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::domain::fault::{Fault, Faults};

/// A value and its first line; JSON has no lines.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: Option<usize>,
    pub(super) data: Data,
}

#[derive(Debug)]
pub(super) enum Data {
    Text(Box<str>),
    Number(f64),
    Bool(bool),
    /// Not used by any key of a declaration.
    Date,
    Null,
    List(Vec<Node>),
    /// Entries in order of appearance.
    Table(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Box<str>,
    pub(super) line: Option<usize>,
    pub(super) node: Node,
}

impl Node {
    /// Type name with article, for fault texts.
    pub(super) const fn noun(&self) -> &'static str {
        match self.data {
            Data::Text(_) => "a text",
            Data::Number(_) => "a number",
            Data::Bool(_) => "true or false",
            Data::Date => "a date",
            Data::Null => "null",
            Data::List(_) => "a list",
            Data::Table(_) => "a table",
        }
    }
}

/// Parses TOML. The error has every syntax fault.
pub(super) fn from_toml(text: &str) -> Result<Node, Faults> {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let faults = errors.iter().map(|error| Fault {
        line: error.span().map(|span| lines.at(span.start)),
        path: "syntax".into(),
        problem: format!("this is not TOML: {}", error.message()),
    });
    let line = Some(1);
    Faults(faults.collect()).or(Node { line, data: table_data(table.get_ref(), &lines) })
}

pub(super) fn from_json(text: &str) -> Result<Node, Faults> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(json_node(value)),
        Err(error) => Err(Faults::one("syntax", format!("this is not JSON: {error}"))),
    }
}

fn toml_node(value: &Spanned<DeValue<'_>>, lines: &Lines) -> Node {
    let data = match value.get_ref() {
        DeValue::String(text) => Data::Text(text.as_ref().into()),
        // No key takes an integer beyond 64 bits.
        DeValue::Integer(digits) => Data::Number(
            i64::from_str_radix(digits.as_str(), digits.radix()).map_or(f64::NAN, |n| n as f64),
        ),
        DeValue::Float(digits) => Data::Number(digits.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(b) => Data::Bool(*b),
        DeValue::Datetime(_) => Data::Date,
        DeValue::Array(items) => {
            Data::List(items.iter().map(|item| toml_node(item, lines)).collect())
        }
        DeValue::Table(table) => table_data(table, lines),
    };
    Node { line: Some(lines.at(value.span().start)), data }
}

fn table_data(table: &DeTable<'_>, lines: &Lines) -> Data {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    Data::Table(
        entries
            .into_iter()
            .map(|(key, value)| Entry {
                key: key.get_ref().as_ref().into(),
                line: Some(lines.at(key.span().start)),
                node: toml_node(value, lines),
            })
            .collect(),
    )
}

fn json_node(value: serde_json::Value) -> Node {
    use serde_json::Value as Json;
    let data = match value {
        Json::Null => Data::Null,
        Json::Bool(b) => Data::Bool(b),
        Json::Number(n) => Data::Number(n.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Data::Text(text.into()),
        Json::Array(items) => Data::List(items.into_iter().map(json_node).collect()),
        Json::Object(fields) => Data::Table(
            fields
                .into_iter()
                .map(|(key, value)| Entry { key: key.into(), line: None, node: json_node(value) })
                .collect(),
        ),
    };
    Node { line: None, data }
}

/// Offsets of line starts, to convert byte offsets to line numbers.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(ends.map(|(at, _)| at + 1).collect())
    }

    /// The line number, counted from 1.
    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset) + 1
    }
}
