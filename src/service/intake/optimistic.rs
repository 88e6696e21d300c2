//! Commits that take no locks, as long as nobody is in the way.
//!
//! Within a process a customer has one shard, so a race is lost only to another
//! replica, to a sweep, or to an event sent again. Customers known from the cache
//! are read then, once; after that the commit is made with locks. Where that
//! happens often, locks are cheaper from the start.

use std::collections::BTreeMap;

use crate::domain::drift::Source;
use crate::domain::id::CustomerKey;
use crate::service::history;
use crate::service::intake::Core;
use crate::service::intake::commit::{self, Committed};
use crate::service::intake::fold::{Base, Fold, Folded};
use crate::service::observe::Tally;
use crate::store::events::Arrived;
use crate::store::optimistic::{self, Seen, Written};
use crate::store::{DedicatedDb, StoreError};

/// A lost race costs about as much as so many won ones gain.
pub(super) const LOSS: i32 = 8;

/// `None`, with nothing done: it takes locks.
pub(super) async fn attempt(
    core: &Core,
    db: &DedicatedDb,
    all: &[Arrived],
) -> Result<Option<Committed>, StoreError> {
    if !core.trust.is_there() {
        core.trust.grow();
        return Ok(None);
    }
    let (mut race, cached) = run(core, db, all, true).await?;
    if cached > 0 && !matches!(race, Race::Won(_)) {
        core.cache.lost(cached);
        (race, _) = run(core, db, all, false).await?;
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

/// Also returns how many customers were taken from the cache, if they may be why
/// it was not won.
async fn run(
    core: &Core,
    db: &DedicatedDb,
    all: &[Arrived],
    from_cache: bool,
) -> Result<(Race, usize), StoreError> {
    let lineup = core.live.snapshot();
    let now = core.clock.now();
    let by_id = commit::by_id(all);
    let mut events_of = BTreeMap::<&CustomerKey, Vec<usize>>::new();
    for index in &by_id {
        events_of.entry(&all[*index].event.customer).or_default().push(*index);
    }
    let customers: Vec<&CustomerKey> = events_of.keys().copied().collect();
    let mut known = if from_cache {
        core.cache.take(&customers)
    } else {
        customers.iter().map(|_| None).collect()
    };
    let cached = known.iter().flatten().count();
    read(db, &customers, &mut known).await?;
    if known.iter().flatten().any(|seen| seen.is_merged) {
        return Ok((Race::CannotBeRun, cached));
    }
    let versions = known.iter().map(|seen| seen.as_ref().map(|seen| seen.version)).collect();
    let work = events_of.into_iter().zip(known).map(|((customer, events), seen)| {
        let (base, held, recheck_at) = match seen {
            Some(seen) => (Base::Stored(seen.state), seen.held, seen.recheck_at),
            None => (Base::New, None, None),
        };
        let customer = customer.clone();
        Fold { customer, events, gained: Vec::new(), base, held, recheck_at }
    });
    let mut tally = Tally::of(Source::Events);
    let (folded, unreadable) = Fold::all(work.collect(), all, &lineup, &mut tally, now).await;
    let Some((changes, decisions)) = history::changes(folded.iter().map(Folded::change)) else {
        return Ok((Race::CannotBeRun, cached));
    };
    if !unreadable.is_empty() {
        return Ok((Race::CannotBeRun, cached));
    }
    let events: Vec<&Arrived> = by_id.iter().map(|index| &all[*index]).collect();
    let rows = folded.iter().map(Folded::row).collect();
    let written = Written { events: &events, rows, versions, changes };
    let version = match optimistic::write(db, &written, now).await {
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
    core.cache.won(cached, customers.len());
    tally.hand_over();
    decisions.count(&core.metrics.intake.assignments);
    let committed = Committed::of(all, &folded);
    core.cache.put(folded.into_iter().map(|one| one.seen(version)));
    Ok((Race::Won(committed), cached))
}

/// Reads those of the customers who are not known.
async fn read(
    db: &DedicatedDb,
    customers: &[&CustomerKey],
    known: &mut [Option<Seen>],
) -> Result<(), StoreError> {
    let unknown = customers.iter().zip(&*known).filter(|(_, seen)| seen.is_none());
    let unknown: Vec<&CustomerKey> = unknown.map(|(customer, _)| *customer).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let mut read = optimistic::read(db, &unknown).await?;
    for (customer, seen) in customers.iter().zip(known) {
        if seen.is_none() {
            *seen = read.remove(*customer);
        }
    }
    Ok(())
}
