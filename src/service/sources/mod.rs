//! Event sources: per-key ingestion volume, monitored for silence and anomalies.
//!
//! Each request adds its count in memory. Once a minute the counts are stored, where replicas
//! sum up. One replica then assesses every source for all:
//! [`crate::domain::event::source_volume`] detects sources that are silent or send far more or
//! fewer events than usual. An anomaly raises an alert, which is resolved once the volume is
//! usual again.

mod alert;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex as Lock, PoisonError};

use tokio::sync::Mutex;

use crate::config::SourceMonitoringSettings as Settings;
use crate::domain::event::source_volume::{
    HISTORY_DAYS, SourceAssessment, SourceStatus, assess_source,
};
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::domain::wire::IngestionEndpoint;
use crate::service::ServiceError;
use crate::service::alerts::{AlertService, AnnouncementMode};
use crate::service::clock::TimeSource;
use crate::service::error::ErrorChain;
use crate::service::failed_events::EventSource;
use crate::service::health::clock_check::ClockCheck;
use crate::service::ingestion::IngestionOutcome;
use crate::store::alerting::alarms;
use crate::store::alerting::alarms::Job;
use crate::store::sources::{self as stored, EventSourceRow, SourceActivity};
use crate::store::{DatabaseHandle, alerting as raised};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::repeated_failures::count_failure;

use alert::{is_source_key, source_alert, source_suffix};

/// Volume monitor of event sources.
#[derive(Debug)]
pub struct SourceMonitor {
    db: DatabaseHandle,
    clock: TimeSource,
    settings: Settings,
    alerts: Arc<AlertService>,
    metrics: Arc<ServiceMetrics>,
    /// Counts since the last flush.
    seen: Lock<SeenCounts>,
    /// Counts taken from `seen` but not stored yet.
    pending: Mutex<BTreeMap<(IngestionEndpoint, String, i64), SourceActivity>>,
}

/// By endpoint and key. Bounded: only authenticated keys are counted.
type SeenCounts = [HashMap<String, Vec<(i64, SourceActivity)>>; IngestionEndpoint::ALL.len()];

/// A source and the assessment of its volume.
#[derive(Debug)]
pub struct AssessedSource {
    pub source: EventSourceRow,
    pub assessment: SourceAssessment,
}

impl SourceMonitor {
    pub fn new(
        db: DatabaseHandle,
        clock: TimeSource,
        settings: Settings,
        alerts: Arc<AlertService>,
        metrics: Arc<ServiceMetrics>,
    ) -> Self {
        let (seen, pending) = (Lock::default(), Mutex::default());
        Self { db, clock, settings, alerts, metrics, seen, pending }
    }

    /// Counts the newly accepted events of one request. Allocates nothing for a known source.
    pub(crate) fn count_events(
        &self,
        source: EventSource<'_>,
        received_at: Timestamp,
        outcomes: &[IngestionOutcome],
    ) {
        // Duplicates and rejected events do not count: a source that only repeats itself is silent.
        let events = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, IngestionOutcome::Accepted { .. }))
            .count() as u64;
        if events == 0 {
            return;
        }
        let arrived = SourceActivity { events, first_at: received_at, last_at: received_at };
        let hour = received_at.hour();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let of_endpoint = &mut seen[source.endpoint as usize];
        let Some(hours) = of_endpoint.get_mut(source.key_id) else {
            of_endpoint.insert(source.key_id.to_owned(), vec![(hour, arrived)]);
            return;
        };
        match hours.iter_mut().find(|(known, _)| *known == hour) {
            Some((_, sum)) => merge_counts(sum, arrived),
            None => hours.push((hour, arrived)),
        }
    }

    /// Stores the counts of this process.
    pub async fn flush(&self) -> Result<(), ServiceError> {
        let mut pending = self.pending.lock().await;
        for (endpoint, key_id, hour, arrived) in self.take_counts() {
            let sum = pending
                .entry((endpoint, key_id, hour))
                .or_insert(SourceActivity { events: 0, ..arrived });
            merge_counts(sum, arrived);
        }
        if pending.is_empty() {
            return Ok(());
        }
        // Commits together: all counts since the last flush, exactly once.
        let mut tx = self.db.begin().await?;
        for ((endpoint, key_id, hour), arrived) in &*pending {
            stored::add_counts(&mut tx, *endpoint, key_id, *hour, *arrived).await?;
        }
        tx.commit().await?;
        pending.clear();
        Ok(())
    }

    fn take_counts(&self) -> Vec<(IngestionEndpoint, String, i64, SourceActivity)> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        for (endpoint, of_endpoint) in IngestionEndpoint::ALL.into_iter().zip(seen.iter_mut()) {
            for (key_id, hours) in of_endpoint {
                let hours = hours.drain(..);
                taken
                    .extend(hours.map(|(hour, arrived)| (endpoint, key_id.clone(), hour, arrived)));
            }
        }
        taken
    }

    /// Every source with its assessment.
    pub async fn assess_sources(&self) -> Result<Vec<AssessedSource>, ServiceError> {
        let (now, rules) = (self.clock.now(), self.settings.rules);
        // Two intervals back every replica has flushed, so counts up to then are complete.
        let every = i64::try_from(self.settings.check_interval.as_millis()).unwrap_or(i64::MAX);
        let complete_until = now.plus_millis(every.saturating_mul(-2));
        let sources = stored::list(self.db.read()).await?;
        let assessed = tokio::task::spawn_blocking(move || {
            let mut assessed = Vec::with_capacity(sources.len());
            for source in sources {
                let source = EventSourceRow { volume: source.volume.truncated_at(now), ..source };
                let assessment = assess_source(&source.volume, complete_until, now, &rules);
                assessed.push(AssessedSource { source, assessment });
            }
            assessed
        });
        assessed.await.map_err(ServiceError::internal)
    }

    /// Assesses every source and raises or resolves alerts, unless another replica has just
    /// done so.
    pub async fn check_sources(&self) -> Result<(), ServiceError> {
        let now = self.clock.now();
        let watched = self.assess_sources().await?;
        self.update_metrics(&watched, now);
        let every = i64::try_from(self.settings.check_interval.as_millis()).unwrap_or(i64::MAX);
        // Half an interval: replicas' timers are not exactly synchronous.
        let before = now.plus_millis(-every / 2);
        if !alarms::claim_job(&self.db, Job::Sources, before, now).await? {
            return Ok(());
        }
        let mut found = BTreeMap::new();
        for alert in watched.iter().filter_map(|watched| source_alert(watched, now)) {
            found.insert(alert.key.clone(), alert);
        }
        let mut resolved = Vec::new();
        for alert in raised::firing(self.db.read()).await? {
            let key = alert.state.key;
            if is_source_key(&key) && !found.contains_key(&key) {
                resolved.push(key);
            }
        }
        // Commits together: the alerts raised and resolved, the messages about them, and the
        // deletion of counts past the history.
        let mut tx = self.db.begin().await?;
        // One order of alert keys in all transactions prevents deadlocks.
        let mut keys: Vec<&String> = found.keys().chain(&resolved).collect();
        keys.sort();
        for key in keys {
            match found.get(key) {
                Some(found) => {
                    self.alerts.raise_alert(&mut tx, found, AnnouncementMode::Normal).await?;
                }
                None => {
                    self.alerts
                        .resolve_alert(&mut tx, key, resolution_reason(&watched, key))
                        .await?;
                }
            }
        }
        stored::delete_before(&mut tx, now.plus_millis(-HISTORY_DAYS * MILLIS_PER_DAY)).await?;
        Ok(tx.commit().await?)
    }

    fn update_metrics(&self, watched: &[AssessedSource], now: Timestamp) {
        let shown = &self.metrics.sources;
        for endpoint in IngestionEndpoint::ALL {
            let of_endpoint = watched.iter().filter(|one| one.source.endpoint == endpoint);
            shown.set_last_event(
                endpoint,
                of_endpoint.map(|one| one.source.volume.last_at).max(),
                now,
            );
        }
        for status in SourceStatus::ALL {
            let count = watched.iter().filter(|one| one.assessment.status == status).count();
            shown.set_status_count(status, count);
        }
    }

    /// Stores and assesses periodically, until `stopped`. Later counts are left to a final
    /// [`Self::flush`] after the last request. Skips a period while the clock is wrong.
    pub async fn run(self: Arc<Self>, check: Arc<ClockCheck>, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.settings.check_interval) => {}
                () = &mut stopped => return,
            }
            if !check.is_clock_right() {
                continue;
            }
            // Never cancelled between commit and `pending.clear()`: the counts would be stored
            // twice.
            let done = async {
                self.flush().await?;
                self.check_sources().await
            };
            if let Err(error) = done.await {
                let error = ErrorChain(&error).to_string();
                if let Some(repeated) = count_failure("event sources", &error) {
                    tracing::warn!(
                        error,
                        "storing or assessing source volumes failed and is retried{repeated}"
                    );
                }
            }
        }
    }
}

fn resolution_reason(watched: &[AssessedSource], key: &str) -> &'static str {
    if watched.iter().any(|one| key.ends_with(&source_suffix(&one.source))) {
        "the volume is usual again"
    } else {
        "the key was revoked, or has sent nothing for five weeks"
    }
}

fn merge_counts(sum: &mut SourceActivity, more: SourceActivity) {
    sum.events = sum.events.saturating_add(more.events);
    sum.first_at = sum.first_at.min(more.first_at);
    sum.last_at = sum.last_at.max(more.last_at);
}
