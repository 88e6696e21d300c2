//! Speculative precomputation: the request's thread folds and scores its event while the
//! previous commit is in progress.
//!
//! Single events all wait for the one thread that commits them, so work that can be done
//! elsewhere is done before. The base is the cached customer, which is taken out of the
//! cache: a further event for the customer finds no entry there and is left to the commit
//! thread. Requests of many events are not precomputed either: the more such requests
//! wait, the more of their customers already have a queued event.

use std::slice;
use std::sync::Arc;

use crate::domain::drift::Source;
use crate::domain::id::CustomerKey;
use crate::domain::model::Scratch;
use crate::service::ingestion::Core;
use crate::service::ingestion::commit::fold::{Fold, Folded};
use crate::service::scoring::deployment::Lineup;
use crate::service::scoring::observations::Tally;
use crate::store::customers::events::Arrived;

/// A customer after one event, valid if nothing else changes the customer before the
/// commit.
#[derive(Debug)]
pub(crate) struct Ahead {
    lineup: Arc<Lineup>,
    folded: Folded,
    tally: Tally,
}

impl Ahead {
    /// Precomputes one event; `None` if the commit has to do it.
    pub(crate) fn make(core: &Core, arrived: &Arrived) -> Option<Box<Self>> {
        if arrived.link.is_some() || !core.trust.is_there() {
            return None;
        }
        let (customer, seen) = core.cache.take([&arrived.event.customer]).pop()?;
        let lineup = core.live.snapshot();
        let mut tally = Tally::of(Source::Events);
        // Index 0 of a batch of one; [`Self::settle`] sets the index in the real batch.
        let (fold, all) = (Fold::of(customer, vec![0], Some(seen)), slice::from_ref(arrived));
        let now = core.clock.now();
        let folded = fold.carry_out(all, (&lineup, &mut tally), &mut Scratch::default(), now);
        Some(Box::new(Self { lineup, folded: folded.ok()?, tally }))
    }

    pub(crate) fn customer(&self) -> &CustomerKey {
        &self.folded.fold.customer
    }

    /// Uses the precomputed result if the deployment and the batch are unchanged; its
    /// counts are added to `tally`. Otherwise returns the fold to redo.
    pub(crate) fn settle(
        self: Box<Self>,
        events: Vec<usize>,
        (lineup, tally): (&Arc<Lineup>, &mut Tally),
    ) -> Result<Folded, Box<Fold>> {
        let is_right = events.len() == 1 && Arc::ptr_eq(&self.lineup, lineup);
        let mut folded = self.folded;
        folded.fold.events = events;
        if !is_right {
            return Err(Box::new(folded.fold));
        }
        tally.join(self.tally);
        Ok(folded)
    }
}
