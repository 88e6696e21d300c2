//! Training snapshot: every customer's feature row and orders at one instant.

use std::pin::pin;

use futures_util::TryStreamExt;

use crate::domain::feature::{CustomerState, FeatureSet, KnownOrders};
use crate::domain::time::Timestamp;
use crate::domain::train::{RowReservoir, TrainingCustomer, TrainingError, TrainingProgress};
use crate::domain::value::{self, CustomerPurchases, ShopOrders};
use crate::service::{ServiceError, rebuild};
use crate::store::customers::StoredState;
use crate::store::customers::rebuild::{EventCutoff, StateSnapshot};
use crate::store::customers::sampling;
use crate::store::{ReadOnlyDatabase, customers};

/// Customers by whose orders the hold-out is chosen.
const SPAN_SAMPLE: i64 = 5_000;

/// The instant that the rows describe.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SnapshotInstant {
    /// The present: rows are computed from the stored states.
    Present(Timestamp),
    /// A past instant: every customer is replayed from the events received by then. Identity
    /// links are the present ones.
    Past(Timestamp),
}

/// The customers at one instant.
#[derive(Debug)]
pub(crate) struct TrainingSnapshot {
    pub(crate) sample: RowReservoir,
    /// For the value model; `None` for rows from tables.
    pub(crate) orders: Option<ShopOrders>,
}

impl TrainingSnapshot {
    /// Rows without orders.
    pub(crate) fn of_rows(sample: RowReservoir) -> Self {
        Self { sample, orders: None }
    }

    fn add(&mut self, state: &CustomerState, features: &FeatureSet, at: Timestamp) {
        let (row, known) = state.row_and_orders(features, at);
        let purchases = known.as_ref().and_then(KnownOrders::history);
        if let Some(((orders, known), history)) = self.orders.as_mut().zip(known).zip(purchases) {
            let split = known.split(value::holdout_days(orders.span_days));
            orders.customers.push(CustomerPurchases { history, split });
        }
        self.sample.offer(TrainingCustomer { row, purchases });
    }
}

/// Gathers customers in order of their id, so that a run depends on the data alone.
pub(crate) async fn gather_snapshot(
    db: &ReadOnlyDatabase,
    features: &FeatureSet,
    when: SnapshotInstant,
    sample: RowReservoir,
    progress: &dyn TrainingProgress,
) -> Result<TrainingSnapshot, ServiceError> {
    let (SnapshotInstant::Present(at) | SnapshotInstant::Past(at)) = when;
    let span_days = order_span_days(db, features, at).await?;
    let unit = features.monetary_unit().into();
    let orders = Some(ShopOrders { customers: Vec::new(), span_days, unit });
    let mut gathered = TrainingSnapshot { sample, orders };
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
                    gathered.add(&then.state, features, at);
                }
            }
            (SnapshotInstant::Present(at) | SnapshotInstant::Past(at), _) => {
                let state = read_state(db, features, &stored).await?;
                gathered.add(&state, features, at);
            }
        }
    }
    progress.report("snapshot", done, done);
    Ok(gathered)
}

/// Days from the first orders of a sample of customers to `at`. One in a hundred may be older: a single
/// order with a wrong date does not decide.
async fn order_span_days(
    db: &ReadOnlyDatabase,
    features: &FeatureSet,
    at: Timestamp,
) -> Result<u32, ServiceError> {
    let mut ages = Vec::new();
    for stored in sampling::sample_class(db, 0, 1, SPAN_SAMPLE).await? {
        let state = read_state(db, features, &stored).await?;
        let known = state.known_orders(features, at);
        if let Some(history) = known.and_then(|orders| orders.history()) {
            // A state is not read before its newest event.
            let newest = state.last_event_at().unwrap_or(at).max(at);
            let later_days = u32::try_from(newest.day() - at.day()).unwrap_or_default();
            ages.push(history.age_days.saturating_sub(later_days));
        }
    }
    ages.sort_unstable();
    Ok(ages.get(ages.len().saturating_sub(1 + ages.len() / 100)).copied().unwrap_or_default())
}

/// The stored state, or that from the events if another feature set wrote it.
async fn read_state(
    db: &ReadOnlyDatabase,
    features: &FeatureSet,
    stored: &StoredState,
) -> Result<CustomerState, ServiceError> {
    if let Ok(state) = CustomerState::from_bytes(features, &stored.state) {
        return Ok(state);
    }
    let events = &mut StateSnapshot::open(db).await?;
    Ok(rebuild::rebuild_state(events, features, &stored.customer).await?)
}
