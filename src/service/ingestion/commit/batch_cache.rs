//! Customers of one batch that need not be read: cached rows and precomputed results.

use std::collections::HashMap;

use crate::domain::id::CustomerKey;
use crate::service::ingestion::commit::cache::CustomerCache;
use crate::service::ingestion::commit::precompute::PrecomputedCustomer;
use crate::store::customers::events::ReceivedEvent;
use crate::store::customers::lock_free::CustomerSnapshot;

#[derive(Debug, Default)]
pub(crate) struct BatchCache(HashMap<CustomerKey, CachedCustomer>);

/// A known customer: the last committed row, or a precomputed next row.
#[derive(Debug)]
pub(crate) enum CachedCustomer {
    /// The row that this process wrote last.
    Committed(CustomerSnapshot),
    /// The row after one event, precomputed.
    Precomputed(Box<PrecomputedCustomer>),
}

impl BatchCache {
    /// Adds a precomputed customer, in arrival order: of two, the later one replaces the
    /// earlier.
    pub(crate) fn add_precomputed(&mut self, precomputed: Box<PrecomputedCustomer>) {
        self.0.insert(precomputed.customer().clone(), CachedCustomer::Precomputed(precomputed));
    }

    /// Takes the customers of this commit out of the cache, so that no other thread
    /// precomputes from a row that the commit is about to replace.
    pub(crate) fn add_cached(&mut self, cache: &CustomerCache, events: &[ReceivedEvent]) {
        // A customer that is in the cache again was written after its event was
        // precomputed. So the cached row replaces the precomputed one.
        let written = cache.take_entries(events.iter().map(|arrived| &arrived.event.customer));
        self.0
            .extend(written.into_iter().map(|(key, seen)| (key, CachedCustomer::Committed(seen))));
    }

    pub(crate) fn remove(&mut self, customer: &CustomerKey) -> Option<CachedCustomer> {
        self.0.remove(customer)
    }
}
