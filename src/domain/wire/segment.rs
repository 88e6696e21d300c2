//! Segment's tracking form: camel case, one message or a batch, with whatever
//! else its libraries add.
//!
//! Unlike our own form, unknown fields are passed over: the libraries send many
//! (`_metadata`, `channel`, `integrations`, …) and new releases send more.
//! `context` is taken and dropped, in the batch as in the message. An id may be
//! a number, as the Python library and hand-written callers send them; a blank
//! one is none, as the mobile libraries send it before a login.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::domain::event::{Event, EventKind, GROUP_ID, PREVIOUS_ID, Properties, Scalar};
use crate::domain::fault::Faults;
use crate::domain::id::{CustomerKey, MessageId};
use crate::domain::identity::Link;
use crate::domain::time::Timestamp;
use crate::domain::wire::fields::Fields;
use crate::domain::wire::{Limits, Message, Who};

/// What a request's path says about its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One message of this kind, whatever its `type` says.
    One(EventKind),
    /// `{"batch": […]}`, where each message says its `type`.
    Batch,
}

/// A request's body, its messages taken apart but not yet read.
#[derive(Debug)]
pub struct Body<'b> {
    /// The key, for libraries that send it here only.
    pub write_key: Option<Cow<'b, str>>,
    kind: Option<EventKind>,
    /// The sender's clock, for messages without one of their own.
    sent_at: Option<Value>,
    messages: Vec<&'b RawValue>,
}

impl<'b> Body<'b> {
    /// Fails only where there is nothing to give verdicts on.
    pub fn parse(bytes: &'b [u8], form: Form) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct One<'b> {
            #[serde(borrow)]
            write_key: Option<Cow<'b, str>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Many<'b> {
            #[serde(borrow)]
            write_key: Option<Cow<'b, str>>,
            sent_at: Option<Value>,
            #[serde(borrow)]
            batch: Vec<&'b RawValue>,
        }
        // Serde would read an array as a struct's fields in order.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(serde_json::Error::custom("the body must be a JSON object"));
        }
        match form {
            Form::One(kind) => {
                let One { write_key } = serde_json::from_slice(bytes)?;
                let messages = vec![serde_json::from_slice(bytes)?];
                Ok(Self { write_key, kind: Some(kind), sent_at: None, messages })
            }
            Form::Batch => {
                let Many { write_key, sent_at, batch } = serde_json::from_slice(bytes)?;
                Ok(Self { write_key, kind: None, sent_at, messages: batch })
            }
        }
    }

    /// Checks every message to the end; one result for each, in order. `new_id`
    /// names those that came without a `messageId`.
    pub fn read(
        &self,
        received_at: Timestamp,
        limits: Limits,
        mut new_id: impl FnMut() -> Option<MessageId>,
    ) -> Vec<Result<Message, Faults>> {
        let read = |raw: &&RawValue| self.message(raw.get(), received_at, limits, &mut new_id);
        self.messages.iter().map(read).collect()
    }

    /// A message as it can be kept, and read again by itself: with what the
    /// request said of its kind and clock, and without the key. One that cannot be read
    /// still holds its key: [`redact`](super::redact) removes it before it is stored.
    pub fn kept(&self, index: usize) -> Vec<u8> {
        let raw = self.messages[index].get();
        let Ok(mut object) = serde_json::from_str::<Map<String, Value>>(raw) else {
            return raw.into();
        };
        object.remove("writeKey");
        object.remove("write_key");
        if let Some(kind) = self.kind {
            object.insert("type".into(), kind.as_str().into());
        }
        if let (Some(sent_at), false) = (&self.sent_at, object.contains_key("sentAt")) {
            object.insert("sentAt".into(), sent_at.clone());
        }
        Value::from(object).to_string().into_bytes()
    }

    fn message(
        &self,
        raw: &str,
        received_at: Timestamp,
        limits: Limits,
        new_id: impl FnOnce() -> Option<MessageId>,
    ) -> Result<Message, Faults> {
        let most = limits.max_event_bytes;
        if raw.len() > most {
            let problem = format!("is larger than {most} bytes (intake.max_event_bytes)");
            return Err(Faults::one("event", problem));
        }
        let value: Value = serde_json::from_str(raw)
            .map_err(|error| Faults::one("event", format!("cannot be read: {error}")))?;
        let mut fields = Fields::of(&value)?;
        let kind = self.kind.or_else(|| kind(&mut fields));
        let message_id = text(&mut fields, "messageId");
        let message_id = fields.message_id("messageId", message_id.as_deref(), new_id);
        let timestamp = happened(&mut fields, self.sent_at.as_ref(), received_at, limits);
        let who = who(&mut fields, kind);
        let name = kind.map(|kind| name(&mut fields, kind)).unwrap_or_default();
        let mut properties =
            kind.map(|kind| properties(&mut fields, kind, limits)).unwrap_or_default();
        match (kind, who, message_id) {
            (Some(kind), Some(Who { customer, is_anonymous, link }), Some(message_id))
                if fields.faults.is_empty() =>
            {
                if let (EventKind::Alias, Some(link)) = (kind, &link) {
                    properties.set(PREVIOUS_ID, Scalar::Text(link.from.as_str().into()));
                }
                let event = Event { message_id, customer, kind, name, timestamp, properties };
                Ok(Message { event, is_anonymous, link, raw: None })
            }
            _ => Err(fields.faults),
        }
    }
}

/// Checks a message that [`Body::kept`] gave out.
pub fn read_kept(
    raw: &str,
    received_at: Timestamp,
    limits: Limits,
    new_id: impl FnOnce() -> Option<MessageId>,
) -> Result<Message, Faults> {
    let alone = Body { write_key: None, kind: None, sent_at: None, messages: Vec::new() };
    alone.message(raw, received_at, limits, new_id)
}

fn kind(fields: &mut Fields<'_>) -> Option<EventKind> {
    let kind = fields.get("type").and_then(Value::as_str).and_then(EventKind::parse);
    if kind.is_none() {
        let known = EventKind::ALL.map(EventKind::as_str).join(", ");
        fields.fault("type", format!("must be one of {known}"));
    }
    kind
}

/// A text, or a number as text; blank is none.
fn text<'v>(fields: &mut Fields<'v>, field: &str) -> Option<Cow<'v, str>> {
    if let Some(Value::Number(number)) = fields.get(field) {
        return Some(number.to_string().into());
    }
    fields.text(field).filter(|text| !text.trim().is_empty()).map(Into::into)
}

/// What came through another system has been corrected there: it has a
/// `timestamp` beside its `originalTimestamp`.
fn happened(
    fields: &mut Fields<'_>,
    batch_sent_at: Option<&Value>,
    received_at: Timestamp,
    limits: Limits,
) -> Timestamp {
    let (timestamp, original) = (fields.instant("timestamp"), fields.instant("originalTimestamp"));
    let sent_at = if fields.get("sentAt").is_some_and(|value| !value.is_null()) {
        fields.instant("sentAt")
    } else {
        batch_sent_at.and_then(|value| fields.instant_of("sentAt", value))
    };
    match (timestamp, original) {
        (Some(_), Some(_)) => fields.happened(timestamp, None, received_at, limits),
        _ => fields.happened(timestamp.or(original), sent_at, received_at, limits),
    }
}

/// Whose event it is, and who else they are.
fn who(fields: &mut Fields<'_>, kind: Option<EventKind>) -> Option<Who> {
    let mut id = |field: &str| {
        let text = text(fields, field)?;
        fields.id::<CustomerKey>(field, &text)
    };
    let (user, anonymous, previous) = (id("userId"), id("anonymousId"), id("previousId"));
    let linked = |from: Option<CustomerKey>, to: &CustomerKey| {
        from.filter(|from| from != to).map(|from| Link { from, to: to.clone() })
    };
    match (kind, user, anonymous) {
        (Some(EventKind::Alias), Some(user), _) => {
            if previous.is_none() {
                missing(fields, "previousId", "is required for `alias`: the id until now");
            }
            let link = linked(previous, &user);
            Some(Who::known(user, link))
        }
        (Some(EventKind::Alias), None, _) => {
            missing(fields, "userId", "is required for `alias`: the id from now on");
            None
        }
        (Some(EventKind::Identify), Some(user), anonymous) => {
            let link = linked(anonymous, &user);
            Some(Who::known(user, link))
        }
        (_, Some(customer), _) => Some(Who::known(customer, None)),
        (_, None, Some(customer)) => Some(Who::anonymous(customer)),
        (_, None, None) => {
            missing(fields, "userId", "is required, or else `anonymousId`");
            None
        }
    }
}

/// Unless it is there, and has been found wrong.
fn missing(fields: &mut Fields<'_>, field: &str, problem: &str) {
    if !fields.faults.0.iter().any(|fault| fault.path == field) {
        fields.fault(field, problem);
    }
}

fn name(fields: &mut Fields<'_>, kind: EventKind) -> Box<str> {
    let field = match kind {
        EventKind::Track => "event",
        EventKind::Page | EventKind::Screen => "name",
        EventKind::Identify | EventKind::Group | EventKind::Alias => return Box::default(),
    };
    let name = fields.text(field).unwrap_or_default();
    if name.is_empty() && kind == EventKind::Track {
        fields.fault("event", "is required for `track`: what happened, such as `Order Completed`");
    }
    name.into()
}

fn properties(fields: &mut Fields<'_>, kind: EventKind, limits: Limits) -> Properties {
    let mut properties = match kind {
        EventKind::Track | EventKind::Page | EventKind::Screen => {
            fields.properties("properties", limits)
        }
        EventKind::Identify | EventKind::Group => fields.properties("traits", limits),
        EventKind::Alias => Properties::default(),
    };
    // What the form has beside the properties, and what it is called among them.
    let (field, called) = match kind {
        EventKind::Track | EventKind::Identify | EventKind::Alias => return properties,
        EventKind::Page | EventKind::Screen => ("category", "category"),
        EventKind::Group => ("groupId", GROUP_ID),
    };
    match text(fields, field) {
        Some(value) => properties.set(called, Scalar::Text(value.into())),
        None if kind == EventKind::Group => {
            missing(fields, "groupId", "is required for `group`: the group's id");
        }
        None => {}
    }
    properties
}
