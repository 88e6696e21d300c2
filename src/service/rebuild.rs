//! Rebuild of a customer's state by replaying its stored events.
//!
//! Events are folded a page at a time, so that the longest history needs no more memory
//! than a short one. A page of more than a hundred events is folded off the async
//! threads.

use crate::domain::feature::{CustomerState, FeatureSet, StateError};
use crate::domain::id::CustomerKey;
use crate::store::StoreError;
use crate::store::customers::events::Stored;
use crate::store::customers::rebuild::{Known, Pages, SnapshotReader};

/// Maximum of events to fold on an async thread: more would block it for longer than half
/// a millisecond (some 5 µs each).
const EVENTS_IN_PLACE: usize = 100;

/// A state rebuilt from events.
#[derive(Debug)]
pub struct Rebuilt {
    pub state: CustomerState,
    pub events: u64,
    /// Whether the replay stopped early, because there were more events than requested.
    pub is_cut: bool,
}

/// The state of a customer from all of its events, of all its ids.
pub async fn state(
    reader: &mut impl SnapshotReader,
    features: &FeatureSet,
    customer: &CustomerKey,
) -> Result<CustomerState, StoreError> {
    Ok(replay(reader, features, customer, Known::default(), u64::MAX).await?.state)
}

/// Folds the `known` events of a customer. Stops within a page after `most` events.
pub async fn replay(
    reader: &mut impl SnapshotReader,
    features: &FeatureSet,
    customer: &CustomerKey,
    known: Known,
    most: u64,
) -> Result<Rebuilt, StoreError> {
    let mut rebuilt = Rebuilt { state: CustomerState::new(features), events: 0, is_cut: false };
    let mut pages = Pages::of(reader, customer, known).await?;
    loop {
        let page = pages.next(reader).await?;
        if page.is_empty() {
            return Ok(rebuilt);
        }
        rebuilt.events += page.len() as u64;
        if rebuilt.events > most {
            rebuilt.is_cut = true;
            return Ok(rebuilt);
        }
        let state = &mut rebuilt.state;
        if page.len() <= EVENTS_IN_PLACE {
            fold_page(features, customer, page, state)?;
        } else {
            tokio::task::block_in_place(|| fold_page(features, customer, page, state))?;
        }
    }
}

fn fold_page(
    features: &FeatureSet,
    customer: &CustomerKey,
    page: Vec<Stored>,
    state: &mut CustomerState,
) -> Result<(), StoreError> {
    for stored in page {
        state.apply(features, &stored.read(customer)?);
    }
    Ok(())
}

/// Comparison of a stored state with a replay of the same events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// Equal to the bit.
    Same,
    Differs,
    /// Of another feature set or format: cannot be compared, must be rebuilt.
    Foreign,
}

pub fn compare(features: &FeatureSet, stored: &[u8], replayed: &CustomerState) -> Likeness {
    let replayed = replayed.to_bytes(features);
    if stored == replayed {
        return Likeness::Same;
    }
    match CustomerState::from_bytes(features, stored) {
        Err(StateError::OtherFeatureSet | StateError::OtherFormat) => Likeness::Foreign,
        // An older encoding of the same state.
        Ok(state) if state.to_bytes(features) == replayed => Likeness::Same,
        Ok(_) | Err(StateError::Corrupt) => Likeness::Differs,
    }
}
