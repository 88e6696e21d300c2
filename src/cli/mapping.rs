//! Column mapping from a row of a table to an event.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use csv::StringRecord;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::domain::time::Timestamp;

/// The mapping file as written; `config/load.example.toml` is its manual.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    r#type: String,
    #[serde(default)]
    name: String,
    /// Template with `{column}` and `{line}` (data rows from 1).
    message_id: String,
    customer_id: String,
    /// Another id of the same customer, or the only one.
    #[serde(default)]
    anonymous_id: String,
    timestamp: String,
    #[serde(default)]
    properties: BTreeMap<String, Property>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Property {
    /// One column; alternatively the product of several.
    column: Option<String>,
    #[serde(default)]
    product: Vec<String>,
    #[serde(default)]
    r#type: Kind,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Number,
    Text,
}

/// A mapping bound to the columns of one table.
#[derive(Debug)]
pub struct Mapping {
    kind: String,
    name: String,
    message_id: Template,
    customer_id: Template,
    anonymous_id: Template,
    timestamp: Template,
    properties: Vec<(String, Vec<usize>, Kind)>,
}

/// Text with column placeholders.
#[derive(Debug)]
struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    Column(usize),
    Line,
}

impl Mapping {
    pub(super) fn read(path: &Path, headers: &StringRecord) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text, headers).with_context(|| format!("in {}", path.display()))
    }

    /// Parses a TOML mapping and binds it to a table's columns.
    pub fn parse(text: &str, headers: &StringRecord) -> anyhow::Result<Self> {
        Self::bind(toml::from_str(text)?, headers)
    }

    fn bind(file: File, headers: &StringRecord) -> anyhow::Result<Self> {
        let mut properties = Vec::with_capacity(file.properties.len());
        for (name, property) in file.properties {
            let columns = match property.column {
                Some(column) if property.product.is_empty() => vec![column],
                None if !property.product.is_empty() => property.product,
                _ => anyhow::bail!("properties.{name}: must have either `column` or `product`"),
            };
            let columns =
                columns.iter().map(|c| column(headers, c)).collect::<anyhow::Result<_>>()?;
            properties.push((name, columns, property.r#type));
        }
        Ok(Self {
            kind: file.r#type,
            name: file.name,
            message_id: Template::bind(&file.message_id, headers)?,
            customer_id: Template::bind(&file.customer_id, headers)?,
            anonymous_id: Template::bind(&file.anonymous_id, headers)?,
            timestamp: Template::bind(&file.timestamp, headers)?,
            properties,
        })
    }

    /// Converts one row to an event as JSON. Invalid rows are sent too: the service rejects
    /// a row without a customer and gives the reason.
    pub fn event(&self, row: &StringRecord, line: u64, shift_millis: i64) -> Value {
        let stamp = self.timestamp.fill(row, line);
        let stamp = if stamp.len() == "2017-01-01".len() { stamp + "T00:00:00Z" } else { stamp };
        let stamp = match Timestamp::parse(&stamp) {
            Some(at) => at.plus_millis(shift_millis).to_string(),
            None => stamp,
        };
        let mut values = Map::new();
        for (name, columns, kind) in &self.properties {
            if let Some(value) = property(row, columns, *kind) {
                values.insert(name.clone(), value);
            }
        }
        let mut event = json!({
            "type": self.kind,
            "name": self.name,
            "message_id": self.message_id.fill(row, line),
            "timestamp": stamp,
        });
        for (field, id) in
            [("customer_id", &self.customer_id), ("anonymous_id", &self.anonymous_id)]
        {
            let id = id.fill(row, line);
            if !id.is_empty() {
                event[field] = id.into();
            }
        }
        let field = if self.kind == "identify" { "traits" } else { "properties" };
        event[field] = values.into();
        event
    }

    /// Event time of a row; `None` if it cannot be parsed.
    pub fn happened(&self, row: &StringRecord, line: u64) -> Option<Timestamp> {
        Timestamp::parse(&self.timestamp.fill(row, line))
    }
}

/// Empty cells are missing. An invalid number is sent as text, so that the service rejects
/// it with a reason.
fn property(row: &StringRecord, columns: &[usize], kind: Kind) -> Option<Value> {
    let cell = |index: &usize| row.get(*index).map(str::trim).filter(|cell| !cell.is_empty());
    if kind == Kind::Text {
        return cell(columns.first()?).map(Value::from);
    }
    let mut product = 1.0;
    for index in columns {
        let text = cell(index)?;
        match text.parse::<f64>() {
            Ok(number) => product *= number,
            Err(_) => return Some(text.into()),
        }
    }
    Some(product.into())
}

impl Template {
    fn bind(text: &str, headers: &StringRecord) -> anyhow::Result<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').map(|at| open + at);
            let close = close.with_context(|| format!("`{text}`: `{{` without `}}`"))?;
            parts.push(Part::Text(rest[..open].to_owned()));
            parts.push(match &rest[open + 1..close] {
                "line" => Part::Line,
                name => Part::Column(column(headers, name)?),
            });
            rest = &rest[close + 1..];
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    fn fill(&self, row: &StringRecord, line: u64) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Column(index) => text.push_str(row.get(*index).unwrap_or_default().trim()),
                Part::Line => text.push_str(&line.to_string()),
            }
        }
        text
    }
}

fn column(headers: &StringRecord, name: &str) -> anyhow::Result<usize> {
    headers.iter().position(|header| header == name).with_context(|| {
        let known: Vec<&str> = headers.iter().collect();
        format!("no column `{name}`; the table has {}", known.join(", "))
    })
}
