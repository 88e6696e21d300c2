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

use crate::domain::drift::ScoreSource;
use crate::domain::id::CustomerKey;
use crate::domain::model::ScoringScratch;
use crate::service::ingestion::IngestionCore;
use crate::service::ingestion::commit::fold::{FoldContext, FoldTask, FoldedCustomer};
use crate::service::scoring::deployment::Deployment;
use crate::service::scoring::observations::BatchCounts;
use crate::store::customers::events::ReceivedEvent;

/// A customer after one event, valid if nothing else changes the customer before the
/// commit.
#[derive(Debug)]
pub(crate) struct PrecomputedCustomer {
    deployment: Arc<Deployment>,
    folded: FoldedCustomer,
    tally: BatchCounts,
}

impl PrecomputedCustomer {
    /// Precomputes one event; `None` if the commit has to do it.
    pub(crate) fn compute(core: &IngestionCore, arrived: &ReceivedEvent) -> Option<Box<Self>> {
        if arrived.link.is_some() || !core.lock_free_backoff.is_enabled() {
            return None;
        }
        let (customer, seen) = core.cache.take_entries([&arrived.event.customer]).pop()?;
        let deployment = core.serving.snapshot();
        let mut tally = BatchCounts::new(ScoreSource::Events);
        // Index 0 of a batch of one; [`Self::resolve`] sets the index in the real batch.
        let task = FoldTask::with_version(customer, vec![0], seen);
        let events = slice::from_ref(arrived);
        let context = FoldContext { deployment: &deployment, events, now: core.clock.now() };
        let folded = task.run(context, &mut tally, &mut ScoringScratch::default()).ok()?;
        Some(Box::new(Self { deployment, folded, tally }))
    }

    pub(crate) fn customer(&self) -> &CustomerKey {
        &self.folded.task.customer
    }

    /// Uses the precomputed result if the deployment and the batch are unchanged; its
    /// counts are added to `tally`. Otherwise returns the task to run.
    pub(crate) fn resolve(
        self: Box<Self>,
        events: Vec<usize>,
        deployment: &Arc<Deployment>,
        tally: &mut BatchCounts,
    ) -> Result<FoldedCustomer, Box<FoldTask>> {
        // A second event for the customer, or a new deployment, makes the result invalid.
        let is_valid = events.len() == 1 && Arc::ptr_eq(&self.deployment, deployment);
        let mut folded = self.folded;
        folded.task.events = events;
        if !is_valid {
            return Err(Box::new(folded.task));
        }
        tally.add_counts(self.tally);
        Ok(folded)
    }
}
