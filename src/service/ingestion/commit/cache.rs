//! Cache of customers as this process wrote them last, so that their next event need not
//! read them.
//!
//! The cache is never authoritative: a row is written only if its version is still the
//! cached one (`store::customers::lock_free`). A change by another replica or by
//! rescoring costs one failed commit. Where that happens often, the cache is bypassed
//! ([`AdaptiveBackoff`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::domain::id::CustomerKey;
use crate::service::ingestion::commit::adaptive::AdaptiveBackoff;
use crate::store::customers::lock_free::CustomerSnapshot;
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::CustomerLookup;

/// Bytes of an entry besides its texts and state: structs, list links and a table slot.
const ENTRY_BYTES: usize = 256;
/// Far more than a failed commit costs: another writer of these customers will probably
/// continue for a while.
const STALE_ENTRY_COST: i32 = 64;

/// LRU cache bounded by bytes; evicts the customer that was written longest ago.
#[derive(Debug)]
pub struct CustomerCache {
    entries: Mutex<CacheEntries>,
    max_bytes: usize,
    backoff: AdaptiveBackoff,
    metrics: Arc<ServiceMetrics>,
}

#[derive(Debug)]
struct CacheEntries {
    by_key: LruCache<CustomerKey, CustomerSnapshot>,
    bytes: usize,
}

impl CacheEntries {
    fn remove(&mut self, customer: &CustomerKey) -> Option<(CustomerKey, CustomerSnapshot)> {
        let known = self.by_key.pop_entry(customer)?;
        self.bytes -= entry_bytes(&known.0, &known.1);
        Some(known)
    }
}

fn entry_bytes(customer: &CustomerKey, seen: &CustomerSnapshot) -> usize {
    let previous = seen.row.previous.as_ref();
    let previous = previous.map_or(0, |previous| {
        previous.segment_id.len() + previous.audiences.capacity() * size_of::<i32>()
    });
    ENTRY_BYTES + customer.as_str().len() + seen.row.state.capacity() + previous
}

impl CustomerCache {
    /// Creates a cache of at most `max_bytes`; 0 disables it.
    pub(crate) fn new(max_bytes: usize, metrics: Arc<ServiceMetrics>) -> Self {
        let entries = Mutex::new(CacheEntries { by_key: LruCache::unbounded(), bytes: 0 });
        Self { entries, max_bytes, backoff: AdaptiveBackoff::new(STALE_ENTRY_COST), metrics }
    }

    fn entries(&self) -> MutexGuard<'_, CacheEntries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes and returns the entries of these customers. They return to the cache when
    /// they are written.
    pub(crate) fn take_entries<'c>(
        &self,
        customers: impl IntoIterator<Item = &'c CustomerKey>,
    ) -> Vec<(CustomerKey, CustomerSnapshot)> {
        let is_enabled = self.backoff.is_enabled();
        let mut entries = self.entries();
        let known = customers.into_iter().filter_map(|customer| entries.remove(customer));
        // Removed even while the cache is bypassed: the commit will make the entries
        // stale.
        let known = known.filter(|_| is_enabled).collect();
        self.publish_size(&entries);
        known
    }

    /// Inserts the rows that one commit wrote.
    pub(crate) fn insert_written(
        &self,
        written: impl Iterator<Item = (CustomerKey, CustomerSnapshot)>,
    ) {
        let mut entries = self.entries();
        for (customer, seen) in written {
            entries.bytes += entry_bytes(&customer, &seen);
            if let Some((customer, replaced)) = entries.by_key.push(customer, seen) {
                entries.bytes -= entry_bytes(&customer, &replaced);
            }
        }
        while entries.bytes > self.max_bytes {
            let Some((customer, seen)) = entries.by_key.pop_lru() else { break };
            entries.bytes -= entry_bytes(&customer, &seen);
        }
        self.publish_size(&entries);
    }

    fn publish_size(&self, entries: &CacheEntries) {
        self.metrics.ingestion.cache_bytes.set(i64::try_from(entries.bytes).unwrap_or(i64::MAX));
    }

    /// Invalidates customers that another part of this process has written.
    pub(crate) fn invalidate<'c>(&self, customers: impl IntoIterator<Item = &'c CustomerKey>) {
        let mut entries = self.entries();
        for customer in customers {
            entries.remove(customer);
        }
        self.publish_size(&entries);
    }

    /// Records a successful commit of `all` customers: `cached` came from the cache,
    /// including `precomputed` precomputed ones.
    pub(crate) fn record_commit(&self, precomputed: usize, cached: usize, all: usize) {
        self.backoff.record_success();
        let known = &self.metrics.ingestion.customer_lookups;
        known.add(CustomerLookup::Precomputed, precomputed as u64);
        known.add(CustomerLookup::Cached, (cached - precomputed) as u64);
        known.add(CustomerLookup::Read, (all - cached) as u64);
    }

    /// Records a failed commit that relied on `cached` customers from the cache.
    pub(crate) fn record_stale(&self, cached: usize) {
        self.backoff.record_failure();
        self.metrics.ingestion.customer_lookups.add(CustomerLookup::Stale, cached as u64);
    }
}
