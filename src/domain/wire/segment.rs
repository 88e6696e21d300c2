//! Segment's tracking format: camel case, one message or a batch, with the extra fields of its
//! libraries.
//!
//! In contrast to the native format, unknown fields are ignored: the libraries send many
//! (`_metadata`, `channel`, `integrations`, …), and new releases send more. `context` is
//! accepted and dropped, in the batch as in the message. An id may be a number, as the Python
//! library and hand-written clients send it. A blank id counts as absent, because the mobile
//! libraries send it before a login.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::domain::event::{
    CustomerEvent, EventContent, EventKind, GROUP_ID, PREVIOUS_ID, Properties, PropertyValue,
};
use crate::domain::fault::ValidationFaults;
use crate::domain::id::{CustomerKey, MessageId};
use crate::domain::identity::IdentityLink;
use crate::domain::time::Timestamp;
use crate::domain::wire::bounded::{self, BoundedArrayError};
use crate::domain::wire::fields::EventFields;
use crate::domain::wire::original::OriginalMessage;
use crate::domain::wire::{EventLimits, MessageIdentity, ParsedMessage};

/// The format of a body, given by the request's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestForm {
    /// One message of this type; its field `type` is ignored.
    One(EventKind),
    /// `{"batch": […]}`, where each message has a `type`.
    Batch,
}

/// A request body, split into messages that are not parsed yet.
#[derive(Debug)]
pub struct SegmentRequestBody<'b> {
    /// The API key, for libraries that send it only in the body.
    pub write_key: Option<Cow<'b, str>>,
    kind: Option<EventKind>,
    /// The sender's clock, for messages without their own `sentAt`.
    sent_at: Option<Value>,
    messages: Vec<&'b RawValue>,
}

impl<'b> SegmentRequestBody<'b> {
    /// Splits a body into messages; a batch may have at most `max_messages`. An error means
    /// that no message has a result of its own.
    pub fn parse(
        bytes: &'b [u8],
        form: RequestForm,
        max_messages: usize,
    ) -> Result<Self, BoundedArrayError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct SingleBody<'b> {
            #[serde(borrow)]
            write_key: Option<Cow<'b, str>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct BatchBody<'b> {
            #[serde(borrow)]
            write_key: Option<Cow<'b, str>>,
            #[serde(borrow)]
            sent_at: Option<&'b RawValue>,
            #[serde(borrow)]
            batch: &'b RawValue,
        }
        // Serde would accept an array as the fields of a struct in order.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(serde_json::Error::custom("the body must be a JSON object").into());
        }
        match form {
            RequestForm::One(kind) => {
                let SingleBody { write_key } = serde_json::from_slice(bytes)?;
                let messages = vec![serde_json::from_slice(bytes)?];
                Ok(Self { write_key, kind: Some(kind), sent_at: None, messages })
            }
            RequestForm::Batch => {
                let BatchBody { write_key, sent_at, batch } = serde_json::from_slice(bytes)?;
                let messages = bounded::parse_elements(batch.get().as_bytes(), max_messages)?;
                Ok(Self { write_key, kind: None, sent_at: sent_at.map(clock), messages })
            }
        }
    }

    /// Parses and checks every message; one result per message, in order. `new_id` generates
    /// the ids of messages without a `messageId`.
    pub fn read(
        &self,
        received_at: Timestamp,
        limits: EventLimits,
        mut new_id: impl FnMut() -> Option<MessageId>,
    ) -> impl ExactSizeIterator<Item = Result<ParsedMessage, ValidationFaults>> {
        self.messages
            .iter()
            .map(move |raw| self.message(raw.get(), received_at, limits, &mut new_id))
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The size of a message as received.
    pub(crate) fn message_bytes(&self, index: usize) -> usize {
        self.messages[index].get().len()
    }

    /// The first `bytes` of a message that is too large to be parsed. It ends before the API
    /// key, if that comes first.
    pub(crate) fn message_head(&self, index: usize, bytes: usize) -> &[u8] {
        let raw = self.messages[index].get();
        let head = &raw[..raw.floor_char_boundary(bytes)];
        head.split_once("\"writeKey\"").map_or(head, |(before, _)| before).as_bytes()
    }

    /// A message in the form in which it is stored and can be parsed alone: with the type and
    /// clock of the request, and without the API key. A message that is not valid JSON still
    /// contains its key; [`redact`](super::redact) removes it before storage.
    pub fn to_stored_message(&self, index: usize) -> Vec<u8> {
        to_stored_form(self.messages[index].get(), self.kind, self.sent_at.as_ref())
    }

    /// A message with what is needed to store it later.
    pub(crate) fn original_message(&self, index: usize) -> OriginalMessage {
        let text = self.messages[index].get().into();
        OriginalMessage::Segment { text, kind: self.kind, sent_at: self.sent_at.clone() }
    }

    fn message(
        &self,
        raw: &str,
        received_at: Timestamp,
        limits: EventLimits,
        new_id: impl FnOnce() -> Option<MessageId>,
    ) -> Result<ParsedMessage, ValidationFaults> {
        let most = limits.max_event_bytes;
        if raw.len() > most {
            let problem = format!("is larger than {most} bytes (ingestion.max_event_bytes)");
            return Err(ValidationFaults::single("event", problem));
        }
        let value: Value = serde_json::from_str(raw).map_err(|error| {
            ValidationFaults::single("event", format!("cannot be read: {error}"))
        })?;
        let mut fields = EventFields::open(&value)?;
        let kind = self.kind.or_else(|| kind(&mut fields));
        let message_id = text(&mut fields, "messageId");
        let message_id = fields.message_id("messageId", message_id.as_deref(), new_id);
        let (timestamp, sent_timestamp) =
            happened(&mut fields, self.sent_at.as_ref(), received_at, limits);
        let identity = identity(&mut fields, kind);
        let name = kind.map(|kind| name(&mut fields, kind)).unwrap_or_default();
        let mut properties =
            kind.map(|kind| properties(&mut fields, kind, limits)).unwrap_or_default();
        match (kind, identity, message_id) {
            (
                Some(kind),
                Some(MessageIdentity { customer, is_anonymous, link }),
                Some(message_id),
            ) if fields.faults.is_empty() => {
                if let (EventKind::Alias, Some(link)) = (kind, &link) {
                    properties.set(PREVIOUS_ID, PropertyValue::Text(link.from.as_str().into()));
                }
                let label = outside_member(kind).and_then(|(field, _)| text(&mut fields, field));
                let content = EventContent {
                    kind,
                    name: &name,
                    customer: &customer,
                    linked: link.as_ref().map(|link| &link.from),
                    label: label.as_deref(),
                    timestamp: sent_timestamp,
                    properties: described_field(kind).and_then(|field| fields.get(field)),
                };
                let content = content.hash();
                let event =
                    CustomerEvent { message_id, customer, kind, name, timestamp, properties };
                Ok(ParsedMessage { event, content, is_anonymous, link, original: None })
            }
            _ => Err(fields.faults),
        }
    }
}

/// The stored form of one message, with the type and the clock of its request.
pub(super) fn to_stored_form(
    raw: &str,
    kind: Option<EventKind>,
    sent_at: Option<&Value>,
) -> Vec<u8> {
    let Ok(mut object) = serde_json::from_str::<Map<String, Value>>(raw) else {
        return raw.into();
    };
    object.remove("writeKey");
    object.remove("write_key");
    if let Some(kind) = kind {
        object.insert("type".into(), kind.as_str().into());
    }
    if let (Some(sent_at), false) = (sent_at, object.contains_key("sentAt")) {
        object.insert("sentAt".into(), sent_at.clone());
    }
    Value::from(object).to_string().into_bytes()
}

/// Parses and checks a message that was stored by [`SegmentRequestBody::to_stored_message`].
pub fn parse_stored_message(
    raw: &str,
    received_at: Timestamp,
    limits: EventLimits,
    new_id: impl FnOnce() -> Option<MessageId>,
) -> Result<ParsedMessage, ValidationFaults> {
    let alone =
        SegmentRequestBody { write_key: None, kind: None, sent_at: None, messages: Vec::new() };
    alone.message(raw, received_at, limits, new_id)
}

/// Parses the clock of a batch, which is copied into each rejected message. An oversized value
/// is replaced with a small one that is equally invalid.
fn clock(sent_at: &RawValue) -> Value {
    let raw = sent_at.get();
    match raw.as_bytes().first() {
        _ if raw.len() <= MAX_CLOCK_BYTES => serde_json::from_str(raw).unwrap_or(Value::Null),
        Some(b'"') => raw[1..raw.floor_char_boundary(MAX_CLOCK_BYTES)].into(),
        _ => Value::Bool(false),
    }
}

/// Larger than the text of any instant.
const MAX_CLOCK_BYTES: usize = 64;

fn kind(fields: &mut EventFields<'_>) -> Option<EventKind> {
    let kind = fields.get("type").and_then(Value::as_str).and_then(EventKind::parse);
    if kind.is_none() {
        let known = EventKind::ALL.map(EventKind::as_str).join(", ");
        fields.fault("type", format!("must be one of {known}"));
    }
    kind
}

/// A text, or a number as text; a blank text is `None`.
fn text<'v>(fields: &mut EventFields<'v>, field: &str) -> Option<Cow<'v, str>> {
    if let Some(Value::Number(number)) = fields.get(field) {
        return Some(number.to_string().into());
    }
    fields.text(field).filter(|text| !text.trim().is_empty()).map(Into::into)
}

/// The instant of the event, and its timestamp as the client sent it. A message with both
/// `timestamp` and `originalTimestamp` was forwarded by another system, which has already
/// corrected its clock.
fn happened(
    fields: &mut EventFields<'_>,
    batch_sent_at: Option<&Value>,
    received_at: Timestamp,
    limits: EventLimits,
) -> (Timestamp, Option<Timestamp>) {
    let (timestamp, original) = (fields.instant("timestamp"), fields.instant("originalTimestamp"));
    let sent_at = if fields.get("sentAt").is_some_and(|value| !value.is_null()) {
        fields.instant("sentAt")
    } else {
        batch_sent_at.and_then(|value| fields.instant_of("sentAt", value))
    };
    let happened = match (timestamp, original) {
        (Some(_), Some(_)) => fields.happened(timestamp, None, received_at, limits),
        _ => fields.happened(timestamp.or(original), sent_at, received_at, limits),
    };
    (happened, original.or(timestamp))
}

/// The customer of the message, and the link that it declares.
fn identity(fields: &mut EventFields<'_>, kind: Option<EventKind>) -> Option<MessageIdentity> {
    let user = customer(fields, "userId");
    let anonymous = customer(fields, "anonymousId");
    let previous = customer(fields, "previousId");
    match (kind, user, anonymous) {
        (Some(EventKind::Alias), Some(user), _) => {
            if previous.is_none() {
                missing(fields, "previousId", "is required for `alias`: the previous id");
            }
            let link = link_between(previous, &user);
            Some(MessageIdentity::known(user, link))
        }
        (Some(EventKind::Alias), None, _) => {
            missing(fields, "userId", "is required for `alias`: the new id");
            None
        }
        (Some(EventKind::Identify), Some(user), anonymous) => {
            let link = link_between(anonymous, &user);
            Some(MessageIdentity::known(user, link))
        }
        (_, Some(customer), _) => Some(MessageIdentity::known(customer, None)),
        (_, None, Some(customer)) => Some(MessageIdentity::anonymous(customer)),
        (_, None, None) => {
            missing(fields, "userId", "is required, or else `anonymousId`");
            None
        }
    }
}

fn customer(fields: &mut EventFields<'_>, field: &str) -> Option<CustomerKey> {
    let text = text(fields, field)?;
    fields.id(field, &text)
}

/// The link between two different ids.
fn link_between(from: Option<CustomerKey>, to: &CustomerKey) -> Option<IdentityLink> {
    from.filter(|from| from != to).map(|from| IdentityLink { from, to: to.clone() })
}

/// Records a fault of a required field, unless it already has a fault.
fn missing(fields: &mut EventFields<'_>, field: &str, problem: &str) {
    if !fields.faults.0.iter().any(|fault| fault.path == field) {
        fields.fault(field, problem);
    }
}

fn name(fields: &mut EventFields<'_>, kind: EventKind) -> Box<str> {
    let field = match kind {
        EventKind::Track => "event",
        EventKind::Page | EventKind::Screen => "name",
        EventKind::Identify | EventKind::Group | EventKind::Alias => return Box::default(),
    };
    let name = fields.text(field).unwrap_or_default();
    if name.is_empty() && kind == EventKind::Track {
        fields
            .fault("event", "is required for `track`: the event's name, such as `Order Completed`");
    }
    name.into()
}

/// The field with the properties of a message.
fn described_field(kind: EventKind) -> Option<&'static str> {
    match kind {
        EventKind::Track | EventKind::Page | EventKind::Screen => Some("properties"),
        EventKind::Identify | EventKind::Group => Some("traits"),
        EventKind::Alias => None,
    }
}

/// The member outside of the properties, and its name as a property.
fn outside_member(kind: EventKind) -> Option<(&'static str, &'static str)> {
    match kind {
        EventKind::Track | EventKind::Identify | EventKind::Alias => None,
        EventKind::Page | EventKind::Screen => Some(("category", "category")),
        EventKind::Group => Some(("groupId", GROUP_ID)),
    }
}

fn properties(fields: &mut EventFields<'_>, kind: EventKind, limits: EventLimits) -> Properties {
    let described = described_field(kind);
    let mut properties =
        described.map(|field| fields.properties(field, limits)).unwrap_or_default();
    let Some((field, called)) = outside_member(kind) else { return properties };
    match text(fields, field) {
        Some(value) => properties.set(called, PropertyValue::Text(value.into())),
        None if kind == EventKind::Group => {
            missing(fields, "groupId", "is required for `group`: the group's id");
        }
        None => {}
    }
    properties
}
