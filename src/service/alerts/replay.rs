//! Sending again what was sent, or was not taken.

use crate::domain::fault::Faults;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::alerts::channels::refuse_disabled;
use crate::service::alerts::{Alerts, By};
use crate::store::alerting::deliveries::ReplaySelection;
use crate::store::alerting::delivery_log::Of;
use crate::store::alerting::{deliveries, delivery_log};
use crate::store::{TimeRange, Tx, alerting};

/// At once; who wants more asks again.
const MOST_REPLAYED: i64 = 1000;

/// Which messages of a channel.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// They were written from then on…
    pub since: Timestamp,
    /// …and before then.
    pub until: Timestamp,
    /// Those too that were taken.
    pub with_delivered: bool,
}

impl Alerts {
    /// The same message again, under the same id; one that waits is tried at once.
    pub async fn replay(&self, delivery_id: &str, by: &By) -> Result<(), ServiceError> {
        let row = delivery_log::list(self.db.read(), Of::Delivery(delivery_id), None, 1).await?;
        let row = row.into_iter().next();
        let row = row.ok_or_else(|| ServiceError::NotFound(format!("delivery `{delivery_id}`")))?;
        refuse_disabled(&self.channel(&row.channel_id).await?)?;
        // Commits together: the message, what is to follow it, and who asked.
        let mut tx = self.db.begin().await?;
        let again = deliveries::replay(&mut tx, delivery_id, self.clock.now()).await?;
        self.follow_up(&mut tx, again).await?;
        self.record(&mut tx, ("delivery", delivery_id), "replay", by).await?;
        Ok(tx.commit().await?)
    }

    /// Oldest first; returns how many.
    pub async fn replay_range(
        &self,
        channel_id: &str,
        range: Range,
        by: &By,
    ) -> Result<usize, ServiceError> {
        refuse_disabled(&self.channel(channel_id).await?)?;
        if range.since >= range.until {
            let problem = format!("must be after since, which is {}", range.since);
            return Err(ServiceError::Invalid(Faults::one("until", problem)));
        }
        let selection = ReplaySelection {
            period: TimeRange { since: range.since, until: range.until },
            with_delivered: range.with_delivered,
            limit: MOST_REPLAYED,
        };
        // Commits together: the messages, what is to follow them, and who asked.
        let mut tx = self.db.begin().await?;
        let again =
            deliveries::replay_range(&mut tx, channel_id, selection, self.clock.now()).await?;
        let replayed = again.len();
        self.follow_up(&mut tx, again).await?;
        self.record(&mut tx, ("channel", channel_id), "replay", by).await?;
        tx.commit().await?;
        Ok(replayed)
    }

    /// Who hears only now that something fired is to hear, too, that it is over.
    async fn follow_up(&self, tx: &mut Tx, mut keys: Vec<String>) -> Result<(), ServiceError> {
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            alerting::lock_key(tx, &key).await?;
            self.tell_end(tx, &key, self.clock.now()).await?;
        }
        Ok(())
    }
}
