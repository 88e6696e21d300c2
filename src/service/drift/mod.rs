//! Drift detection: compares the distribution of scored rows with the training baseline. Counts
//! are stored by hour, summed over hours and replicas, and checked.
//!
//! Counts of a minute are stored under the hour of the flush, so a window may contain up to a
//! minute of the previous hour. The first hour of a deployment is divided: its counts begin at
//! the start of the deployment. Counts that could not be stored are retried with the next
//! flush. A process that is killed loses those and the counts since the last flush.

mod churn;
mod dependence;
mod detectors;
mod influence;
mod metrics;
pub mod monitor;
mod query;
mod sampling;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::config::DriftSettings as Settings;
use crate::domain::drift;
use crate::domain::drift::{
    ApiKeyShare, DetectorReport, DeviationUnits, DriftCheck, DriftLimits, DriftWindow,
    FeatureChart, NO_KEY, ObservedWindow, OverTime, ScoreSource, TimeDependence, WindowLayout,
    WindowsByKey, lasting_change_finding, mark_decisive_keys,
};
use crate::domain::id::ModelId;
use crate::domain::model::Model;
use crate::domain::time::{MILLIS_PER_DAY, MILLIS_PER_HOUR, Timestamp};
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::error::ErrorChain;
use crate::service::health::clock_check::ClockCheck;
use crate::service::models::policy::AutomationPolicies;
use crate::service::models::registry;
use crate::service::scoring::observations::{CollectedCounts, DriftCounters};
use crate::service::scoring::serving::ServingState;
use crate::store::drift::{self as windows, DriftCounterKey, DriftHour, DriftWindowQuery};
use crate::store::{DatabaseHandle, TimeRange};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::repeated_failures::count_failure;

use dependence::KnownDependence;

pub use churn::SegmentFlows;
pub use influence::CustomerSample;
pub(crate) use query::{DriftPeriod, DriftQuery, HistoryInterval};

/// Minimum time for which counts are stored by API key: a week, the look-back of alerts.
const MIN_HOURS_BY_KEY: u32 = 168;

/// Longest window of a request, three months: a longer one reads too much for one request.
pub(crate) const MAX_WINDOW_HOURS: u32 = 24 * 92;

/// The services that drift detection depends on.
#[derive(Debug)]
pub struct DriftDependencies {
    pub db: DatabaseHandle,
    pub serving: Arc<ServingState>,
    pub drift_counters: Arc<DriftCounters>,
    pub clock: TimeSource,
    pub settings: Settings,
    pub policies: Arc<AutomationPolicies>,
    pub metrics: Arc<ServiceMetrics>,
}

/// Drift detection over the stored counts of all replicas.
#[derive(Debug)]
pub struct DriftService {
    db: DatabaseHandle,
    serving: Arc<ServingState>,
    drift_counters: Arc<DriftCounters>,
    clock: TimeSource,
    settings: Settings,
    policies: Arc<AutomationPolicies>,
    metrics: Arc<ServiceMetrics>,
    /// Counts taken from the counters but not stored yet.
    pending: Mutex<PendingWindows>,
    /// Hour in which the churn gauge was last updated.
    churn_shown: Mutex<Option<Timestamp>>,
    /// Estimates of the current hour.
    dependences: Mutex<Vec<KnownDependence>>,
}

/// Window by model, source, API key and start: of the hour, or of a deployment within it.
type PendingWindows = BTreeMap<(ModelId, ScoreSource, Box<str>, Timestamp), DriftWindow>;

/// Drift report: a model's observed rows compared with its training baseline.
#[derive(Debug)]
pub(crate) struct DriftReport {
    pub model: ModelId,
    pub since: Timestamp,
    pub until: Timestamp,
    /// Includes the detectors' findings in this window.
    pub check: DriftCheck,
    /// Detector state over the last [`MAX_WINDOW_HOURS`]; `None` if detectors are disabled.
    pub detectors: Option<DetectorReport>,
    /// Each API key's share of the rows, largest first; empty if rows are not counted by key.
    pub key_shares: Vec<ApiKeyShare>,
}

/// Checks by hour or day, oldest first.
pub(crate) type DriftHistory = Vec<(Timestamp, DriftCheck)>;

/// Hourly counts of a model with the baselines to check them against.
struct ObservedHours {
    model: Arc<Model>,
    /// A window without any scores.
    empty: DriftWindow,
    /// `None`: no comparison within segments.
    yardstick: Option<DeviationUnits>,
    since: Timestamp,
    until: Timestamp,
    hours: Vec<DriftHour>,
    dependence: Arc<TimeDependence>,
}

impl DriftService {
    pub fn new(dependencies: DriftDependencies) -> Self {
        let DriftDependencies { db, serving, drift_counters, clock, settings, policies, metrics } =
            dependencies;
        let (pending, churn_shown, dependences) =
            (Mutex::default(), Mutex::default(), Mutex::default());
        Self {
            db,
            serving,
            drift_counters,
            clock,
            settings,
            policies,
            metrics,
            pending,
            churn_shown,
            dependences,
        }
    }

    /// Checks the requested hours together, with the detectors' findings in them.
    pub(crate) async fn report(&self, ask: &DriftQuery) -> Result<DriftReport, ServiceError> {
        let observed = self.observed(ask).await?;
        let stream = self.replay_detectors(&observed.model, ask.sources(), NO_KEY).await?;
        let (mut report, model) = self
            .run_blocking(move |limits| {
                let mut check = observed.check(&observed.hours, observed.length(), limits)?;
                let by_key = observed.by_key()?;
                let over_time = observed.over_time(observed.length());
                mark_decisive_keys(&mut check, &observed.model, &by_key, over_time, limits)
                    .map_err(ServiceError::internal)?;
                let (since, until) = (observed.since, observed.until);
                // Below the minimum number of rows no finding is reported, from detectors
                // either.
                let detectors = stream.as_ref().filter(|_| check.is_enough);
                let finding =
                    detectors.and_then(|stream| lasting_change_finding(stream, since, until));
                if let Some(finding) = finding {
                    check.insert_finding(finding);
                }
                let keys = if by_key.has_keys() { by_key.shares() } else { Vec::new() };
                let model = Arc::clone(&observed.model);
                Ok((
                    DriftReport {
                        model: model.id().clone(),
                        since,
                        until,
                        check,
                        detectors: stream,
                        key_shares: keys,
                    },
                    model,
                ))
            })
            .await?;
        self.mark_detector_influence(&mut report, &model, ask.sources()).await?;
        Ok(report)
    }

    /// Checks the requested hours together, without detectors and influence.
    pub(crate) async fn check_window(&self, ask: &DriftQuery) -> Result<DriftCheck, ServiceError> {
        let observed = self.observed(ask).await?;
        self.run_blocking(move |limits| observed.check(&observed.hours, observed.length(), limits))
            .await
    }

    /// Checks each hour or day with scores on its own, oldest first.
    pub(crate) async fn history(
        &self,
        ask: &DriftQuery,
        step: HistoryInterval,
    ) -> Result<(ModelId, DriftHistory), ServiceError> {
        let observed = self.observed(ask).await?;
        self.run_blocking(move |limits| {
            let mut checks = DriftHistory::new();
            for hours in observed.hours.chunk_by(|one, next| {
                step.start_of(one.started_at) == step.start_of(next.started_at)
            }) {
                let at =
                    hours.first().map_or(observed.since, |hour| step.start_of(hour.started_at));
                checks.push((at, observed.check(hours, step.hours(), limits)?));
            }
            Ok((observed.model.id().clone(), checks))
        })
        .await
    }

    /// The distribution of one feature at training and now.
    pub(crate) async fn draw_picture(
        &self,
        ask: &DriftQuery,
        feature: &str,
    ) -> Result<FeatureChart, ServiceError> {
        let observed = self.observed(ask).await?;
        let feature = feature.to_owned();
        self.run_blocking(move |_| {
            let picture = drift::draw_feature_chart(
                &observed.model,
                &observed.sum_windows(&observed.hours)?,
                &feature,
            );
            picture.map_err(ServiceError::internal)?.ok_or_else(|| {
                ServiceError::NotFound(format!("feature `{feature}` among those compared"))
            })
        })
        .await
    }

    /// Stores the counts of this process.
    pub async fn flush(&self) -> Result<(), ServiceError> {
        let mut pending = self.pending.lock().await;
        let now = self.clock.now();
        // Counts of an earlier, failed flush are still pending: add to them.
        for counts in self.drift_counters.collect() {
            let CollectedCounts { model, deployed_at, source, key_id, window } = counts;
            let start = HistoryInterval::Hour.start_of(now).max(deployed_at);
            match pending.entry((model, source, key_id, start)) {
                Entry::Vacant(free) => {
                    free.insert(window);
                }
                Entry::Occupied(mut waiting) => {
                    waiting.get_mut().merge(&window).map_err(ServiceError::internal)?;
                }
            }
        }
        // Commits together: all counts since the last flush, exactly once; the merge of counts
        // too old to be stored by key; the deletion of counts past retention.
        let mut tx = self.db.begin().await?;
        for ((model, source, key, hour), window) in &*pending {
            let counter = DriftCounterKey { model, source: *source, key_id: key, hour: *hour };
            windows::add_counts(&mut tx, &counter, window).await?;
        }
        let oldest = now.plus_millis(-MILLIS_PER_HOUR * self.hours_by_key());
        windows::merge_keys_before(&mut tx, HistoryInterval::Hour.start_of(oldest)).await?;
        if self.settings.retention_days > 0 {
            let oldest = now.plus_millis(-MILLIS_PER_DAY * i64::from(self.settings.retention_days));
            windows::delete_before(&mut tx, HistoryInterval::Hour.start_of(oldest)).await?;
        }
        tx.commit().await?;
        pending.clear();
        self.metrics.drift.set_last_flush(now);
        Ok(())
    }

    /// Stores counts and updates metrics periodically, until `stopped`. Later counts are left
    /// to a final [`Self::flush`] after the last request. Skips a period while the clock is
    /// wrong.
    pub async fn run(self: Arc<Self>, check: Arc<ClockCheck>, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.settings.flush_interval) => {}
                () = &mut stopped => return,
            }
            if !check.is_clock_right() {
                continue;
            }
            // Never cancelled between commit and `pending.clear()`: the counts would be stored
            // twice.
            let done = async {
                self.flush().await?;
                self.count_hourly_sample().await?;
                self.update_metrics().await
            };
            if let Err(error) = done.await {
                let error = ErrorChain(&error).to_string();
                if let Some(repeated) = count_failure("drift counts", &error) {
                    tracing::warn!(
                        error,
                        "storing drift counts or updating drift metrics failed and is \
                         retried{repeated}"
                    );
                }
            }
        }
    }

    async fn observed(&self, ask: &DriftQuery) -> Result<ObservedHours, ServiceError> {
        let model = self.model_or_active(ask.model.as_ref()).await?;
        let until = self.clock.now();
        let since = self.start_of(ask.period, until);
        let empty = WindowLayout::of(&model).empty();
        // Sums within segments are stored for the sampled customers only.
        let has_segment_sums = ask.sources() == [ScoreSource::Customers];
        let yardstick = has_segment_sums.then(|| DeviationUnits::of(&model)).flatten();
        let within = yardstick.as_ref().map_or(0, DeviationUnits::width);
        let query = DriftWindowQuery {
            model: model.id(),
            sources: ask.sources(),
            width: empty.counts.len(),
            period: TimeRange { since, until },
        };
        let hours = windows::list_hours(self.db.read(), &query, within).await?;
        let dependence = self.time_dependence(&model, ask.sources(), until).await?;
        Ok(ObservedHours { model, empty, yardstick, since, until, hours, dependence })
    }

    /// Length of the configured window.
    fn window_millis(&self) -> i64 {
        MILLIS_PER_HOUR * i64::from(self.settings.window_hours)
    }

    fn start_of(&self, period: DriftPeriod, until: Timestamp) -> Timestamp {
        let hours = match period {
            DriftPeriod::Since(start) => return start,
            DriftPeriod::Hours(hours) => hours,
            DriftPeriod::ConfiguredHours => self.settings.window_hours,
        };
        let complete_hours = i64::from(hours.max(1) - 1);
        HistoryInterval::Hour.start_of(until).plus_millis(-MILLIS_PER_HOUR * complete_hours)
    }

    async fn model_or_active(
        &self,
        requested: Option<&ModelId>,
    ) -> Result<Arc<Model>, ServiceError> {
        let deployment = self.serving.snapshot();
        let Some(requested) = requested else {
            return deployment.active.clone().ok_or_else(|| {
                ServiceError::Conflict("no model is active: there is no baseline".into())
            });
        };
        let canary =
            deployment.canary.as_ref().and_then(|canary| canary.deployment.active.as_ref());
        let served = deployment.active.iter().chain(canary).find(|one| one.id() == requested);
        if let Some(model) = served {
            return Ok(Arc::clone(model));
        }
        let model = registry::open_model(self.db.read(), requested).await?;
        Ok(Arc::new(deployment.personas.name_segments(model)))
    }

    /// Runs `work` on the blocking pool: a check of many hours or features would delay the
    /// async threads.
    async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DriftLimits) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let limits = self.policies.drift_limits();
        let done = tokio::task::spawn_blocking(move || work(&limits)).await;
        done.map_err(ServiceError::internal)?
    }
}

impl ObservedHours {
    /// The window of all hours, split by API key.
    fn by_key(&self) -> Result<WindowsByKey, ServiceError> {
        let mut by_key = WindowsByKey::default();
        for hour in &self.hours {
            by_key.add(&hour.key_id, &hour.window).map_err(ServiceError::internal)?;
        }
        by_key.bounded().map_err(ServiceError::internal)
    }

    fn sum_windows(&self, hours: &[DriftHour]) -> Result<DriftWindow, ServiceError> {
        let mut sum = self.empty.clone();
        for hour in hours {
            sum.merge(&hour.window).map_err(ServiceError::internal)?;
        }
        Ok(sum)
    }

    /// Hours from the start of the window to its end.
    fn length(&self) -> u32 {
        let millis = self.until.millis() - self.since.millis();
        u32::try_from(millis / MILLIS_PER_HOUR + 1).unwrap_or(1)
    }

    /// The dependence over time for a window of this length.
    fn over_time(&self, window_hours: u32) -> OverTime<'_> {
        OverTime { dependence: &self.dependence, window_hours }
    }

    /// Checks `hours`, which span `window_hours`.
    fn check(
        &self,
        hours: &[DriftHour],
        window_hours: u32,
        limits: &DriftLimits,
    ) -> Result<DriftCheck, ServiceError> {
        let counts = self.sum_windows(hours)?;
        let window =
            ObservedWindow { counts: &counts, over_time: Some(self.over_time(window_hours)) };
        let check = match &self.yardstick {
            None => drift::check_window(&self.model, window, limits),
            Some(by) => {
                let mut inside = by.empty();
                for part in hours.iter().filter_map(|hour| hour.segment_sums.as_ref()) {
                    inside.merge(part).map_err(ServiceError::internal)?;
                }
                drift::check_window_within_segments(&self.model, window, by, &inside, limits)
            }
        };
        check.map_err(ServiceError::internal)
    }
}
