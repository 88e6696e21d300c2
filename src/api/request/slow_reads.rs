//! Concurrency limit for slow reads, which replay events or compare every customer.
//!
//! Each slow read uses a database connection until it ends. Without a separate limit a few
//! slow reads would occupy all connections, and every other read would wait. The limit
//! leaves connections to other reads and is shared fairly between keys.

use std::time::Duration;

use crate::api::ApiError;
use crate::domain::access::Principal;
use crate::service::limits::fair_share::{FairShare, ResourceShare};

/// Longest time that a request waits for a permit.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const RETRY_AFTER_SECONDS: u64 = 5;

/// The permits for slow reads in this process.
#[derive(Debug)]
pub struct SlowReads(FairShare<String>);

impl SlowReads {
    /// `capacity`: slow reads at the same time.
    pub fn new(capacity: usize) -> Self {
        Self(FairShare::new(capacity))
    }

    /// Waits for a permit, which is released when the value is dropped.
    pub async fn acquire(&self, principal: &Principal) -> Result<ResourceShare<String>, ApiError> {
        let permit = self.0.acquire(principal.key_id.clone(), 1);
        tokio::time::timeout(LONGEST_WAIT, permit).await.map_err(|_| {
            let detail = "too many slow reads are in progress";
            ApiError::busy(detail, RETRY_AFTER_SECONDS)
        })
    }
}
