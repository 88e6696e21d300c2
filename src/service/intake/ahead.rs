//! What a commit needs of an event that came alone, made before it: by the thread of
//! the request, while the commit before is on its way.
//!
//! Single events all wait for the one thread that commits them, so what need not be
//! done there is done here. It is worked out from the customer as it is known from the
//! cache, which gives it away: an event that comes later finds nothing of it there, and
//! is folded by the thread that commits. Requests of many events are better off with
//! that, as more and more of their customers would be in use already.

use std::collections::HashMap;
use std::slice;
use std::sync::Arc;

use crate::domain::drift::Source;
use crate::domain::model::Scratch;
use crate::service::intake::Core;
use crate::service::intake::fold::{Fold, Folded};
use crate::service::live::Lineup;
use crate::service::observe::Tally;
use crate::store::events::Arrived;

/// What was made ahead for some events, by their places in a commit.
pub(super) type ByPlace = HashMap<usize, Box<Ahead>>;

/// A customer after one event, if nothing else happens to it.
#[derive(Debug)]
pub(super) struct Ahead {
    lineup: Arc<Lineup>,
    folded: Folded,
    tally: Tally,
}

impl Ahead {
    /// `None`: the commit has to do it.
    pub(super) fn make(core: &Core, arrived: &Arrived) -> Option<Box<Self>> {
        if arrived.link.is_some() || !core.trust.is_there() {
            return None;
        }
        let customer = &arrived.event.customer;
        let seen = core.cache.take(&[customer]).pop().flatten()?;
        let fold = Fold::into_seen(customer.clone(), vec![0], Some(seen));
        let lineup = core.live.snapshot();
        let mut tally = Tally::of(Source::Events);
        let (counted, mut scratch) = ((&*lineup, &mut tally), Scratch::default());
        let all = slice::from_ref(arrived);
        let folded = fold.carry_out(all, counted, &mut scratch, core.clock.now()).ok()?;
        Some(Box::new(Self { lineup, folded, tally }))
    }

    /// The customer after these `events` of a commit, if they are but the one that was
    /// looked at, and this is the lineup it was looked at with; what was counted then
    /// counts in `tally`. If not, what is to be done.
    pub(super) fn settle(
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
