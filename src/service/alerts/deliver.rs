//! Delivery worker of the transactional outbox: claims messages, sends them and records the
//! outcome.
//!
//! A message is claimed, sent, and then marked as delivered or rescheduled. No transaction is
//! open while a receiver responds. The claim of a replica that dies expires, so delivery is at
//! least once: a message may be sent twice and is never lost. At most one message per channel
//! is in flight, so a receiver that hangs delays only its own channel.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{Fuse, FusedFuture as _};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};

use crate::config;
use crate::outbound::{DeliveryReceipt, NotificationSender, SendError, SendErrorKind};
use crate::service::alerts::AlertService;
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

/// Messages claimed together under one token.
#[derive(Default)]
struct ClaimedBatch {
    token: String,
    messages: Vec<ClaimedDelivery>,
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
    ///
    /// The claim is polled in the same `select!` as the deliveries in flight, never awaited on
    /// its own. Both need connections of one pool, and a delivery that is not polled never
    /// returns its connection: awaiting the claim alone could deadlock.
    pub(crate) async fn run(&self, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        let mut in_flight = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        let mut claiming = pin!(Fuse::terminated());
        let mut is_due = true;
        let mut is_stopped = false;
        while !is_stopped || !in_flight.is_empty() || !claiming.is_terminated() {
            // A claim is started only when the previous one has finished, so `busy` is
            // complete: it names every channel with a message in flight.
            let capacity = MAX_IN_FLIGHT - in_flight.len();
            if is_due && capacity > 0 && !is_stopped && claiming.is_terminated() {
                is_due = false;
                claiming.set(self.claim_or_log(busy.iter().cloned().collect(), capacity).fuse());
            }
            tokio::select! {
                batch = &mut claiming => {
                    for message in batch.messages {
                        busy.insert(message.channel_id.clone());
                        in_flight.push(self.deliver(batch.token.clone(), message));
                    }
                }
                Some(channel) = in_flight.next() => {
                    busy.remove(&channel);
                    is_due = true;
                }
                () = self.alerts.delivery_wake() => is_due = true,
                () = tokio::time::sleep(self.settings.poll_interval) => is_due = true,
                () = &mut stopped, if !is_stopped => is_stopped = true,
            }
        }
        self.db.close().await;
    }

    async fn claim_or_log(&self, busy: Vec<String>, capacity: usize) -> ClaimedBatch {
        self.claim(&busy, capacity).await.unwrap_or_else(|error| {
            let error = ErrorChain(&error).to_string();
            if let Some(repeated) = count_failure("claim of deliveries", &error) {
                tracing::warn!(error, "claiming deliveries failed and is retried{repeated}");
            }
            ClaimedBatch::default()
        })
    }

    async fn claim(&self, busy: &[String], capacity: usize) -> Result<ClaimedBatch, ServiceError> {
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
        Ok(ClaimedBatch { token, messages })
    }

    /// Sends one message and records the outcome; returns the channel, which is free again.
    async fn deliver(&self, token: String, claimed: ClaimedDelivery) -> String {
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
        claimed.channel_id
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
