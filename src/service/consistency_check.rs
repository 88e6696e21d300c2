//! Consistency check: compares sampled customer states with a replay of their events.
//!
//! Training reads the same states that serve scores, so a wrong state is wrong
//! everywhere, silently. This check counts such states. Each round reads states and
//! events in one snapshot. Ingestion commits both together, so any difference is a fault
//! and never an event in progress.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::domain::id::{CustomerKey, encode_hex};
use crate::service::ServiceError;
use crate::service::rebuild::{self, StateComparison};
use crate::service::scoring::serving::ServingState;
use crate::store::customers::StoredState;
use crate::store::customers::rebuild::{EventCutoff, StateSnapshot};
use crate::store::{ReadOnlyDatabase, StoreError};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::{LabelSet as _, StateMismatch, UncomparedReason};

/// Customers with more events are skipped, to bound the cost of a round.
const MAX_EVENTS: u64 = 50_000;

#[derive(Debug)]
pub struct ConsistencyCheck {
    db: ReadOnlyDatabase,
    serving: Arc<ServingState>,
    interval: Duration,
    customers_per_round: usize,
    metrics: Arc<ServiceMetrics>,
}

/// Result of one round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConsistencyCounts {
    pub compared: u64,
    pub mismatched: u64,
}

impl ConsistencyCheck {
    /// `interval`: time between rounds. `customers_per_round`: 0 disables the check.
    pub fn new(
        db: ReadOnlyDatabase,
        serving: Arc<ServingState>,
        interval: Duration,
        customers_per_round: usize,
        metrics: Arc<ServiceMetrics>,
    ) -> Self {
        Self { db, serving, interval, customers_per_round, metrics }
    }

    /// The interval between rounds.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether the check is enabled.
    pub(crate) fn is_enabled(&self) -> bool {
        self.customers_per_round > 0
    }

    /// Runs one round.
    pub async fn run_round(&self) -> Result<ConsistencyCounts, ServiceError> {
        let mut result = ConsistencyCounts::default();
        let count = i64::try_from(self.customers_per_round).unwrap_or(i64::MAX);
        let mut snapshot = StateSnapshot::open(&self.db).await?;
        for stored in snapshot.sample_states(count).await? {
            if let Some(is_equal) = self.compare(&mut snapshot, &stored).await? {
                result.compared += 1;
                result.mismatched += u64::from(!is_equal);
            }
        }
        let (looked_up, stateless) = snapshot.sample_stateless(count).await?;
        self.metrics.consistency_check.compared.inc_by(looked_up);
        result.compared += looked_up;
        for customer in stateless {
            result.mismatched += 1;
            self.report(&customer, StateMismatch::Missing);
        }
        Ok(result)
    }

    /// Whether the state equals its replayed events; `None` if they cannot be compared.
    async fn compare(
        &self,
        snapshot: &mut StateSnapshot,
        stored: &StoredState,
    ) -> Result<Option<bool>, StoreError> {
        let features = &self.serving.snapshot().features;
        let customer = &stored.customer;
        let metrics = &self.metrics.consistency_check;
        let replayed = rebuild::replay_events(
            snapshot,
            features,
            customer,
            EventCutoff::default(),
            MAX_EVENTS,
        )
        .await;
        let mismatch = match replayed {
            Ok(replayed) if replayed.is_truncated => {
                metrics.uncompared.add(UncomparedReason::TooManyEvents, 1);
                return Ok(None);
            }
            Ok(replayed) => match rebuild::compare_states(features, &stored.state, &replayed.state)
            {
                _ if replayed.events == 0 => Some(StateMismatch::Extra),
                StateComparison::Equal => None,
                StateComparison::Different => Some(StateMismatch::Differs),
                StateComparison::Incomparable => {
                    metrics.uncompared.add(UncomparedReason::OtherFeatures, 1);
                    return Ok(None);
                }
            },
            Err(StoreError::Corrupt { .. }) => Some(StateMismatch::Unreadable),
            Err(error) => return Err(error),
        };
        metrics.compared.inc();
        if let Some(mismatch) = mismatch {
            self.report(customer, mismatch);
        }
        Ok(Some(mismatch.is_none()))
    }

    /// Customer ids stay out of the log. A reader with access to the table finds the
    /// customer by the digest (`[consistency_check]` in config/default.toml says how).
    fn report(&self, customer: &CustomerKey, mismatch: StateMismatch) {
        self.metrics.consistency_check.mismatched.add(mismatch, 1);
        let digest = encode_hex(&Sha256::digest(customer.as_str())[..8]);
        tracing::warn!(
            kind = mismatch.values().concat(),
            customer_sha256 = digest,
            "a stored customer state differs from a replay of its events"
        );
    }
}
