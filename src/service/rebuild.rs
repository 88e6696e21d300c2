//! Rebuild of a customer's state by replaying its stored events.
//!
//! Events are folded a page at a time, so that the longest history needs no more memory
//! than a short one. A page of more than a hundred events is folded off the async
//! threads.

use crate::domain::feature::{CustomerState, FeatureSet, StateError};
use crate::domain::id::CustomerKey;
use crate::store::StoreError;
use crate::store::customers::rebuild::{EventCutoff, EventPage, EventPages, SnapshotReader};

/// Maximum of events to fold on an async thread: more would block it for longer than half
/// a millisecond (some 5 µs each).
const EVENTS_IN_PLACE: usize = 100;

/// A state rebuilt from events.
#[derive(Debug)]
pub(crate) struct RebuiltState {
    pub state: CustomerState,
    pub events: u64,
    /// Whether the replay stopped early, because there were more events than requested.
    pub is_truncated: bool,
}

/// The state of a customer from all of its events, of all its ids.
pub(crate) async fn rebuild_state(
    reader: &mut impl SnapshotReader,
    features: &FeatureSet,
    customer: &CustomerKey,
) -> Result<CustomerState, StoreError> {
    Ok(replay_events(reader, features, customer, EventCutoff::default(), u64::MAX).await?.state)
}

/// Folds the `known` events of a customer. Stops within a page after `most` events.
pub(crate) async fn replay_events(
    reader: &mut impl SnapshotReader,
    features: &FeatureSet,
    customer: &CustomerKey,
    known: EventCutoff,
    most: u64,
) -> Result<RebuiltState, StoreError> {
    let mut rebuilt =
        RebuiltState { state: CustomerState::new(features), events: 0, is_truncated: false };
    let mut pages = EventPages::open(reader, customer, known).await?;
    loop {
        let Some(page) = pages.next_page(reader).await? else { return Ok(rebuilt) };
        rebuilt.events += page.events.len() as u64;
        if rebuilt.events > most {
            rebuilt.is_truncated = true;
            return Ok(rebuilt);
        }
        let state = &mut rebuilt.state;
        if page.events.len() <= EVENTS_IN_PLACE {
            fold_page(features, page, state)?;
        } else {
            tokio::task::block_in_place(|| fold_page(features, page, state))?;
        }
    }
}

fn fold_page(
    features: &FeatureSet,
    page: EventPage,
    state: &mut CustomerState,
) -> Result<(), StoreError> {
    for stored in page.events {
        let past = stored.read_past(&page.customer)?;
        state.apply_stored(features, &past.event, past.received_at);
    }
    Ok(())
}

/// Comparison of a stored state with a replay of the same events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateComparison {
    /// Equal to the bit.
    Equal,
    Different,
    /// Of another feature set or format: cannot be compared, must be rebuilt.
    Incomparable,
}

pub(crate) fn compare_states(
    features: &FeatureSet,
    stored: &[u8],
    replayed: &CustomerState,
) -> StateComparison {
    let replayed = replayed.to_bytes(features);
    if stored == replayed {
        return StateComparison::Equal;
    }
    match CustomerState::from_bytes(features, stored) {
        Err(StateError::OtherFeatureSet | StateError::OtherFormat) => StateComparison::Incomparable,
        // An older encoding of the same state.
        Ok(state) if state.to_bytes(features) == replayed => StateComparison::Equal,
        Ok(_) | Err(StateError::Corrupt) => StateComparison::Different,
    }
}
