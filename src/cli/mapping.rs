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
struct MappingFile {
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
    properties: BTreeMap<String, PropertyMapping>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct PropertyMapping {
    /// One column; alternatively the product of several.
    column: Option<String>,
    #[serde(default)]
    product: Vec<String>,
    #[serde(default)]
    r#type: PropertyKind,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum PropertyKind {
    #[default]
    Number,
    Text,
}

/// A mapping bound to the columns of one table.
#[derive(Debug)]
pub struct ColumnMapping {
    kind: String,
    name: String,
    message_id: TextTemplate,
    customer_id: TextTemplate,
    anonymous_id: TextTemplate,
    timestamp: TextTemplate,
    properties: Vec<(String, Vec<usize>, PropertyKind)>,
}

/// Text with column placeholders.
#[derive(Debug)]
struct TextTemplate(Vec<TemplatePart>);

#[derive(Debug)]
enum TemplatePart {
    Text(String),
    Column(usize),
    Line,
}

impl ColumnMapping {
    pub(super) fn read(path: &Path, headers: &StringRecord) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text, headers).with_context(|| format!("in {}", path.display()))
    }

    /// Parses a TOML mapping and binds it to a table's columns.
    pub fn parse(text: &str, headers: &StringRecord) -> anyhow::Result<Self> {
        Self::bind(toml::from_str(text)?, headers)
    }

    fn bind(file: MappingFile, headers: &StringRecord) -> anyhow::Result<Self> {
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
            message_id: TextTemplate::bind(&file.message_id, headers)?,
            customer_id: TextTemplate::bind(&file.customer_id, headers)?,
            anonymous_id: TextTemplate::bind(&file.anonymous_id, headers)?,
            timestamp: TextTemplate::bind(&file.timestamp, headers)?,
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
    pub fn event_time(&self, row: &StringRecord, line: u64) -> Option<Timestamp> {
        Timestamp::parse(&self.timestamp.fill(row, line))
    }
}

/// Empty cells are missing. An invalid number is sent as text, so that the service rejects
/// it with a reason.
fn property(row: &StringRecord, columns: &[usize], kind: PropertyKind) -> Option<Value> {
    if kind == PropertyKind::Text {
        return cell(row, *columns.first()?).map(Value::from);
    }
    let mut product = 1.0;
    for column in columns {
        let text = cell(row, *column)?;
        match text.parse::<f64>() {
            Ok(number) => product *= number,
            Err(_) => return Some(text.into()),
        }
    }
    Some(product.into())
}

/// The trimmed text of a cell; `None` if it is empty or missing.
fn cell(row: &StringRecord, column: usize) -> Option<&str> {
    row.get(column).map(str::trim).filter(|text| !text.is_empty())
}

impl TextTemplate {
    fn bind(text: &str, headers: &StringRecord) -> anyhow::Result<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').map(|at| open + at);
            let close = close.with_context(|| format!("`{text}`: `{{` without `}}`"))?;
            parts.push(TemplatePart::Text(rest[..open].to_owned()));
            parts.push(match &rest[open + 1..close] {
                "line" => TemplatePart::Line,
                name => TemplatePart::Column(column(headers, name)?),
            });
            rest = &rest[close + 1..];
        }
        parts.push(TemplatePart::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    fn fill(&self, row: &StringRecord, line: u64) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                TemplatePart::Text(part) => text.push_str(part),
                TemplatePart::Column(index) => {
                    text.push_str(row.get(*index).unwrap_or_default().trim());
                }
                TemplatePart::Line => text.push_str(&line.to_string()),
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
