//! Commits that take no locks, as long as nobody is in the way.
//!
//! Within a process a customer has one shard, so a race is lost only to another
//! replica, to a strict request, to a sweep, or to an event sent again. Customers
//! known from the cache are read then, once; after that the commit is made with
//! locks. Where that happens often, locks are cheaper from the start.

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

/// A lost race costs about as much as so many won ones gain.
pub(crate) const LOSS: i32 = 8;

/// `None`, with nothing done: it takes locks.
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

/// Also returns how many customers were `known`, if they may be why it was not won; the
/// others are read.
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
            tracing::debug!(%why, cached, "a commit without locks was lost");
            return Ok((Race::Lost, cached));
        }
        Err(StoreError::Conflict { constraint }) => {
            tracing::debug!(constraint, "an event of a commit without locks was sent again");
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
