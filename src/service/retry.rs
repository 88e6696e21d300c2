//! Transactions that lost a race against another are tried again.

use crate::store::StoreError;

/// Attempts at one transaction, at most.
const ATTEMPTS: usize = 5;

/// How often a transaction has lost a race.
#[derive(Debug, Default)]
pub(super) struct Attempts(usize);

impl Attempts {
    pub(super) fn has_lost(&self) -> bool {
        self.0 > 0
    }

    /// Fails with what ended an attempt, unless there may be another.
    pub(super) fn end_with(&mut self, error: StoreError) -> Result<(), StoreError> {
        self.0 += 1;
        match error {
            StoreError::Lost(why) if self.0 < ATTEMPTS => {
                tracing::debug!(%why, attempt = self.0, "a transaction is tried again");
                Ok(())
            }
            error => Err(error),
        }
    }
}
