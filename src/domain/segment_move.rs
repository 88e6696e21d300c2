//! Moves of customers between segments, as events for webhooks.

use crate::domain::model::NamedSegment;
use crate::domain::time::Timestamp;

/// Type of a message with moves.
pub const MOVES_MESSAGE_TYPE: &str = "segment.moves";

/// Whether a customer left or entered a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveDirection {
    Left,
    Entered,
}

impl MoveDirection {
    /// Type of the event.
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::Left => "segment.left",
            Self::Entered => "segment.entered",
        }
    }
}

/// A customer left or entered a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct MoveEvent {
    pub direction: MoveDirection,
    pub customer_id: String,
    pub segment: NamedSegment,
    pub changed_at: Timestamp,
    /// Cursor of the change in the change feed. Both events of one move have the same one.
    pub cursor: String,
    /// The surviving id, if the customer was merged into another.
    pub merged_into: Option<String>,
}

/// A batch of events for one receiver, in the order of the change feed.
#[derive(Debug, Clone, PartialEq)]
pub struct MovesMessage {
    /// Idempotency key: equal for every attempt to send the same events.
    pub message_id: String,
    pub events: Vec<MoveEvent>,
    /// Whether moves before the first event may be missing.
    pub has_gap: bool,
    /// Instant of the last event.
    pub at: Timestamp,
    /// Base address of this service, if one is configured.
    pub external_url: Option<String>,
}
