//! Retry of transactions that lost a race (serialization failure or deadlock).

use crate::store::StoreError;

/// Most attempts at one transaction.
const ATTEMPTS: usize = 5;

/// Counts the lost attempts of one transaction.
#[derive(Debug, Default)]
pub(super) struct RetryAttempts(usize);

impl RetryAttempts {
    pub(super) fn has_lost(&self) -> bool {
        self.0 > 0
    }

    /// Records a failed attempt; returns the error if it is permanent or the attempts are
    /// exhausted.
    pub(super) fn record_failure(&mut self, error: StoreError) -> Result<(), StoreError> {
        self.0 += 1;
        match error {
            StoreError::Lost(why) if self.0 < ATTEMPTS => {
                tracing::debug!(%why, attempt = self.0, "retrying a transaction that lost a race");
                Ok(())
            }
            error => Err(error),
        }
    }
}
