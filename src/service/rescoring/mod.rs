//! Rescoring of stored customers without an event: after a change of the deployment or of
//! audiences, or when time alone may change the assignment or an audience.

pub mod on_audience_change;
pub mod on_deployment_change;
pub mod on_time;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::feature::CustomerState;
use crate::domain::id::CustomerKey;
use crate::domain::model::ScoringScratch;
use crate::domain::time::Timestamp;
use crate::service::clock::TimeSource;
use crate::service::ingestion::CustomerCache;
use crate::service::rebuild;
use crate::service::scoring::assignment::{AssignmentInput, MAX_INLINE_CUSTOMERS, StorableScore};
use crate::service::scoring::deployment::Deployment;
use crate::service::scoring::history::DecisionCounts;
use crate::service::scoring::serving::ServingState;
use crate::service::scoring::{assignment, history};
use crate::store::customers::assignments::NewAssignmentChange;
use crate::store::customers::{self, IdIntroduction, NewCustomerRow, StoredCustomer};
use crate::store::{DatabaseHandle, DatabaseTransaction, StoreError};
use crate::telemetry::ServiceMetrics;

/// What both kinds of rescoring depend on.
#[derive(Debug, Clone)]
pub struct RescoringDependencies {
    pub db: DatabaseHandle,
    pub serving: Arc<ServingState>,
    pub clock: TimeSource,
    /// Cache to invalidate for the rescored customers.
    pub customer_cache: Arc<CustomerCache>,
    pub metrics: Arc<ServiceMetrics>,
}

/// How fast stored customers are rescored.
#[derive(Debug, Clone, Copy)]
pub struct RescoringPace {
    pub batch_customers: usize,
    /// Pause after each batch, as a multiple of the batch's duration.
    pub pause_ratio: f64,
}

impl RescoringPace {
    /// Pauses after a batch that has taken since `started`, at most for `longest`.
    pub(crate) async fn pause(&self, started: Instant, longest: Duration) {
        let pause = started.elapsed().mul_f64(self.pause_ratio);
        tokio::time::sleep(pause.min(longest)).await;
    }
}

/// Scores customers that `tx` has locked, and writes the changes of their assignments and the
/// history. States that this feature set cannot read are rebuilt from events.
pub(crate) async fn rescore_customers(
    tx: &mut DatabaseTransaction,
    deployment: &Deployment,
    locked: &[StoredCustomer],
    now: Timestamp,
) -> Result<DecisionCounts, StoreError> {
    let (mut scored, unreadable) = if locked.len() <= MAX_INLINE_CUSTOMERS {
        score_all(deployment, locked, now)
    } else {
        // A larger batch would block its async thread for longer than half a millisecond.
        tokio::task::block_in_place(|| score_all(deployment, locked, now))
    };
    for stored in unreadable {
        let state = rebuild::rebuild_state(tx, &deployment.features, &stored.customer).await?;
        let rebuilt = Some(state.to_bytes(&deployment.features));
        let again =
            RescoredCustomer::new(stored, &state, deployment, &mut ScoringScratch::default(), now);
        scored.push(RescoredCustomer { rebuilt, ..again });
    }
    let (unchanged, changed): (Vec<&RescoredCustomer<'_>>, Vec<_>) =
        scored.iter().partition(|customer| customer.is_unchanged());
    if !changed.is_empty() {
        let rows: Vec<NewCustomerRow<'_>> = changed.iter().map(|customer| customer.row()).collect();
        customers::update(tx, &rows, now).await?;
    }
    if !unchanged.is_empty() {
        let keys: Vec<&CustomerKey> =
            unchanged.iter().map(|customer| &customer.stored.customer).collect();
        customers::set_audience_version(tx, &keys, deployment.audiences.version()).await?;
    }
    history::record_changes(tx, scored.iter().map(RescoredCustomer::change).collect()).await
}

/// Commits a transaction of [`rescore_customers`]. It waits for the disk only if the history has
/// new entries: rows that a crash returns to an earlier version are rescored again.
pub(crate) async fn commit(
    tx: DatabaseTransaction,
    decisions: DecisionCounts,
) -> Result<(), StoreError> {
    match decisions.recorded {
        0 => tx.commit_without_flush().await,
        _ => tx.commit().await,
    }
}

/// Scores the customers with a readable state; returns the others too.
fn score_all<'l>(
    deployment: &Deployment,
    locked: &'l [StoredCustomer],
    now: Timestamp,
) -> (Vec<RescoredCustomer<'l>>, Vec<&'l StoredCustomer>) {
    let mut scratch = ScoringScratch::default();
    let (mut scored, mut unreadable) = (Vec::with_capacity(locked.len()), Vec::new());
    for stored in locked {
        match CustomerState::from_bytes(&deployment.features, &stored.row.state) {
            Ok(state) => {
                scored.push(RescoredCustomer::new(stored, &state, deployment, &mut scratch, now));
            }
            Err(_) => unreadable.push(stored),
        }
    }
    (scored, unreadable)
}

struct RescoredCustomer<'l> {
    stored: &'l StoredCustomer,
    rebuilt: Option<Vec<u8>>,
    last_event_at: Option<Timestamp>,
    score: StorableScore,
}

impl<'l> RescoredCustomer<'l> {
    fn new(
        stored: &'l StoredCustomer,
        state: &CustomerState,
        deployment: &Deployment,
        scratch: &mut ScoringScratch,
        now: Timestamp,
    ) -> Self {
        let deployment = deployment.for_customer(&stored.customer);
        let previous = stored.row.previous.as_ref();
        // An earlier instant than necessary is harmless, and an unchanged instant leaves the index
        // of due customers as it is. Another deployment makes the stored instant meaningless.
        let is_same_deployment =
            previous.is_some_and(|previous| previous.generation == deployment.generation);
        let rescore_by = stored.row.next_rescore_at.filter(|at| is_same_deployment && *at > now);
        let input =
            AssignmentInput { customer: &stored.customer, state, previous, now, rescore_by };
        // No response depends on these scores, so drift does not count them.
        let score = assignment::assign_customer(deployment, input, scratch);
        Self { stored, rebuilt: None, last_event_at: state.last_event_at(), score }
    }

    /// Whether the row says the same as the score, except for the version of the audiences. Figures
    /// such as the distance may differ: they are stored with the next change.
    fn is_unchanged(&self) -> bool {
        let Some(before) = &self.stored.row.previous else { return false };
        let assignment = &self.score.assignment;
        self.rebuilt.is_none()
            && before.generation == assignment.generation
            && before.is_fallback == assignment.model.is_none()
            && *before.segment_id == *assignment.segment.id
            && before.audiences == self.score.audiences.ids()
            && self.stored.row.next_rescore_at == self.score.next_rescore_at
            && before.audience_version < self.score.audiences.version()
    }

    fn row(&self) -> NewCustomerRow<'_> {
        let before = self.stored.row.previous.as_ref();
        NewCustomerRow {
            customer: &self.stored.customer,
            state: self.rebuilt.as_deref(),
            last_event_at: self.last_event_at,
            assignment: &self.score.assignment,
            next_rescore_at: self.score.next_rescore_at,
            introduction: &IdIntroduction::Unchanged,
            audiences: &self.score.audiences,
            audiences_before: before.map_or(&[], |before| &before.audiences),
        }
    }

    fn change(&self) -> NewAssignmentChange<'_> {
        let customer = &self.stored.customer;
        NewAssignmentChange {
            customer,
            now: &self.score.assignment,
            audiences: &self.score.audiences,
            before: self.stored.row.previous.as_ref(),
            is_of_audiences_only: false,
        }
    }
}
