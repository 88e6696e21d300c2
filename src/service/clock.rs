//! The clock: the only source of the current time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::time::Timestamp;

/// The system clock, or a manual clock for tests.
#[derive(Debug, Clone, Default)]
pub enum TimeSource {
    #[default]
    System,
    Manual(Arc<AtomicI64>),
}

impl TimeSource {
    /// A clock that shows `at` until it is moved through the handle.
    pub fn manual(at: Timestamp) -> (Self, Arc<AtomicI64>) {
        let handle = Arc::new(AtomicI64::new(at.millis()));
        (Self::Manual(Arc::clone(&handle)), handle)
    }

    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Self::Manual(millis) => Timestamp::from_millis(millis.load(Ordering::Relaxed)),
        }
    }
}
