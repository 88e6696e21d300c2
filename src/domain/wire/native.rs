//! segmentd's own JSON form of an event: the Segment spec's fields in snake case.

use serde_json::Value;

use crate::domain::event::{Event, EventKind};
use crate::domain::fault::Faults;
use crate::domain::id::MessageId;
use crate::domain::time::Timestamp;
use crate::domain::wire::Limits;
use crate::domain::wire::fields::Fields;

const FIELDS: [&str; 9] = [
    "context",
    "customer_id",
    "message_id",
    "name",
    "properties",
    "sent_at",
    "timestamp",
    "traits",
    "type",
];

const KINDS: [EventKind; 4] =
    [EventKind::Identify, EventKind::Track, EventKind::Page, EventKind::Screen];

/// Checks one event to the end: every fault is reported.
///
/// The sender's clock is corrected as in the Segment spec: where `sent_at` is
/// given, `timestamp = received_at - (sent_at - timestamp)`. Without a
/// `timestamp` the event happened when it was received. `new_id` names events
/// that came without a `message_id` (they cannot be recognised when sent again).
pub fn parse(
    value: &Value,
    received_at: Timestamp,
    limits: Limits,
    new_id: impl FnOnce() -> Option<MessageId>,
) -> Result<Event, Faults> {
    let mut fields = Fields::of(value)?;
    for field in fields.names() {
        if FIELDS.binary_search(&field).is_err() {
            let known = FIELDS.join(", ");
            fields.fault(field, format!("unknown field; known are {known}"));
        }
    }
    let kind = kind(&mut fields);
    let name = fields.text("name").unwrap_or_default();
    if kind == Some(EventKind::Track) && name.is_empty() {
        fields.fault("name", "is required for `track`: what happened, such as `Order Completed`");
    }
    let customer = match fields.text("customer_id") {
        None => {
            if fields.get("customer_id").is_none_or(Value::is_null) {
                fields.fault("customer_id", "is required");
            }
            None
        }
        Some(id) => fields.id("customer_id", id),
    };
    let message_id = fields.text("message_id");
    let message_id = fields.message_id("message_id", message_id, new_id);
    let (original, sent_at) = (fields.instant("timestamp"), fields.instant("sent_at"));
    let timestamp = fields.happened(original, sent_at, received_at, limits);
    let described = if kind == Some(EventKind::Identify) { "traits" } else { "properties" };
    let properties = fields.properties(described, limits);
    match (kind, customer, message_id) {
        (Some(kind), Some(customer), Some(message_id)) if fields.faults.is_empty() => {
            Ok(Event { message_id, customer, kind, name: name.into(), timestamp, properties })
        }
        _ => Err(fields.faults),
    }
}

fn kind(fields: &mut Fields<'_>) -> Option<EventKind> {
    let kind = fields.get("type").and_then(Value::as_str).and_then(EventKind::parse);
    let kind = kind.filter(|kind| KINDS.contains(kind));
    if kind.is_none() {
        let known = KINDS.map(EventKind::as_str).join(", ");
        fields.fault("type", format!("must be one of {known}"));
    }
    kind
}
