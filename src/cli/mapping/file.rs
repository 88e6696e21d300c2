//! The mapping file as written; `config/load.example.toml` is its manual.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::condition::{ConditionFile, RowCondition};
use super::event::EventMapping;
use super::group::GroupFile;
use super::instant::{Disambiguation, TimestampFormat};
use super::property::{BindScope, PropertyFile};
use super::template::TextTemplate;
use crate::cli::table::{LookupSettings, TableColumns, TableSettings};
use crate::domain::event::EventKind;
use crate::domain::fault::{ValidationFault, ValidationFaults};

/// Types of events that a mapping can create.
const KINDS: [EventKind; 4] =
    [EventKind::Track, EventKind::Identify, EventKind::Page, EventKind::Screen];

/// A mapping from rows to events, as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MappingFile {
    #[serde(default)]
    pub(super) table: TableSettings,
    #[serde(default)]
    pub(super) lookup: Vec<LookupSettings>,
    pub(super) group: Option<GroupFile>,
    #[serde(default, rename = "where")]
    conditions: Vec<ConditionFile>,
    r#type: Option<String>,
    name: Option<String>,
    message_id: Option<String>,
    customer_id: Option<String>,
    anonymous_id: Option<String>,
    timestamp: Option<String>,
    #[serde(default)]
    timestamp_format: Option<FormatList>,
    timezone: Option<String>,
    #[serde(default)]
    disambiguation: Disambiguation,
    #[serde(default)]
    properties: BTreeMap<String, PropertyFile>,
    /// Events of one row; what they do not set is as above.
    #[serde(default)]
    event: Vec<EventFile>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EventFile {
    r#type: Option<String>,
    name: Option<String>,
    message_id: Option<String>,
    customer_id: Option<String>,
    anonymous_id: Option<String>,
    timestamp: Option<String>,
    #[serde(rename = "where")]
    conditions: Vec<ConditionFile>,
    properties: BTreeMap<String, PropertyFile>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum FormatList {
    One(String),
    Several(Vec<String>),
}

/// The columns of a table, and the name of its file.
#[derive(Debug, Clone, Copy)]
pub(super) struct BindTarget<'a> {
    pub(super) columns: &'a TableColumns,
    /// `None` for standard input.
    pub(super) file: Option<&'a str>,
}

impl MappingFile {
    /// Conditions that every row must meet.
    pub(super) fn bind_conditions(
        &self,
        columns: &TableColumns,
        faults: &mut ValidationFaults,
    ) -> Vec<RowCondition> {
        bind_conditions(&self.conditions, "where", columns, faults)
    }

    /// The events of a row, bound to the columns of a table.
    pub(super) fn bind_events(
        &self,
        target: BindTarget<'_>,
        faults: &mut ValidationFaults,
    ) -> Vec<EventMapping> {
        let formats = match &self.timestamp_format {
            None => Vec::new(),
            Some(FormatList::One(format)) => vec![format.clone()],
            Some(FormatList::Several(formats)) => formats.clone(),
        };
        let format = TimestampFormat::new(&formats, self.timezone.as_deref(), self.disambiguation);
        let format = match format {
            Ok(format) => format,
            Err(problem) => {
                let (path, problem) =
                    problem.split_once(": ").unwrap_or(("timestamp_format", &problem));
                faults.push(ValidationFault::new(path, problem));
                return Vec::new();
            }
        };
        let own = [EventFile::default()];
        let files = if self.event.is_empty() { own.as_slice() } else { self.event.as_slice() };
        let mut events = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let path =
                if self.event.is_empty() { String::new() } else { format!("event[{index}].") };
            let merged = self.merged(file);
            let binder = EventBinder { file: &merged, path: &path, target };
            if let Some(event) = binder.bind(&format, self.table.decimal_mark(), faults) {
                events.push(event);
            }
        }
        events
    }

    /// An event with what it takes from the whole mapping.
    fn merged(&self, event: &EventFile) -> EventFile {
        let mut properties = self.properties.clone();
        properties.extend(event.properties.clone());
        EventFile {
            r#type: event.r#type.clone().or_else(|| self.r#type.clone()),
            name: event.name.clone().or_else(|| self.name.clone()),
            message_id: event.message_id.clone().or_else(|| self.message_id.clone()),
            customer_id: event.customer_id.clone().or_else(|| self.customer_id.clone()),
            anonymous_id: event.anonymous_id.clone().or_else(|| self.anonymous_id.clone()),
            timestamp: event.timestamp.clone().or_else(|| self.timestamp.clone()),
            conditions: event.conditions.clone(),
            properties,
        }
    }
}

fn bind_conditions(
    files: &[ConditionFile],
    path: &str,
    columns: &TableColumns,
    faults: &mut ValidationFaults,
) -> Vec<RowCondition> {
    let mut conditions = Vec::new();
    for (index, file) in files.iter().enumerate() {
        match file.bind(columns) {
            Ok(condition) => conditions.push(condition),
            Err(problem) => {
                faults.push(ValidationFault::new(format!("{path}[{index}]"), problem));
            }
        }
    }
    conditions
}

/// Binds one event to the columns of a table.
struct EventBinder<'a> {
    file: &'a EventFile,
    /// Prefix of the paths of faults.
    path: &'a str,
    target: BindTarget<'a>,
}

impl EventBinder<'_> {
    fn bind(
        &self,
        format: &TimestampFormat,
        decimal: char,
        faults: &mut ValidationFaults,
    ) -> Option<EventMapping> {
        let kind = self.file.r#type.as_deref();
        let kind = kind.and_then(EventKind::parse).filter(|kind| KINDS.contains(kind));
        if kind.is_none() {
            let known = KINDS.map(EventKind::as_str).join(", ");
            faults.push(self.fault("type", format!("must be one of {known}")));
        }
        let name = self.template("name", self.file.name.as_ref(), faults);
        if kind == Some(EventKind::Track) && self.file.name.as_ref().is_none_or(String::is_empty) {
            let problem = "is required for `track`: the event's name, such as \"Order Completed\"";
            faults.push(self.fault("name", problem));
        }
        let message_id = self.template("message_id", self.file.message_id.as_ref(), faults);
        match &message_id {
            None if self.file.message_id.is_none() => faults.push(self.fault(
                "message_id",
                "is required: an id of the event that is the same at every load, such as \
                 \"orders-{order_id}\", or \"{content}\" if the table has none",
            )),
            Some(id) if id.is_constant() => faults.push(self.fault(
                "message_id",
                "must contain a column, `{line}` or `{content}`: all rows would be one event",
            )),
            _ => {}
        }
        let customer_id = self.template("customer_id", self.file.customer_id.as_ref(), faults);
        let anonymous_id = self.template("anonymous_id", self.file.anonymous_id.as_ref(), faults);
        if self.file.customer_id.is_none() && self.file.anonymous_id.is_none() {
            faults.push(self.fault("customer_id", "is required, or else `anonymous_id`"));
        }
        let timestamp = self.template("timestamp", self.file.timestamp.as_ref(), faults);
        if self.file.timestamp.is_none() {
            let problem = "is required: the time of the event, such as \"{created_at}\"";
            faults.push(self.fault("timestamp", problem));
        }
        let columns = self.target.columns;
        let path = format!("{}where", self.path);
        let conditions = bind_conditions(&self.file.conditions, &path, columns, faults);
        let path = format!("{}properties", self.path);
        let scope = BindScope { columns, decimal, is_element: false };
        let properties = PropertyFile::bind_all(&self.file.properties, scope, &path, faults);
        let kind = kind?;
        Some(EventMapping {
            kind: format!("\"{}\"", kind.as_str()),
            properties_field: if kind == EventKind::Identify { "traits" } else { "properties" },
            name,
            message_id: message_id?,
            customer_id,
            anonymous_id,
            timestamp: timestamp?,
            format: format.clone(),
            conditions,
            properties,
        })
    }

    fn fault(&self, field: &str, problem: impl Into<String>) -> ValidationFault {
        ValidationFault::new(format!("{}{field}", self.path), problem)
    }

    fn template(
        &self,
        field: &str,
        text: Option<&String>,
        faults: &mut ValidationFaults,
    ) -> Option<TextTemplate> {
        let template = match TextTemplate::bind(text?, self.target.columns) {
            Ok(template) => template,
            Err(problem) => {
                faults.push(self.fault(field, problem));
                return None;
            }
        };
        if template.uses_file() && self.target.file.is_none() {
            faults.push(self.fault(field, "`{file}` needs a file: standard input has no name"));
        }
        if template.uses_content() && field != "message_id" {
            faults.push(self.fault(field, "`{content}` can be used in `message_id` only"));
        }
        Some(template)
    }
}
