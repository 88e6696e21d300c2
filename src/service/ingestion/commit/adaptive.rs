//! Adaptive back-off for a fallible fast path: disables it after too many failures.

use std::sync::atomic::{AtomicI32, Ordering};

/// Balance of successes and failures of a fast path. While the balance is negative, the
/// path is skipped, and each skipped turn raises the balance by one.
#[derive(Debug)]
pub(crate) struct AdaptiveBackoff {
    balance: AtomicI32,
    /// Number of successes, or of skipped turns, that compensate one failure.
    failure_cost: i32,
}

/// Bound of the balance in either direction, in failures. It limits how long the past
/// counts.
const MAX_FAILURES: i32 = 4;

impl AdaptiveBackoff {
    pub(crate) const fn new(failure_cost: i32) -> Self {
        Self { balance: AtomicI32::new(0), failure_cost }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.balance.load(Ordering::Relaxed) >= 0
    }

    /// Records a success or a skipped turn.
    pub(crate) fn record_success(&self) {
        let raised = self.balance.load(Ordering::Relaxed).saturating_add(1);
        self.balance.store(raised.min(MAX_FAILURES * self.failure_cost), Ordering::Relaxed);
    }

    pub(crate) fn record_failure(&self) {
        let lowered = self.balance.load(Ordering::Relaxed).saturating_sub(self.failure_cost);
        self.balance.store(lowered.max(-MAX_FAILURES * self.failure_cost), Ordering::Relaxed);
    }
}
