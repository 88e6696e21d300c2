//! Whether a way that may fail has paid lately.

use std::sync::atomic::{AtomicI32, Ordering};

/// Counts what was gained and lost by a way. After a failure too many it is left
/// alone for as many turns as make up for that.
#[derive(Debug)]
pub(crate) struct Trust {
    level: AtomicI32,
    /// So many successes, or turns without, make up for a failure.
    loss: i32,
}

/// Neither more failures nor more successes than make up for so many are
/// remembered.
const MOST_LOSSES: i32 = 4;

impl Trust {
    pub(crate) const fn new(loss: i32) -> Self {
        Self { level: AtomicI32::new(0), loss }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.level.load(Ordering::Relaxed) >= 0
    }

    /// A success, or a turn without.
    pub(crate) fn grow(&self) {
        let grown = self.level.load(Ordering::Relaxed).saturating_add(1);
        self.level.store(grown.min(MOST_LOSSES * self.loss), Ordering::Relaxed);
    }

    pub(crate) fn lose(&self) {
        let left = self.level.load(Ordering::Relaxed).saturating_sub(self.loss);
        self.level.store(left.max(-MOST_LOSSES * self.loss), Ordering::Relaxed);
    }
}
