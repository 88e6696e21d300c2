//! Bodies of Segment's tracking API: messages, which
//! [`domain::wire::segment`](crate::domain::wire::segment) reads without these types, results
//! and errors.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::error::{FaultBody, ProblemBody};
use crate::api::events::event_body::SentIdBody;
use crate::api::events::event_result::FaultBudget;
use crate::domain::event::EventKind;
use crate::domain::time::Timestamp;
use crate::domain::wire::IngestionEndpoint;
use crate::service::ingestion::{IngestionOutcome, conflict_faults};

/// A message of Segment's tracking spec. It needs a `userId` or an `anonymousId`. Other fields are
/// ignored.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "type": "track", "userId": "c0001", "event": "Order Completed",
    "properties": { "revenue": 42.5 }, "messageId": "order-1",
    "timestamp": "2026-03-01T09:30:00Z",
}))]
pub(super) struct TrackingMessageBody {
    /// Required in a batch; ignored elsewhere.
    #[schema(value_type = Option<EventKind>)]
    r#type: Option<String>,
    /// The API key, if no header has it. In a batch, it is a field beside `batch`.
    write_key: Option<String>,
    /// Idempotency key of the message among the customer's messages; generated if absent. A message
    /// with other content needs another key. A message that is sent again needs the same
    /// `timestamp`.
    message_id: Option<SentIdBody>,
    /// The customer.
    user_id: Option<SentIdBody>,
    /// The customer, if there is no `userId`; with it, another id of the same customer.
    anonymous_id: Option<SentIdBody>,
    /// For `alias`: another id of the customer.
    previous_id: Option<SentIdBody>,
    /// For `group`: id of the group.
    group_id: Option<SentIdBody>,
    /// Name of the action: required for `track`.
    event: Option<String>,
    /// For `page` and `screen`: name of the page or screen.
    name: Option<String>,
    /// For `page` and `screen`: category of the page or screen.
    category: Option<String>,
    /// Properties of the message. Properties that no feature reads are not
    /// stored.
    properties: Option<BTreeMap<String, Value>>,
    /// For `identify` and `group`: traits. Null or a blank text removes a trait.
    traits: Option<BTreeMap<String, Value>>,
    /// Instant of the message; default now.
    timestamp: Option<Timestamp>,
    /// Instant by the sender's clock. If it is given, `timestamp` is corrected already.
    original_timestamp: Option<Timestamp>,
    /// Instant by the sender's clock at which the request was sent, to correct `timestamp`.
    sent_at: Option<Timestamp>,
    /// Accepted and ignored.
    context: Option<BTreeMap<String, Value>>,
}

/// A batch of messages.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({ "batch": [{
    "type": "track", "userId": "c0001", "event": "Order Completed",
    "properties": { "revenue": 42.5 }, "messageId": "order-1",
}] }))]
pub(super) struct TrackingBatchBody {
    /// Messages, each with its `type`.
    batch: Vec<TrackingMessageBody>,
    /// The API key, if no header has it.
    write_key: Option<String>,
    /// Instant by the sender's clock at which the request was sent; applies to messages without
    /// their own.
    sent_at: Option<Timestamp>,
    /// Accepted and ignored.
    context: Option<BTreeMap<String, Value>>,
}

/// Counts of the messages of a request, and the messages with faults.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct TrackingResultBody {
    /// Always true, as in Segment's API.
    #[schema(example = true)]
    success: bool,
    /// Messages that were counted by this request.
    #[schema(example = 1)]
    accepted: usize,
    /// Messages that were counted before.
    #[schema(example = 0)]
    duplicate: usize,
    /// Messages that were not counted, because another message of the customer with the same
    /// `messageId` was. They are stored as failed events.
    #[schema(example = 0)]
    conflict: usize,
    /// Invalid messages, which are stored as failed events.
    #[schema(example = 0)]
    rejected: usize,
    /// Messages that are rejected or in conflict. Left out if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!([]))]
    rejections: Vec<RejectedMessageBody>,
    /// Accepted messages of which a part was left out. Left out if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!([]))]
    warnings: Vec<MessageWarningsBody>,
}

/// A message that is rejected or in conflict.
#[derive(Serialize, ToSchema)]
struct RejectedMessageBody {
    /// Index in the batch, from 0.
    index: usize,
    /// Why the message was not counted.
    errors: Vec<FaultBody>,
    /// Number of errors that are not listed, because the response lists 1,000 faults already.
    /// Left out if all are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    errors_omitted: Option<usize>,
}

/// Parts of an accepted message that were left out.
#[derive(Serialize, ToSchema)]
struct MessageWarningsBody {
    /// Index in the batch, from 0.
    index: usize,
    /// The parts that were left out.
    warnings: Vec<FaultBody>,
    /// Number of warnings that are not listed, because the response lists 1,000 faults already.
    /// Left out if all are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    warnings_omitted: Option<usize>,
}

impl TrackingResultBody {
    pub(super) fn new(outcomes: Vec<IngestionOutcome>) -> Self {
        let mut result = Self { success: true, ..Self::default() };
        let mut fault_budget = FaultBudget::default();
        for (index, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                IngestionOutcome::Accepted { warnings, .. } => {
                    result.accepted += 1;
                    if !warnings.is_empty() {
                        let (warnings, warnings_omitted) = fault_budget.take(&warnings);
                        let listed = MessageWarningsBody { index, warnings, warnings_omitted };
                        result.warnings.push(listed);
                    }
                }
                IngestionOutcome::Duplicate { .. } => result.duplicate += 1,
                // Strict requests do not exist here; requests with locked customers were answered
                // 503 as a whole.
                IngestionOutcome::NotCounted { .. } | IngestionOutcome::Locked { .. } => {}
                IngestionOutcome::Conflict { stored_at, .. } => {
                    result.conflict += 1;
                    let faults = conflict_faults(IngestionEndpoint::Segment, stored_at);
                    let (errors, errors_omitted) = fault_budget.take(&faults.0);
                    result.rejections.push(RejectedMessageBody { index, errors, errors_omitted });
                }
                IngestionOutcome::Rejected { faults } => {
                    result.rejected += 1;
                    let (errors, errors_omitted) = fault_budget.take(&faults.0);
                    result.rejections.push(RejectedMessageBody { index, errors, errors_omitted });
                }
            }
        }
        result
    }
}

/// The constant response to metrics.
#[derive(Serialize, ToSchema)]
pub(super) struct DiscardedMetricsBody {
    /// Always true, as in Segment's API.
    #[schema(example = true)]
    pub(super) success: bool,
}

/// Settings of Segment's browser and mobile libraries.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrackingSettingsBody {
    /// Destinations of events: this server only.
    integrations: TrackingIntegrationsBody,
    /// Tracking plan: empty.
    plan: NoSettingsBody,
    /// Edge functions: none.
    edge_function: NoSettingsBody,
    /// Middleware: none.
    middleware_settings: NoSettingsBody,
    /// Metrics of the libraries about themselves.
    metrics: LibraryMetricsBody,
}

/// Destinations of events, by Segment's name.
#[derive(Serialize, ToSchema)]
struct TrackingIntegrationsBody {
    #[serde(rename = "Segment.io")]
    segment_io: TrackingDestinationBody,
}

/// The destination of events.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TrackingDestinationBody {
    /// The API key in the path of the request.
    #[schema(example = "sgm_0050e0c5c045_5fbc0c7e")]
    api_key: String,
    /// Host and path of the tracking API, without scheme: the `Host` of the request.
    #[schema(example = "events.example.com/v1")]
    api_host: String,
}

/// Settings without content.
#[derive(Serialize, ToSchema)]
struct NoSettingsBody {}

/// Metrics of the libraries about themselves.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LibraryMetricsBody {
    /// Share of the metrics that the libraries send: none.
    #[schema(minimum = 0, maximum = 1, example = 0.0)]
    sample_rate: f64,
}

impl TrackingSettingsBody {
    pub(super) fn new(api_key: String, host: &str) -> Self {
        let segment_io = TrackingDestinationBody { api_key, api_host: format!("{host}/v1") };
        Self {
            integrations: TrackingIntegrationsBody { segment_io },
            plan: NoSettingsBody {},
            edge_function: NoSettingsBody {},
            middleware_settings: NoSettingsBody {},
            metrics: LibraryMetricsBody { sample_rate: 0.0 },
        }
    }
}

/// A problem (RFC 9457) with the fields of Segment's errors.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct TrackingProblemBody {
    #[serde(flatten)]
    problem: ProblemBody,
    /// Segment's name for the last part of `type`.
    #[schema(example = "invalid")]
    code: &'static str,
    /// Segment's name for `detail`.
    #[schema(example = "`batch` must be an array of messages")]
    message: String,
}

impl TrackingProblemBody {
    pub(super) fn new(problem: ProblemBody, code: &'static str, message: String) -> Self {
        Self { problem, code, message }
    }
}
