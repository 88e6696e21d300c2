//! What is known of the customers of a commit without reading them.

use std::collections::HashMap;

use crate::domain::id::CustomerKey;
use crate::service::ingestion::commit::cache::CustomerCache;
use crate::service::ingestion::commit::precompute::Ahead;
use crate::store::customers::events::Arrived;
use crate::store::customers::lock_free::Seen;

#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<CustomerKey, OfOne>);

/// Of one customer.
#[derive(Debug)]
pub(crate) enum OfOne {
    /// As it was written last.
    Written(Seen),
    /// And what becomes of it by one event.
    Ahead(Box<Ahead>),
}

impl Known {
    /// In the order of arrival: of two for one customer, the later knows it better.
    pub(crate) fn add(&mut self, ahead: Box<Ahead>) {
        self.0.insert(ahead.customer().clone(), OfOne::Ahead(ahead));
    }

    /// At the beginning of a commit: what it will write is in the cache no longer, so that
    /// nobody takes it from there meanwhile.
    pub(crate) fn take(&mut self, cache: &CustomerCache, events: &[Arrived]) {
        // Who is in the cache again was written after an event of theirs was folded ahead.
        let written = cache.take(events.iter().map(|arrived| &arrived.event.customer));
        self.0.extend(written.into_iter().map(|(key, seen)| (key, OfOne::Written(seen))));
    }

    pub(crate) fn remove(&mut self, customer: &CustomerKey) -> Option<OfOne> {
        self.0.remove(customer)
    }
}
