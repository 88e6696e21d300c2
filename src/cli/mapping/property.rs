//! Properties of an event from the cells of a row.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::numeric::{NumberSource, cell_fault};
use super::template::{RowContext, TemplateFill, TextTemplate};
use crate::cli::table::{ColumnPath, RowFault, TableCell, TableColumns, TableRow, elements};
use crate::domain::fault::{ValidationFault, ValidationFaults};

/// A property as written; `config/load.example.toml` is its manual.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PropertyFile {
    column: Option<String>,
    product: Vec<String>,
    template: Option<String>,
    value: Option<toml::Value>,
    /// A column with a JSON array.
    list: Option<String>,
    /// The object made from each element of `list`, or from each row of a group.
    each: BTreeMap<String, PropertyFile>,
    r#type: Option<PropertyKind>,
    divide_by: Option<f64>,
    aggregate: Aggregate,
}

#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum PropertyKind {
    Number,
    Money,
    Text,
    Boolean,
    Json,
}

/// How the values of the rows of one group become one value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Aggregate {
    /// The first value that is not missing.
    #[default]
    First,
    Last,
    Sum,
    Min,
    Max,
}

/// A property bound to the columns of a table.
#[derive(Debug, Clone)]
pub(super) struct PropertyMapping {
    /// Name and colon as JSON.
    key: String,
    pub(super) name: String,
    pub(super) aggregate: Aggregate,
    source: PropertySource,
}

#[derive(Debug, Clone)]
enum PropertySource {
    Number(NumberSource),
    Text(ColumnPath),
    Boolean(ColumnPath),
    Json(ColumnPath),
    Template(TextTemplate),
    /// JSON.
    Constant(String),
    Objects {
        list: Option<ColumnPath>,
        fields: Vec<PropertyMapping>,
    },
}

/// Where and how a property is bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct BindScope<'a> {
    pub(super) columns: &'a TableColumns,
    pub(super) decimal: char,
    /// Inside the elements of an array, where columns are paths.
    pub(super) is_element: bool,
}

impl BindScope<'_> {
    fn find(&self, name: &str) -> Result<ColumnPath, String> {
        if self.is_element {
            return Ok(ColumnPath::in_element(name));
        }
        self.columns.find(name)
    }
}

impl PropertyFile {
    /// Binds the properties of an event or an element. Adds invalid mappings to `faults`.
    pub(super) fn bind_all(
        files: &BTreeMap<String, Self>,
        scope: BindScope<'_>,
        path: &str,
        faults: &mut ValidationFaults,
    ) -> Vec<PropertyMapping> {
        let mut properties = Vec::with_capacity(files.len());
        for (name, file) in files {
            let path = format!("{path}.{name}");
            match file.bind(scope, &path, faults) {
                Ok(source) => properties.push(PropertyMapping {
                    key: format!("{}:", serde_json::Value::from(name.as_str())),
                    name: name.clone(),
                    aggregate: file.aggregate,
                    source,
                }),
                Err(problem) => faults.push(ValidationFault::new(path, problem)),
            }
        }
        properties
    }

    fn bind(
        &self,
        scope: BindScope<'_>,
        path: &str,
        faults: &mut ValidationFaults,
    ) -> Result<PropertySource, String> {
        let sources = [
            self.column.is_some(),
            !self.product.is_empty(),
            self.template.is_some(),
            self.value.is_some(),
            !self.each.is_empty(),
        ];
        if sources.into_iter().filter(|is_set| *is_set).count() != 1 {
            return Err("must have one of `column`, `product`, `template`, `value`, `each` \
                        (with or without `list`)"
                .to_owned());
        }
        let is_number = self.column.is_some() || !self.product.is_empty();
        let is_number = is_number
            && matches!(self.r#type, None | Some(PropertyKind::Number | PropertyKind::Money));
        if self.divide_by.is_some_and(|divisor| divisor == 0.0 || !divisor.is_finite()) {
            return Err("`divide_by` must be a finite number other than 0".to_owned());
        }
        if !is_number && (self.divide_by.is_some() || self.aggregate == Aggregate::Sum) {
            return Err("`divide_by` and `aggregate = \"sum\"` need a number".to_owned());
        }
        if self.list.is_some() && self.each.is_empty() {
            return Err("`list` needs `each`, with the properties of an element".to_owned());
        }
        if let Some(template) = &self.template {
            if scope.is_element {
                return Err("`template` cannot be used in the elements of a list".to_owned());
            }
            let template = TextTemplate::bind(template, scope.columns)?;
            if template.uses_content() {
                return Err("`{content}` can be used in `message_id` only".to_owned());
            }
            return Ok(PropertySource::Template(template));
        }
        if let Some(value) = &self.value {
            let json = serde_json::to_string(value).map_err(|error| error.to_string())?;
            return Ok(PropertySource::Constant(json));
        }
        if !self.each.is_empty() {
            let list = self.list.as_deref().map(|list| scope.find(list)).transpose()?;
            let inner = BindScope { is_element: scope.is_element || list.is_some(), ..scope };
            let path = format!("{path}.each");
            let fields = Self::bind_all(&self.each, inner, &path, faults);
            return Ok(PropertySource::Objects { list, fields });
        }
        let names = self.column.iter().chain(&self.product);
        let mut factors = Vec::new();
        for name in names {
            factors.push(scope.find(name)?);
        }
        if is_number {
            return Ok(PropertySource::Number(NumberSource {
                factors,
                is_money: self.r#type == Some(PropertyKind::Money),
                divide_by: self.divide_by,
                decimal: scope.decimal,
            }));
        }
        let (Some(column), true) = (factors.pop(), self.product.is_empty()) else {
            return Err("`product` needs the type number or money".to_owned());
        };
        Ok(match self.r#type {
            Some(PropertyKind::Boolean) => PropertySource::Boolean(column),
            Some(PropertyKind::Json) => PropertySource::Json(column),
            _ => PropertySource::Text(column),
        })
    }
}

impl PropertyMapping {
    /// Appends `"name":` for a value that follows.
    pub(super) fn push_key(&self, json: &mut Vec<u8>) {
        json.extend_from_slice(self.key.as_bytes());
    }

    /// Whether the property is an array with the elements of every row.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.source, PropertySource::Objects { .. })
    }

    /// The columns that the property reads, for messages.
    pub(super) fn columns(&self) -> String {
        match &self.source {
            PropertySource::Number(number) => {
                let names: Vec<&str> = number.factors.iter().map(|f| f.name.as_str()).collect();
                names.join(", ")
            }
            PropertySource::Text(column)
            | PropertySource::Boolean(column)
            | PropertySource::Json(column) => column.name.clone(),
            PropertySource::Template(template) => template.columns(),
            PropertySource::Constant(_) => String::new(),
            PropertySource::Objects { list, .. } => {
                list.as_ref().map_or(String::new(), |list| list.name.clone())
            }
        }
    }

    /// The value as a number; `None` if it is missing or no number.
    pub(super) fn number(&self, row: &TableRow<'_>) -> Result<Option<f64>, RowFault> {
        match &self.source {
            PropertySource::Number(number) => number.value(row),
            _ => Ok(None),
        }
    }

    /// Appends the value as JSON; for a list its elements without brackets. Returns whether
    /// there is a value.
    pub(super) fn push_value(
        &self,
        row: &TableRow<'_>,
        context: RowContext<'_>,
        json: &mut Vec<u8>,
    ) -> Result<bool, RowFault> {
        match &self.source {
            PropertySource::Number(number) => return number.push(row, json),
            PropertySource::Text(column) => match column.read(row).text() {
                None => return Ok(false),
                Some(text) => push_text(&text, json),
            },
            PropertySource::Boolean(column) => match boolean(&column.read(row)) {
                Ok(None) => return Ok(false),
                Ok(Some(value)) => json.extend_from_slice(value.as_bytes()),
                Err(()) => return Err(cell_fault(row, column, "is not true or false")),
            },
            PropertySource::Json(column) => return push_json(row, column, json),
            PropertySource::Template(template) => {
                let mut text = String::new();
                if template.fill(row, context, &mut text) != TemplateFill::Complete {
                    return Ok(false);
                }
                push_text(&text, json);
            }
            PropertySource::Constant(constant) => json.extend_from_slice(constant.as_bytes()),
            PropertySource::Objects { list: None, fields } => {
                push_object(fields, row, context, json)?;
            }
            PropertySource::Objects { list: Some(list), fields } => {
                let cell = list.read(row);
                let Some(raw) = cell.text() else { return Ok(false) };
                let Some(elements) = elements(&raw) else {
                    return Err(cell_fault(row, list, "is not a JSON array"));
                };
                for (at, element) in elements.iter().enumerate() {
                    if at > 0 {
                        json.push(b',');
                    }
                    let element = TableRow::element(element.get(), row);
                    push_object(fields, &element, context, json)?;
                }
                return Ok(!elements.is_empty());
            }
        }
        Ok(true)
    }
}

/// Appends an object of the properties that have a value.
pub(super) fn push_object(
    properties: &[PropertyMapping],
    row: &TableRow<'_>,
    context: RowContext<'_>,
    json: &mut Vec<u8>,
) -> Result<(), RowFault> {
    json.push(b'{');
    let mut is_first = true;
    for property in properties {
        let start = json.len();
        if !is_first {
            json.push(b',');
        }
        property.push_key(json);
        if property.is_list() {
            json.push(b'[');
        }
        if property.push_value(row, context, json)? {
            is_first = false;
            if property.is_list() {
                json.push(b']');
            }
        } else {
            json.truncate(start);
        }
    }
    json.push(b'}');
    Ok(())
}

/// Appends text as a JSON string.
pub(super) fn push_text(text: &str, json: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(json, text);
}

fn boolean(cell: &TableCell<'_>) -> Result<Option<&'static str>, ()> {
    let Some(text) = cell.text() else { return Ok(None) };
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Ok(Some("true")),
        "false" | "f" | "no" | "n" | "0" => Ok(Some("false")),
        _ => Err(()),
    }
}

fn push_json(
    row: &TableRow<'_>,
    column: &ColumnPath,
    json: &mut Vec<u8>,
) -> Result<bool, RowFault> {
    match column.read(row) {
        TableCell::Missing => return Ok(false),
        TableCell::Text(text) | TableCell::Json(text) => {
            // Line breaks between tokens would split the line of the event.
            let value: Result<&serde_json::value::RawValue, _> = serde_json::from_str(&text);
            let Ok(value) = value else { return Err(cell_fault(row, column, "is not JSON")) };
            let value = value.get();
            if value.contains(['\n', '\r']) {
                json.extend(value.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')));
            } else {
                json.extend_from_slice(value.as_bytes());
            }
        }
        TableCell::Number(number) if !number.is_finite() => {
            return Err(cell_fault(row, column, "is not finite"));
        }
        cell => json.extend_from_slice(cell.text().unwrap_or_default().as_bytes()),
    }
    Ok(true)
}
