//! Groups of rows that become one event each, such as the lines of an order.
//!
//! The first row of a group decides its events, ids and time; properties are aggregated over
//! its rows. If a row of a group is rejected, the whole group is: a part of an order would
//! have a wrong total.

use std::collections::HashMap;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::batch::EventBatch;
use super::content::ContentIds;
use super::event::{EventMapping, push_message_id};
use super::numeric::push_number;
use super::property::{Aggregate, PropertyMapping};
use super::template::RowContext;
use crate::cli::table::{ColumnPath, RowFault, TableColumns, TableRow};
use crate::domain::fault::{ValidationFault, ValidationFaults};

/// Separates the cells of a key.
const KEY_SEPARATOR: char = '\u{1f}';
/// Stands for the content-derived id until the group is complete.
const CONTENT_MARK: &str = "\u{1}";
const BYTES_PER_MIB: usize = 1 << 20;
/// Memory of a group beside its texts, in bytes.
const GROUP_BYTES: usize = 400;

/// The `[group]` section of a mapping.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupFile {
    by: Vec<String>,
    #[serde(default)]
    rows: GroupRows,
    /// Limit of the memory of unfinished groups.
    #[serde(default = "default_max_mib")]
    max_mib: usize,
}

fn default_max_mib() -> usize {
    1024
}

/// Where the rows of a group are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum GroupRows {
    /// One after the other.
    #[default]
    Consecutive,
    /// Anywhere in the file; all groups are in memory until its end.
    All,
}

/// The key of groups, bound to the columns of a table.
#[derive(Debug)]
pub(super) struct GroupMapping {
    by: Vec<ColumnPath>,
    rows: GroupRows,
    max_bytes: usize,
    open: HashMap<String, OpenGroup>,
    /// Keys in the order of their first rows.
    order: Vec<String>,
    bytes: usize,
}

/// What the rows of a group share.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupScope<'a> {
    pub(super) events: &'a [EventMapping],
    pub(super) context: RowContext<'a>,
    pub(super) shift_millis: i64,
    pub(super) decimal: char,
}

/// A group whose rows are not complete.
#[derive(Debug)]
struct OpenGroup {
    line: u64,
    rows: u64,
    hash: Sha256,
    events: Vec<OpenEvent>,
    is_rejected: bool,
}

#[derive(Debug)]
struct OpenEvent {
    /// Index of its mapping.
    mapping: usize,
    json: Vec<u8>,
    message_id: String,
    values: Vec<AggregateValue>,
}

#[derive(Debug)]
enum AggregateValue {
    Missing,
    Json(Vec<u8>),
    Number(f64),
}

impl GroupFile {
    pub(super) fn bind(
        &self,
        columns: &TableColumns,
        faults: &mut ValidationFaults,
    ) -> GroupMapping {
        if self.by.is_empty() {
            let problem = "must name the columns that identify a group";
            faults.push(ValidationFault::new("group.by", problem));
        }
        if self.max_mib == 0 {
            faults.push(ValidationFault::new("group.max_mib", "must be at least 1"));
        }
        let mut by = Vec::new();
        for name in &self.by {
            match columns.find(name) {
                Ok(column) => by.push(column),
                Err(problem) => faults.push(ValidationFault::new("group.by", problem)),
            }
        }
        GroupMapping {
            by,
            rows: self.rows,
            max_bytes: self.max_mib.saturating_mul(BYTES_PER_MIB),
            open: HashMap::new(),
            order: Vec::new(),
            bytes: 0,
        }
    }
}

impl GroupMapping {
    /// Adds a row to its group; a row of another key ends the previous group, if the rows of
    /// groups are consecutive. Returns whether an event reads the row.
    pub(super) fn add(
        &mut self,
        row: &TableRow<'_>,
        scope: GroupScope<'_>,
        content: &mut ContentIds,
        batch: &mut EventBatch,
    ) -> anyhow::Result<bool> {
        let mut key = String::new();
        for column in &self.by {
            let Some(cell) = column.read(row).text().map(std::borrow::Cow::into_owned) else {
                let reason = "is empty: it identifies the group of the row";
                batch.faults.push(RowFault::of_cell(row.line, &column.name, "", reason));
                return Ok(true);
            };
            key.push_str(&cell);
            key.push(KEY_SEPARATOR);
        }
        if self.rows == GroupRows::Consecutive && !self.open.contains_key(&key) {
            self.finish(scope, content, batch);
        }
        if !self.open.contains_key(&key) {
            let group = match OpenGroup::open(row, scope) {
                Ok(group) => group,
                Err(fault) => {
                    batch.faults.push(fault);
                    OpenGroup::rejected(row)
                }
            };
            self.bytes += GROUP_BYTES + 2 * key.len() + group.bytes();
            self.order.push(key.clone());
            self.open.insert(key.clone(), group);
        }
        let Some(group) = self.open.get_mut(&key) else { return Ok(false) };
        let before = group.bytes();
        if let Err(fault) = group.add(row, scope) {
            group.is_rejected = true;
            batch.faults.push(fault);
        }
        self.bytes += group.bytes().saturating_sub(before);
        let is_read = group.is_rejected || !group.events.is_empty();
        anyhow::ensure!(
            self.bytes <= self.max_bytes,
            "line {}: the unfinished groups exceed {} MiB of memory; sort the table by {:?} and \
             set `group.rows = \"consecutive\"`, or raise `group.max_mib`",
            row.line,
            self.max_bytes / BYTES_PER_MIB,
            self.by.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
        );
        Ok(is_read)
    }

    /// Ends the open groups.
    pub(super) fn finish(
        &mut self,
        scope: GroupScope<'_>,
        content: &mut ContentIds,
        batch: &mut EventBatch,
    ) {
        for key in std::mem::take(&mut self.order) {
            if let Some(group) = self.open.remove(&key) {
                group.close(scope, content, batch);
            }
        }
        self.bytes = 0;
    }
}

impl OpenGroup {
    fn open(row: &TableRow<'_>, scope: GroupScope<'_>) -> Result<Self, RowFault> {
        let context = RowContext { content: CONTENT_MARK, ..scope.context };
        let mut events = Vec::new();
        for (index, event) in scope.events.iter().enumerate() {
            if !event.applies(row, scope.decimal)? {
                continue;
            }
            let mut json = Vec::new();
            event.push_head(row, context, scope.shift_millis, &mut json)?;
            let message_id = event.message_id(row, context)?;
            let mut values = Vec::with_capacity(event.properties.len());
            values.resize_with(event.properties.len(), || AggregateValue::Missing);
            events.push(OpenEvent { mapping: index, json, message_id, values });
        }
        let hash = Sha256::new();
        Ok(Self { line: row.line, rows: 0, hash, events, is_rejected: false })
    }

    fn rejected(row: &TableRow<'_>) -> Self {
        let (hash, events) = (Sha256::new(), Vec::new());
        Self { line: row.line, rows: 0, hash, events, is_rejected: true }
    }

    fn bytes(&self) -> usize {
        self.events.iter().map(OpenEvent::bytes).sum()
    }

    fn add(&mut self, row: &TableRow<'_>, scope: GroupScope<'_>) -> Result<(), RowFault> {
        self.rows += 1;
        if self.is_rejected {
            return Ok(());
        }
        self.hash.update(row.content_hash());
        for event in &mut self.events {
            let Some(mapping) = scope.events.get(event.mapping) else { continue };
            for (property, value) in mapping.properties.iter().zip(&mut event.values) {
                value.add(property, row, scope.context)?;
            }
        }
        Ok(())
    }

    fn close(self, scope: GroupScope<'_>, content: &mut ContentIds, batch: &mut EventBatch) {
        if self.is_rejected {
            if self.rows > 1 {
                batch.faults.push(RowFault {
                    line: self.line,
                    column: None,
                    value: None,
                    reason: format!(
                        "the group of {} rows that starts here has a rejected row; none of it is \
                         sent",
                        self.rows
                    ),
                });
            }
            return;
        }
        let hash: [u8; 32] = self.hash.finalize().into();
        let mut id = None;
        for event in self.events {
            let Some(mapping) = scope.events.get(event.mapping) else { continue };
            batch.json.extend_from_slice(&event.json);
            push_properties(&mapping.properties, &event.values, &mut batch.json);
            if mapping.message_id.uses_content() {
                let id = id.get_or_insert_with(|| content.next(&hash));
                push_message_id(&event.message_id.replace(CONTENT_MARK, id), &mut batch.json);
            } else {
                push_message_id(&event.message_id, &mut batch.json);
            }
            batch.origins.push(self.line);
        }
    }
}

impl OpenEvent {
    fn bytes(&self) -> usize {
        let values: usize = self.values.iter().map(AggregateValue::bytes).sum();
        self.json.len() + self.message_id.len() + values
    }
}

impl AggregateValue {
    fn bytes(&self) -> usize {
        size_of::<Self>() + if let Self::Json(json) = self { json.capacity() } else { 0 }
    }

    /// Takes the value of a further row.
    fn add(
        &mut self,
        property: &PropertyMapping,
        row: &TableRow<'_>,
        context: RowContext<'_>,
    ) -> Result<(), RowFault> {
        if property.is_list() {
            let mut json = match std::mem::replace(self, Self::Missing) {
                Self::Json(json) => json,
                _ => Vec::new(),
            };
            let before = json.len();
            if before > 0 {
                json.push(b',');
            }
            if !property.push_value(row, context, &mut json)? {
                json.truncate(before);
            }
            *self = if json.is_empty() { Self::Missing } else { Self::Json(json) };
            return Ok(());
        }
        if matches!(property.aggregate, Aggregate::First | Aggregate::Last) {
            if property.aggregate == Aggregate::First && !matches!(self, Self::Missing) {
                return Ok(());
            }
            let mut json = Vec::new();
            if property.push_value(row, context, &mut json)? {
                *self = Self::Json(json);
            }
            return Ok(());
        }
        let Some(number) = property.number(row)? else { return Ok(()) };
        let known = if let Self::Number(known) = self { Some(*known) } else { None };
        *self = Self::Number(match (known, property.aggregate) {
            (None, _) => number,
            (Some(known), Aggregate::Min) => known.min(number),
            (Some(known), Aggregate::Max) => known.max(number),
            (Some(known), _) => known + number,
        });
        Ok(())
    }
}

fn push_properties(properties: &[PropertyMapping], values: &[AggregateValue], json: &mut Vec<u8>) {
    json.push(b'{');
    let mut is_first = true;
    for (property, value) in properties.iter().zip(values) {
        if matches!(value, AggregateValue::Missing) {
            continue;
        }
        if !is_first {
            json.push(b',');
        }
        is_first = false;
        property.push_key(json);
        match value {
            AggregateValue::Json(value) if property.is_list() => {
                json.push(b'[');
                json.extend_from_slice(value);
                json.push(b']');
            }
            AggregateValue::Json(value) => json.extend_from_slice(value),
            AggregateValue::Number(number) => push_number(*number, json),
            AggregateValue::Missing => {}
        }
    }
    json.push(b'}');
}
