//! Mapping from the rows of a table to events.

mod batch;
mod builtin;
mod condition;
mod content;
mod event;
mod file;
mod group;
mod instant;
mod iso;
mod numeric;
mod property;
mod template;

use std::path::Path;

use anyhow::Context as _;

pub(crate) use batch::BatchPart;
pub use batch::EventBatch;
use condition::RowCondition;
use content::ContentIds;
use event::EventMapping;
use file::{BindTarget, MappingFile};
use group::{GroupMapping, GroupScope};
use template::RowContext;

use crate::cli::table::{LookupSettings, RowFault, TableColumns, TableRow, TableSettings};
use crate::domain::fault::ValidationFaults;

/// A mapping, not yet bound to a table.
#[derive(Debug, Clone)]
pub struct ColumnMapping {
    file: MappingFile,
}

/// Rows that no event was made from, by reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOutRows {
    /// The condition that the rows do not meet.
    pub condition: String,
    pub rows: u64,
}

/// A mapping bound to one table: turns its rows into events.
#[derive(Debug)]
pub struct EventMapper {
    file: String,
    shift_millis: i64,
    decimal: char,
    conditions: Vec<RowCondition>,
    events: Vec<EventMapping>,
    group: Option<GroupMapping>,
    content: ContentIds,
    uses_content: bool,
    /// By condition; last, the rows that meet the conditions of no event.
    left_out: Vec<u64>,
}

impl ColumnMapping {
    /// Reads a mapping file, or a built-in mapping by its name.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        if !path.exists()
            && let Some(text) = path.to_str().and_then(builtin::text_of)
        {
            return Self::parse(text);
        }
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read {}; the built-in mappings are {}",
                path.display(),
                builtin::names().join(", ")
            )
        })?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Parses a mapping (TOML).
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let file: MappingFile = toml::from_str(text)?;
        let mut faults = ValidationFaults::default();
        file.table.validate(&mut faults);
        Ok(faults.into_result(Self { file })?)
    }

    pub fn table_settings(&self) -> &TableSettings {
        &self.file.table
    }

    pub fn lookups(&self) -> &[LookupSettings] {
        &self.file.lookup
    }

    /// Binds the mapping to the columns of a table. `file` is the name of its file; `None` for
    /// standard input.
    pub fn bind(
        &self,
        columns: &TableColumns,
        file: Option<&str>,
        shift_millis: i64,
    ) -> Result<EventMapper, ValidationFaults> {
        let mut faults = ValidationFaults::default();
        let conditions = self.file.bind_conditions(columns, &mut faults);
        let events = self.file.bind_events(BindTarget { columns, file }, &mut faults);
        let group = self.file.group.as_ref().map(|group| group.bind(columns, &mut faults));
        let uses_content = events.iter().any(|event| event.message_id.uses_content());
        let left_out = vec![0; conditions.len() + 1];
        faults.into_result(EventMapper {
            file: file.unwrap_or("standard input").to_owned(),
            shift_millis,
            decimal: self.file.table.decimal_mark(),
            conditions,
            events,
            group,
            content: ContentIds::default(),
            uses_content,
            left_out,
        })
    }
}

impl EventMapper {
    /// Adds the events of a row to the batch, or the reason why it is rejected. Fails if
    /// unfinished groups exceed their memory.
    pub fn add(&mut self, row: &TableRow<'_>, batch: &mut EventBatch) -> anyhow::Result<()> {
        for (condition, left_out) in self.conditions.iter().zip(&mut self.left_out) {
            match condition.is_met(row, self.decimal) {
                Ok(true) => {}
                Ok(false) => {
                    *left_out += 1;
                    return Ok(());
                }
                Err(fault) => {
                    batch.faults.push(fault);
                    return Ok(());
                }
            }
        }
        let is_read = if let Some(group) = &mut self.group {
            let scope = GroupScope {
                events: &self.events,
                context: RowContext { file: &self.file, content: "" },
                shift_millis: self.shift_millis,
                decimal: self.decimal,
            };
            group.add(row, scope, &mut self.content, batch)?
        } else {
            let (length, count) = (batch.json.len(), batch.origins.len());
            match self.push_events(row, batch) {
                Ok(()) => batch.origins.len() > count,
                Err(fault) => {
                    batch.json.truncate(length);
                    batch.origins.truncate(count);
                    batch.faults.push(fault);
                    true
                }
            }
        };
        if !is_read && let Some(left_out) = self.left_out.last_mut() {
            *left_out += 1;
        }
        Ok(())
    }

    fn push_events(&mut self, row: &TableRow<'_>, batch: &mut EventBatch) -> Result<(), RowFault> {
        let content =
            if self.uses_content { self.content.next(&row.content_hash()) } else { String::new() };
        let context = RowContext { file: &self.file, content: &content };
        for event in &self.events {
            if event.applies(row, self.decimal)? {
                event.push_event(row, context, self.shift_millis, &mut batch.json)?;
                batch.origins.push(row.line);
            }
        }
        Ok(())
    }

    /// Adds the events of unfinished groups to the batch, after the last row.
    pub fn finish(&mut self, batch: &mut EventBatch) {
        let scope = GroupScope {
            events: &self.events,
            context: RowContext { file: &self.file, content: "" },
            shift_millis: self.shift_millis,
            decimal: self.decimal,
        };
        if let Some(group) = &mut self.group {
            group.finish(scope, &mut self.content, batch);
        }
    }

    /// The rows that became no event, by the condition that they do not meet.
    pub fn left_out(&self) -> Vec<LeftOutRows> {
        let names = self.conditions.iter().map(|condition| condition.description.as_str());
        let names = names.chain(["the conditions of an event"]);
        let counted = names.zip(&self.left_out).filter(|(_, rows)| **rows > 0);
        counted
            .map(|(condition, rows)| LeftOutRows { condition: condition.to_owned(), rows: *rows })
            .collect()
    }

    /// What to know about message ids that depend on the number of a row.
    pub(crate) fn identity_notice(&self) -> Option<String> {
        let depends_on_line = self.events.iter().any(|event| event.message_id.uses_line());
        depends_on_line.then(|| {
            "message ids contain {line}: if rows are added or removed, the rows after them are \
             counted again as new events; {content} or a column with an id prevents that"
                .to_owned()
        })
    }

    /// The columns behind a field of an event, such as `properties.total`.
    pub(crate) fn columns_of(&self, field: &str) -> Option<String> {
        let columns = self.events.iter().find_map(|event| event.columns_of(field));
        columns.filter(|columns| !columns.is_empty())
    }
}
