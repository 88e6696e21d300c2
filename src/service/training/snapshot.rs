//! Training snapshot: every customer's feature row at one instant.

use std::pin::pin;

use futures_util::TryStreamExt;

use crate::domain::feature::{CustomerState, FeatureSet};
use crate::domain::time::Timestamp;
use crate::domain::train::{Gather, TrainingError, TrainingProgress};
use crate::service::{ServiceError, rebuild};
use crate::store::customers::rebuild::{Known, StateSnapshot};
use crate::store::{ReadDb, customers};

/// The instant that the rows describe.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// The present: rows are computed from the stored states.
    Now(Timestamp),
    /// A past instant: every customer is replayed from the events received by then. Identity
    /// links are the present ones.
    Then(Timestamp),
}

/// Gathers rows in order of customer id, so that a run depends on the data alone.
pub async fn take(
    db: &ReadDb,
    features: &FeatureSet,
    when: When,
    mut gather: Gather,
    progress: &dyn TrainingProgress,
) -> Result<Gather, ServiceError> {
    // Two connections: the stream occupies one while states are rebuilt on the other.
    let db = &db.dedicated(2);
    let all = u64::try_from(customers::count(db).await?).unwrap_or_default();
    let mut past = match when {
        When::Now(_) => None,
        When::Then(_) => Some(StateSnapshot::open(db).await?),
    };
    let mut stream = pin!(customers::stream(db));
    let mut done = 0;
    while let Some(stored) = stream.try_next().await? {
        progress.report("snapshot", done, all.max(done));
        if progress.should_stop() {
            return Err(ServiceError::Conflict(TrainingError::Stopped.to_string()));
        }
        done += 1;
        match (when, &mut past) {
            (When::Then(at), Some(events)) => {
                let known = Known { received_by: Some(at), ..Known::default() };
                let customer = &stored.customer;
                let then = rebuild::replay(events, features, customer, known, u64::MAX).await?;
                // A customer without events by then did not exist yet.
                if then.events > 0 {
                    gather.add(then.state.row(features, at));
                }
            }
            (When::Now(at) | When::Then(at), _) => {
                let state = if let Ok(state) = CustomerState::from_bytes(features, &stored.state) {
                    state
                } else {
                    let events = &mut StateSnapshot::open(db).await?;
                    rebuild::state(events, features, &stored.customer).await?
                };
                gather.add(state.row(features, at));
            }
        }
    }
    progress.report("snapshot", done, done);
    Ok(gather)
}
