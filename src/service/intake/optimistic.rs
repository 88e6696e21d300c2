//! Commits that take no locks, as long as nobody is in the way.
//!
//! Within a process a customer has one shard, so a race is lost only to another
//! replica, to a sweep, or to an event sent again. Then the commit is made with
//! locks instead; where that happens often, locks are cheaper from the start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::domain::drift::Source;
use crate::domain::id::CustomerKey;
use crate::service::history;
use crate::service::intake::Core;
use crate::service::intake::commit::{self, Committed};
use crate::service::intake::fold::{Base, Fold, Folded};
use crate::service::observe::Tally;
use crate::store::StoreError;
use crate::store::events::Arrived;
use crate::store::optimistic::{self, Written};

/// A lost race costs about as much as these many won ones gain…
const LOSS: i32 = 8;
/// …and this many of them are forgotten at once.
const MOST: i32 = 4 * LOSS;

/// Whether races have been won lately.
#[derive(Debug, Default)]
pub(super) struct Trust(AtomicI32);

impl Trust {
    fn is_there(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 0
    }

    fn grow(&self) {
        let grown = self.0.load(Ordering::Relaxed).saturating_add(1);
        self.0.store(grown.min(MOST), Ordering::Relaxed);
    }

    fn lose(&self) {
        let left = self.0.load(Ordering::Relaxed).saturating_sub(LOSS);
        self.0.store(left.max(-MOST), Ordering::Relaxed);
    }
}

/// `None`, with nothing done: it takes locks.
pub(super) async fn attempt(core: &Core, all: &[Arrived]) -> Result<Option<Committed>, StoreError> {
    if !core.trust.is_there() {
        core.trust.grow();
        return Ok(None);
    }
    let lineup = core.live.snapshot();
    let now = core.clock.now();
    let by_id = commit::by_id(all);
    let mut events_of = BTreeMap::<&CustomerKey, Vec<usize>>::new();
    for index in &by_id {
        events_of.entry(&all[*index].event.customer).or_default().push(*index);
    }
    let customers: Vec<&CustomerKey> = events_of.keys().copied().collect();
    let mut seen = optimistic::read(core.db.read(), &customers).await?;
    if seen.values().any(|seen| seen.is_merged) {
        return Ok(None);
    }
    let versions = customers.iter().map(|id| seen.get(*id).map(|seen| seen.version)).collect();
    let work = events_of.into_iter().map(|(customer, events)| {
        let (base, held, recheck_at) = match seen.remove(customer) {
            Some(seen) => (Base::Stored(seen.state), seen.held, seen.recheck_at),
            None => (Base::New, None, None),
        };
        let customer = customer.clone();
        Fold { customer, events, gained: Vec::new(), base, held, recheck_at }
    });
    let mut tally = Tally::of(Source::Events);
    let (folded, unreadable) = Fold::all(work.collect(), all, &lineup, &mut tally, now);
    let Some((changes, decisions)) = history::changes(folded.iter().map(Folded::change)) else {
        return Ok(None);
    };
    if !unreadable.is_empty() {
        return Ok(None);
    }
    let events: Vec<&Arrived> = by_id.iter().map(|index| &all[*index]).collect();
    let rows = folded.iter().map(Folded::row).collect();
    let written = Written { events: &events, rows, versions, changes };
    match optimistic::write(&core.db, &written, now).await {
        Ok(()) => {}
        Err(StoreError::Lost(why)) => {
            tracing::debug!(%why, "a commit takes locks");
            core.trust.lose();
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    core.trust.grow();
    tally.hand_over();
    decisions.count(&core.metrics.intake.assignments);
    Ok(Some(Committed::of(all, folded)))
}
