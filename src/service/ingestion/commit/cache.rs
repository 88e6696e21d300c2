//! Cache of customers as this process wrote them last, so that their next event need not
//! read them.
//!
//! The cache is never authoritative: a row is written only if its version is still the
//! cached one (`store::customers::lock_free`). A change by another replica, a sweep or an
//! erasure costs one failed commit. Where that happens often, the cache is bypassed
//! ([`Trust`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::domain::id::CustomerKey;
use crate::service::ingestion::commit::adaptive::Trust;
use crate::store::customers::lock_free::Seen;
use crate::telemetry::Metrics;
use crate::telemetry::labels::Known;

/// Bytes of an entry besides its texts and state: structs, list links and a table slot.
const ENTRY_BYTES: usize = 256;
/// Far more than a failed commit costs: another writer of these customers will probably
/// continue for a while.
const LOSS: i32 = 64;

/// LRU cache bounded by bytes; evicts the customer that was written longest ago.
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
    /// Creates a cache of at most `max_bytes`; 0 disables it.
    pub(crate) fn new(max_bytes: usize, metrics: Arc<Metrics>) -> Self {
        let kept = Mutex::new(Customers { by_key: LruCache::unbounded(), bytes: 0 });
        Self { kept, max_bytes, trust: Trust::new(LOSS), metrics }
    }

    fn kept(&self) -> MutexGuard<'_, Customers> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes and returns the entries of these customers. They return to the cache when
    /// they are written.
    pub(crate) fn take<'c>(
        &self,
        customers: impl IntoIterator<Item = &'c CustomerKey>,
    ) -> Vec<(CustomerKey, Seen)> {
        let is_trusted = self.trust.is_there();
        let mut kept = self.kept();
        let known = customers.into_iter().filter_map(|customer| kept.remove(customer));
        // Removed even while the cache is bypassed: the commit will make the entries
        // stale.
        let known = known.filter(|_| is_trusted).collect();
        self.show(&kept);
        known
    }

    /// Inserts the rows that one commit wrote.
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

    /// Invalidates customers that another part of this process has written.
    pub fn forget<'c>(&self, customers: impl IntoIterator<Item = &'c CustomerKey>) {
        let mut kept = self.kept();
        for customer in customers {
            kept.remove(customer);
        }
        self.show(&kept);
    }

    /// Records a successful commit of `all` customers: `cached` came from the cache,
    /// including `ahead` precomputed ones.
    pub(crate) fn won(&self, ahead: usize, cached: usize, all: usize) {
        self.trust.grow();
        let known = &self.metrics.intake.known;
        known.add(Known::Ahead, ahead as u64);
        known.add(Known::Cached, (cached - ahead) as u64);
        known.add(Known::Read, (all - cached) as u64);
    }

    /// Records a failed commit that relied on `cached` customers from the cache.
    pub(crate) fn lost(&self, cached: usize) {
        self.trust.lose();
        self.metrics.intake.known.add(Known::Stale, cached as u64);
    }
}
