//! Adaptive back-off for a fallible fast path: disables it after too many failures.

use std::sync::atomic::{AtomicI32, Ordering};

/// Balance of successes and failures of a fast path. While the balance is negative, the
/// path is skipped, and each skipped turn raises the balance by one.
#[derive(Debug)]
pub(crate) struct Trust {
    level: AtomicI32,
    /// Number of successes, or of skipped turns, that compensate one failure.
    loss: i32,
}

/// Bound of the balance in either direction, in failures. It limits how long the past
/// counts.
const MOST_LOSSES: i32 = 4;

impl Trust {
    pub(crate) const fn new(loss: i32) -> Self {
        Self { level: AtomicI32::new(0), loss }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.level.load(Ordering::Relaxed) >= 0
    }

    /// Records a success or a skipped turn.
    pub(crate) fn grow(&self) {
        let grown = self.level.load(Ordering::Relaxed).saturating_add(1);
        self.level.store(grown.min(MOST_LOSSES * self.loss), Ordering::Relaxed);
    }

    pub(crate) fn lose(&self) {
        let left = self.level.load(Ordering::Relaxed).saturating_sub(self.loss);
        self.level.store(left.max(-MOST_LOSSES * self.loss), Ordering::Relaxed);
    }
}
