//! The next moves of a channel, read from the change feed.

use sha2::{Digest as _, Sha256};

use crate::domain::customer_move::{MoveDirection, MoveEvent, MoveKind, MovesMessage};
use crate::domain::id::encode_hex;
use crate::domain::time::Timestamp;
use crate::outbound::moves::{MAX_EVENT_BYTES, event_bytes};
use crate::service::ServiceError;
use crate::service::change_cursor::encode_cursor;
use crate::store::ReadOnlyDatabase;
use crate::store::alerting::move_deliveries::ClaimedMoves;
use crate::store::customers::changes;
use crate::store::customers::changes::{AssignmentChange, ChangeSide, FeedBounds, FeedPosition};
use crate::store::database::epoch;

/// Most moves in one message.
const MAX_MOVES: usize = 50;
/// Changes read at once. After a deployment most changes are of the model alone.
const SCANNED_CHANGES: i64 = 500;
/// Bytes of the hash in the id of a message.
const ID_BYTES: usize = 16;

/// The moves after a position.
#[derive(Debug)]
pub(super) struct MoveBatch {
    pub(super) events: Vec<MoveEvent>,
    pub(super) start: FeedPosition,
    /// Position to continue from, once the events are delivered.
    pub(super) end: FeedPosition,
    /// Whether changes before the first event may be missing.
    pub(super) has_gap: bool,
}

/// Reads the next moves of a channel. The batch may have no events, and still an end after its
/// start: changes of the model alone are no moves.
pub(super) async fn read_batch(
    db: &ReadOnlyDatabase,
    claimed: &ClaimedMoves,
) -> Result<MoveBatch, ServiceError> {
    let bounds = changes::read_bounds(db).await?;
    let start = surviving_position(db, claimed.position, bounds).await?;
    // After a restore the receiver may have seen changes that no longer exist.
    let has_gap = claimed.has_gap
        || claimed.is_restored
        || start != claimed.position
        || bounds.dropped.is_some_and(|dropped| start < dropped);
    // Up to the oldest running transaction: no change can appear within the batch any more, so a
    // position never skips one.
    let found = changes::read_page(db, start, bounds.end, SCANNED_CHANGES).await?;
    Ok(collect_batch(start, has_gap, found))
}

/// The position, or the last change before it that a restore did not lose.
async fn surviving_position(
    db: &ReadOnlyDatabase,
    position: FeedPosition,
    bounds: FeedBounds,
) -> Result<FeedPosition, ServiceError> {
    if let Some(surviving) = epoch::last_surviving_position(db, position).await? {
        return Ok(surviving);
    }
    if position > bounds.end {
        return Ok(changes::newest_position(db).await?);
    }
    Ok(position)
}

/// The first moves of a page, up to the limits of one message.
fn collect_batch(start: FeedPosition, has_gap: bool, found: Vec<AssignmentChange>) -> MoveBatch {
    let mut batch = MoveBatch { events: Vec::new(), start, end: start, has_gap };
    let (mut moves, mut bytes) = (0, 0);
    for change in found {
        let position = change.position;
        let events = move_events(change);
        if !events.is_empty() {
            moves += 1;
            bytes += events.iter().map(event_bytes).sum::<usize>();
            let is_full = moves > MAX_MOVES || bytes > MAX_EVENT_BYTES;
            // One move always fits, however long its names are.
            if is_full && !batch.events.is_empty() {
                break;
            }
            batch.events.extend(events);
        }
        // Changes without events are passed too, or the position would never reach the next move.
        batch.end = position;
    }
    batch
}

/// The events of a change: segment left, segment entered, audiences. None for a change of the model
/// alone.
fn move_events(change: AssignmentChange) -> Vec<MoveEvent> {
    let is_move = change.is_move();
    let cursor = encode_cursor(change.position);
    let AssignmentChange { customer, now, before, changed_at, merged_into, .. } = change;
    let mut kinds = Vec::new();
    if is_move {
        if let Some(ChangeSide { segment, .. }) = before {
            kinds.push(MoveKind::Segment { direction: MoveDirection::Left, segment });
        }
        if merged_into.is_none() {
            let (direction, segment) = (MoveDirection::Entered, now.segment);
            kinds.push(MoveKind::Segment { direction, segment });
        }
    }
    let (entered, left) = (change.audiences_entered, change.audiences_left);
    if !(entered.is_empty() && left.is_empty()) {
        kinds.push(MoveKind::Audiences { entered, left });
    }
    let mut events = Vec::with_capacity(kinds.len());
    for kind in kinds {
        events.push(MoveEvent {
            customer_id: customer.clone(),
            kind,
            changed_at,
            cursor: cursor.clone(),
            merged_into: merged_into.clone(),
        });
    }
    events
}

impl MoveBatch {
    /// The message with the events; `None` if there are none.
    ///
    /// The id depends on the range of changes. A retry with more changes than before is another
    /// message: receivers that ignore known ids still read all of it.
    pub(super) fn message(
        &self,
        channel_id: &str,
        external_url: Option<String>,
    ) -> Option<MovesMessage> {
        let at: Timestamp = self.events.last()?.changed_at;
        let mut hash = Sha256::new();
        hash.update(channel_id);
        for position in [self.start, self.end] {
            hash.update(encode_cursor(position));
        }
        hash.update([u8::from(self.has_gap)]);
        let message_id = format!("msg_{}", encode_hex(&hash.finalize()[..ID_BYTES]));
        Some(MovesMessage {
            message_id,
            events: self.events.clone(),
            has_gap: self.has_gap,
            at,
            external_url,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::NamedSegment;

    fn side(segment: &str) -> ChangeSide {
        let segment = NamedSegment { id: segment.into(), name: format!("named {segment}").into() };
        ChangeSide { segment, model: None, fallback: false }
    }

    fn change(number: i64, before: Option<&str>, now: &str) -> AssignmentChange {
        AssignmentChange {
            position: FeedPosition { transaction: 7, change: number },
            customer: format!("c{number}"),
            now: side(now),
            before: before.map(side),
            distance: None,
            outlier: false,
            generation: 1,
            changed_at: Timestamp::from_millis(1000 * number),
            merged_into: None,
            audiences_entered: Vec::new(),
            audiences_left: Vec::new(),
        }
    }

    fn collect(found: Vec<AssignmentChange>) -> MoveBatch {
        collect_batch(FeedPosition::default(), false, found)
    }

    fn summaries(batch: &MoveBatch) -> Vec<String> {
        let text = |event: &MoveEvent| {
            let what = match &event.kind {
                MoveKind::Segment { segment, .. } => segment.id.to_string(),
                MoveKind::Audiences { entered, left } => format!("{entered:?} {left:?}"),
            };
            format!("{} {} {what}", event.customer_id, event.event_type())
        };
        batch.events.iter().map(text).collect()
    }

    #[test]
    fn a_move_is_left_then_entered_and_a_change_of_the_model_alone_is_none() {
        let merged =
            AssignmentChange { merged_into: Some("x".into()), ..change(4, Some("a"), "a") };
        let batch = collect(vec![
            change(1, None, "a"),
            change(2, Some("a"), "b"),
            change(3, Some("b"), "b"),
            merged,
            change(5, Some("b"), "b"),
            AssignmentChange {
                audiences_entered: vec!["vip".into()],
                audiences_left: vec!["new".into()],
                ..change(6, Some("b"), "b")
            },
        ]);
        assert_eq!(
            summaries(&batch),
            [
                "c1 segment.entered a",
                "c2 segment.left a",
                "c2 segment.entered b",
                "c4 segment.left a",
                r#"c6 audiences.changed ["vip"] ["new"]"#
            ]
        );
        assert_eq!(batch.events[3].merged_into.as_deref(), Some("x"));
        // The position passes changes without events too.
        assert_eq!(batch.end.change, 6);
        assert_eq!(batch.message("channel", None).unwrap().at, Timestamp::from_millis(6000));
        assert!(collect(vec![change(3, Some("b"), "b")]).message("channel", None).is_none());
    }

    #[test]
    fn a_batch_ends_at_fifty_moves_or_at_the_size_of_a_message() {
        let many: Vec<_> = (1..=120).map(|number| change(number, None, "a")).collect();
        let batch = collect(many);
        assert_eq!((batch.events.len(), batch.end.change), (50, 50));

        let long = "x".repeat(3000);
        let large: Vec<_> = (1..=9).map(|number| change(number, Some("a"), &long)).collect();
        let batch = collect(large);
        let bytes: usize = batch.events.iter().map(event_bytes).sum();
        assert!(bytes <= MAX_EVENT_BYTES && batch.end.change > 1, "{bytes} bytes");
        let huge = "x".repeat(50_000);
        let batch = collect(vec![change(1, None, &huge), change(2, None, "a")]);
        assert_eq!((batch.events.len(), batch.end.change), (1, 1));
    }

    #[test]
    fn the_id_of_a_message_is_that_of_its_range() {
        let id = |changes: i64| {
            let batch = collect((1..=changes).map(|number| change(number, None, "a")).collect());
            batch.message("channel", None).unwrap().message_id
        };
        assert_eq!(id(3), id(3));
        assert_ne!(id(3), id(4));
    }
}
