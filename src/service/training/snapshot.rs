//! Training snapshot: every customer's feature row at one instant.

use std::pin::pin;

use futures_util::TryStreamExt;

use crate::domain::feature::{CustomerState, FeatureSet};
use crate::domain::time::Timestamp;
use crate::domain::train::{RowReservoir, TrainingError, TrainingProgress};
use crate::service::{ServiceError, rebuild};
use crate::store::customers::rebuild::{EventCutoff, StateSnapshot};
use crate::store::{ReadOnlyDatabase, customers};

/// The instant that the rows describe.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SnapshotInstant {
    /// The present: rows are computed from the stored states.
    Present(Timestamp),
    /// A past instant: every customer is replayed from the events received by then. Identity
    /// links are the present ones.
    Past(Timestamp),
}

/// Gathers rows in order of customer id, so that a run depends on the data alone.
pub(crate) async fn gather_snapshot(
    db: &ReadOnlyDatabase,
    features: &FeatureSet,
    when: SnapshotInstant,
    mut gather: RowReservoir,
    progress: &dyn TrainingProgress,
) -> Result<RowReservoir, ServiceError> {
    // Two connections: the stream occupies one while states are rebuilt on the other.
    let db = &db.dedicated_pool(2);
    let all = u64::try_from(customers::count(db).await?).unwrap_or_default();
    let mut past = match when {
        SnapshotInstant::Present(_) => None,
        SnapshotInstant::Past(_) => Some(StateSnapshot::open(db).await?),
    };
    let mut stream = pin!(customers::stream_states(db));
    let mut done = 0;
    while let Some(stored) = stream.try_next().await? {
        progress.report("snapshot", done, all.max(done));
        if progress.should_stop() {
            return Err(ServiceError::Conflict(TrainingError::Stopped.to_string()));
        }
        done += 1;
        match (when, &mut past) {
            (SnapshotInstant::Past(at), Some(events)) => {
                let known = EventCutoff { received_by: Some(at), ..EventCutoff::default() };
                let customer = &stored.customer;
                let then =
                    rebuild::replay_events(events, features, customer, known, u64::MAX).await?;
                // A customer without events by then did not exist yet.
                if then.events > 0 {
                    gather.offer(then.state.feature_row(features, at));
                }
            }
            (SnapshotInstant::Present(at) | SnapshotInstant::Past(at), _) => {
                let state = if let Ok(state) = CustomerState::from_bytes(features, &stored.state) {
                    state
                } else {
                    let events = &mut StateSnapshot::open(db).await?;
                    rebuild::rebuild_state(events, features, &stored.customer).await?
                };
                gather.offer(state.feature_row(features, at));
            }
        }
    }
    progress.report("snapshot", done, done);
    Ok(gather)
}
