//! Syntax tree of a declaration with line numbers, from a TOML file.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::domain::fault::{ValidationFault, ValidationFaults};

/// A value and its first line.
#[derive(Debug)]
pub(super) struct DocumentNode {
    pub(super) line: Option<usize>,
    pub(super) data: NodeData,
}

#[derive(Debug)]
pub(super) enum NodeData {
    Text(Box<str>),
    Number(f64),
    /// An integer beyond ±2⁵³, which a double may round.
    LargeInteger(i128),
    Bool(bool),
    /// Not used by any key of a declaration.
    Date,
    List(Vec<DocumentNode>),
    /// Entries in order of appearance.
    Table(Vec<TableEntry>),
}

#[derive(Debug)]
pub(super) struct TableEntry {
    pub(super) key: Box<str>,
    pub(super) line: Option<usize>,
    pub(super) node: DocumentNode,
}

impl DocumentNode {
    /// Type name with article, for fault texts.
    pub(super) const fn noun(&self) -> &'static str {
        match self.data {
            NodeData::Text(_) => "a text",
            NodeData::Number(_) | NodeData::LargeInteger(_) => "a number",
            NodeData::Bool(_) => "true or false",
            NodeData::Date => "a date",
            NodeData::List(_) => "a list",
            NodeData::Table(_) => "a table",
        }
    }
}

/// Parses TOML. The error has every syntax fault.
pub(super) fn from_toml(text: &str) -> Result<DocumentNode, ValidationFaults> {
    let lines = LineIndex::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let faults = errors.iter().map(|error| ValidationFault {
        line: error.span().map(|span| lines.at(span.start)),
        path: "syntax".into(),
        problem: format!("this is not TOML: {}", error.message()),
    });
    let line = Some(1);
    ValidationFaults(faults.collect())
        .into_result(DocumentNode { line, data: table_data(table.get_ref(), &lines) })
}

fn toml_node(value: &Spanned<DeValue<'_>>, lines: &LineIndex) -> DocumentNode {
    let data = match value.get_ref() {
        DeValue::String(text) => NodeData::Text(text.as_ref().into()),
        DeValue::Integer(digits) => {
            let integer = i128::from_str_radix(digits.as_str(), digits.radix());
            match integer.ok().filter(|n| i64::try_from(*n).is_ok() || u64::try_from(*n).is_ok()) {
                // No key takes an integer beyond 64 bits.
                None => NodeData::Number(f64::NAN),
                Some(n) if n.unsigned_abs() > 1 << f64::MANTISSA_DIGITS => {
                    NodeData::LargeInteger(n)
                }
                Some(n) => NodeData::Number(n as f64),
            }
        }
        DeValue::Float(digits) => NodeData::Number(digits.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(b) => NodeData::Bool(*b),
        DeValue::Datetime(_) => NodeData::Date,
        DeValue::Array(items) => {
            NodeData::List(items.iter().map(|item| toml_node(item, lines)).collect())
        }
        DeValue::Table(table) => table_data(table, lines),
    };
    DocumentNode { line: Some(lines.at(value.span().start)), data }
}

fn table_data(table: &DeTable<'_>, lines: &LineIndex) -> NodeData {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    NodeData::Table(
        entries
            .into_iter()
            .map(|(key, value)| TableEntry {
                key: key.get_ref().as_ref().into(),
                line: Some(lines.at(key.span().start)),
                node: toml_node(value, lines),
            })
            .collect(),
    )
}

/// Offsets of line starts, to convert byte offsets to line numbers.
struct LineIndex(Vec<usize>);

impl LineIndex {
    fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(ends.map(|(at, _)| at + 1).collect())
    }

    /// The line number, counted from 1.
    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset) + 1
    }
}
