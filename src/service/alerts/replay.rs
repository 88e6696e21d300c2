//! Replay of deliveries: send messages again that were delivered or were given up.

use crate::domain::fault::ValidationFaults;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::alerts::channels::refuse_disabled;
use crate::service::alerts::{AlertService, ChangeAuthor, DecisionSubject};
use crate::store::alerting::deliveries::ReplaySelection;
use crate::store::alerting::delivery_log::DeliveryLogFilter;
use crate::store::alerting::{deliveries, delivery_log};
use crate::store::{DatabaseTransaction, TimeRange, alerting};

/// Most messages of one replay request; a larger range needs further requests.
const MAX_REPLAYED: i64 = 1000;

/// Selects messages of a channel.
#[derive(Debug, Clone, Copy)]
pub struct ReplayRange {
    /// Inclusive lower bound of the time of writing.
    pub since: Timestamp,
    /// Exclusive upper bound.
    pub until: Timestamp,
    /// Includes messages that were delivered.
    pub includes_delivered: bool,
}

impl AlertService {
    /// Sends a message again under its id. A message that waits for a retry is due at once.
    pub(crate) async fn replay_delivery(
        &self,
        delivery_id: &str,
        by: &ChangeAuthor,
    ) -> Result<(), ServiceError> {
        let row =
            delivery_log::list(self.db.read(), DeliveryLogFilter::Delivery(delivery_id), None, 1)
                .await?;
        let row = row.into_iter().next();
        let row = row.ok_or_else(|| ServiceError::NotFound(format!("delivery `{delivery_id}`")))?;
        refuse_disabled(&self.channel(&row.channel_id).await?)?;
        // Commits together: the message, the resolutions to follow it, and the record of the
        // request.
        let mut tx = self.db.begin().await?;
        let again = deliveries::requeue(&mut tx, delivery_id, self.clock.now()).await?;
        self.notify_resolved_keys(&mut tx, again).await?;
        self.record_decision(&mut tx, DecisionSubject::Delivery(delivery_id), "replay", by).await?;
        Ok(tx.commit().await?)
    }

    /// Replays a range of messages, oldest first; returns how many.
    pub(crate) async fn replay_range(
        &self,
        channel_id: &str,
        range: ReplayRange,
        by: &ChangeAuthor,
    ) -> Result<usize, ServiceError> {
        refuse_disabled(&self.channel(channel_id).await?)?;
        if range.since >= range.until {
            let problem = format!("must be after since, which is {}", range.since);
            return Err(ServiceError::Invalid(ValidationFaults::single("until", problem)));
        }
        let selection = ReplaySelection {
            period: TimeRange { since: range.since, until: range.until },
            with_delivered: range.includes_delivered,
            limit: MAX_REPLAYED,
        };
        // Commits together: the messages, the resolutions to follow them, and the record of the
        // request.
        let mut tx = self.db.begin().await?;
        let again =
            deliveries::requeue_range(&mut tx, channel_id, selection, self.clock.now()).await?;
        let replayed = again.len();
        self.notify_resolved_keys(&mut tx, again).await?;
        self.record_decision(&mut tx, DecisionSubject::Channel(channel_id), "replay", by).await?;
        tx.commit().await?;
        Ok(replayed)
    }

    /// Enqueues the resolution behind a replayed firing alert that has ended since: the channel
    /// must not show it as firing.
    async fn notify_resolved_keys(
        &self,
        tx: &mut DatabaseTransaction,
        mut keys: Vec<String>,
    ) -> Result<(), ServiceError> {
        // Sorted: every transaction locks alert keys in the same order.
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            alerting::lock_key(tx, &key).await?;
            self.notify_resolved(tx, &key, self.clock.now()).await?;
        }
        Ok(())
    }
}
