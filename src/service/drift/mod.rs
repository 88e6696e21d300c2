//! Whether what is scored still looks like what the model was trained on: counts
//! written down, added up over hours and replicas, and checked.
//!
//! What was counted in a minute is written under the hour in which it is taken, so
//! a window may hold a minute's worth of the hour before. What could not be written
//! is kept for the next time; a process that is killed loses that and the minute
//! since.

mod churn;
mod detectors;
mod influence;
pub mod monitor;
mod sampling;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::config::Drift as Settings;
use crate::domain::drift;
use crate::domain::drift::{
    About, ByKey, Check, Drawn, Finding, KeyShare, Layout, Limits, NO_KEY, Source, Stream, Window,
    Yardstick, lasting, mark_influence,
};
use crate::domain::id::ModelId;
use crate::domain::model::Model;
use crate::domain::time::{MILLIS_PER_DAY, MILLIS_PER_HOUR, Timestamp};
use crate::service::ServiceError;
use crate::service::clock::Clock;
use crate::service::error::Chain;
use crate::service::health::clock_check::ClockCheck;
use crate::service::models::policy::Policies;
use crate::service::models::registry;
use crate::service::scoring::deployment::Live;
use crate::service::scoring::observations::{Observer, Taken};
use crate::store::Db;
use crate::store::TimeRange;
use crate::store::drift::{self as windows, CounterKey, Hour, WindowQuery};
use crate::telemetry::Metrics;
use crate::telemetry::labels::Objective;

pub use churn::Flows;
pub use influence::Sample;

/// Counts are kept by API key for so many hours at least: a week, as far as alerts look
/// back.
const LEAST_HOURS_BY_KEY: u32 = 168;

/// A question about more hours reads more than a moment allows: three months.
pub const MOST_HOURS: u32 = 24 * 92;

#[derive(Debug)]
pub struct Drift {
    db: Db,
    live: Arc<Live>,
    observer: Arc<Observer>,
    clock: Clock,
    settings: Settings,
    policies: Arc<Policies>,
    metrics: Arc<Metrics>,
    /// Taken, and not written down yet.
    pending: Mutex<Pending>,
    /// In which hour churn was shown last.
    churn_shown: Mutex<Option<Timestamp>>,
}

/// By model, source, API key and hour.
type Pending = BTreeMap<(ModelId, Source, Box<str>, Timestamp), Window>;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// `None`: the live one.
    pub model: Option<ModelId>,
    /// `None`: all who were answered.
    pub source: Option<Source>,
    /// The last so many, the one in progress included; `None`: as configured.
    pub hours: Option<u32>,
}

/// What a model met, beside what it was trained on.
#[derive(Debug)]
pub struct Report {
    pub model: ModelId,
    pub since: Timestamp,
    pub until: Timestamp,
    /// With what the detectors have found in these hours.
    pub check: Check,
    /// Of the last [`MOST_HOURS`]; `None` where there are to be no detectors.
    pub stream: Option<Stream>,
    /// The part of each API key in the rows, the largest first; empty where they are not
    /// counted by key.
    pub keys: Vec<KeyShare>,
}

/// Hours or days with what each of them shows, oldest first.
pub type History = Vec<(Timestamp, Check)>;

/// How much of the past is told of together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Hour,
    Day,
}

/// What a model met, hour by hour.
struct Met {
    model: Arc<Model>,
    /// A window in which nothing was scored.
    empty: Window,
    /// `None`: nobody looks within segments.
    yardstick: Option<Yardstick>,
    since: Timestamp,
    until: Timestamp,
    hours: Vec<Hour>,
}

impl Drift {
    pub fn new(
        db: Db,
        (live, observer): (Arc<Live>, Arc<Observer>),
        clock: Clock,
        (settings, policies): (Settings, Arc<Policies>),
        metrics: Arc<Metrics>,
    ) -> Self {
        let (pending, churn_shown) = (Mutex::default(), Mutex::default());
        Self { db, live, observer, clock, settings, policies, metrics, pending, churn_shown }
    }

    /// The hours asked for, checked together, and what the detectors have told in them.
    pub async fn report(&self, ask: &Ask) -> Result<Report, ServiceError> {
        let met = self.met(ask).await?;
        let stream = self.stream(&met.model, ask.sources(), NO_KEY).await?;
        let (mut report, model) = self
            .beside(move |limits| {
                let mut check = met.check(&met.hours, limits)?;
                let by_key = met.by_key()?;
                mark_influence(&mut check, &met.model, &by_key, limits)
                    .map_err(ServiceError::internal)?;
                let (since, until) = (met.since, met.until);
                // Of too few rows nothing is told, by whatever means.
                let stream_told = stream.as_ref().filter(|_| check.is_enough);
                if let Some(finding) = stream_told.and_then(|told| lasting(told, since, until)) {
                    check.add(finding);
                }
                let keys = if by_key.has_keys() { by_key.shares() } else { Vec::new() };
                let model = Arc::clone(&met.model);
                Ok((Report { model: model.id().clone(), since, until, check, stream, keys }, model))
            })
            .await?;
        self.mark_lasting(&mut report, &model, ask.sources()).await?;
        Ok(report)
    }

    /// The hours asked for, checked together, and nothing beside.
    pub async fn check(&self, ask: &Ask) -> Result<Check, ServiceError> {
        let met = self.met(ask).await?;
        self.beside(move |limits| met.check(&met.hours, limits)).await
    }

    /// Each hour or day in which anything was scored, checked alone, oldest first.
    pub async fn history(&self, ask: &Ask, step: Step) -> Result<(ModelId, History), ServiceError> {
        let met = self.met(ask).await?;
        self.beside(move |limits| {
            let steps = met.hours.chunk_by(|one, next| step.of(one.at) == step.of(next.at));
            let line = |hours: &[Hour]| {
                let at = hours.first().map_or(met.since, |hour| step.of(hour.at));
                Ok((at, met.check(hours, limits)?))
            };
            let lines = steps.map(line).collect::<Result<_, ServiceError>>()?;
            Ok((met.model.id().clone(), lines))
        })
        .await
    }

    /// One feature as it was at training and as it is now.
    pub async fn picture(&self, ask: &Ask, feature: &str) -> Result<Drawn, ServiceError> {
        let met = self.met(ask).await?;
        let feature = feature.to_owned();
        self.beside(move |_| {
            let picture = drift::picture(&met.model, &met.sum(&met.hours)?, &feature);
            picture.map_err(ServiceError::internal)?.ok_or_else(|| {
                ServiceError::NotFound(format!("feature `{feature}` among those compared"))
            })
        })
        .await
    }

    /// Writes down what this process has counted.
    pub async fn flush(&self) -> Result<(), ServiceError> {
        let mut pending = self.pending.lock().await;
        let now = self.clock.now();
        for Taken { model, source, key, window } in self.observer.take() {
            match pending.entry((model, source, key, Step::Hour.of(now))) {
                Entry::Vacant(free) => {
                    free.insert(window);
                }
                Entry::Occupied(mut held) => {
                    held.get_mut().merge(&window).map_err(ServiceError::internal)?;
                }
            }
        }
        // Commits together: all that was counted since the last time, once; counts too
        // old to be kept by key are summed up, and counts too old to be kept go.
        let mut tx = self.db.begin().await?;
        for ((model, source, key, hour), window) in &*pending {
            let counter = CounterKey { model, source: *source, key_id: key, hour: *hour };
            windows::add(&mut tx, &counter, window).await?;
        }
        let oldest = now.plus_millis(-MILLIS_PER_HOUR * self.hours_by_key());
        windows::merge_keys_before(&mut tx, Step::Hour.of(oldest)).await?;
        if self.settings.keep_days > 0 {
            let oldest = now.plus_millis(-MILLIS_PER_DAY * i64::from(self.settings.keep_days));
            windows::drop_before(&mut tx, Step::Hour.of(oldest)).await?;
        }
        tx.commit().await?;
        pending.clear();
        self.metrics.drift.flushed_at(now);
        Ok(())
    }

    /// Shows in the metrics how things stand.
    pub async fn show(&self) -> Result<(), ServiceError> {
        let (shown, now) = (&self.metrics.drift, self.clock.now());
        let lineup = self.live.snapshot();
        if lineup.active.is_none() {
            for source in Source::ALL {
                shown.show_source(source, 0, 0);
                shown.show_stream(source, None, now);
            }
            lineup.features.features().iter().for_each(|def| shown.show_psi(&def.name, None));
            shown.show_churn(None);
            return Ok(());
        }
        let ask = |source| Ask { model: None, source: Some(source), hours: None };
        for source in Source::ALL {
            let Report { check, stream, since, .. } = self.report(&ask(source)).await?;
            let findings = check.findings.iter().filter(|one| is_of_model(one)).count();
            shown.show_source(source, findings, check.scored);
            shown.show_stream(source, stream.as_ref(), since);
            if source == Source::Rows {
                self.judge(&check);
                self.show_psi(&check);
            }
        }
        self.show_churn().await
    }

    /// Of the rows that are sent: what comes in is what an operator can mend.
    fn show_psi(&self, check: &Check) {
        let (features, shown) = (Arc::clone(&self.live.lineup().features), &self.metrics.drift);
        for def in features.features() {
            let checked = check.features.iter().find(|one| one.feature == def.name);
            shown.show_psi(&def.name, checked.and_then(|one| one.psi).map(|psi| psi.value));
        }
    }

    /// Whether the model is as good as promised; of too few rows nothing is said.
    fn judge(&self, check: &Check) {
        if !check.is_enough {
            return;
        }
        let (now, objectives) = (self.clock.now(), &self.metrics.objectives);
        let findings: Vec<&Finding> =
            check.findings.iter().filter(|one| is_of_model(one)).collect();
        let holds = |about: [About; 2]| findings.iter().all(|one| !about.contains(&one.about));
        let is_calibrated = holds([About::Outliers, About::PValues]);
        objectives.minute(Objective::Calibration, now, is_calibrated);
        let is_stable = holds([About::Segments, About::Distances]);
        objectives.minute(Objective::Stability, now, is_stable);
    }

    /// Writes down and shows, again and again, until `stopped`. What is counted after
    /// that is for [`Self::flush`], once nobody is answered any more.
    /// By a wrong clock nothing is done.
    pub async fn run(self: Arc<Self>, check: Arc<ClockCheck>, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.settings.flush) => {}
                () = &mut stopped => return,
            }
            if !check.is_right() {
                continue;
            }
            // Never cut off in between: what was written would be written again.
            let done = async {
                self.flush().await?;
                self.count_customers().await?;
                self.show().await
            };
            if let Err(error) = done.await {
                tracing::warn!(error = %Chain(&error), "drift: will be tried again");
            }
        }
    }

    async fn met(&self, ask: &Ask) -> Result<Met, ServiceError> {
        let model = self.model(ask.model.as_ref()).await?;
        let hours = ask.hours.unwrap_or(self.settings.window_hours).max(1);
        let until = self.clock.now();
        let before = MILLIS_PER_HOUR * i64::from(hours - 1);
        let since = Step::Hour.of(until).plus_millis(-before);
        let empty = Layout::of(&model).empty();
        let is_looked_into = ask.sources() == [Source::Customers];
        let yardstick = is_looked_into.then(|| Yardstick::of(&model)).flatten();
        let within = yardstick.as_ref().map_or(0, Yardstick::width);
        let query = WindowQuery {
            model: model.id(),
            sources: ask.sources(),
            width: empty.counts.len(),
            period: TimeRange { since, until },
        };
        let hours = windows::hours(self.db.read(), &query, within).await?;
        Ok(Met { model, empty, yardstick, since, until, hours })
    }

    async fn model(&self, asked: Option<&ModelId>) -> Result<Arc<Model>, ServiceError> {
        let lineup = self.live.snapshot();
        let Some(asked) = asked else {
            let none = || ServiceError::Conflict("no model is live: nothing is compared".into());
            return lineup.active.clone().ok_or_else(none);
        };
        let canary = lineup.canary.as_ref().and_then(|canary| canary.lineup.active.as_ref());
        match lineup.active.iter().chain(canary).find(|model| model.id() == asked) {
            Some(model) => Ok(Arc::clone(model)),
            None => Ok(Arc::new(registry::open(self.db.read(), asked).await?)),
        }
    }

    /// Checks of many hours or features are more than a moment's work.
    async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Limits) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let limits = self.policies.limits();
        let done = tokio::task::spawn_blocking(move || work(&limits)).await;
        done.map_err(ServiceError::internal)?
    }
}

/// Whether it says something of the model: what one API key among several sends does not.
fn is_of_model(finding: &Finding) -> bool {
    finding.rests_on.as_ref().is_none_or(|key| !key.is_contradicted)
}

impl Ask {
    fn sources(&self) -> &[Source] {
        self.source.as_ref().map_or(&Source::ANSWERED, std::slice::from_ref)
    }
}

impl Met {
    /// The hours together, by API key.
    fn by_key(&self) -> Result<ByKey, ServiceError> {
        let mut by_key = ByKey::default();
        for hour in &self.hours {
            by_key.add(&hour.key, &hour.window).map_err(ServiceError::internal)?;
        }
        by_key.bounded().map_err(ServiceError::internal)
    }

    fn sum(&self, hours: &[Hour]) -> Result<Window, ServiceError> {
        let mut sum = self.empty.clone();
        for hour in hours {
            sum.merge(&hour.window).map_err(ServiceError::internal)?;
        }
        Ok(sum)
    }

    fn check(&self, hours: &[Hour], limits: &Limits) -> Result<Check, ServiceError> {
        let window = self.sum(hours)?;
        let check = match &self.yardstick {
            None => drift::check(&self.model, &window, limits),
            Some(by) => {
                let mut inside = by.empty();
                for part in hours.iter().filter_map(|hour| hour.inside.as_ref()) {
                    inside.merge(part).map_err(ServiceError::internal)?;
                }
                drift::check_within(&self.model, &window, (by, &inside), limits)
            }
        };
        check.map_err(ServiceError::internal)
    }
}

impl Step {
    /// The beginning of the hour or day, in UTC.
    fn of(self, at: Timestamp) -> Timestamp {
        let millis = match self {
            Self::Hour => MILLIS_PER_HOUR,
            Self::Day => MILLIS_PER_DAY,
        };
        Timestamp::from_millis(at.millis().div_euclid(millis) * millis)
    }
}
