//! segmentd's own JSON form of an event: the Segment spec's fields in snake case.

use serde_json::{Map, Value};

use crate::domain::event::{Event, EventKind, Properties};
use crate::domain::fault::{Fault, Faults};
use crate::domain::id::MessageId;
use crate::domain::time::Timestamp;

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

/// No event is older: an earlier date is a unit mistaken (seconds for milliseconds).
const EARLIEST: Timestamp = Timestamp::from_millis(365 * 86_400_000);

/// What an event may be at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Further ahead of the receiver's clock is refused.
    pub max_future_millis: i64,
    /// Objects inside objects.
    pub max_property_depth: usize,
    /// As JSON, in the form it came in.
    pub max_event_bytes: usize,
}

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
    let Value::Object(object) = value else {
        return Err(Faults::one("event", "must be a JSON object"));
    };
    let mut faults = Faults::default();
    for field in object.keys() {
        if FIELDS.binary_search(&field.as_str()).is_err() {
            let known = FIELDS.join(", ");
            faults.push(Fault::new(field, format!("unknown field; known are {known}")));
        }
    }
    let kind = kind(object, &mut faults);
    let name = text(object, "name", &mut faults).unwrap_or_default();
    if kind == Some(EventKind::Track) && name.is_empty() {
        faults.push(Fault::new(
            "name",
            "is required for `track`: what happened, such as `Order Completed`",
        ));
    }
    // Postgres keeps every other character.
    if name.contains('\0') {
        faults.push(Fault::new("name", "must not hold the character NUL"));
    }
    let customer = match text(object, "customer_id", &mut faults) {
        None => {
            if !object.contains_key("customer_id") {
                faults.push(Fault::new("customer_id", "is required"));
            }
            None
        }
        Some(id) => id.parse().map_err(|why| fault(&mut faults, "customer_id", &why)).ok(),
    };
    let message_id = match text(object, "message_id", &mut faults) {
        None => new_id().or_else(|| {
            fault(&mut faults, "message_id", &"could not be made up: send one");
            None
        }),
        Some(id) => id.parse().map_err(|why| fault(&mut faults, "message_id", &why)).ok(),
    };
    let timestamp = happened(object, received_at, limits, &mut faults);
    let field = if kind == Some(EventKind::Identify) { "traits" } else { "properties" };
    let properties = properties(object, field, limits, &mut faults);
    match (kind, customer, message_id) {
        (Some(kind), Some(customer), Some(message_id)) if faults.is_empty() => {
            Ok(Event { message_id, customer, kind, name: name.into(), timestamp, properties })
        }
        _ => Err(faults),
    }
}

fn kind(object: &Map<String, Value>, faults: &mut Faults) -> Option<EventKind> {
    let kind = object.get("type").and_then(Value::as_str).and_then(EventKind::parse);
    if kind.is_none() {
        let known = EventKind::ALL.map(EventKind::as_str).join(", ");
        faults.push(Fault::new("type", format!("must be one of {known}")));
    }
    kind
}

fn text<'v>(object: &'v Map<String, Value>, field: &str, faults: &mut Faults) -> Option<&'v str> {
    match object.get(field) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => {
            faults.push(Fault::new(field, "must be a string"));
            None
        }
    }
}

fn happened(
    object: &Map<String, Value>,
    received_at: Timestamp,
    limits: Limits,
    faults: &mut Faults,
) -> Timestamp {
    let mut instant = |field: &str| {
        let parsed = text(object, field, faults).map(Timestamp::parse);
        if parsed == Some(None) {
            faults.push(Fault::new(
                field,
                "must be an RFC 3339 instant such as 2017-01-01T11:53:26Z",
            ));
        }
        parsed.flatten()
    };
    let original = instant("timestamp");
    let sent_at = instant("sent_at");
    let happened = match (original, sent_at) {
        (Some(original), Some(sent_at)) => {
            received_at.plus_millis(original.millis().saturating_sub(sent_at.millis()))
        }
        (Some(original), None) => original,
        (None, _) => received_at,
    };
    if happened > received_at.plus_millis(limits.max_future_millis) {
        let allowed = limits.max_future_millis / 1000;
        let problem = format!("lies in the future; at most {allowed} s after now is let in");
        faults.push(Fault::new("timestamp", problem));
    }
    if happened < EARLIEST {
        faults.push(Fault::new("timestamp", "lies before 1971: is the unit right?"));
    }
    happened
}

fn properties(
    object: &Map<String, Value>,
    field: &'static str,
    limits: Limits,
    faults: &mut Faults,
) -> Properties {
    match object.get(field) {
        None | Some(Value::Null) => Properties::default(),
        Some(Value::Object(map)) => match Properties::from_json(map, limits.max_property_depth) {
            Ok(properties) => properties,
            Err(path) => {
                let most = limits.max_property_depth;
                faults.push(Fault::new(
                    format!("{field}.{path}"),
                    format!("is nested too deeply: at most {most} objects"),
                ));
                Properties::default()
            }
        },
        Some(_) => {
            faults.push(Fault::new(field, "must be an object"));
            Properties::default()
        }
    }
}

fn fault(faults: &mut Faults, field: &str, why: &impl ToString) {
    faults.push(Fault::new(field, why.to_string()));
}
