//! Events: one behavioural fact about one customer, in normal form.

pub mod content;
pub mod elements;
pub mod properties;
pub mod source_volume;
pub mod unused;

use serde::{Deserialize, Serialize};

use crate::domain::id::{CustomerKey, MessageId};
use crate::domain::time::Timestamp;
pub use content::{ContentHash, EventContent};
pub use elements::ArrayElement;
pub use properties::{Properties, PropertyValue, UnreadableProperty, UnreadableValue};

/// Event types of the Segment tracking spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// Sets traits of the customer: `properties` holds them.
    Identify,
    /// An action of the customer; `name` identifies it.
    Track,
    /// A page view on a website.
    Page,
    /// A screen view in an app.
    Screen,
    /// Puts the customer into a group, such as their company. `properties` contains the group's
    /// traits, and its id as [`GROUP_ID`].
    Group,
    /// Declares that another id is the same customer; `properties` contains it as
    /// [`PREVIOUS_ID`]. No feature reads it.
    Alias,
}

/// Property with the id of a group.
pub const GROUP_ID: &str = "group_id";
/// Property with a previous id of the customer.
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
pub struct CustomerEvent {
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
