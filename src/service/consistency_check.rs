//! Consistency check: compares sampled customer states with a replay of their events.
//!
//! Training reads the same states that serve scores, so a wrong state is wrong
//! everywhere, silently. This check counts such states. Each round reads states and
//! events in one snapshot. Ingestion commits both together, so any difference is a fault
//! and never an event in progress.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::domain::id::{CustomerKey, hex};
use crate::service::ServiceError;
use crate::service::rebuild::{self, Likeness};
use crate::service::scoring::deployment::ServingState;
use crate::store::customers::StoredState;
use crate::store::customers::rebuild::{Known, StateSnapshot};
use crate::store::{ReadDb, StoreError};
use crate::telemetry::Metrics;
use crate::telemetry::labels::{Labels as _, Mismatch, Uncompared};

/// Customers with more events are skipped, to bound the cost of a round.
const MAX_EVENTS: u64 = 50_000;

#[derive(Debug)]
pub struct Sampler {
    db: ReadDb,
    live: Arc<ServingState>,
    every: Duration,
    customers: usize,
    metrics: Arc<Metrics>,
}

/// Result of one round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SampleResult {
    pub compared: u64,
    pub mismatched: u64,
}

impl Sampler {
    /// `every`: the interval between rounds. `customers`: customers per round; 0 disables the
    /// check.
    pub fn new(
        db: ReadDb,
        live: Arc<ServingState>,
        every: Duration,
        customers: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { db, live, every, customers, metrics }
    }

    /// The interval between rounds.
    pub fn interval(&self) -> Duration {
        self.every
    }

    /// Whether the check is enabled.
    pub fn is_enabled(&self) -> bool {
        self.customers > 0
    }

    /// Runs one round.
    pub async fn run(&self) -> Result<SampleResult, ServiceError> {
        let mut result = SampleResult::default();
        let count = i64::try_from(self.customers).unwrap_or(i64::MAX);
        let mut snapshot = StateSnapshot::open(&self.db).await?;
        for stored in snapshot.sample_states(count).await? {
            if let Some(is_equal) = self.compare(&mut snapshot, &stored).await? {
                result.compared += 1;
                result.mismatched += u64::from(!is_equal);
            }
        }
        let (looked_up, stateless) = snapshot.sample_stateless(count).await?;
        self.metrics.skew.compared.inc_by(looked_up);
        result.compared += looked_up;
        for customer in stateless {
            result.mismatched += 1;
            self.report(&customer, Mismatch::Missing);
        }
        Ok(result)
    }

    /// Whether the state equals its replayed events; `None` if they cannot be compared.
    async fn compare(
        &self,
        snapshot: &mut StateSnapshot,
        stored: &StoredState,
    ) -> Result<Option<bool>, StoreError> {
        let features = &self.live.snapshot().features;
        let customer = &stored.customer;
        let skew = &self.metrics.skew;
        let replayed =
            rebuild::replay(snapshot, features, customer, Known::default(), MAX_EVENTS).await;
        let mismatch = match replayed {
            Ok(replayed) if replayed.is_cut => {
                skew.uncompared.add(Uncompared::TooManyEvents, 1);
                return Ok(None);
            }
            Ok(replayed) => match rebuild::compare(features, &stored.state, &replayed.state) {
                _ if replayed.events == 0 => Some(Mismatch::Extra),
                Likeness::Same => None,
                Likeness::Differs => Some(Mismatch::Differs),
                Likeness::Foreign => {
                    skew.uncompared.add(Uncompared::OtherFeatures, 1);
                    return Ok(None);
                }
            },
            Err(StoreError::Corrupt { .. }) => Some(Mismatch::Unreadable),
            Err(error) => return Err(error),
        };
        skew.compared.inc();
        if let Some(mismatch) = mismatch {
            self.report(customer, mismatch);
        }
        Ok(Some(mismatch.is_none()))
    }

    /// Customer ids stay out of the log. A reader with access to the table finds the
    /// customer by the digest (`[skew]` in config/default.toml says how).
    fn report(&self, customer: &CustomerKey, mismatch: Mismatch) {
        self.metrics.skew.mismatched.add(mismatch, 1);
        let digest = hex(&Sha256::digest(customer.as_str())[..8]);
        tracing::warn!(
            kind = mismatch.values().concat(),
            customer_sha256 = digest,
            "a stored customer state differs from a replay of its events"
        );
    }
}
