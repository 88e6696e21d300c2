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

use crate::outbound::{Receipt, SendError, SendErrorKind, Sender};
use crate::service::alerts::Alerts;
use crate::service::error::Chain;
use crate::service::{ServiceError, random};
use crate::store::DedicatedDb;
use crate::store::alerting::deliveries;
use crate::store::alerting::deliveries::{Attempt, Claim, Claimed};

/// Messages in flight at once, each to a different channel.
const MOST_AT_ONCE: usize = 64;
/// Connections to Postgres. A claim and an outcome take milliseconds each, however slow the
/// receivers are.
const CONNECTIONS: u32 = 3;
/// Pause before a failed write of an outcome is repeated: Postgres may be unavailable.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Characters of a receiver's answer that are logged.
const MAX_ANSWER_CHARS: usize = 500;

#[derive(Debug)]
pub struct Deliverer {
    alerts: Arc<Alerts>,
    sender: Arc<Sender>,
    /// A connection pool for deliveries alone: slow or failing receivers cannot exhaust the
    /// API's connections, and API requests cannot exhaust those of deliveries.
    db: DedicatedDb,
}

/// The result of one delivery attempt.
pub(super) struct Tried {
    pub(super) attempt: Attempt,
    /// `None`: the receiver accepted the message. Otherwise the kind of error and the delay
    /// that the receiver asked for.
    pub(super) failure: Option<(SendErrorKind, Option<Duration>)>,
}

/// Messages claimed together under one token.
#[derive(Default)]
struct Batch {
    token: String,
    messages: Vec<Claimed>,
}

impl Deliverer {
    pub fn new(alerts: Arc<Alerts>, sender: Arc<Sender>) -> Self {
        let db = alerts.db.dedicated(CONNECTIONS);
        Self { alerts, sender, db }
    }

    /// Sends due messages until `stopped`, then completes the deliveries in flight.
    ///
    /// The claim is polled in the same `select!` as the deliveries in flight, never awaited on
    /// its own. Both need connections of one pool, and a delivery that is not polled never
    /// returns its connection: awaiting the claim alone could deadlock.
    pub async fn run(self, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        let mut under_way = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        let mut claiming = pin!(Fuse::terminated());
        let mut is_due = true;
        let mut is_stopped = false;
        while !is_stopped || !under_way.is_empty() || !claiming.is_terminated() {
            // A claim is started only when the previous one has finished, so `busy` is
            // complete: it names every channel with a message in flight.
            let room = MOST_AT_ONCE - under_way.len();
            if is_due && room > 0 && !is_stopped && claiming.is_terminated() {
                is_due = false;
                claiming.set(self.claim_or_log(busy.iter().cloned().collect(), room).fuse());
            }
            tokio::select! {
                batch = &mut claiming => {
                    for message in batch.messages {
                        busy.insert(message.channel_id.clone());
                        under_way.push(self.deliver(batch.token.clone(), message));
                    }
                }
                Some(channel) = under_way.next() => {
                    busy.remove(&channel);
                    is_due = true;
                }
                () = self.alerts.wake.notified() => is_due = true,
                () = tokio::time::sleep(self.alerts.settings.poll) => is_due = true,
                () = &mut stopped, if !is_stopped => is_stopped = true,
            }
        }
        self.db.close().await;
    }

    async fn claim_or_log(&self, busy: Vec<String>, room: usize) -> Batch {
        self.claim(&busy, room).await.unwrap_or_else(|error| {
            tracing::warn!(error = %Chain(&error), "claiming deliveries failed and is retried");
            Batch::default()
        })
    }

    async fn claim(&self, busy: &[String], room: usize) -> Result<Batch, ServiceError> {
        let token = random::token::<8>()?;
        let now = self.alerts.clock.now();
        let held = i64::try_from(self.alerts.settings.claim.as_millis()).unwrap_or(i64::MAX);
        let claim = Claim { token: &token, now, until: now.plus_millis(held) };
        let room = i64::try_from(room).unwrap_or(i64::MAX);
        // Commits alone: which messages this worker is about to send.
        let mut tx = self.db.begin().await?;
        let messages = deliveries::claim(&mut tx, claim, busy, room).await?;
        tx.commit().await?;
        Ok(Batch { token, messages })
    }

    /// Sends one message and records the outcome; returns the channel, which is free again.
    async fn deliver(&self, token: String, claimed: Claimed) -> String {
        let claim = self.alerts.settings.claim;
        let started = Instant::now();
        let tried = self.try_once(&claimed, claim).await;
        // Retried until the claim expires: a message that was sent but not recorded is sent
        // again.
        loop {
            match self.alerts.settle(&self.db, &token, &claimed, &tried).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(
                        delivery = claimed.delivery_id,
                        error = %Chain(&error),
                        "recording the outcome of a delivery failed"
                    );
                    if started.elapsed() >= claim {
                        break;
                    }
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
        claimed.channel_id
    }

    async fn try_once(&self, claimed: &Claimed, claim: Duration) -> Tried {
        let at = self.alerts.clock.now();
        let started = Instant::now();
        let sent = self.sender.send(&claimed.target, &claimed.notice, at);
        // The sender has its own timeout. This one guarantees that no attempt outlasts the
        // claim, after which another replica may send the message.
        let sent = tokio::time::timeout(claim, sent).await.unwrap_or_else(|_| {
            Err(SendError {
                kind: SendErrorKind::Temporary,
                status: None,
                answer: "the receiver did not answer in time".into(),
                retry_after: None,
            })
        });
        let took_millis = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let (status, answer, failure) = match sent {
            Ok(Receipt { status, answer }) => (status, answer, None),
            Err(error) => (error.status, error.answer, Some((error.kind, error.retry_after))),
        };
        // Postgres rejects NUL characters in text.
        let answer = answer.chars().filter(|c| *c != '\0').take(MAX_ANSWER_CHARS).collect();
        let attempt = Attempt { at, is_taken: failure.is_none(), status, answer, took_millis };
        Tried { attempt, failure }
    }
}
