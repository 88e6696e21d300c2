//! Delivery of moves between segments to webhooks: each channel with the topic `moves` follows
//! the change feed from a stored position, which advances after the receiver has accepted a
//! message.
//!
//! A channel is claimed for one message, so that one replica at a time sends to it. The claim of
//! a replica that dies expires. Delivery is at least once, and in order for each customer: the
//! same position is sent until the receiver accepts it. No transaction is open while a receiver
//! responds.

mod batch;
mod outcome;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::batch::{MoveBatch, read_batch};
use self::outcome::MoveClaim;
use crate::config;
use crate::outbound::NotificationSender;
use crate::service::alerts::AlertService;
use crate::service::alerts::channel_queue::{ChannelWorker, serve_channels};
use crate::service::alerts::deliver::{RETRY_PAUSE, attempt_within};
use crate::service::alerts::delivery_outcome::millis;
use crate::service::clock::TimeSource;
use crate::service::error::ErrorChain;
use crate::service::{ServiceError, random};
use crate::store::alerting::deliveries::DeliveryClaim;
use crate::store::alerting::move_deliveries;
use crate::store::alerting::move_deliveries::AdvancedPosition;
use crate::store::{DatabaseHandle, DedicatedDatabase, ReadOnlyDatabase};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::repeated_failures::count_failure;

/// Interval of the query for undelivered changes, which is one for all channels.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Messages in flight at once, each to a different channel.
const MAX_IN_FLIGHT: usize = 32;
/// Connections to Postgres that write claims and outcomes.
const WRITE_CONNECTIONS: u32 = 2;
/// Connections to Postgres that read changes.
const READ_CONNECTIONS: u32 = 1;

/// Background worker that delivers moves.
#[derive(Debug)]
pub(crate) struct MoveDeliveryWorker {
    alerts: Arc<AlertService>,
    sender: Arc<NotificationSender>,
    /// Connection pools for moves alone: a large backlog cannot exhaust the connections of the
    /// API or of alert notifications.
    db: DedicatedDatabase,
    read: ReadOnlyDatabase,
    clock: TimeSource,
    settings: config::AlertSettings,
    metrics: Arc<ServiceMetrics>,
}

impl MoveDeliveryWorker {
    pub(crate) fn new(
        alerts: Arc<AlertService>,
        sender: Arc<NotificationSender>,
        db: &DatabaseHandle,
        clock: TimeSource,
        metrics: Arc<ServiceMetrics>,
    ) -> Self {
        let settings = alerts.settings.clone();
        let read = db.read().dedicated_pool(READ_CONNECTIONS);
        let db = db.dedicated_pool(WRITE_CONNECTIONS);
        Self { alerts, sender, db, read, clock, settings, metrics }
    }

    /// Sends moves until `stopped`, then completes the messages in flight.
    pub(crate) async fn run(&self, stopped: impl Future<Output = ()>) {
        serve_channels(self, MAX_IN_FLIGHT, stopped).await;
        self.db.close().await;
    }

    async fn claim(
        &self,
        busy: &[String],
        capacity: usize,
    ) -> Result<Vec<MoveClaim>, ServiceError> {
        let oldest = move_deliveries::oldest_undelivered_at(&self.read).await?;
        let now = self.clock.now();
        self.metrics.output.set_oldest_undelivered_move(oldest, now);
        if oldest.is_none() {
            return Ok(Vec::new());
        }
        let token = random::hex_token::<8>()?;
        let expires_at = now.plus_millis(millis(self.settings.takeover_after));
        let claim = DeliveryClaim { token: &token, now, expires_at };
        let capacity = i64::try_from(capacity).unwrap_or(i64::MAX);
        // Commits alone: the channels to which this worker is about to send.
        let mut tx = self.db.begin().await?;
        let claimed = move_deliveries::claim(&mut tx, claim, busy, capacity).await?;
        tx.commit().await?;
        Ok(claimed.into_iter().map(|moves| MoveClaim { token: token.clone(), moves }).collect())
    }

    /// Sends the next message of a channel and records the outcome.
    async fn send_next(&self, claim: &MoveClaim) -> Result<(), ServiceError> {
        let claimed_at = Instant::now();
        let batch = self.read_batch_or_retry(claim, claimed_at).await?;
        let channel_id = &claim.moves.channel_id;
        let external_url = self.settings.external_url.clone();
        let Some(message) = batch.message(channel_id, external_url) else {
            // The gap is stored: the next message must report it.
            let (position, has_gap) = (batch.end, batch.has_gap);
            let advanced = AdvancedPosition { position, has_gap, is_accepted: false };
            return self.alerts.skip_changes(&self.db, claim, advanced).await;
        };
        // The attempt ends with the claim, after which another replica may send.
        let remaining = self.settings.takeover_after.saturating_sub(claimed_at.elapsed());
        let sending = self.sender.send_moves(&claim.moves.target, &message, self.clock.now());
        let outcome = attempt_within(remaining, &self.clock, sending).await;
        self.alerts.count_moves_attempt(&outcome, &message);
        if outcome.failure.is_some()
            && let Some(repeated) = count_failure("moves", channel_id)
        {
            let status = outcome.attempt.status;
            tracing::warn!(
                channel = channel_id,
                status,
                "moves of customers were not delivered and are sent again{repeated}"
            );
        }
        // Moves that were sent but not recorded are sent again.
        loop {
            let recorded =
                self.alerts.record_moves_attempt(&self.db, claim, &outcome, batch.end).await;
            match recorded {
                Ok(()) => return Ok(()),
                Err(error) => self.pause_until_retry(error, claimed_at).await?,
            }
        }
    }

    async fn read_batch_or_retry(
        &self,
        claim: &MoveClaim,
        claimed_at: Instant,
    ) -> Result<MoveBatch, ServiceError> {
        loop {
            match read_batch(&self.read, &claim.moves).await {
                Ok(batch) => return Ok(batch),
                Err(error) => self.pause_until_retry(error, claimed_at).await?,
            }
        }
    }

    /// Waits before a failed database access is repeated; fails once the claim has expired, after
    /// which another replica may send.
    async fn pause_until_retry(
        &self,
        error: ServiceError,
        claimed_at: Instant,
    ) -> Result<(), ServiceError> {
        if claimed_at.elapsed() >= self.settings.takeover_after {
            return Err(error);
        }
        let error = ErrorChain(&error).to_string();
        if let Some(repeated) = count_failure("database of moves", &error) {
            tracing::warn!(error, "a delivery of moves failed and is retried{repeated}");
        }
        tokio::time::sleep(RETRY_PAUSE).await;
        Ok(())
    }
}

impl ChannelWorker for MoveDeliveryWorker {
    type Claim = MoveClaim;

    async fn claim_due(&self, busy: &[String], capacity: usize) -> Vec<MoveClaim> {
        self.claim(busy, capacity).await.unwrap_or_else(|error| {
            let error = ErrorChain(&error).to_string();
            if let Some(repeated) = count_failure("claim of moves", &error) {
                tracing::warn!(error, "claiming moves failed and is retried{repeated}");
            }
            Vec::new()
        })
    }

    fn channel_id(claim: &MoveClaim) -> &str {
        &claim.moves.channel_id
    }

    async fn deliver(&self, claim: MoveClaim) {
        if let Err(error) = self.send_next(&claim).await {
            let error = ErrorChain(&error).to_string();
            if let Some(repeated) = count_failure("delivery of moves", &error) {
                tracing::warn!(error, "moves are sent again after their claim expires{repeated}");
            }
        }
    }

    async fn wait_until_due(&self) {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
