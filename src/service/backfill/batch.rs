//! One backfill transaction: lock, replay, score, write.

use std::time::Duration;

use crate::domain::feature::{CustomerState, FeatureSet};
use crate::domain::id::CustomerKey;
use crate::domain::model::ScoringScratch;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::backfill::BackfillService;
use crate::service::rebuild::{self, RebuiltState};
use crate::service::retry::RetryAttempts;
use crate::service::scoring::assignment::{AssignmentInput, StorableScore};
use crate::service::scoring::deployment::Deployment;
use crate::service::scoring::{assignment, history};
use crate::store::customers::assignments::{NewAssignmentChange, PreviousAssignment};
use crate::store::customers::rebuild::EventCutoff;
use crate::store::customers::{self, CustomerRow, IdIntroduction, NewCustomerRow, identity};
use crate::store::{DatabaseTransaction, StoreError};

/// Lock timeouts in one backfill batch before it fails, each of
/// `database.lock_timeout_seconds`.
const MAX_LOCK_TIMEOUTS: u32 = 60;
const LOCK_TIMEOUT_PAUSE: Duration = Duration::from_secs(1);

/// Which customers to rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RebuildScope {
    /// Customers with an unreadable state.
    Unreadable,
    /// Customers with a state that differs from a replay, or with no state.
    All,
}

/// What to do with rows that another transaction has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockedRows {
    Skip,
    Wait,
}

/// Result of one transaction.
#[derive(Debug, Default)]
pub(super) struct BackfillBatch<'k> {
    pub(super) rebuilt_customers: Vec<RebuiltCustomer<'k>>,
    pub(super) unchanged: u64,
    /// Reasons for customers that were left unchanged.
    pub(super) failed: Vec<String>,
    /// Customers skipped because they were locked.
    pub(super) skipped: usize,
}

/// A rebuilt customer.
#[derive(Debug)]
pub(super) struct RebuiltCustomer<'k> {
    customer: &'k CustomerKey,
    /// The stored state before; `None` if none was stored.
    pub(super) before: Option<Vec<u8>>,
    pub(super) state: CustomerState,
    bytes: Vec<u8>,
    previous: Option<PreviousAssignment>,
    score: StorableScore,
}

/// Runs one batch, with retries. `keys` must be sorted.
pub(super) async fn run<'k>(
    work: &BackfillService,
    keys: &'k [CustomerKey],
    scope: RebuildScope,
    wait: LockedRows,
) -> Result<BackfillBatch<'k>, ServiceError> {
    let mut attempts = RetryAttempts::default();
    let mut lock_timeouts = 0;
    loop {
        match attempt(work, keys, scope, wait).await {
            Ok(done) => return Ok(done),
            Err(StoreError::Locked) if lock_timeouts < MAX_LOCK_TIMEOUTS => {
                lock_timeouts += 1;
                tracing::warn!(
                    lock_timeouts,
                    "a customer is locked by another database session; retrying"
                );
                tokio::time::sleep(LOCK_TIMEOUT_PAUSE).await;
            }
            Err(error) => attempts.record_failure(error)?,
        }
    }
}

async fn attempt<'k>(
    work: &BackfillService,
    keys: &'k [CustomerKey],
    scope: RebuildScope,
    wait: LockedRows,
) -> Result<BackfillBatch<'k>, StoreError> {
    let deployment = work.serving.snapshot();
    let now = work.clock.now();
    let all: Vec<&CustomerKey> = keys.iter().collect();
    // Commits together: rebuilt states, the new assignments of their customers, and the
    // history of assignment changes.
    let mut tx = work.db.begin().await?;
    let locked = match wait {
        LockedRows::Skip => customers::lock_available(&mut tx, &all).await?,
        LockedRows::Wait => customers::lock_rows(&mut tx, &all).await?,
    };
    let kept = identity::find_canonical_ids(&mut tx, &all).await?;
    let mut done = BackfillBatch { skipped: keys.len() - locked.len(), ..BackfillBatch::default() };
    let mut locked = locked.into_iter().peekable();
    let mut scratch = ScoringScratch::default();
    for customer in keys {
        // A merged id: its events belong to the surviving customer.
        if kept.get(customer).is_some_and(|kept| kept != customer) {
            continue;
        }
        // Both are in the order of ids, so one pass matches them.
        let row = locked.next_if(|stored| stored.customer == *customer).map(|stored| stored.row);
        if !needs_replay(&deployment.features, row.as_ref(), scope) {
            done.unchanged += u64::from(row.is_some());
            continue;
        }
        let features = &deployment.features;
        let replay =
            rebuild::replay_events(&mut tx, features, customer, EventCutoff::default(), u64::MAX);
        match replay.await {
            Ok(rebuilt) if rebuilt.events == 0 => {
                // Retention may have dropped the events: the state is all that remains of
                // them.
                let why = row.map(|_| "there are no events to rebuild the state from".to_owned());
                done.failed.extend(why);
            }
            Ok(rebuilt) => {
                let replayed = ReplayedCustomer { customer, row, rebuilt };
                match replayed.score(&deployment, now, &mut scratch) {
                    Some(customer) => done.rebuilt_customers.push(customer),
                    None => done.unchanged += 1,
                }
            }
            Err(error @ StoreError::Corrupt { .. }) => done.failed.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    save(&mut tx, &done.rebuilt_customers, now).await?;
    tx.commit().await?;
    Ok(done)
}

/// Whether to replay this customer.
fn needs_replay(features: &FeatureSet, row: Option<&CustomerRow>, scope: RebuildScope) -> bool {
    match (scope, row) {
        (RebuildScope::All, _) => true,
        (RebuildScope::Unreadable, None) => false,
        (RebuildScope::Unreadable, Some(row)) => {
            CustomerState::from_bytes(features, &row.state).is_err()
        }
    }
}

/// A locked customer and the replay of its events.
struct ReplayedCustomer<'k> {
    customer: &'k CustomerKey,
    row: Option<CustomerRow>,
    rebuilt: RebuiltState,
}

impl<'k> ReplayedCustomer<'k> {
    /// Scores the replayed state; `None` if the stored state is equal to the bit.
    fn score(
        self,
        deployment: &Deployment,
        now: Timestamp,
        scratch: &mut ScoringScratch,
    ) -> Option<RebuiltCustomer<'k>> {
        let Self { customer, row, rebuilt: RebuiltState { state, .. } } = self;
        let bytes = state.to_bytes(&deployment.features);
        let (before, previous) = row.map(|row| (row.state, row.previous)).unzip();
        let previous = previous.flatten();
        if before.as_ref() == Some(&bytes) {
            return None;
        }
        let deployment = deployment.for_customer(customer);
        let input = AssignmentInput {
            customer,
            state: &state,
            previous: previous.as_ref(),
            now,
            rescore_by: None,
        };
        let score = assignment::assign_customer(deployment, input, scratch);
        Some(RebuiltCustomer { customer, before, state, bytes, previous, score })
    }
}

async fn save(
    tx: &mut DatabaseTransaction,
    rebuilt_customers: &[RebuiltCustomer<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    let (known, added): (Vec<&RebuiltCustomer<'_>>, Vec<_>) =
        rebuilt_customers.iter().partition(|customer| customer.before.is_some());
    let added: Vec<NewCustomerRow<'_>> = added.into_iter().map(RebuiltCustomer::row).collect();
    let known: Vec<NewCustomerRow<'_>> = known.into_iter().map(RebuiltCustomer::row).collect();
    customers::write(tx, &added, &known, now).await?;
    history::record_changes(tx, rebuilt_customers.iter().map(RebuiltCustomer::change).collect())
        .await?;
    Ok(())
}

impl RebuiltCustomer<'_> {
    fn row(&self) -> NewCustomerRow<'_> {
        let before = self.previous.as_ref();
        NewCustomerRow {
            customer: self.customer,
            state: Some(&self.bytes),
            last_event_at: self.state.last_event_at(),
            assignment: &self.score.assignment,
            next_rescore_at: self.score.next_rescore_at,
            introduction: &IdIntroduction::Unchanged,
            audiences: &self.score.audiences,
            audiences_before: before.map_or(&[], |before| &before.audiences),
        }
    }

    fn change(&self) -> NewAssignmentChange<'_> {
        NewAssignmentChange {
            customer: self.customer,
            now: &self.score.assignment,
            audiences: &self.score.audiences,
            before: self.previous.as_ref(),
            is_of_audiences_only: false,
        }
    }
}
