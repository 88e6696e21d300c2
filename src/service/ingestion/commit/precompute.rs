//! What a commit needs of an event, made before it: by the thread of its request, while
//! the commit before is on its way.
//!
//! Single events all wait for the one thread that commits them, so what need not be
//! done there is done here. It is worked out from the customer as the cache knows it,
//! which gives it away: an event that comes while this one waits finds nothing there, and
//! is left to the thread that commits. So are requests of many events: the more of them
//! wait, the more of their customers have an event waiting already.

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

/// A customer after one event, if nothing else happens to it.
#[derive(Debug)]
pub(crate) struct Ahead {
    lineup: Arc<Lineup>,
    folded: Folded,
    tally: Tally,
}

impl Ahead {
    /// `None`: the commit has to do it.
    pub(crate) fn make(core: &Core, arrived: &Arrived) -> Option<Box<Self>> {
        if arrived.link.is_some() || !core.trust.is_there() {
            return None;
        }
        let (customer, seen) = core.cache.take([&arrived.event.customer]).pop()?;
        let lineup = core.live.snapshot();
        let mut tally = Tally::of(Source::Events);
        // The first of one: its place in the commit is told when that is made.
        let (fold, all) = (Fold::of(customer, vec![0], Some(seen)), slice::from_ref(arrived));
        let now = core.clock.now();
        let folded = fold.carry_out(all, (&lineup, &mut tally), &mut Scratch::default(), now);
        Some(Box::new(Self { lineup, folded: folded.ok()?, tally }))
    }

    pub(crate) fn customer(&self) -> &CustomerKey {
        &self.folded.fold.customer
    }

    /// The customer after these `events` of a commit, if they are but the one that was
    /// looked at, and this is the lineup it was looked at with; what was counted then
    /// counts in `tally`. If not, what is to be done.
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
