//! Client of the bulk endpoint, and what became of the sent events.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::rejects::RejectedRow;
use crate::cli::mapping::{BatchPart, EventMapper, LeftOutRows};
use crate::cli::table::shortened;
use crate::cli::unreachable_service;
use crate::outbound::service_client::ServiceClient;

/// Maximum number of reasons that are counted one by one.
const MAX_REASONS: usize = 50;
const OTHER_REASONS: &str = "other reasons";

/// Results of a load.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::cli) struct SendCounts {
    /// Rows of the tables.
    pub(in crate::cli) rows: u64,
    /// Rows that became no event, by condition.
    pub(super) left_out: Vec<LeftOutRows>,
    pub(in crate::cli) accepted: u64,
    pub(super) duplicate: u64,
    /// Events with the message id of a stored event, but other content.
    pub(super) conflict: u64,
    pub(super) rejected: u64,
    /// Rejections and conflicts by reason.
    reasons: BTreeMap<String, u64>,
    /// Warnings about accepted events, by reason.
    warnings: BTreeMap<String, u64>,
}

impl SendCounts {
    pub(in crate::cli) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.accepted += other.accepted;
        self.duplicate += other.duplicate;
        self.conflict += other.conflict;
        self.rejected += other.rejected;
        for left_out in other.left_out {
            let known =
                self.left_out.iter_mut().find(|known| known.condition == left_out.condition);
            match known {
                Some(known) => known.rows += left_out.rows,
                None => self.left_out.push(left_out),
            }
        }
        for (reason, count) in other.reasons {
            add_reason(&mut self.reasons, &reason, count);
        }
        for (reason, count) in other.warnings {
            add_reason(&mut self.warnings, &reason, count);
        }
    }

    /// Counts a row that is rejected before it is sent.
    pub(super) fn reject(&mut self, reason: &str) {
        self.rejected += 1;
        add_reason(&mut self.reasons, reason, 1);
    }

    /// The rows that would not be sent.
    pub(super) fn dry_run_text(&self) -> String {
        let mut text = format!("rows {}, rejected {}", self.rows, self.rejected);
        self.push_details(&mut text);
        text
    }

    /// Appends the rows that were left out or rejected, by reason.
    fn push_details(&self, text: &mut String) {
        for LeftOutRows { condition, rows } in &self.left_out {
            let _ = write!(text, "\n  {rows} left out: not {condition}");
        }
        for (reason, count) in &self.reasons {
            let _ = write!(text, "\n  {count} not taken: {reason}");
        }
        for (reason, count) in &self.warnings {
            let _ = write!(text, "\n  {count} taken with a warning: {reason}");
        }
    }

    /// Why no event was accepted.
    pub(super) fn why_nothing(&self) -> String {
        let Self { duplicate, conflict, rejected, rows, .. } = self;
        match (duplicate, conflict, rejected) {
            (0, 0, 0) if *rows == 0 => "the tables have no rows".to_owned(),
            (0, 0, 0) => "no row became an event".to_owned(),
            (_, 0, 0) => format!("all {duplicate} events were stored before"),
            (_, _, 0) => format!(
                "of the events, {duplicate} were stored before and {conflict} have the message \
                 id of a stored event with other content; a message id must identify one event \
                 across all files, as \"{{file}}-{{line}}\" or \"{{content}}\" do"
            ),
            (0, 0, _) => format!("{rejected} rows were rejected"),
            _ => format!(
                "{rejected} rows were rejected, {duplicate} events were stored before, {conflict} \
                 are in conflict with stored events"
            ),
        }
    }
}

/// Counts a reason; beyond [`MAX_REASONS`] as one of the others.
fn add_reason(reasons: &mut BTreeMap<String, u64>, reason: &str, count: u64) {
    let is_known = reasons.contains_key(reason) || reasons.len() < MAX_REASONS;
    let reason = if is_known { reason } else { OTHER_REASONS };
    *reasons.entry(reason.to_owned()).or_default() += count;
}

impl fmt::Display for SendCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, accepted, duplicate, conflict, rejected, .. } = self;
        let mut text = format!(
            "rows {rows}, accepted {accepted}, duplicate {duplicate}, conflict {conflict}, \
             rejected {rejected}"
        );
        self.push_details(&mut text);
        f.write_str(&text)
    }
}

/// Client of the bulk endpoint.
#[derive(Debug)]
pub(in crate::cli) struct BulkSender {
    client: ServiceClient,
    url: Url,
}

/// Results of the events of one request.
#[derive(Debug)]
pub(in crate::cli) struct SendResults {
    results: Vec<LineResult>,
}

#[derive(Debug, Deserialize)]
struct LineResult {
    status: String,
    #[serde(default)]
    errors: Vec<LineFault>,
    #[serde(default)]
    warnings: Vec<LineFault>,
}

#[derive(Debug, Deserialize)]
struct LineFault {
    field: String,
    problem: String,
}

/// A rejected event or a conflict.
#[derive(Debug, Clone, Copy)]
pub(super) struct FaultyResult<'a> {
    index: usize,
    result: &'a LineResult,
}

impl BulkSender {
    pub(in crate::cli) fn new(url: &str, key: &str) -> anyhow::Result<Self> {
        let url = format!("{}/v1/events/bulk", url.trim_end_matches('/'));
        Ok(Self { client: ServiceClient::new(key)?, url: Url::parse(&url).context("--url")? })
    }

    /// Sends events, one JSON object per line; fails unless every line gets a result.
    pub(in crate::cli) async fn send(
        &self,
        lines: Vec<u8>,
        count: usize,
    ) -> anyhow::Result<SendResults> {
        let response = self
            .client
            .post(&self.url, lines)
            .await
            .with_context(|| unreachable_service(self.url.as_str()))?;
        let status = response.status;
        let text = response.text().await?;
        anyhow::ensure!(status.is_success(), "the service answered {status}: {text}");
        let mut results = Vec::with_capacity(count);
        for line in text.lines() {
            let result: LineResult = serde_json::from_str(line)?;
            match result.status.as_str() {
                "accepted" | "duplicate" | "conflict" | "rejected" => results.push(result),
                "locked" => anyhow::bail!(
                    "a customer is locked by another session of the database; load the table \
                     again, duplicates are ignored: {line}"
                ),
                _ => anyhow::bail!("the service stopped: {line}"),
            }
        }
        let found = results.len();
        anyhow::ensure!(found == count, "{count} events sent, but {found} results received");
        Ok(SendResults { results })
    }
}

impl SendResults {
    pub(in crate::cli) fn counts(&self) -> SendCounts {
        let mut counts = SendCounts::default();
        for result in &self.results {
            match result.status.as_str() {
                "accepted" => {
                    counts.accepted += 1;
                    for warning in &result.warnings {
                        add_reason(&mut counts.warnings, &warning.text(), 1);
                    }
                }
                "duplicate" => counts.duplicate += 1,
                "conflict" => {
                    counts.conflict += 1;
                    add_reason(&mut counts.reasons, &result.reason(), 1);
                }
                _ => counts.reject(&result.reason()),
            }
        }
        counts
    }

    /// The rejected events and conflicts.
    pub(super) fn faulty(&self) -> impl Iterator<Item = FaultyResult<'_>> {
        let numbered = self.results.iter().enumerate();
        numbered
            .filter(|(_, result)| matches!(result.status.as_str(), "rejected" | "conflict"))
            .map(|(index, result)| FaultyResult { index, result })
    }
}

impl LineFault {
    fn text(&self) -> String {
        format!("{} {}", self.field, self.problem)
    }
}

impl LineResult {
    fn reason(&self) -> String {
        let reasons: Vec<String> = self.errors.iter().map(LineFault::text).collect();
        if reasons.is_empty() && self.status == "conflict" {
            return "message_id is that of a stored event with other content".to_owned();
        }
        reasons.join("; ")
    }
}

impl FaultyResult<'_> {
    /// The row behind the event, and the columns and value of its first fault.
    pub(super) fn locate(&self, part: &BatchPart<'_>, fields: &EventMapper) -> RejectedRow {
        let field = self.result.errors.first().map_or("message_id", |fault| fault.field.as_str());
        let event: Option<Value> =
            part.line(self.index).and_then(|line| serde_json::from_slice(line).ok());
        let value = event.as_ref().and_then(|event| field_value(event, field));
        RejectedRow {
            line: part.origins.get(self.index).copied().unwrap_or(0),
            status: self.result.status.clone(),
            column: fields.columns_of(field),
            value: value.map(|value| shortened(&value)),
            reason: self.result.reason(),
        }
    }
}

/// The value of a field, such as `properties.total`, in an event.
fn field_value(event: &Value, field: &str) -> Option<String> {
    let value = field.split('.').try_fold(event, |value, name| value.get(name))?;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}
