//! `segmentd load --dry-run`: the events of a table and what features read from them,
//! without a service.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde_json::Value;

use super::rejects::RejectLog;
use super::send::SendCounts;
use super::{TableEvents, progress_bar};
use crate::cli::mapping::ColumnMapping;
use crate::cli::table::TableSource;
use crate::config::AppConfig;
use crate::domain::feature::{CustomerState, FeatureSet, FeatureValue};
use crate::domain::json::RawJson;
use crate::domain::time::Timestamp;
use crate::domain::wire::{EventLimits, native};

/// Number of events that are shown.
const SHOWN_EVENTS: usize = 5;
/// Events per batch.
const BATCH_EVENTS: usize = 5000;

/// Tables that are read without sending them.
#[derive(Debug, Clone, Copy)]
pub(super) struct DryRun<'a> {
    pub(super) mapping: &'a ColumnMapping,
    pub(super) sources: &'a [TableSource],
    pub(super) shift_millis: i64,
}

/// What the tables contain.
#[derive(Debug, Default)]
struct TableContent {
    /// The first events of each name.
    shown: Vec<Value>,
    counts: SendCounts,
    /// Number of events by name.
    names: BTreeMap<String, u64>,
}

impl DryRun<'_> {
    /// Prints the first events, what each feature reads from them, and how many rows would be
    /// sent. Returns the number of rejected rows; fails if no row becomes an event.
    pub(super) fn show(&self, config: &AppConfig, rejects: &mut RejectLog) -> anyhow::Result<u64> {
        let features = crate::app::features(config)?;
        let limits = EventLimits {
            max_future_millis: i64::MAX,
            max_property_depth: config.ingestion.max_property_depth,
            max_event_bytes: config.ingestion.max_event_bytes,
            sentinel_ids: config.ingestion.sentinel_ids.clone(),
        };
        let mut content = TableContent::default();
        for source in self.sources {
            self.read(source, &mut content, rejects)?;
        }
        rejects.finish()?;
        for (number, event) in (1..).zip(&content.shown) {
            println!("event {number}: {}", serde_json::to_string_pretty(event)?);
        }
        if !content.shown.is_empty() {
            println!("\n{}\n", feature_table(&features, &content.shown, &limits));
        }
        for (name, count) in &content.names {
            println!("events {name:?}: {count}");
        }
        println!("{}", content.counts.dry_run_text());
        let why = content.counts.why_nothing();
        anyhow::ensure!(!content.names.is_empty(), "no row becomes an event: {why}");
        Ok(content.counts.rejected)
    }

    fn read(
        &self,
        source: &TableSource,
        content: &mut TableContent,
        rejects: &mut RejectLog,
    ) -> anyhow::Result<()> {
        let bar = progress_bar(source)?;
        let mut events = TableEvents::open(source, self.mapping, self.shift_millis, &bar)?;
        let mut read = SendCounts::default();
        loop {
            let batch = events.next_batch(BATCH_EVENTS)?;
            for notice in events.take_notices() {
                bar.suspend(|| eprintln!("{}: {notice}", source.path()));
            }
            let Some(batch) = batch else { break };
            for fault in &batch.faults {
                read.reject(&fault.reason);
                bar.suspend(|| rejects.add_fault(&source.path(), fault))?;
            }
            for line in batch.json.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                content.add(serde_json::from_slice(line)?);
            }
        }
        read.rows = events.rows();
        read.left_out = events.left_out();
        content.counts.add(read);
        bar.finish_and_clear();
        Ok(())
    }
}

impl TableContent {
    fn add(&mut self, event: Value) {
        let name = event.get("name").or_else(|| event.get("type")).and_then(Value::as_str);
        let count = self.names.entry(name.unwrap_or_default().to_owned()).or_default();
        *count += 1;
        // The first events of each name, so that every kind of event is shown.
        if *count <= 2 && self.shown.len() < SHOWN_EVENTS {
            self.shown.push(event);
        }
    }
}

/// By feature and event: the value for a customer with this event only, if it differs from
/// that of a customer without events.
fn feature_table(features: &FeatureSet, events: &[Value], limits: &EventLimits) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let mut header = vec!["feature".to_owned()];
    header.extend((1..=events.len()).map(|number| format!("event {number}")));
    table.set_header(header);
    let mut rows: Vec<Vec<String>> =
        features.features().iter().map(|feature| vec![feature.name.to_string()]).collect();
    let mut problems = String::new();
    for (number, event) in (1..).zip(events) {
        match values_read(features, event, limits) {
            Ok(values) => {
                for (row, value) in rows.iter_mut().zip(values) {
                    row.push(value);
                }
            }
            Err(problem) => {
                let _ = writeln!(problems, "event {number} would be rejected: {problem}");
                for row in &mut rows {
                    row.push(String::new());
                }
            }
        }
    }
    let mut unread = Vec::new();
    for row in rows {
        if row.iter().skip(1).all(String::is_empty) {
            unread.extend(row.into_iter().next());
        } else {
            table.add_row(row);
        }
    }
    let unread = if unread.is_empty() {
        String::new()
    } else {
        format!("\nfeatures that read none of these events: {}", unread.join(", "))
    };
    format!("{problems}{table}{unread}")
}

/// The values of all features after one event; empty for those that it does not change.
fn values_read(
    features: &FeatureSet,
    event: &Value,
    limits: &EventLimits,
) -> Result<Vec<String>, String> {
    let happened = event.get("timestamp").and_then(Value::as_str).and_then(Timestamp::parse);
    let now = happened.unwrap_or_default();
    let text = event.to_string();
    let json = RawJson::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    let message = native::parse_event(json, now, limits, || None);
    let event = message.map_err(|faults| faults.to_string())?.event;
    let event = features.validate_event(event).map_err(|fault| fault.to_string())?.event;
    let mut state = CustomerState::new(features);
    let before = state.feature_row(features, now);
    state.apply(features, &event);
    let after = state.feature_row(features, now);
    let mut values = Vec::with_capacity(after.0.len());
    for (before, after) in before.0.iter().zip(&after.0) {
        values.push(match after {
            after if after == before => String::new(),
            FeatureValue::Missing => "missing".to_owned(),
            // Without the noise of binary fractions.
            FeatureValue::Number(number) => ((number * 1e6).round() / 1e6).to_string(),
            FeatureValue::Category(text) => text.to_string(),
        });
    }
    Ok(values)
}
