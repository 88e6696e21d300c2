//! One transaction: new events, states, assignments, history.

use std::sync::Arc;
use std::time::Instant;

use crate::domain::id::CustomerKey;
use crate::service::ServiceError;
use crate::service::history::{self, Decisions};
use crate::service::intake::Core;
use crate::service::intake::fold::{Base, Fold, Folded};
use crate::service::live::Lineup;
use crate::store::assignments::Assignment;
use crate::store::customers::{self, Locked, NewRow};
use crate::store::events::Arrived;
use crate::store::{StoreError, Tx, events};

/// A transaction that lost a race against another is tried again so often.
const ATTEMPTS: usize = 5;

/// What a commit did to each event, in their order.
#[derive(Debug)]
pub(super) struct Committed {
    /// Where the customer of a new event stands; `None` for a duplicate.
    pub(super) standings: Vec<Option<Arc<Assignment>>>,
}

/// Commits events together; of two with one id the first counts. All of them
/// see one lineup.
pub(super) async fn commit(core: &Core, events: &[Arrived]) -> Result<Committed, ServiceError> {
    let started = Instant::now();
    let size = u32::try_from(events.len()).unwrap_or(u32::MAX);
    core.metrics.intake.batch_events.observe(f64::from(size));
    let mut attempt = 1;
    let committed = loop {
        match attempt_commit(core, events).await {
            Err(StoreError::Lost(why)) if attempt < ATTEMPTS => {
                tracing::debug!(%why, attempt, "intake transaction tried again");
                attempt += 1;
            }
            outcome => break outcome?,
        }
    };
    core.metrics.intake.commit_seconds.observe(started.elapsed().as_secs_f64());
    Ok(committed)
}

async fn attempt_commit(core: &Core, all: &[Arrived]) -> Result<Committed, StoreError> {
    let lineup = core.live.snapshot();
    // By id, so that two transactions never wait for each other; stable, so that
    // the first of two with one id is the one that counts.
    let mut by_id: Vec<usize> = (0..all.len()).collect();
    let id = |index: usize| &all[index].event.message_id;
    by_id.sort_by(|a, b| id(*a).cmp(id(*b)));
    by_id.dedup_by(|later, first| id(*later) == id(*first));

    // Commits together: the new events, the states they change, where their
    // customers stand, and the history of who moved.
    let mut tx = core.db.begin().await?;
    let sorted: Vec<&Arrived> = by_id.iter().map(|index| &all[*index]).collect();
    let inserted = events::insert_new(&mut tx, &sorted).await?;
    let fresh: Vec<usize> =
        by_id.into_iter().filter(|index| inserted.contains(id(*index).as_str())).collect();
    let mut standings = vec![None; all.len()];
    if fresh.is_empty() {
        return Ok(Committed { standings });
    }
    let folded = fold(core, &mut tx, &lineup, all, &fresh).await?;
    let decisions = save(core, &mut tx, &folded).await?;
    tx.commit().await?;
    decisions.count(&core.metrics.intake.assignments);
    for customer in folded {
        for index in customer.events {
            standings[index] = Some(Arc::clone(&customer.assignment));
        }
    }
    Ok(Committed { standings })
}

/// Locks the customers and folds their new events in, by customer.
async fn fold<'e>(
    core: &Core,
    tx: &mut Tx,
    lineup: &Arc<Lineup>,
    all: &'e [Arrived],
    fresh: &[usize],
) -> Result<Vec<Folded<'e>>, StoreError> {
    let mut by_customer = fresh.to_vec();
    let customer = |index: usize| -> &'e CustomerKey { &all[index].event.customer };
    by_customer.sort_by(|a, b| customer(*a).cmp(customer(*b)));
    let groups: Vec<&[usize]> = by_customer.chunk_by(|a, b| customer(*a) == customer(*b)).collect();
    let keys: Vec<&CustomerKey> = groups.iter().map(|group| customer(group[0])).collect();
    let mut locked = customers::lock(tx, &keys).await?.into_iter().peekable();
    let mut work = Vec::with_capacity(groups.len());
    for (customer, group) in keys.into_iter().zip(groups) {
        let events = group.to_vec();
        work.push(match locked.next_if(|row| row.stored.customer == *customer) {
            None => Fold { customer, events, base: Base::New, held: None },
            Some(Locked { stored, held }) => {
                Fold { customer, events, base: Base::Stored(stored.state), held }
            }
        });
    }
    let now = core.clock.now();
    let (mut folded, unreadable) = Fold::all(work, all, lineup, now);
    if !unreadable.is_empty() {
        tracing::debug!(customers = unreadable.len(), "states rebuilt from events");
        let mut again = Vec::with_capacity(unreadable.len());
        for fold in unreadable {
            let base = Base::Replay(events::of_customer(tx, fold.customer).await?);
            again.push(Fold { base, ..fold });
        }
        folded.extend(Fold::all(again, all, lineup, now).0);
    }
    Ok(folded)
}

/// Writes what was folded; returns what was decided how often.
async fn save(core: &Core, tx: &mut Tx, folded: &[Folded<'_>]) -> Result<Decisions, StoreError> {
    let now = core.clock.now();
    let (added, known): (Vec<&Folded<'_>>, Vec<_>) = folded.iter().partition(|f| f.is_new);
    if !added.is_empty() {
        let rows: Vec<NewRow<'_>> = added.into_iter().map(Folded::row).collect();
        if customers::insert(tx, &rows, now).await? < rows.len() as u64 {
            return Err(StoreError::Lost("a customer was added by another transaction".into()));
        }
    }
    if !known.is_empty() {
        let rows: Vec<NewRow<'_>> = known.into_iter().map(Folded::row).collect();
        customers::update(tx, &rows, now).await?;
    }
    history::record(tx, folded.iter().map(Folded::change).collect()).await
}
