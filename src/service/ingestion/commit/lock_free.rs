//! Lock-free commit: optimistic concurrency control over row versions.
//!
//! Each customer belongs to one shard of this process. So a conflict comes only from
//! another replica, a strict request, a background sweep, or an event that is sent again.
//! After a conflict the customers from the cache are read once and the commit is
//! repeated; after a second conflict the commit takes locks. Where conflicts are
//! frequent, [`Trust`] starts with locks at once, which is cheaper.
//!
//! [`Trust`]: crate::service::ingestion::commit::adaptive::Trust

use std::collections::{BTreeMap, HashMap};

use crate::domain::drift::Source;
use crate::domain::id::CustomerKey;
use crate::service::ingestion::commit::Committed;
use crate::service::ingestion::commit::batch_cache::{Known, OfOne};
use crate::service::ingestion::commit::fold::{Fold, Folded};
use crate::service::ingestion::{Core, commit};
use crate::service::scoring::history;
use crate::service::scoring::observations::Tally;
use crate::store::customers::events::Arrived;
use crate::store::customers::lock_free;
use crate::store::customers::lock_free::{Seen, Written};
use crate::store::{DedicatedDb, StoreError};

/// A conflict costs about as much as this number of successful lock-free commits saves.
pub(crate) const LOSS: i32 = 8;

/// Attempts the lock-free commit. Returns `None`, with nothing written, if locks are
/// needed.
pub(crate) async fn attempt(
    core: &Core,
    db: &DedicatedDb,
    all: &[Arrived],
    known: Known,
) -> Result<Option<Committed>, StoreError> {
    if !core.trust.is_there() {
        core.trust.grow();
        return Ok(None);
    }
    let (mut race, cached) = run(core, db, all, known).await?;
    // The cached rows may be stale. Reading them costs less than a commit with locks.
    if cached > 0 && !matches!(race, Race::Won(_)) {
        core.cache.lost(cached);
        (race, _) = run(core, db, all, Known::default()).await?;
    }
    match race {
        Race::Won(committed) => {
            core.trust.grow();
            Ok(Some(committed))
        }
        Race::Lost => {
            core.trust.lose();
            Ok(None)
        }
        Race::CannotBeRun => Ok(None),
    }
}

enum Race {
    Won(Committed),
    Lost,
    CannotBeRun,
}

/// One attempt. Also returns the number of customers taken from `known` that may be the
/// cause of a conflict; all others are read in this attempt.
async fn run(
    core: &Core,
    db: &DedicatedDb,
    all: &[Arrived],
    mut known: Known,
) -> Result<(Race, usize), StoreError> {
    let lineup = core.live.snapshot();
    let now = core.clock.now();
    let by_id = commit::by_id(all);
    let mut events_of = BTreeMap::<&CustomerKey, Vec<usize>>::new();
    for index in &by_id {
        events_of.entry(&all[*index].event.customer).or_default().push(*index);
    }
    let mut tally = Tally::of(Source::Events);
    let (mut folded, mut work, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for (customer, events) in events_of {
        match known.remove(customer) {
            Some(OfOne::Ahead(ahead)) => match ahead.settle(events, (&lineup, &mut tally)) {
                Ok(done) => folded.push(done),
                Err(fold) => work.push(*fold),
            },
            Some(OfOne::Written(seen)) => {
                work.push(Fold::of(customer.clone(), events, Some(seen)));
            }
            None => unknown.push((customer, events)),
        }
    }
    // Everything so far came from the cache or was precomputed; the rest is read.
    let (ahead, cached) = (folded.len(), folded.len() + work.len());
    let mut read = read(db, &unknown).await?;
    for (customer, events) in unknown {
        let row = read.remove(customer);
        if row.as_ref().is_some_and(|row| row.is_merged) {
            return Ok((Race::CannotBeRun, cached));
        }
        work.push(Fold::of(customer.clone(), events, row));
    }
    let (done, unreadable) = Fold::all(work, all, (&lineup, &mut tally), now).await;
    folded.extend(done);
    // Rows are written in customer order, as in every transaction, so that none can
    // deadlock.
    folded.sort_unstable_by(|a, b| a.fold.customer.cmp(&b.fold.customer));
    let Some((changes, decisions)) = history::changes(folded.iter().map(Folded::change)) else {
        return Ok((Race::CannotBeRun, cached));
    };
    if !unreadable.is_empty() {
        return Ok((Race::CannotBeRun, cached));
    }
    let events: Vec<&Arrived> = by_id.iter().map(|index| &all[*index]).collect();
    let rows = folded.iter().map(Folded::row).collect();
    let versions = folded.iter().map(|one| one.fold.version).collect();
    let written = Written { events: &events, rows, versions, changes };
    let version = match lock_free::write(db, &written, now).await {
        Ok(version) => version,
        Err(StoreError::Lost(why)) => {
            tracing::debug!(%why, cached, "a lock-free commit met a conflicting write");
            return Ok((Race::Lost, cached));
        }
        Err(StoreError::Conflict { constraint }) => {
            tracing::debug!(
                constraint,
                "a lock-free commit contains an event that is already stored"
            );
            // No cached row is to blame: reading again would not help.
            return Ok((Race::Lost, 0));
        }
        Err(error) => return Err(error),
    };
    core.cache.won(ahead, cached, folded.len());
    tally.hand_over();
    decisions.count(&core.metrics.intake.assignments);
    let committed = Committed::of(all, &folded);
    core.cache.put(folded.into_iter().map(|one| one.seen(version)));
    Ok((Race::Won(committed), cached))
}

async fn read(
    db: &DedicatedDb,
    unknown: &[(&CustomerKey, Vec<usize>)],
) -> Result<HashMap<CustomerKey, Seen>, StoreError> {
    if unknown.is_empty() {
        return Ok(HashMap::new());
    }
    let customers: Vec<&CustomerKey> = unknown.iter().map(|(customer, _)| *customer).collect();
    lock_free::read(db, &customers).await
}
