//! Outcome of a delivery of moves: the next position or attempt, and the alert about the channel.

use crate::domain::alert::schedule;
use crate::domain::customer_move::{MoveDirection, MoveKind, MovesMessage};
use crate::outbound::SendErrorKind;
use crate::service::alerts::AlertService;
use crate::service::alerts::deliver::{AttemptFailure, AttemptOutcome};
use crate::service::alerts::delivery_outcome::{AttemptedChannel, MISCONFIGURED, millis};
use crate::service::{ServiceError, random};
use crate::store::DedicatedDatabase;
use crate::store::alerting::move_deliveries;
use crate::store::alerting::move_deliveries::{AdvancedPosition, ClaimedMoves};
use crate::store::customers::changes::FeedPosition;
use crate::telemetry::labels::{MoveDeliveryOutcome, MoveEventType};

/// Failed attempts after which the alert about the channel is raised: about 35 minutes after the
/// first one.
const ALERT_AFTER_ATTEMPTS: u32 = 4;

/// A claimed channel, and the token of its claim.
#[derive(Debug)]
pub(in crate::service::alerts) struct MoveClaim {
    pub(super) token: String,
    pub(super) moves: ClaimedMoves,
}

impl MoveClaim {
    fn channel(&self) -> AttemptedChannel<'_> {
        AttemptedChannel {
            channel_id: &self.moves.channel_id,
            name: &self.moves.channel_name,
            target: &self.moves.target,
        }
    }
}

impl AlertService {
    /// Advances the position beyond changes that are no moves.
    pub(super) async fn skip_changes(
        &self,
        db: &DedicatedDatabase,
        claim: &MoveClaim,
        advanced: AdvancedPosition,
    ) -> Result<(), ServiceError> {
        // Commits alone: the position and the release of the claim.
        let mut tx = db.begin().await?;
        let channel_id = &claim.moves.channel_id;
        move_deliveries::advance(&mut tx, channel_id, &claim.token, advanced, self.clock.now())
            .await?;
        Ok(tx.commit().await?)
    }

    /// Records an attempt: advances the position to `end`, or schedules the next attempt, and
    /// raises or resolves the alert about the channel.
    pub(super) async fn record_moves_attempt(
        &self,
        db: &DedicatedDatabase,
        claim: &MoveClaim,
        outcome: &AttemptOutcome,
        end: FeedPosition,
    ) -> Result<(), ServiceError> {
        match outcome.failure {
            None => self.record_accepted_moves(db, claim, end).await,
            Some(AttemptFailure { kind: SendErrorKind::Gone, .. }) => {
                self.record_gone_receiver(db, claim).await
            }
            Some(failure) => self.record_failed_moves(db, claim, outcome, failure).await,
        }
    }

    async fn record_accepted_moves(
        &self,
        db: &DedicatedDatabase,
        claim: &MoveClaim,
        end: FeedPosition,
    ) -> Result<(), ServiceError> {
        let advanced = AdvancedPosition { position: end, has_gap: false, is_accepted: true };
        let channel_id = &claim.moves.channel_id;
        // Commits together: the position, and the resolution of the alert about the channel.
        let mut tx = db.begin().await?;
        let is_claimed =
            move_deliveries::advance(&mut tx, channel_id, &claim.token, advanced, self.clock.now())
                .await?;
        // Only after a failure: otherwise each message would lock the alert of its channel.
        if is_claimed && claim.moves.attempts > 0 {
            self.resolve_recovered_channel(&mut tx, claim.channel()).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn record_gone_receiver(
        &self,
        db: &DedicatedDatabase,
        claim: &MoveClaim,
    ) -> Result<(), ServiceError> {
        // Commits together: the disabled channel with its withdrawn messages, the alert about it,
        // and the release of the claim. The position stays for the time after an enabling.
        let mut tx = db.begin().await?;
        // First the channel, then its position, as in a change of the channel: a common order
        // prevents deadlocks.
        self.disable_gone_channel(&mut tx, claim.channel()).await?;
        let channel_id = &claim.moves.channel_id;
        let now = self.clock.now();
        if move_deliveries::reschedule(&mut tx, channel_id, &claim.token, now).await? {
            tx.commit().await?;
        }
        Ok(())
    }

    async fn record_failed_moves(
        &self,
        db: &DedicatedDatabase,
        claim: &MoveClaim,
        outcome: &AttemptOutcome,
        failure: AttemptFailure,
    ) -> Result<(), ServiceError> {
        let failed = claim.moves.attempts + 1;
        let chance = random::random_fraction()?;
        let delay = schedule::unlimited_retry_delay(failed, chance, failure.retry_after);
        let next_at = self.clock.now().plus_millis(millis(delay));
        let what = match failure.kind {
            SendErrorKind::Forbidden => Some(MISCONFIGURED),
            _ if failed >= ALERT_AFTER_ATTEMPTS => {
                Some("has not accepted the moves of customers for a while; they are sent again")
            }
            _ => None,
        };
        let channel_id = &claim.moves.channel_id;
        // Commits together: the time of the next attempt, and the alert about the channel.
        let mut tx = db.begin().await?;
        let is_claimed =
            move_deliveries::reschedule(&mut tx, channel_id, &claim.token, next_at).await?;
        if is_claimed && let Some(what) = what {
            self.raise_delivery_failure(&mut tx, claim.channel(), &outcome.attempt, what).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Counts an attempt, whether or not its outcome could be recorded.
    pub(super) fn count_moves_attempt(&self, outcome: &AttemptOutcome, message: &MovesMessage) {
        let output = &self.metrics.output;
        let label = match outcome.failure {
            None => MoveDeliveryOutcome::Delivered,
            Some(AttemptFailure { kind: SendErrorKind::Gone, .. }) => MoveDeliveryOutcome::Gone,
            Some(_) => MoveDeliveryOutcome::Failed,
        };
        output.move_messages.add(label, 1);
        if outcome.failure.is_none() {
            for event in &message.events {
                let label = match &event.kind {
                    MoveKind::Segment { direction: MoveDirection::Left, .. } => MoveEventType::Left,
                    MoveKind::Segment { direction: MoveDirection::Entered, .. } => {
                        MoveEventType::Entered
                    }
                    MoveKind::Audiences { .. } => MoveEventType::Audiences,
                };
                output.move_events.add(label, 1);
            }
        }
    }
}
