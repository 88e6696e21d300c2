//! Training snapshot: every customer's feature row and orders at one instant, and the back-test
//! of the assignments before it.

use std::pin::pin;

use futures_util::TryStreamExt;

use crate::domain::feature::{CustomerState, FeatureSet, KnownOrders};
use crate::domain::time::Timestamp;
use crate::domain::train::backtest::{BacktestReport, BacktestTally, CustomerAssignments};
use crate::domain::train::{
    RowReservoir, TrainingCustomer, TrainingError, TrainingProgress, TrainingSpec,
};
use crate::domain::value::{self, CustomerPurchases, ShopOrders};
use crate::service::training::past_assignments::ChangeReader;
use crate::service::{ServiceError, rebuild};
use crate::store::customers::StoredState;
use crate::store::customers::past_assignments::{self, AssignedState};
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

/// What to gather, and when.
#[derive(Debug)]
pub(crate) struct SnapshotRequest<'s> {
    pub(crate) when: SnapshotInstant,
    pub(crate) spec: &'s TrainingSpec,
}

/// The customers at one instant.
#[derive(Debug)]
pub(crate) struct TrainingSnapshot {
    pub(crate) sample: RowReservoir,
    /// For the value model; `None` for rows from tables.
    pub(crate) orders: Option<ShopOrders>,
    /// `None` without horizons, and for rows from tables.
    pub(crate) backtest: Option<BacktestReport>,
}

impl TrainingSnapshot {
    /// Rows without orders.
    pub(crate) fn of_rows(sample: RowReservoir) -> Self {
        Self { sample, orders: None, backtest: None }
    }
}

/// A snapshot in the making.
struct SnapshotBuilder<'f> {
    features: &'f FeatureSet,
    at: Timestamp,
    sample: RowReservoir,
    orders: ShopOrders,
    backtest: BacktestTally,
}

impl SnapshotBuilder<'_> {
    fn add(&mut self, state: &CustomerState, assignments: &CustomerAssignments<'_>) {
        let (row, known) = state.row_and_orders(self.features, self.at);
        let purchases = known.as_ref().and_then(KnownOrders::history);
        if let Some(known) = known {
            self.backtest.add(assignments, &known, &row);
            if let Some(history) = purchases {
                let split = known.split(value::holdout_days(self.orders.span_days));
                self.orders.customers.push(CustomerPurchases { history, split });
            }
        }
        self.sample.offer(TrainingCustomer { row, purchases });
    }

    async fn finish(self, db: &ReadOnlyDatabase) -> Result<TrainingSnapshot, ServiceError> {
        let generations = self.backtest.generations();
        let deployed = past_assignments::read_past_deployments(db, &generations).await?;
        Ok(TrainingSnapshot {
            sample: self.sample,
            orders: Some(self.orders),
            backtest: self.backtest.finish(&deployed),
        })
    }
}

/// Gathers customers in order of their id, so that a run depends on the data alone.
pub(crate) async fn gather_snapshot(
    db: &ReadOnlyDatabase,
    features: &FeatureSet,
    request: SnapshotRequest<'_>,
    progress: &dyn TrainingProgress,
) -> Result<TrainingSnapshot, ServiceError> {
    let SnapshotRequest { when, spec } = request;
    let (SnapshotInstant::Present(at) | SnapshotInstant::Past(at)) = when;
    let span_days = order_span_days(db, features, at).await?;
    let unit = features.monetary_unit().into();
    let mut gathered = SnapshotBuilder {
        features,
        at,
        sample: RowReservoir::new(spec, features.features()),
        orders: ShopOrders { customers: Vec::new(), span_days, unit },
        backtest: BacktestTally::new(spec, features, at),
    };
    // Three connections: the streams of customers and of changes occupy two while states are
    // rebuilt on the third.
    let db = &db.dedicated_pool(3);
    let all = u64::try_from(customers::count(db).await?).unwrap_or_default();
    let mut past = match when {
        SnapshotInstant::Present(_) => None,
        SnapshotInstant::Past(_) => Some(StateSnapshot::open(db).await?),
    };
    let mut stream = pin!(past_assignments::stream_assigned_states(db));
    let mut next = stream.try_next().await?;
    let mut changes = match gathered.backtest.changes_since() {
        Some(since) => Some(ChangeReader::open(db, since).await?),
        None => None,
    };
    let mut done = 0;
    while let Some(AssignedState { stored, assigned }) = next {
        progress.report("snapshot", done, all.max(done));
        if progress.should_stop() {
            return Err(ServiceError::Conflict(TrainingError::Stopped.to_string()));
        }
        done += 1;
        let customer = &stored.customer;
        let state = match (when, &mut past) {
            (SnapshotInstant::Past(at), Some(events)) => {
                let known = EventCutoff { received_by: Some(at), ..EventCutoff::default() };
                let then =
                    rebuild::replay_events(events, features, customer, known, u64::MAX).await?;
                // A customer without events by then did not exist yet.
                (then.events > 0).then_some(then.state)
            }
            _ => Some(read_state(db, features, &stored).await?),
        };
        if let Some(state) = state {
            let changes = match &mut changes {
                Some(changes) => changes.changes_of(customer).await?,
                None => &[],
            };
            gathered.add(&state, &CustomerAssignments { present: assigned.as_ref(), changes });
        }
        next = stream.try_next().await?;
    }
    progress.report("snapshot", done, done);
    gathered.finish(db).await
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
