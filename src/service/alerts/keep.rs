//! What comes round: an Alertmanager hears of what still fires, and what is old is
//! dropped. One replica does it for all.

use std::time::Duration;

use crate::domain::time::MILLIS_PER_DAY;
use crate::outbound::Sender;
use crate::service::ServiceError;
use crate::service::alerts::Alerts;
use crate::store::alerting;
use crate::store::alerting::alarms::Job;
use crate::store::alerting::{alarms, deliveries, silences};

const CLEAN_UP_EVERY: Duration = Duration::from_hours(1);

impl Alerts {
    /// Tells every Alertmanager what fires, when it is time.
    pub async fn keep_alive(&self, sender: &Sender) -> Result<(), ServiceError> {
        if !self.is_turn(Job::KeepAlive, self.settings.keep_alive).await? {
            return Ok(());
        }
        let now = self.clock.now();
        let told = deliveries::still_firing(self.db.read(), "alertmanager").await?;
        let sends = told.iter().map(async |told| {
            let sent = sender.still_firing(&told.target, &told.notices, now).await;
            if let Err(error) = sent {
                let (channel, status) = (&told.channel_name, error.status);
                tracing::warn!(channel, status, "an Alertmanager was not told what still fires");
            }
        });
        futures_util::future::join_all(sends).await;
        Ok(())
    }

    /// Drops what has been over for long, when it is time.
    pub async fn clean_up(&self) -> Result<(), ServiceError> {
        if self.settings.keep_days == 0 || !self.is_turn(Job::CleanUp, CLEAN_UP_EVERY).await? {
            return Ok(());
        }
        let days = i64::from(self.settings.keep_days);
        let before = self.clock.now().plus_millis(-days * MILLIS_PER_DAY);
        // Commits together: all that is as old.
        let mut tx = self.db.begin().await?;
        deliveries::drop_before(&mut tx, before).await?;
        alerting::drop_before(&mut tx, before).await?;
        silences::drop_before(&mut tx, before).await?;
        Ok(tx.commit().await?)
    }

    /// Whether this replica is to do it now.
    async fn is_turn(&self, job: Job, every: Duration) -> Result<bool, ServiceError> {
        let now = self.clock.now();
        let before = now.plus_millis(-i64::try_from(every.as_millis()).unwrap_or(i64::MAX));
        let last = alarms::ran_at(self.db.read(), job).await?;
        Ok(last.is_none_or(|last| last <= before || last > now)
            && alarms::take_turn(&self.db, job, before, now).await?)
    }
}
