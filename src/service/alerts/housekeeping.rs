//! Periodic alert jobs: repeat firing alerts to Alertmanager, delete old rows. One replica does
//! each job for all.

use std::time::Duration;

use crate::domain::time::MILLIS_PER_DAY;
use crate::outbound::NotificationSender;
use crate::service::ServiceError;
use crate::service::alerts::AlertService;
use crate::store::alerting;
use crate::store::alerting::alarms::Job;
use crate::store::alerting::{alarms, deliveries, silences};
use crate::telemetry::repeated_failures::count_failure;

const CLEAN_UP_EVERY: Duration = Duration::from_hours(1);

impl AlertService {
    /// Sends the firing alerts to every Alertmanager, if the interval has passed.
    ///
    /// Alertmanager resolves an alert that is not repeated before its `endsAt`.
    pub async fn keep_alive(&self, sender: &NotificationSender) -> Result<(), ServiceError> {
        if !self.acquire_job(Job::KeepAlive, self.settings.keep_alive).await? {
            return Ok(());
        }
        let now = self.clock.now();
        let firing = deliveries::still_firing(self.db.read(), "alertmanager").await?;
        let sends = firing.iter().map(async |firing| {
            let sent = sender.still_firing(&firing.target, &firing.notices, now).await;
            let (channel, status) = (&firing.channel_name, sent.err().map(|error| error.status));
            if let Some(status) = status
                && let Some(repeated) = count_failure("repetition of alerts", channel)
            {
                tracing::warn!(
                    channel,
                    status,
                    "repeating firing alerts to Alertmanager failed{repeated}"
                );
            }
        });
        futures_util::future::join_all(sends).await;
        Ok(())
    }

    /// Deletes deliveries, alerts and silences older than `alerts.retention_days`, if the interval
    /// has passed.
    pub async fn delete_expired(&self) -> Result<(), ServiceError> {
        if self.settings.retention_days == 0
            || !self.acquire_job(Job::Retention, CLEAN_UP_EVERY).await?
        {
            return Ok(());
        }
        let days = i64::from(self.settings.retention_days);
        let before = self.clock.now().plus_millis(-days * MILLIS_PER_DAY);
        // Commits together: the deletions of all three tables.
        let mut tx = self.db.begin().await?;
        deliveries::delete_before(&mut tx, before).await?;
        alerting::delete_before(&mut tx, before).await?;
        silences::delete_before(&mut tx, before).await?;
        Ok(tx.commit().await?)
    }

    /// Whether this replica acquired the job for this interval.
    async fn acquire_job(&self, job: Job, every: Duration) -> Result<bool, ServiceError> {
        let now = self.clock.now();
        let before = now.plus_millis(-i64::try_from(every.as_millis()).unwrap_or(i64::MAX));
        // A last run in the future was written by a wrong clock and does not block the job.
        let last = alarms::last_run_at(self.db.read(), job).await?;
        Ok(last.is_none_or(|last| last <= before || last > now)
            && alarms::claim_job(&self.db, job, before, now).await?)
    }
}
