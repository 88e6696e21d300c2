//! Memory budget for requests: bytes are reserved before they are allocated.
//!
//! Bodies, decompressed bodies, parsed events, queued events, lines of bulk uploads and
//! responses are reserved from one [`FairShare`], at their measured maximum
//! (`tests/alloc_requests.rs`). What does not fit is refused: 429 if the key's share is
//! exhausted, 503 if the whole budget is.

use std::sync::Arc;
use std::time::Duration;

use crate::service::ServiceError;
use crate::service::limits::fair_share::{FairShare, ResourceShare};
use crate::service::limits::resource_user::ResourceUser;
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::RefusingLimit;

/// Memory of one event beside its text: its structures, its entries in the queue and in a
/// commit, its outcome and its verdict as JSON.
pub(crate) const EVENT_BYTES: usize = 4096;
/// Memory per byte of an event's text, from parsing to commit: copied ids, names and
/// properties (or the stored text of a rejected event), their encoding for the database,
/// and the part of the response that repeats them.
pub(crate) const EVENT_EXPANSION: usize = 7;
/// Memory per byte of JSON in a `serde_json::Value`: an object of one member takes five
/// bytes of text and a tree node of more than 600.
pub const VALUE_EXPANSION: usize = 192;

/// Memory is released within milliseconds, at the end of other requests.
const RETRY_AFTER_SECONDS: u64 = 1;

/// The part of the process's memory that requests share.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<BudgetState>);

#[derive(Debug)]
struct BudgetState {
    shares: FairShare<ResourceUser>,
    metrics: Arc<ServiceMetrics>,
}

/// Reserved bytes, released on drop.
#[derive(Debug)]
pub struct MemoryReservation {
    share: ResourceShare<ResourceUser>,
    budget: MemoryBudget,
}

impl MemoryBudget {
    pub fn new(bytes: usize, metrics: Arc<ServiceMetrics>) -> Self {
        Self(Arc::new(BudgetState { shares: FairShare::new(bytes), metrics }))
    }

    /// Bytes that are reserved now.
    pub(crate) fn used_bytes(&self) -> usize {
        self.0.shares.used()
    }

    pub(crate) fn reserve(
        &self,
        user: ResourceUser,
        bytes: usize,
    ) -> Result<MemoryReservation, ServiceError> {
        match self.0.shares.try_acquire(user, bytes) {
            Some(share) => Ok(MemoryReservation { share, budget: self.clone() }),
            None => Err(self.refusal(bytes)),
        }
    }

    /// An empty reservation, for a user that reserves step by step.
    pub(crate) fn reserve_nothing(
        &self,
        user: ResourceUser,
    ) -> Result<MemoryReservation, ServiceError> {
        self.reserve(user, 0)
    }

    /// The refusal: because of one user's share, or because the whole budget is used.
    fn refusal(&self, bytes: usize) -> ServiceError {
        let free = self.0.shares.capacity().saturating_sub(self.0.shares.used());
        if bytes > free {
            self.0.metrics.limits.refusals.add(RefusingLimit::Memory, 1);
            return ServiceError::Overloaded {
                detail: "the memory for requests is exhausted (limits.buffer_bytes)",
                retry_after_seconds: RETRY_AFTER_SECONDS,
            };
        }
        self.0.metrics.limits.refusals.add(RefusingLimit::MemoryShare, 1);
        ServiceError::OverLimit {
            detail: "this key's requests take its whole share of memory (limits.buffer_bytes)"
                .into(),
            retry_after_seconds: RETRY_AFTER_SECONDS,
        }
    }
}

impl MemoryReservation {
    pub fn bytes(&self) -> usize {
        self.share.amount()
    }

    /// Reserves more, or changes nothing.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), ServiceError> {
        if self.share.try_grow(bytes) { Ok(()) } else { Err(self.budget.refusal(bytes)) }
    }

    pub(crate) fn try_grow(&mut self, bytes: usize) -> bool {
        self.share.try_grow(bytes)
    }

    /// [`Self::grow`] that waits up to `patience` for other requests to end.
    pub(crate) async fn grow_within(
        &mut self,
        bytes: usize,
        patience: Duration,
    ) -> Result<(), ServiceError> {
        let grown = tokio::time::timeout(patience, self.share.grow(bytes)).await;
        grown.map_err(|_| self.budget.refusal(bytes))
    }

    /// Grows to at least `bytes`.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), ServiceError> {
        self.grow(bytes.saturating_sub(self.bytes()))
    }

    /// Moves a part into a reservation of its own, released separately.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        Self { share: self.share.split(bytes), budget: self.budget.clone() }
    }

    /// Releases everything above `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        self.share.shrink(self.bytes().saturating_sub(bytes));
    }

    /// Attaches the reservation to `content`, until the last clone of the result is
    /// dropped.
    pub(crate) fn attach_to(self, content: impl AsRef<[u8]> + Send + 'static) -> bytes::Bytes {
        bytes::Bytes::from_owner(ReservedContent { content, _reservation: self })
    }
}

/// Maximum memory of events with `text_bytes` of text, beside that text.
pub const fn event_memory_bytes(events: usize, text_bytes: usize) -> usize {
    events.saturating_mul(EVENT_BYTES).saturating_add(text_bytes.saturating_mul(EVENT_EXPANSION))
}

/// Bytes and their reservation.
struct ReservedContent<C> {
    content: C,
    _reservation: MemoryReservation,
}

impl<C: AsRef<[u8]>> AsRef<[u8]> for ReservedContent<C> {
    fn as_ref(&self) -> &[u8] {
        self.content.as_ref()
    }
}
