//! Customers as this process wrote them last, so that the next event of each
//! need not read them first.
//!
//! Nothing is ever believed because it is here: a row is written only if it is
//! still the writing that is known (`store::optimistic`). Whatever another
//! replica, a sweep or an erasure has done to a customer costs one lost commit.
//! Where that happens often, the cache is left alone.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::domain::id::CustomerKey;
use crate::service::intake::trust::Trust;
use crate::store::optimistic::Seen;
use crate::telemetry::Metrics;
use crate::telemetry::labels::Known;

/// What a customer takes besides its texts and its state: structs, and a place
/// in the table.
const ENTRY_BYTES: usize = 256;
/// As many customers of usual size fit; the table grows beyond that if it must.
const USUAL_BYTES: u64 = 512;
/// Reading costs a fifth of a commit. Who loses by the cache has company that
/// will not go away soon: a longer while without costs little.
const LOSS: i32 = 64;

/// Bounded by bytes; who was written longest ago is forgotten first.
#[derive(Debug)]
pub struct CustomerCache {
    customers: Cache<CustomerKey, Seen, Bytes>,
    trust: Trust,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<CustomerKey, Seen> for Bytes {
    fn weight(&self, customer: &CustomerKey, seen: &Seen) -> u64 {
        let segment = seen.held.as_ref().map_or(0, |held| held.segment.len());
        (ENTRY_BYTES + customer.as_str().len() + seen.state.len() + segment) as u64
    }
}

impl CustomerCache {
    /// Holds about so many bytes; 0: nothing.
    pub(super) fn new(bytes: u64, metrics: Arc<Metrics>) -> Self {
        let items = usize::try_from(bytes / USUAL_BYTES).unwrap_or(usize::MAX);
        let customers = Cache::with_weighter(items, bytes, Bytes);
        Self { customers, trust: Trust::new(LOSS), metrics }
    }

    /// What is known of these customers, in their order. It is here no longer:
    /// what comes of it is put back once it is certain.
    pub(super) fn take(&self, customers: &[&CustomerKey]) -> Vec<Option<Seen>> {
        if !self.trust.is_there() {
            return customers.iter().map(|_| None).collect();
        }
        let take = |customer: &&CustomerKey| Some(self.customers.remove(*customer)?.1);
        customers.iter().map(take).collect()
    }

    /// Keeps what has been written and is on disk: of what is not, Postgres may
    /// lose the version and use it again.
    pub(super) fn put(&self, written: Vec<(CustomerKey, Seen)>) {
        if !self.trust.is_there() {
            return;
        }
        for (customer, seen) in written {
            self.customers.insert(customer, seen);
        }
        let bytes = i64::try_from(self.customers.weight()).unwrap_or(i64::MAX);
        self.metrics.intake.cache_bytes.set(bytes);
    }

    /// After somebody else in this process has written these customers.
    pub fn forget<'c>(&self, customers: impl IntoIterator<Item = &'c CustomerKey>) {
        for customer in customers {
            self.customers.remove(customer);
        }
    }

    /// A commit of customers went well, of whom so many were known from here.
    pub(super) fn won(&self, cached: usize, all: usize) {
        self.trust.grow();
        let known = &self.metrics.intake.known;
        known.add(Known::Cached, cached as u64);
        known.add(Known::Read, (all - cached) as u64);
    }

    /// A commit was lost that relied on so many customers from here.
    pub(super) fn lost(&self, cached: usize) {
        self.trust.lose();
        self.metrics.intake.known.add(Known::Stale, cached as u64);
    }
}
