//! segmentd's own JSON form of an event: the Segment spec's fields in snake case.
//!
//! A customer not known yet is named by `anonymous_id` alone. An event of any
//! type with both ids says that they are one customer.

use serde_json::Value;

use crate::domain::event::{Event, EventKind};
use crate::domain::fault::Faults;
use crate::domain::id::{CustomerKey, MessageId};
use crate::domain::identity::Link;
use crate::domain::time::Timestamp;
use crate::domain::wire::fields::Fields;
use crate::domain::wire::{Limits, Message, Who};

const FIELDS: [&str; 10] = [
    "anonymous_id",
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
) -> Result<Message, Faults> {
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
    let who = who(&mut fields);
    let message_id = fields.text("message_id");
    let message_id = fields.message_id("message_id", message_id, new_id);
    let (original, sent_at) = (fields.instant("timestamp"), fields.instant("sent_at"));
    let timestamp = fields.happened(original, sent_at, received_at, limits);
    let described = if kind == Some(EventKind::Identify) { "traits" } else { "properties" };
    let properties = fields.properties(described, limits);
    match (kind, who, message_id) {
        (Some(kind), Some(Who { customer, is_anonymous, link }), Some(message_id))
            if fields.faults.is_empty() =>
        {
            let name = name.into();
            let event = Event { message_id, customer, kind, name, timestamp, properties };
            Ok(Message { event, is_anonymous, link, raw: None })
        }
        _ => Err(fields.faults),
    }
}

/// Whose event it is, and who else they are.
fn who(fields: &mut Fields<'_>) -> Option<Who> {
    let mut id = |field: &str| {
        let text = fields.text(field)?;
        fields.id::<CustomerKey>(field, text)
    };
    match (id("customer_id"), id("anonymous_id")) {
        (Some(to), Some(from)) if from != to => {
            Some(Who::known(to.clone(), Some(Link { from, to })))
        }
        (Some(customer), _) => Some(Who::known(customer, None)),
        (None, Some(customer)) => Some(Who::anonymous(customer)),
        (None, None) => {
            let is_absent = |field| fields.get(field).is_none_or(Value::is_null);
            if is_absent("customer_id") && is_absent("anonymous_id") {
                fields.fault("customer_id", "is required, or else `anonymous_id`");
            }
            None
        }
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
