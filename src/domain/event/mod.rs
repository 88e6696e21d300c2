//! One behavioural fact about one customer, in its one normal form.

pub mod properties;
pub mod source_volume;

use serde::{Deserialize, Serialize};

use crate::domain::id::{CustomerKey, MessageId};
use crate::domain::time::Timestamp;
pub use properties::{Properties, Scalar};

/// The kinds of the Segment tracking spec.
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
    /// Puts the customer into a group, such as their company: `properties` holds
    /// the group's traits, and its id as [`GROUP_ID`].
    Group,
    /// Says that another id is the same customer: `properties` holds it as
    /// [`PREVIOUS_ID`]. No feature reads it.
    Alias,
}

/// The property that holds a group's id.
pub const GROUP_ID: &str = "group_id";
/// The property that holds what a customer was called before.
pub const PREVIOUS_ID: &str = "previous_id";

impl EventKind {
    pub const ALL: [Self; 6] =
        [Self::Identify, Self::Track, Self::Page, Self::Screen, Self::Group, Self::Alias];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Track => "track",
            Self::Page => "page",
            Self::Screen => "screen",
            Self::Group => "group",
            Self::Alias => "alias",
        }
    }

    /// Something the customer did, rather than something said about them. Only
    /// these count where a feature names no kind.
    pub const fn is_behaviour(self) -> bool {
        matches!(self, Self::Track | Self::Page | Self::Screen)
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
    /// What happened, for `track`; the page's or screen's name; empty for others.
    pub name: Box<str>,
    /// When it happened, corrected for the sender's clock.
    pub timestamp: Timestamp,
    /// What else is known; for `identify`, the traits.
    pub properties: Properties,
}
