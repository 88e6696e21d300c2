//! Sending what stands in the outbox.
//!
//! A message is claimed, sent, and then written off or put back: no transaction is
//! open while a receiver takes its time. A replica that dies leaves its claim, which
//! ends; so a message may come twice, and is never lost. One message a channel is
//! under way, so a receiver that hangs holds up nobody but itself.

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

/// Messages under way at once, each to another channel.
const MOST_AT_ONCE: usize = 64;
/// Connections to Postgres: a claim and an outcome take milliseconds each, however slow
/// the receivers are.
const CONNECTIONS: u32 = 3;
/// Postgres may be away for a while.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Of what a receiver answers.
const MAX_ANSWER_CHARS: usize = 500;

#[derive(Debug)]
pub struct Deliverer {
    alerts: Arc<Alerts>,
    sender: Arc<Sender>,
    /// Connections for deliveries alone: receivers that are slow or fail cannot take the
    /// connections of the API, nor the API those of deliveries.
    db: DedicatedDb,
}

/// How sending once went.
pub(super) struct Tried {
    pub(super) attempt: Attempt,
    /// `None`: the receiver has it.
    pub(super) failure: Option<(SendErrorKind, Option<Duration>)>,
}

/// Messages claimed together.
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

    /// Sends what is due, again and again, until `stopped`; then ends what is under
    /// way.
    ///
    /// The claim is polled together with the deliveries under way, never awaited beside
    /// them: both need connections of one pool, and a delivery that is not polled gives
    /// its connection back to nobody.
    pub async fn run(self, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        let mut under_way = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        let mut claiming = pin!(Fuse::terminated());
        let mut is_due = true;
        let mut is_stopped = false;
        while !is_stopped || !under_way.is_empty() || !claiming.is_terminated() {
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
            tracing::warn!(error = %Chain(&error), "deliveries: will be tried again");
            Batch::default()
        })
    }

    async fn claim(&self, busy: &[String], room: usize) -> Result<Batch, ServiceError> {
        let token = random::token::<8>()?;
        let now = self.alerts.clock.now();
        let held = i64::try_from(self.alerts.settings.claim.as_millis()).unwrap_or(i64::MAX);
        let claim = Claim { token: &token, now, until: now.plus_millis(held) };
        let room = i64::try_from(room).unwrap_or(i64::MAX);
        // Commits alone: who is about to send what.
        let mut tx = self.db.begin().await?;
        let messages = deliveries::claim(&mut tx, claim, busy, room).await?;
        tx.commit().await?;
        Ok(Batch { token, messages })
    }

    /// Sends one, and writes down what came of it; its channel is free again then.
    async fn deliver(&self, token: String, claimed: Claimed) -> String {
        let claim = self.alerts.settings.claim;
        let started = Instant::now();
        let tried = self.try_once(&claimed, claim).await;
        // What was sent and is not written down is sent again.
        loop {
            match self.alerts.settle(&self.db, &token, &claimed, &tried).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(
                        delivery = claimed.delivery_id,
                        error = %Chain(&error),
                        "the outcome of a delivery could not be written down"
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
        // The sender has a time limit of its own; none outlasts the claim.
        let sent = tokio::time::timeout(claim, sent).await.unwrap_or_else(|_| {
            Err(SendError {
                kind: SendErrorKind::Temporary,
                status: None,
                answer: "it took too long".into(),
                retry_after: None,
            })
        });
        let took_millis = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let (status, answer, failure) = match sent {
            Ok(Receipt { status, answer }) => (status, answer, None),
            Err(error) => (error.status, error.answer, Some((error.kind, error.retry_after))),
        };
        let answer = answer.chars().filter(|c| *c != '\0').take(MAX_ANSWER_CHARS).collect();
        let attempt = Attempt { at, is_taken: failure.is_none(), status, answer, took_millis };
        Tried { attempt, failure }
    }
}
