//! The text of a message as received, for storage if its commit refuses it.

use std::borrow::Cow;

use serde_json::Value;

use crate::domain::event::EventKind;
use crate::domain::wire::segment;

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
                segment::to_stored_form(text, *kind, sent_at.as_ref()).into()
            }
        }
    }
}
