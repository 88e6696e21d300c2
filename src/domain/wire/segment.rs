//! Segment's tracking format: camel case, one message or a batch, with the extra fields of its
//! libraries.
//!
//! In contrast to the native format, unknown fields are ignored: the libraries send many
//! (`_metadata`, `channel`, `integrations`, …), and new releases send more. `context` is
//! accepted and dropped, in the batch as in the message.

use std::borrow::Cow;

use crate::domain::event::{
    CustomerEvent, EventContent, EventKind, GROUP_ID, PREVIOUS_ID, Properties, PropertyValue,
};
use crate::domain::fault::ValidationFaults;
use crate::domain::id::MessageId;
use crate::domain::identity::IdentityLink;
use crate::domain::json::scan::{skip_blanks, string_end, value_end};
use crate::domain::json::{JsonSyntaxError, RawJson};
use crate::domain::time::Timestamp;
use crate::domain::wire::elements::{self, ArrayPosition, ElementsError, JsonElement};
use crate::domain::wire::fields::{EventFields, SentIds};
use crate::domain::wire::original::{OriginalMessage, to_stored_form};
use crate::domain::wire::{EventLimits, MessageIdentity, ParsedMessage, syntax_fault};

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
    sent_at: Option<RawJson<'b>>,
    messages: Vec<JsonElement<'b>>,
}

impl<'b> SegmentRequestBody<'b> {
    /// Splits a body into messages; a batch may have at most `max_messages`. An error means
    /// that no message has a result of its own.
    pub fn parse(
        bytes: &'b [u8],
        form: RequestForm,
        max_messages: usize,
    ) -> Result<Self, ElementsError> {
        match form {
            RequestForm::One(kind) => {
                let message = RawJson::parse(bytes)?;
                let mut body =
                    Self { write_key: None, kind: Some(kind), sent_at: None, messages: Vec::new() };
                for member in message.members().ok_or(NO_OBJECT)? {
                    if member.name == "writeKey" {
                        body.write_key = member.value.text();
                    }
                }
                body.messages.push(JsonElement::Valid(message));
                Ok(body)
            }
            RequestForm::Batch => Self::parse_batch(bytes, max_messages),
        }
    }

    /// Reads the members of a batch. Its array of messages is split leniently, so that a message
    /// that is not valid JSON costs no other; the other members must be valid.
    fn parse_batch(bytes: &'b [u8], max_messages: usize) -> Result<Self, ElementsError> {
        let mut body = Self { write_key: None, kind: None, sent_at: None, messages: Vec::new() };
        let mut has_batch = false;
        let mut at = skip_blanks(bytes, 0);
        if bytes.get(at) != Some(&b'{') {
            return Err(NO_OBJECT.into());
        }
        at = skip_blanks(bytes, at + 1);
        while bytes.get(at) != Some(&b'}') || has_batch {
            let (name, start) = member_name(bytes, at)?;
            let end = if name == b"\"batch\"" {
                if bytes.get(start) != Some(&b'[') {
                    return Err(syntax(start, "`batch` must be an array of messages"));
                }
                let position = ArrayPosition::ObjectMember;
                let split = elements::split_array(bytes, start, position, max_messages)?;
                body.messages = split.elements;
                has_batch = true;
                split.end
            } else {
                let end = value_end(bytes, start)?;
                let value = RawJson::of_validated(&bytes[start..end])?;
                match name {
                    b"\"writeKey\"" => body.write_key = value.text(),
                    b"\"sentAt\"" => body.sent_at = Some(bounded_clock(value)),
                    _ => {}
                }
                end
            };
            at = skip_blanks(bytes, end);
            match bytes.get(at) {
                Some(b',') => at = skip_blanks(bytes, at + 1),
                Some(b'}') => break,
                Some(_) => return Err(syntax(at, "`,` or `}` is expected")),
                None => return Err(JsonSyntaxError::early_end(bytes).into()),
            }
        }
        let rest = skip_blanks(bytes, at + 1);
        if rest < bytes.len() {
            return Err(syntax(rest, "the text continues after its JSON is complete"));
        }
        if !has_batch {
            return Err(syntax(at, "the array `batch` is missing"));
        }
        Ok(body)
    }

    /// Parses and checks every message; one result per message, in order. `new_id` generates
    /// the ids of messages without a `messageId`.
    pub fn read(
        &self,
        received_at: Timestamp,
        limits: &EventLimits,
        mut new_id: impl FnMut() -> Option<MessageId>,
    ) -> impl ExactSizeIterator<Item = Result<ParsedMessage, ValidationFaults>> {
        self.messages
            .iter()
            .map(move |element| self.message(element, received_at, limits, &mut new_id))
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
        self.messages[index].bytes().len()
    }

    /// The first `bytes` of a message that is too large to be parsed. It ends before the API
    /// key, if that comes first.
    pub(crate) fn message_head(&self, index: usize, bytes: usize) -> &[u8] {
        const KEY: &[u8] = b"\"writeKey\"";
        let raw = self.messages[index].bytes();
        let head = &raw[..raw.len().min(bytes)];
        let key = memchr::memmem::find(head, KEY).unwrap_or(head.len());
        &head[..key]
    }

    /// A message in the form in which it is stored and can be parsed alone: with the type and
    /// clock of the request, and without the API key. A message that is not valid JSON still
    /// contains its key; [`redact`](super::redact) removes it before storage.
    pub fn to_stored_message(&self, index: usize) -> Vec<u8> {
        let element = &self.messages[index];
        match element {
            JsonElement::Valid(message) => to_stored_form(*message, self.kind, self.sent_at),
            JsonElement::Broken { .. } => element.bytes().into(),
        }
    }

    /// An accepted message with what is needed to store it later.
    pub(crate) fn original_message(&self, index: usize) -> OriginalMessage {
        let text = String::from_utf8_lossy(self.messages[index].bytes()).into();
        let sent_at = self.sent_at.map(|sent_at| sent_at.as_str().into());
        OriginalMessage::Segment { text, kind: self.kind, sent_at }
    }

    fn message(
        &self,
        element: &JsonElement<'b>,
        received_at: Timestamp,
        limits: &EventLimits,
        new_id: impl FnOnce() -> Option<MessageId>,
    ) -> Result<ParsedMessage, ValidationFaults> {
        let most = limits.max_event_bytes;
        if element.bytes().len() > most {
            let problem = format!("is larger than {most} bytes (ingestion.max_event_bytes)");
            return Err(ValidationFaults::single("event", problem));
        }
        let message = match element {
            JsonElement::Valid(message) => *message,
            JsonElement::Broken { error, .. } => return Err(syntax_fault(*error)),
        };
        let mut fields = EventFields::open(message)?;
        let kind = self.kind.or_else(|| kind(&mut fields));
        let message_id = fields.message_id("messageId", new_id);
        let (timestamp, sent_timestamp) = happened(&mut fields, self.sent_at, received_at, limits);
        let identity = identity(&mut fields, kind, limits);
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
                let label = outside_member(kind).and_then(|(field, _)| fields.id_text(field));
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
}

const NO_OBJECT: JsonSyntaxError =
    JsonSyntaxError { at: 0, problem: "the body must be a JSON object: `{` is expected" };

fn syntax(at: usize, problem: &'static str) -> ElementsError {
    JsonSyntaxError { at, problem }.into()
}

/// The quoted name of the member at `at`, and the offset of its value.
fn member_name(bytes: &[u8], at: usize) -> Result<(&[u8], usize), ElementsError> {
    match bytes.get(at) {
        Some(b'"') => {}
        Some(_) => return Err(syntax(at, "the name of a member, in double quotes, is expected")),
        None => return Err(JsonSyntaxError::early_end(bytes).into()),
    }
    let end = string_end(bytes, at)?;
    let colon = skip_blanks(bytes, end);
    match bytes.get(colon) {
        Some(b':') => Ok((&bytes[at..end], skip_blanks(bytes, colon + 1))),
        Some(_) => Err(syntax(colon, "`:` is expected")),
        None => Err(JsonSyntaxError::early_end(bytes).into()),
    }
}

/// Parses and checks a message that was stored by [`SegmentRequestBody::to_stored_message`].
pub fn parse_stored_message(
    raw: &str,
    received_at: Timestamp,
    limits: &EventLimits,
    new_id: impl FnOnce() -> Option<MessageId>,
) -> Result<ParsedMessage, ValidationFaults> {
    let alone =
        SegmentRequestBody { write_key: None, kind: None, sent_at: None, messages: Vec::new() };
    alone.message(&JsonElement::parse(raw.as_bytes()), received_at, limits, new_id)
}

/// The clock of a batch, which is copied into each rejected message. An oversized value is
/// replaced with a small one that is equally invalid.
fn bounded_clock(sent_at: RawJson<'_>) -> RawJson<'_> {
    if sent_at.as_str().len() <= MAX_CLOCK_BYTES { sent_at } else { RawJson::FALSE }
}

/// Larger than the text of any instant.
const MAX_CLOCK_BYTES: usize = 64;

fn kind(fields: &mut EventFields<'_>) -> Option<EventKind> {
    let kind = fields.get("type").and_then(RawJson::text);
    let kind = kind.and_then(|kind| EventKind::parse(&kind));
    if kind.is_none() {
        let known = EventKind::ALL.map(EventKind::as_str).join(", ");
        fields.fault("type", format!("must be one of {known}"));
    }
    kind
}

/// The instant of the event, and its timestamp as the client sent it. A message with both
/// `timestamp` and `originalTimestamp` was forwarded by another system, which has already
/// corrected its clock.
fn happened<'v>(
    fields: &mut EventFields<'v>,
    batch_sent_at: Option<RawJson<'v>>,
    received_at: Timestamp,
    limits: &EventLimits,
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
fn identity(
    fields: &mut EventFields<'_>,
    kind: Option<EventKind>,
    limits: &EventLimits,
) -> Option<MessageIdentity> {
    if kind == Some(EventKind::Alias) {
        let (customer, previous) = fields.alias_ids("userId", "previousId", limits)?;
        return Some(MessageIdentity::of_alias(customer, previous));
    }
    let SentIds { known, anonymous } = fields.ids("userId", "anonymousId", limits)?;
    match (known, anonymous) {
        (Some(user), anonymous) => {
            let is_identify = kind == Some(EventKind::Identify);
            let link = IdentityLink::between(anonymous.filter(|_| is_identify), &user);
            Some(MessageIdentity::known(user, link))
        }
        (None, Some(customer)) => Some(MessageIdentity::anonymous(customer)),
        (None, None) => None,
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

fn properties(fields: &mut EventFields<'_>, kind: EventKind, limits: &EventLimits) -> Properties {
    let described = described_field(kind);
    let mut properties =
        described.map(|field| fields.properties(field, limits)).unwrap_or_default();
    let Some((field, called)) = outside_member(kind) else { return properties };
    let faults = fields.faults.0.len();
    match fields.id_text(field) {
        Some(value) => properties.set(called, PropertyValue::Text(value.into())),
        None if kind == EventKind::Group && fields.faults.0.len() == faults => {
            fields.fault("groupId", "is required for `group`: the group's id");
        }
        None => {}
    }
    properties
}
