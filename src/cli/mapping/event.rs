//! One event per row or group: its type, name, ids, time and properties.

use super::condition::RowCondition;
use super::instant::TimestampFormat;
use super::property::{PropertyMapping, push_object, push_text};
use super::template::{RowContext, TemplateFill, TextTemplate};
use crate::cli::table::{RowFault, TableRow};
use crate::domain::time::Timestamp;

/// An event of a mapping, bound to the columns of a table.
#[derive(Debug, Clone)]
pub(super) struct EventMapping {
    /// The event's type as JSON.
    pub(super) kind: String,
    /// `properties`, or `traits` of an `identify`.
    pub(super) properties_field: &'static str,
    pub(super) name: Option<TextTemplate>,
    pub(super) message_id: TextTemplate,
    pub(super) customer_id: Option<TextTemplate>,
    pub(super) anonymous_id: Option<TextTemplate>,
    pub(super) timestamp: TextTemplate,
    pub(super) format: TimestampFormat,
    pub(super) conditions: Vec<RowCondition>,
    pub(super) properties: Vec<PropertyMapping>,
}

impl EventMapping {
    /// Whether the row meets the conditions of the event.
    pub(super) fn applies(&self, row: &TableRow<'_>, decimal: char) -> Result<bool, RowFault> {
        for condition in &self.conditions {
            if !condition.is_met(row, decimal)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Appends the event of one row as a line of JSON.
    pub(super) fn push_event(
        &self,
        row: &TableRow<'_>,
        context: RowContext<'_>,
        shift_millis: i64,
        json: &mut Vec<u8>,
    ) -> Result<(), RowFault> {
        self.push_head(row, context, shift_millis, json)?;
        push_object(&self.properties, row, context, json)?;
        self.push_end(row, context, json)
    }

    /// Appends the event up to the colon before its properties.
    pub(super) fn push_head(
        &self,
        row: &TableRow<'_>,
        context: RowContext<'_>,
        shift_millis: i64,
        json: &mut Vec<u8>,
    ) -> Result<(), RowFault> {
        json.extend_from_slice(b"{\"type\":");
        json.extend_from_slice(self.kind.as_bytes());
        let mut text = String::new();
        if let Some(name) = &self.name {
            if let TemplateFill::Missing(index) = name.fill(row, context, &mut text) {
                return Err(empty_cell(row, name.column_at(index), "is empty: it names the event"));
            }
            json.extend_from_slice(b",\"name\":");
            push_text(&text, json);
        }
        text.clear();
        if let TemplateFill::Missing(index) = self.timestamp.fill(row, context, &mut text)
            && text.trim().is_empty()
        {
            let column = self.timestamp.column_at(index);
            return Err(empty_cell(row, column, "is empty: it is the time of the event"));
        }
        let text = text.trim();
        let millis = self.format.parse(text).map_err(|reason| {
            RowFault::of_cell(row.line, &self.timestamp.columns(), text, reason)
        })?;
        json.extend_from_slice(b",\"timestamp\":\"");
        let at = Timestamp::from_millis(millis).plus_millis(shift_millis);
        json.extend_from_slice(at.to_string().as_bytes());
        json.push(b'"');
        let ids = [("customer_id", &self.customer_id), ("anonymous_id", &self.anonymous_id)];
        let mut has_id = false;
        for (field, template) in ids {
            let Some(template) = template else { continue };
            template.check_id(row)?;
            let mut id = String::new();
            if template.fill(row, context, &mut id) == TemplateFill::Complete && !id.is_empty() {
                has_id = true;
                json.extend_from_slice(b",\"");
                json.extend_from_slice(field.as_bytes());
                json.extend_from_slice(b"\":");
                push_text(&id, json);
            }
        }
        if !has_id {
            let columns: Vec<String> =
                ids.iter().filter_map(|(_, id)| id.as_ref()).map(TextTemplate::columns).collect();
            let reason = "is empty: the event has neither a `customer_id` nor an `anonymous_id`";
            return Err(empty_cell(row, &columns.join(", "), reason));
        }
        json.extend_from_slice(b",\"");
        json.extend_from_slice(self.properties_field.as_bytes());
        json.extend_from_slice(b"\":");
        Ok(())
    }

    /// Appends what follows the properties: the message id, which may depend on all rows of a
    /// group.
    pub(super) fn push_end(
        &self,
        row: &TableRow<'_>,
        context: RowContext<'_>,
        json: &mut Vec<u8>,
    ) -> Result<(), RowFault> {
        let id = self.message_id(row, context)?;
        push_message_id(&id, json);
        Ok(())
    }

    pub(super) fn message_id(
        &self,
        row: &TableRow<'_>,
        context: RowContext<'_>,
    ) -> Result<String, RowFault> {
        self.message_id.check_id(row)?;
        let mut id = String::new();
        if let TemplateFill::Missing(index) = self.message_id.fill(row, context, &mut id) {
            let column = self.message_id.column_at(index);
            return Err(empty_cell(row, column, "is empty: it is part of the message id"));
        }
        Ok(id)
    }

    /// The columns behind a field of the event, such as `properties.total`, for messages.
    pub(super) fn columns_of(&self, field: &str) -> Option<String> {
        if let Some(name) =
            field.strip_prefix("properties.").or_else(|| field.strip_prefix("traits."))
        {
            let name = name.split(['.', '[']).next().unwrap_or(name);
            return self.properties.iter().find(|p| p.name == name).map(PropertyMapping::columns);
        }
        match field {
            "message_id" => Some(self.message_id.columns()),
            "customer_id" => self.customer_id.as_ref().map(TextTemplate::columns),
            "anonymous_id" => self.anonymous_id.as_ref().map(TextTemplate::columns),
            "timestamp" => Some(self.timestamp.columns()),
            "name" => self.name.as_ref().map(TextTemplate::columns),
            _ => None,
        }
    }
}

/// Appends the message id and the end of the event's line.
pub(super) fn push_message_id(id: &str, json: &mut Vec<u8>) {
    json.extend_from_slice(b",\"message_id\":");
    push_text(id, json);
    json.extend_from_slice(b"}\n");
}

fn empty_cell(row: &TableRow<'_>, column: &str, reason: &str) -> RowFault {
    RowFault::of_cell(row.line, column, "", reason)
}
