//! Moves of customers between segments, and into and out of audiences, as events for webhooks.

use crate::domain::model::NamedSegment;
use crate::domain::time::Timestamp;

/// Type of a message with moves.
pub const MOVES_MESSAGE_TYPE: &str = "customer.moves";

/// Whether a customer left or entered a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveDirection {
    Left,
    Entered,
}

/// What changed for a customer.
#[derive(Debug, Clone, PartialEq)]
pub enum MoveKind {
    Segment {
        direction: MoveDirection,
        segment: NamedSegment,
    },
    /// Names of audiences.
    Audiences {
        entered: Vec<String>,
        left: Vec<String>,
    },
}

/// A customer left or entered a segment, or changed audiences.
#[derive(Debug, Clone, PartialEq)]
pub struct MoveEvent {
    pub customer_id: String,
    pub kind: MoveKind,
    pub changed_at: Timestamp,
    /// Cursor of the change in the change feed. All events of one change have the same one.
    pub cursor: String,
    /// The surviving id, if the customer was merged into another.
    pub merged_into: Option<String>,
}

impl MoveEvent {
    /// Type of the event.
    pub const fn event_type(&self) -> &'static str {
        match &self.kind {
            MoveKind::Segment { direction: MoveDirection::Left, .. } => "segment.left",
            MoveKind::Segment { direction: MoveDirection::Entered, .. } => "segment.entered",
            MoveKind::Audiences { .. } => "audiences.changed",
        }
    }
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
