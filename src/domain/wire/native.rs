//! Native JSON format of an event: the fields of the Segment spec in snake case.
//!
//! An event of an unknown visitor has only an `anonymous_id`. An event of any type with both
//! ids declares that they are one customer. An `alias` declares it of two customers: the one of
//! `previous_id` is merged into that of `customer_id`.

use crate::domain::event::{CustomerEvent, EventContent, EventKind, PREVIOUS_ID, PropertyValue};
use crate::domain::fault::ValidationFaults;
use crate::domain::id::MessageId;
use crate::domain::identity::IdentityLink;
use crate::domain::json::RawJson;
use crate::domain::time::Timestamp;
use crate::domain::wire::fields::{EventFields, SentIds};
use crate::domain::wire::{EventLimits, MessageIdentity, ParsedMessage};

pub(crate) const FIELDS: [&str; 11] = [
    "anonymous_id",
    "context",
    "customer_id",
    "message_id",
    "name",
    "previous_id",
    "properties",
    "sent_at",
    "timestamp",
    "traits",
    "type",
];

const KINDS: [EventKind; 5] =
    [EventKind::Identify, EventKind::Track, EventKind::Page, EventKind::Screen, EventKind::Alias];

/// Parses and checks one event; every fault is reported.
///
/// The sender's clock is corrected as in the Segment spec: with `sent_at`, `timestamp =
/// received_at - (sent_at - timestamp)`. Without a `timestamp`, the event happened when it was
/// received. `new_id` generates the id of events without a `message_id`; a repetition of these
/// cannot be recognised.
pub fn parse_event(
    event: RawJson<'_>,
    received_at: Timestamp,
    limits: &EventLimits,
    new_id: impl FnOnce() -> Option<MessageId>,
) -> Result<ParsedMessage, ValidationFaults> {
    let mut fields = EventFields::open(event)?;
    unknown_fields(&mut fields);
    let kind = kind(&mut fields);
    let name = fields.text("name").unwrap_or_default();
    if kind == Some(EventKind::Track) && name.is_empty() {
        fields
            .fault("name", "is required for `track`: the event's name, such as `Order Completed`");
    }
    let identity = identity(&mut fields, kind, limits);
    let message_id = fields.message_id("message_id", new_id);
    let (original, sent_at) = (fields.instant("timestamp"), fields.instant("sent_at"));
    let timestamp = fields.happened(original, sent_at, received_at, limits);
    let described = if kind == Some(EventKind::Identify) { "traits" } else { "properties" };
    let mut properties = fields.properties(described, limits);
    match (kind, identity, message_id) {
        (Some(kind), Some(MessageIdentity { customer, is_anonymous, link }), Some(message_id))
            if fields.faults.is_empty() =>
        {
            if let (EventKind::Alias, Some(link)) = (kind, &link) {
                properties.set(PREVIOUS_ID, PropertyValue::Text(link.from.as_str().into()));
            }
            let content = EventContent {
                kind,
                name: &name,
                customer: &customer,
                linked: link.as_ref().map(|link| &link.from),
                label: None,
                timestamp: original,
                properties: fields.get(described),
            };
            let content = content.hash();
            let name = name.into();
            let event = CustomerEvent { message_id, customer, kind, name, timestamp, properties };
            Ok(ParsedMessage {
                event,
                content,
                is_anonymous,
                link,
                warnings: fields.warnings,
                unused: None,
                exposure: None,
                original: None,
            })
        }
        _ => Err(fields.faults),
    }
}

/// Names the first unknown fields and counts the rest, so that a response cannot be many times
/// larger than its request.
fn unknown_fields(fields: &mut EventFields<'_>) {
    let mut unknown = fields.names().filter(|field| FIELDS.binary_search(field).is_err());
    let named: Vec<String> =
        unknown.by_ref().take(MAX_UNKNOWN_NAMED).map(ToOwned::to_owned).collect();
    let others = unknown.count();
    for field in named {
        let known = FIELDS.join(", ");
        fields.fault(&field, format!("unknown field; known are {known}"));
    }
    if others > 0 {
        fields.fault("event", format!("has unknown fields beside these; {others} more"));
    }
}

/// Maximum number of unknown fields of one event that are named.
const MAX_UNKNOWN_NAMED: usize = 3;

/// The customer of the event, and the link that it declares.
fn identity(
    fields: &mut EventFields<'_>,
    kind: Option<EventKind>,
    limits: &EventLimits,
) -> Option<MessageIdentity> {
    if kind == Some(EventKind::Alias) {
        let (customer, previous) = fields.alias_ids("customer_id", "previous_id", limits)?;
        return Some(MessageIdentity::of_alias(customer, previous));
    }
    if kind.is_some() && fields.get("previous_id").is_some_and(|value| !value.is_null()) {
        fields.fault("previous_id", "is a field of `alias` events only");
    }
    let SentIds { known, anonymous } = fields.ids("customer_id", "anonymous_id", limits)?;
    match (known, anonymous) {
        (Some(customer), anonymous) => {
            let link = IdentityLink::between(anonymous, &customer);
            Some(MessageIdentity::known(customer, link))
        }
        (None, Some(customer)) => Some(MessageIdentity::anonymous(customer)),
        (None, None) => None,
    }
}

fn kind(fields: &mut EventFields<'_>) -> Option<EventKind> {
    let kind = fields.get("type").and_then(RawJson::text);
    let kind = kind.and_then(|kind| EventKind::parse(&kind)).filter(|kind| KINDS.contains(kind));
    if kind.is_none() {
        let known = KINDS.map(EventKind::as_str).join(", ");
        fields.fault("type", format!("must be one of {known}"));
    }
    kind
}
