//! What is live: one immutable [`Lineup`], swapped whole.
//!
//! Readers load it once per unit of work, so no answer mixes two models. A new
//! lineup is opened and self-tested before it is published; if that fails the
//! old one stays. Postgres announces changes; polling finds those whose
//! announcement was lost. The replica that promotes takes the same road.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::domain::feature::{CustomerState, FeatureRow, FeatureSet};
use crate::domain::id::{CustomerKey, ModelId};
use crate::domain::lifecycle;
use crate::domain::model::{Model, Score, Scratch, UNASSIGNED, Unusual};
use crate::domain::recheck::{Answerer, Watch};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::observe::{Counter, Observer, Tally};
use crate::store::models::LineupRow;
use crate::store::{ReadDb, models};
use crate::telemetry::Metrics;

/// Everything an answer is made from, checked to agree.
#[derive(Debug)]
pub struct Lineup {
    pub generation: i64,
    pub features: Arc<FeatureSet>,
    /// `None`: nothing trained yet, so the rule-based fallback answers.
    pub active: Option<Arc<Model>>,
    pub previous: Option<ModelId>,
    /// A p-value at or below this flags an outlier.
    pub outlier_alpha: f64,
    /// What time alone can change about an answer.
    pub watch: Watch,
    /// Who answers some customers in the place of all this.
    pub canary: Option<Canary>,
    /// Where what the active model met is counted.
    counter: Option<Arc<Counter>>,
}

/// A model that answers a share of the customers.
#[derive(Debug)]
pub struct Canary {
    pub share: f64,
    /// Its active model is the canary, and it has no canary itself.
    pub lineup: Arc<Lineup>,
}

/// One scored row; every field comes from one lineup.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'l> {
    /// `None`: the rule-based fallback answered.
    pub model: Option<&'l ModelId>,
    /// Place among the model's segments, or among the fallback's; `None`: in none.
    pub index: Option<usize>,
    /// [`UNASSIGNED`] where in none.
    pub segment: &'l str,
    pub label: &'l str,
    /// The nearest segment: `segment` itself, unless the customer is in none.
    pub nearest: Option<&'l str>,
    pub runner_up: Option<&'l str>,
    pub score: Option<Score>,
    pub outlier: bool,
    /// In which way, if at all.
    pub unusual: Option<Unusual>,
}

impl Lineup {
    fn new(
        generation: i64,
        features: Arc<FeatureSet>,
        active: Option<Arc<Model>>,
        previous: Option<ModelId>,
        outlier_alpha: f64,
    ) -> Self {
        let watch = Watch::new(&features, active.as_deref());
        let (canary, counter) = (None, None);
        Self { generation, features, active, previous, outlier_alpha, watch, canary, counter }
    }

    fn counted_by(mut self, observer: &Observer) -> Self {
        self.counter = self.active.as_deref().and_then(|model| observer.counter(model));
        self
    }

    /// The lineup that answers this customer: this one, or the canary's.
    pub fn of(&self, customer: &CustomerKey) -> &Self {
        match &self.canary {
            Some(Canary { share, lineup })
                if lineup
                    .active
                    .as_ref()
                    .is_some_and(|model| lifecycle::is_in_canary(model.id(), *share, customer)) =>
            {
                lineup
            }
            _ => self,
        }
    }

    /// The lineup of this generation, if it is one of those that answer now.
    pub fn of_generation(&self, generation: i64) -> Option<&Self> {
        let canary = self.canary.as_ref().map(|canary| &*canary.lineup);
        [Some(self), canary].into_iter().flatten().find(|one| one.generation == generation)
    }

    /// Assignments of earlier generations are stale.
    pub fn oldest_generation(&self) -> i64 {
        self.canary.as_ref().map_or(self.generation, |canary| canary.lineup.generation)
    }

    /// Scores a row in the order of `self.features`. Never allocates once
    /// `scratch` is warm.
    pub fn score(&self, row: &FeatureRow, scratch: &mut Scratch) -> Verdict<'_> {
        let Some(model) = &self.active else {
            let rfm = self.features.rfm().assess(row);
            return Verdict {
                model: None,
                index: Some(rfm.index),
                segment: rfm.key,
                label: rfm.label,
                nearest: None,
                runner_up: None,
                score: None,
                outlier: false,
                unusual: None,
            };
        };
        let score = model.score(row, scratch);
        let segments = model.segments();
        let segment = score.segment().map(|index| &segments[index]);
        Verdict {
            model: Some(model.id()),
            index: score.segment(),
            segment: segment.map_or(UNASSIGNED, |segment| &segment.key),
            label: segment.map_or(UNASSIGNED, |segment| &segment.label),
            nearest: Some(&segments[score.nearest].key),
            runner_up: score.runner_up.map(|index| &*segments[index].key),
            score: Some(score),
            outlier: score.is_outlier(self.outlier_alpha),
            unusual: model.unusual(&score, self.outlier_alpha),
        }
    }

    /// Counts a verdict of this lineup on `row`, to watch for drift; the fallback's
    /// are not counted.
    pub fn note<'l>(&'l self, tally: &mut Tally<'l>, row: &FeatureRow, verdict: &Verdict<'_>) {
        if let (Some(counter), Some(score)) = (&self.counter, &verdict.score) {
            tally.note(counter, row, score, verdict.outlier);
        }
    }

    /// When a customer without events need be scored again, or `no_later`; `row`
    /// is the one of `state` at `now`.
    pub fn recheck_at(
        &self,
        state: &CustomerState,
        row: &FeatureRow,
        (now, no_later): (Timestamp, Option<Timestamp>),
        scratch: &mut Scratch,
    ) -> Option<Timestamp> {
        let answerer = Answerer {
            features: &self.features,
            model: self.active.as_deref(),
            outlier_alpha: self.outlier_alpha,
        };
        self.watch.recheck_at(answerer, (state, row), (now, no_later), scratch)
    }
}

/// Holds the lineup of this process.
#[derive(Debug)]
pub struct Live {
    current: ArcSwap<Lineup>,
    db: ReadDb,
    observer: Arc<Observer>,
    metrics: Arc<Metrics>,
}

impl Live {
    /// Starts with the fallback; [`Live::refresh`] brings what is stored.
    pub fn new(
        db: ReadDb,
        features: Arc<FeatureSet>,
        outlier_alpha: f64,
        observer: Arc<Observer>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let lineup = Lineup::new(-1, features, None, None, outlier_alpha);
        Self { current: ArcSwap::from_pointee(lineup), db, observer, metrics }
    }

    /// The lineup for one unit of work.
    pub fn lineup(&self) -> Guard<Arc<Lineup>> {
        self.current.load()
    }

    /// The lineup, to be kept across an await.
    pub fn snapshot(&self) -> Arc<Lineup> {
        self.current.load_full()
    }

    /// Publishes the stored lineup if it is another than the current one.
    pub async fn refresh(&self) -> Result<(), ServiceError> {
        let stored = models::lineup(&self.db).await?;
        let current = self.snapshot();
        if stored.generation == current.generation {
            return Ok(());
        }
        match self.open(&stored, &current).await {
            Ok(lineup) => {
                let model = lineup.active.as_ref().map(|model| model.id().short().to_owned());
                tracing::info!(generation = lineup.generation, ?model, "lineup published");
                self.metrics.lineup.generation.set(lineup.generation);
                self.metrics.lineup.swaps.inc();
                self.current.store(Arc::new(lineup));
                Ok(())
            }
            Err(error) => {
                self.metrics.lineup.refused.inc();
                Err(error)
            }
        }
    }

    async fn open(&self, stored: &LineupRow, current: &Lineup) -> Result<Lineup, ServiceError> {
        let (features, alpha) = (|| Arc::clone(&current.features), current.outlier_alpha);
        let active = match &stored.active {
            None => None,
            Some(id) => self.model(id, current).await?,
        };
        let previous = stored.previous.clone();
        let lineup = Lineup::new(stored.generation, features(), active, previous, alpha);
        let mut lineup = lineup.counted_by(&self.observer);
        if let Some(row) = &stored.canary {
            let model = self.model(&row.model, current).await?;
            lineup.canary = model.map(|model| {
                let own = Lineup::new(row.generation, features(), Some(model), None, alpha);
                Canary { share: row.share, lineup: Arc::new(own.counted_by(&self.observer)) }
            });
        }
        Ok(lineup)
    }

    /// The model, opened anew only where it is not in use already.
    async fn model(
        &self,
        id: &ModelId,
        current: &Lineup,
    ) -> Result<Option<Arc<Model>>, ServiceError> {
        let canary = current.canary.as_ref().and_then(|canary| canary.lineup.active.as_ref());
        let known = current.active.iter().chain(canary).find(|model| model.id() == id);
        match known {
            Some(model) => Ok(Some(Arc::clone(model))),
            None => self.load(id).await,
        }
    }

    /// `None` for a model of other features: the fallback answers until a
    /// model of these features has been trained.
    pub async fn load(&self, id: &ModelId) -> Result<Option<Arc<Model>>, ServiceError> {
        let bytes = models::artifact(&self.db, id)
            .await?
            .ok_or_else(|| ServiceError::internal(format!("model {id} is live but not stored")))?;
        let model = Model::open(&bytes).map_err(ServiceError::internal)?;
        if model.feature_set() != self.lineup().features.id() {
            tracing::warn!(
                model = id.short(),
                "the model was trained on other features: it cannot answer"
            );
            return Ok(None);
        }
        Ok(Some(Arc::new(model)))
    }
}
