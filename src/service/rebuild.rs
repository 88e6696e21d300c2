//! A customer's state from their stored events: what it was, or should be.
//!
//! Events are folded a page at a time, so that the longest history takes no
//! more memory than a short one, and beside the async threads where a page is
//! more than a handful.

use crate::domain::feature::{CustomerState, FeatureSet, StateError};
use crate::domain::id::CustomerKey;
use crate::store::StoreError;
use crate::store::customers::events::Stored;
use crate::store::customers::rebuild::{Known, Pages, Reader};

/// With more events than this a page takes longer than an async thread may be
/// held up (half a millisecond, some 5 µs each).
const EVENTS_IN_PLACE: usize = 100;

/// A state made of events.
#[derive(Debug)]
pub struct Rebuilt {
    pub state: CustomerState,
    pub events: u64,
    /// Not all of the events: there were more than asked for.
    pub is_cut: bool,
}

/// A customer's state from all of their events, under whatever ids they came.
pub async fn state(
    reader: &mut impl Reader,
    features: &FeatureSet,
    customer: &CustomerKey,
) -> Result<CustomerState, StoreError> {
    Ok(replay(reader, features, customer, Known::default(), u64::MAX).await?.state)
}

/// Folds the events of a customer that are `known`; stops after a page or so
/// more than `most`.
pub async fn replay(
    reader: &mut impl Reader,
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
        let is_light = page.len() <= EVENTS_IN_PLACE;
        let state = &mut rebuilt.state;
        let fold = || fold(features, customer, page, state);
        if is_light { fold()? } else { tokio::task::block_in_place(fold)? }
    }
}

fn fold(
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

/// What a stored state is beside a replay of the same events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// Bit for bit.
    Same,
    Differs,
    /// Of other features or another format: not to be compared, but to be rebuilt.
    Foreign,
}

pub fn compare(features: &FeatureSet, stored: &[u8], replayed: &CustomerState) -> Likeness {
    let replayed = replayed.to_bytes(features);
    if stored == replayed {
        return Likeness::Same;
    }
    match CustomerState::from_bytes(features, stored) {
        Err(StateError::OtherFeatureSet | StateError::OtherFormat) => Likeness::Foreign,
        // An older writing of the same state.
        Ok(state) if state.to_bytes(features) == replayed => Likeness::Same,
        Ok(_) | Err(StateError::Corrupt) => Likeness::Differs,
    }
}
