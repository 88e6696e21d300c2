//! Reads that take long: they replay events or compare every customer.
//!
//! Each of them uses a database connection until it is done. Without a limit of their
//! own a few of them take all connections, and every other read waits. They take turns,
//! shared fairly between keys, and leave connections to other reads.

use std::time::Duration;

use crate::api::ApiError;
use crate::domain::access::Principal;
use crate::service::limits::fair_share::{FairShare, Share};

/// How long a request waits for its turn.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const RETRY_AFTER_SECONDS: u64 = 5;

/// The turns of this process.
#[derive(Debug)]
pub struct SlowReads(FairShare<String>);

impl SlowReads {
    /// `capacity`: at once.
    pub fn new(capacity: usize) -> Self {
        Self(FairShare::new(capacity))
    }

    /// Waits for a turn. It ends when the value is dropped.
    pub async fn turn(&self, principal: &Principal) -> Result<Share<String>, ApiError> {
        let turn = self.0.acquire(principal.key_id.clone(), 1);
        tokio::time::timeout(LONGEST_WAIT, turn).await.map_err(|_| {
            let detail = "too many reads that take long are in progress for this key";
            ApiError::busy(detail, RETRY_AFTER_SECONDS)
        })
    }
}
