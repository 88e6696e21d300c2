//! The text of a message as received, for storage if its commit refuses it.

use std::borrow::Cow;

use crate::domain::event::EventKind;
use crate::domain::json::RawJson;

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
        /// The sender's clock of the batch, as JSON.
        sent_at: Option<Box<str>>,
    },
}

impl OriginalMessage {
    /// The form in which the message is stored and can be parsed alone.
    pub fn to_stored(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Native(text) => text.as_ref().into(),
            Self::Segment { text, kind, sent_at } => {
                let sent_at =
                    sent_at.as_ref().and_then(|json| RawJson::parse(json.as_bytes()).ok());
                match RawJson::parse(text.as_bytes()) {
                    Ok(message) => to_stored_form(message, *kind, sent_at).into(),
                    Err(_) => text.as_bytes().into(),
                }
            }
        }
    }
}

/// The stored form of a message of Segment's format, with the type and the clock of its
/// request, and without the API key.
pub(super) fn to_stored_form(
    message: RawJson<'_>,
    kind: Option<EventKind>,
    sent_at: Option<RawJson<'_>>,
) -> Vec<u8> {
    let Some(members) = message.members() else { return message.as_str().into() };
    let mut stored = String::with_capacity(message.as_str().len());
    let mut has_clock = false;
    for member in members {
        let is_dropped = match &*member.name {
            "writeKey" | "write_key" => true,
            "type" => kind.is_some(),
            _ => false,
        };
        has_clock |= member.name == "sentAt";
        if !is_dropped {
            add_member(&mut stored, &member.name, member.value.as_str());
        }
    }
    if let Some(kind) = kind {
        add_member(&mut stored, "type", &format!("\"{}\"", kind.as_str()));
    }
    if let (Some(sent_at), false) = (sent_at, has_clock) {
        add_member(&mut stored, "sentAt", sent_at.as_str());
    }
    if stored.is_empty() {
        stored.push('{');
    }
    stored.push('}');
    stored.into_bytes()
}

/// Appends a member to the text of an object without its closing bracket.
fn add_member(object: &mut String, name: &str, value: &str) {
    object.push(if object.is_empty() { '{' } else { ',' });
    // A text always has a JSON form.
    object.push_str(&serde_json::to_string(name).unwrap_or_default());
    object.push(':');
    object.push_str(value);
}
