//! The text of a message as received, for storage if its commit refuses it.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::domain::event::EventKind;

/// A message as received, and what its request said about it.
#[derive(Debug, Clone, PartialEq)]
pub enum OriginalMessage {
    /// The native format.
    Native(Box<[u8]>),
    /// Segment's format.
    Segment {
        text: Box<str>,
        /// The type that the path of the request gives.
        kind: Option<EventKind>,
        /// The sender's clock of the batch.
        sent_at: Option<Value>,
    },
}

impl OriginalMessage {
    /// The form in which the message is stored and can be parsed alone.
    pub fn to_stored(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Native(text) => text.as_ref().into(),
            Self::Segment { text, kind, sent_at } => {
                to_stored_form(text, *kind, sent_at.as_ref()).into()
            }
        }
    }
}

/// The stored form of a message of Segment's format, with the type and the clock of its
/// request.
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
