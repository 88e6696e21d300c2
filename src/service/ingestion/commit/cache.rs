//! Customers as this process wrote them last, so that the next event of each
//! need not read them first.
//!
//! Nothing is believed because it is here: a row is written only if it is still
//! the writing that is known (`store::optimistic`). What another replica, a sweep
//! or an erasure has done to a customer meanwhile costs a lost commit. Where that
//! happens often, the cache is left alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::domain::id::CustomerKey;
use crate::service::ingestion::commit::adaptive::Trust;
use crate::store::customers::lock_free::Seen;
use crate::telemetry::Metrics;
use crate::telemetry::labels::Known;

/// What a customer takes besides its texts and its state: structs, links, and a
/// place in the table.
const ENTRY_BYTES: usize = 256;
/// Far more than a lost commit costs: whoever else writes these customers will go
/// on doing so for a while.
const LOSS: i32 = 64;

/// Bounded by bytes; who was written longest ago is forgotten first.
#[derive(Debug)]
pub struct CustomerCache {
    kept: Mutex<Customers>,
    max_bytes: usize,
    trust: Trust,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Customers {
    by_key: LruCache<CustomerKey, Seen>,
    bytes: usize,
}

impl Customers {
    fn remove(&mut self, customer: &CustomerKey) -> Option<(CustomerKey, Seen)> {
        let known = self.by_key.pop_entry(customer)?;
        self.bytes -= bytes(&known.0, &known.1);
        Some(known)
    }
}

fn bytes(customer: &CustomerKey, seen: &Seen) -> usize {
    let segment = seen.held.as_ref().map_or(0, |held| held.segment.len());
    ENTRY_BYTES + customer.as_str().len() + seen.state.capacity() + segment
}

impl CustomerCache {
    /// Holds so many bytes at most; 0: nothing.
    pub(crate) fn new(max_bytes: usize, metrics: Arc<Metrics>) -> Self {
        let kept = Mutex::new(Customers { by_key: LruCache::unbounded(), bytes: 0 });
        Self { kept, max_bytes, trust: Trust::new(LOSS), metrics }
    }

    fn kept(&self) -> MutexGuard<'_, Customers> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of these customers who are known. They are here no longer, until somebody
    /// has written them.
    pub(crate) fn take<'c>(
        &self,
        customers: impl IntoIterator<Item = &'c CustomerKey>,
    ) -> Vec<(CustomerKey, Seen)> {
        let is_trusted = self.trust.is_there();
        let mut kept = self.kept();
        let known = customers.into_iter().filter_map(|customer| kept.remove(customer));
        let known = known.filter(|_| is_trusted).collect();
        self.show(&kept);
        known
    }

    /// Keeps what one commit has written.
    pub(crate) fn put(&self, written: impl Iterator<Item = (CustomerKey, Seen)>) {
        let mut kept = self.kept();
        for (customer, seen) in written {
            kept.remove(&customer);
            kept.bytes += bytes(&customer, &seen);
            kept.by_key.push(customer, seen);
        }
        while kept.bytes > self.max_bytes {
            let Some((customer, seen)) = kept.by_key.pop_lru() else { break };
            kept.bytes -= bytes(&customer, &seen);
        }
        self.show(&kept);
    }

    fn show(&self, kept: &Customers) {
        self.metrics.intake.cache_bytes.set(i64::try_from(kept.bytes).unwrap_or(i64::MAX));
    }

    /// After somebody else in this process has written these customers.
    pub fn forget<'c>(&self, customers: impl IntoIterator<Item = &'c CustomerKey>) {
        let mut kept = self.kept();
        for customer in customers {
            kept.remove(customer);
        }
        self.show(&kept);
    }

    /// A commit of customers went well: so many were known from here, and so many of
    /// those were folded ahead.
    pub(crate) fn won(&self, ahead: usize, cached: usize, all: usize) {
        self.trust.grow();
        let known = &self.metrics.intake.known;
        known.add(Known::Ahead, ahead as u64);
        known.add(Known::Cached, (cached - ahead) as u64);
        known.add(Known::Read, (all - cached) as u64);
    }

    /// A commit came to nothing that relied on so many customers from here.
    pub(crate) fn lost(&self, cached: usize) {
        self.trust.lose();
        self.metrics.intake.known.add(Known::Stale, cached as u64);
    }
}
