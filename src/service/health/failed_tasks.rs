//! Background tasks that failed and are not restarted: the process is not ready until it is
//! restarted.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::telemetry::labels::BackgroundTask;

/// Names of the background tasks that failed for good.
#[derive(Debug, Default)]
pub struct FailedTasks(Mutex<BTreeSet<&'static str>>);

impl FailedTasks {
    pub fn add(&self, task: BackgroundTask) {
        self.tasks().insert(task.name());
    }

    /// The names, in alphabetical order.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.tasks().iter().copied().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.tasks().is_empty()
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        // A name is added whole, so a panic leaves the set consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
