//! One behavioural fact about one customer, in its one normal form.

pub mod properties;

use serde::{Deserialize, Serialize};

use crate::domain::id::{CustomerKey, MessageId};
use crate::domain::time::Timestamp;
pub use properties::{Properties, Scalar};

/// The kinds of the Segment tracking spec that carry behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// Sets traits of the customer: `properties` holds them.
    Identify,
    /// Something the customer did: `name` says what.
    Track,
    /// A web page seen.
    Page,
    /// An app screen seen.
    Screen,
}

impl EventKind {
    pub const ALL: [Self; 4] = [Self::Identify, Self::Track, Self::Page, Self::Screen];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Track => "track",
            Self::Page => "page",
            Self::Screen => "screen",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One event, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub message_id: MessageId,
    pub customer: CustomerKey,
    pub kind: EventKind,
    /// What happened, for `track`; the page's or screen's name; empty for `identify`.
    pub name: Box<str>,
    /// When it happened, corrected for the sender's clock.
    pub timestamp: Timestamp,
    /// What else is known; for `identify`, the traits.
    pub properties: Properties,
}
