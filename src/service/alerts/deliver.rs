//! Delivery worker of the transactional outbox: claims messages, sends them and records the
//! outcome.
//!
//! A message is claimed, sent, and then marked as delivered or rescheduled. No transaction is
//! open while a receiver responds. The claim of a replica that dies expires, so delivery is at
//! least once: a message may be sent twice and is never lost. At most one message per channel
//! is in flight, so a receiver that hangs delays only its own channel.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config;
use crate::outbound::{DeliveryReceipt, NotificationSender, SendError, SendErrorKind};
use crate::service::alerts::AlertService;
use crate::service::alerts::channel_queue::{ChannelWorker, serve_channels};
use crate::service::clock::TimeSource;
use crate::service::error::ErrorChain;
use crate::service::{ServiceError, random};
use crate::store::alerting::deliveries;
use crate::store::alerting::deliveries::{ClaimedDelivery, DeliveryAttempt, DeliveryClaim};
use crate::store::{DatabaseHandle, DedicatedDatabase};
use crate::telemetry::repeated_failures::count_failure;

/// Messages in flight at once, each to a different channel.
const MAX_IN_FLIGHT: usize = 64;
/// Connections to Postgres. A claim and an outcome take milliseconds each, however slow the
/// receivers are.
const MAX_CONNECTIONS: u32 = 3;
/// Pause before a failed write of an outcome is repeated: Postgres may be unavailable.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Characters of a receiver's answer that are logged.
const MAX_ANSWER_CHARS: usize = 500;

/// Background worker that delivers the messages of the outbox.
#[derive(Debug)]
pub(crate) struct DeliveryWorker {
    alerts: Arc<AlertService>,
    sender: Arc<NotificationSender>,
    /// A connection pool for deliveries alone: slow or failing receivers cannot exhaust the
    /// API's connections, and API requests cannot exhaust those of deliveries.
    db: DedicatedDatabase,
    clock: TimeSource,
    settings: config::AlertSettings,
}

/// The result of one delivery attempt.
pub(super) struct AttemptOutcome {
    pub(super) attempt: DeliveryAttempt,
    /// `None`: the receiver accepted the message.
    pub(super) failure: Option<AttemptFailure>,
}

/// Why an attempt failed.
#[derive(Clone, Copy)]
pub(super) struct AttemptFailure {
    pub(super) kind: SendErrorKind,
    /// The delay requested by the receiver.
    pub(super) retry_after: Option<Duration>,
}

/// A claimed message, and the token of its claim.
#[derive(Debug)]
pub(super) struct DeliveryTask {
    token: String,
    claimed: ClaimedDelivery,
}

impl DeliveryWorker {
    pub(crate) fn new(
        alerts: Arc<AlertService>,
        sender: Arc<NotificationSender>,
        db: &DatabaseHandle,
        clock: TimeSource,
        settings: config::AlertSettings,
    ) -> Self {
        Self { alerts, sender, db: db.dedicated_pool(MAX_CONNECTIONS), clock, settings }
    }

    /// Sends due messages until `stopped`, then completes the deliveries in flight.
    pub(crate) async fn run(&self, stopped: impl Future<Output = ()>) {
        serve_channels(self, MAX_IN_FLIGHT, stopped).await;
        self.db.close().await;
    }

    async fn claim(
        &self,
        busy: &[String],
        capacity: usize,
    ) -> Result<Vec<DeliveryTask>, ServiceError> {
        let token = random::hex_token::<8>()?;
        let now = self.clock.now();
        let claim_millis =
            i64::try_from(self.settings.takeover_after.as_millis()).unwrap_or(i64::MAX);
        let claim = DeliveryClaim { token: &token, now, expires_at: now.plus_millis(claim_millis) };
        let capacity = i64::try_from(capacity).unwrap_or(i64::MAX);
        // Commits alone: which messages this worker is about to send.
        let mut tx = self.db.begin().await?;
        let messages = deliveries::claim(&mut tx, claim, busy, capacity).await?;
        tx.commit().await?;
        let task = |claimed| DeliveryTask { token: token.clone(), claimed };
        Ok(messages.into_iter().map(task).collect())
    }
}

impl ChannelWorker for DeliveryWorker {
    type Claim = DeliveryTask;

    async fn claim_due(&self, busy: &[String], capacity: usize) -> Vec<DeliveryTask> {
        self.claim(busy, capacity).await.unwrap_or_else(|error| {
            let error = ErrorChain(&error).to_string();
            if let Some(repeated) = count_failure("claim of deliveries", &error) {
                tracing::warn!(error, "claiming deliveries failed and is retried{repeated}");
            }
            Vec::new()
        })
    }

    fn channel_id(task: &DeliveryTask) -> &str {
        &task.claimed.channel_id
    }

    async fn wait_until_due(&self) {
        tokio::select! {
            () = self.alerts.delivery_wake() => {}
            () = tokio::time::sleep(self.settings.poll_interval) => {}
        }
    }

    async fn deliver(&self, task: DeliveryTask) {
        let DeliveryTask { token, claimed } = task;
        let claim = self.settings.takeover_after;
        let started = Instant::now();
        let sending = self.sender.send(&claimed.target, &claimed.notice, self.clock.now());
        let outcome = attempt_within(claim, &self.clock, sending).await;
        if outcome.failure.is_some()
            && let Some(repeated) = count_failure("delivery", &claimed.channel_id)
        {
            // Not the receiver's answer, which may repeat the message: the delivery log has it.
            let (channel, status) = (&claimed.channel_id, outcome.attempt.status);
            tracing::warn!(
                channel,
                status,
                "an alert notification was not delivered; GET /v1/channels/{{channel_id}}/deliveries \
                 shows the reason{repeated}"
            );
        }
        // Retried until the claim expires: a message that was sent but not recorded is sent
        // again.
        loop {
            match self.alerts.record_attempt(&self.db, &token, &claimed, &outcome).await {
                Ok(()) => break,
                Err(error) => {
                    let error = ErrorChain(&error).to_string();
                    if let Some(repeated) = count_failure("outcome of a delivery", &error) {
                        let delivery = &claimed.delivery_id;
                        tracing::warn!(
                            delivery,
                            error,
                            "recording the outcome of a delivery failed and is retried{repeated}"
                        );
                    }
                    if started.elapsed() >= claim {
                        break;
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}

/// Completes one attempt. The sender has its own timeout. This one guarantees that no attempt
/// outlasts the claim, after which another replica may send the message.
pub(super) async fn attempt_within(
    claim: Duration,
    clock: &TimeSource,
    sending: impl Future<Output = Result<DeliveryReceipt, SendError>>,
) -> AttemptOutcome {
    let at = clock.now();
    let started = Instant::now();
    let sent = tokio::time::timeout(claim, sending).await.unwrap_or_else(|_| {
        Err(SendError {
            kind: SendErrorKind::Temporary,
            status: None,
            answer: "the receiver did not answer in time".into(),
            retry_after: None,
        })
    });
    let duration_millis = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    let (status, answer, failure) = match sent {
        Ok(DeliveryReceipt { status, answer }) => (status, answer, None),
        Err(SendError { kind, status, answer, retry_after }) => {
            (status, answer, Some(AttemptFailure { kind, retry_after }))
        }
    };
    // Postgres rejects NUL characters in text.
    let response = answer.chars().filter(|c| *c != '\0').take(MAX_ANSWER_CHARS).collect();
    let attempt =
        DeliveryAttempt { at, is_accepted: failure.is_none(), status, response, duration_millis };
    AttemptOutcome { attempt, failure }
}
