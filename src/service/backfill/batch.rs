//! One backfill transaction: lock, replay, score, write.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::feature::{CustomerState, FeatureSet};
use crate::domain::id::CustomerKey;
use crate::domain::model::Scratch;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::backfill::Backfill;
use crate::service::rebuild::{self, Rebuilt};
use crate::service::retry::Attempts;
use crate::service::scoring::deployment::Lineup;
use crate::service::scoring::{assignment, history};
use crate::store::customers::assignments::{Assignment, Held, NewChange};
use crate::store::customers::rebuild::Known;
use crate::store::customers::{self, Introduction, Locked, NewRow, identity};
use crate::store::{StoreError, Tx};

/// Lock timeouts in one backfill batch before it fails, each of
/// `database.lock_timeout_seconds`.
const MAX_BLOCKED: u32 = 60;
const BLOCKED_PAUSE: Duration = Duration::from_secs(1);

/// Which customers to rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Customers with an unreadable state.
    Unreadable,
    /// Customers with a state that differs from a replay, or with no state.
    All,
}

/// What to do with rows that another transaction has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    PassOver,
    ForOthers,
}

/// Result of one transaction.
#[derive(Debug, Default)]
pub(super) struct Done<'k> {
    pub(super) made: Vec<Made<'k>>,
    pub(super) unchanged: u64,
    /// Reasons for customers that were left unchanged.
    pub(super) failed: Vec<String>,
    /// Customers skipped because they were locked.
    pub(super) missed: usize,
}

/// A rebuilt customer.
#[derive(Debug)]
pub(super) struct Made<'k> {
    customer: &'k CustomerKey,
    /// The stored state before; `None` if none was stored.
    pub(super) before: Option<Vec<u8>>,
    pub(super) state: CustomerState,
    bytes: Vec<u8>,
    held: Option<Held>,
    assignment: Assignment,
    recheck_at: Option<Timestamp>,
}

/// Runs one batch, with retries. `keys` must be sorted.
pub(super) async fn run<'k>(
    work: &Backfill,
    keys: &'k [CustomerKey],
    scope: Scope,
    wait: Wait,
) -> Result<Done<'k>, ServiceError> {
    let mut attempts = Attempts::default();
    let mut blocked = 0;
    loop {
        match attempt_run(work, keys, scope, wait).await {
            Ok(done) => return Ok(done),
            Err(StoreError::Locked) if blocked < MAX_BLOCKED => {
                blocked += 1;
                tracing::warn!(
                    blocked,
                    "a customer is locked by another database session; retrying"
                );
                tokio::time::sleep(BLOCKED_PAUSE).await;
            }
            Err(error) => attempts.end_with(error)?,
        }
    }
}

async fn attempt_run<'k>(
    work: &Backfill,
    keys: &'k [CustomerKey],
    scope: Scope,
    wait: Wait,
) -> Result<Done<'k>, StoreError> {
    let lineup = work.live.snapshot();
    let now = work.clock.now();
    let all: Vec<&CustomerKey> = keys.iter().collect();
    // Commits together: rebuilt states, the new assignments of their customers, and the
    // history of assignment changes.
    let mut tx = work.db.begin().await?;
    let locked = match wait {
        Wait::PassOver => customers::lock_free(&mut tx, &all).await?,
        Wait::ForOthers => customers::lock(&mut tx, &all).await?,
    };
    let kept = identity::canonical(&mut tx, &all).await?;
    let mut done = Done { missed: keys.len() - locked.len(), ..Done::default() };
    let mut locked = locked.into_iter().peekable();
    let mut scratch = Scratch::default();
    for customer in keys {
        // A merged id: its events belong to the surviving customer.
        if kept.get(customer).is_some_and(|kept| kept != customer) {
            continue;
        }
        // Both are in the order of ids, so one pass matches them.
        let row = locked.next_if(|row| row.stored.customer == *customer);
        if !is_suspect(&lineup.features, row.as_ref(), scope) {
            done.unchanged += u64::from(row.is_some());
            continue;
        }
        let features = &lineup.features;
        let replay = rebuild::replay(&mut tx, features, customer, Known::default(), u64::MAX);
        match replay.await {
            Ok(rebuilt) if rebuilt.events == 0 => {
                // Retention may have dropped the events: the state is all that remains of
                // them.
                let why = row.map(|_| "there are no events to rebuild the state from".to_owned());
                done.failed.extend(why);
            }
            Ok(rebuilt) => match made(&lineup, customer, row, rebuilt, &mut scratch, now) {
                Some(made) => done.made.push(made),
                None => done.unchanged += 1,
            },
            Err(error @ StoreError::Corrupt { .. }) => done.failed.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    save(&mut tx, &done.made, now).await?;
    tx.commit().await?;
    Ok(done)
}

/// Whether to replay this customer.
fn is_suspect(features: &FeatureSet, row: Option<&Locked>, scope: Scope) -> bool {
    match (scope, row) {
        (Scope::All, _) => true,
        (Scope::Unreadable, None) => false,
        (Scope::Unreadable, Some(row)) => {
            CustomerState::from_bytes(features, &row.stored.state).is_err()
        }
    }
}

/// The rebuilt customer; `None` if its state is equal to the bit.
fn made<'k>(
    lineup: &Arc<Lineup>,
    customer: &'k CustomerKey,
    row: Option<Locked>,
    rebuilt: Rebuilt,
    scratch: &mut Scratch,
    now: Timestamp,
) -> Option<Made<'k>> {
    let features = &lineup.features;
    let bytes = rebuilt.state.to_bytes(features);
    let (before, held) = row.map(|row| (row.stored.state, row.held)).unzip();
    let held = held.flatten();
    if before.as_ref() == Some(&bytes) {
        return None;
    }
    let state = rebuilt.state;
    let lineup = lineup.of(customer);
    let stood = (&state, held.as_ref());
    let (assignment, recheck_at) = assignment::assign(lineup, None, stood, scratch, now, None);
    Some(Made { customer, before, state, bytes, held, assignment, recheck_at })
}

async fn save(tx: &mut Tx, made: &[Made<'_>], now: Timestamp) -> Result<(), StoreError> {
    let (known, added): (Vec<&Made<'_>>, Vec<_>) =
        made.iter().partition(|made| made.before.is_some());
    let added: Vec<NewRow<'_>> = added.into_iter().map(Made::row).collect();
    let known: Vec<NewRow<'_>> = known.into_iter().map(Made::row).collect();
    customers::write(tx, &added, &known, now).await?;
    history::record(tx, made.iter().map(Made::change).collect()).await?;
    Ok(())
}

impl Made<'_> {
    fn row(&self) -> NewRow<'_> {
        NewRow {
            customer: self.customer,
            state: Some(&self.bytes),
            last_event_at: self.state.last_event_at(),
            assignment: &self.assignment,
            recheck_at: self.recheck_at,
            introduction: &Introduction::Unchanged,
        }
    }

    fn change(&self) -> NewChange<'_> {
        NewChange { customer: self.customer, now: &self.assignment, before: self.held.as_ref() }
    }
}
