//! What is live: one immutable [`Lineup`], swapped whole.
//!
//! Readers load it once per unit of work, so no answer mixes two models. A new
//! lineup is opened and self-tested before it is published; if that fails the
//! old one stays. Postgres announces changes; polling finds those whose
//! announcement was lost. The replica that promotes takes the same road.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Mutex;

use crate::domain::deployment::lifecycle;
use crate::domain::feature::{CustomerState, FeatureRow, FeatureSet};
use crate::domain::hysteresis::{Before, Policy, ScoredRow, Standing};
use crate::domain::id::{CustomerKey, ModelId};
use crate::domain::model::{Model, Score, Scratch, UNASSIGNED, Unusual};
use crate::domain::recheck::{Answerer, ByModel, QuietCustomer, Watch};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::scoring::observations::{Counter, Observer, Tally};
use crate::store::customers::assignments::Held;
use crate::store::models::{LineupRow, lineage};
use crate::store::{ReadDb, models};
use crate::telemetry::Metrics;

/// What answers rest on besides a model.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// A p-value at or below this flags an outlier.
    pub outlier_alpha: f64,
    /// When stored customers leave their segment.
    pub policy: Policy,
}

/// Everything an answer is made from, checked to agree.
#[derive(Debug)]
pub struct Lineup {
    pub generation: i64,
    pub features: Arc<FeatureSet>,
    /// `None`: nothing trained yet, so the rule-based fallback answers.
    pub active: Option<Arc<Model>>,
    pub previous: Option<ModelId>,
    pub rules: Rules,
    /// What time alone can change about an answer.
    pub watch: Watch,
    /// Keys of its segments that are those of other segments in another model.
    namesakes: Vec<String>,
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
        rules: Rules,
    ) -> Self {
        let watch = Watch::new(&features, active.as_deref());
        let (namesakes, canary, counter) = (Vec::new(), None, None);
        Self { generation, features, active, previous, rules, watch, namesakes, canary, counter }
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
            outlier: score.is_outlier(self.rules.outlier_alpha),
            unusual: model.unusual(&score, self.rules.outlier_alpha),
        }
    }

    /// Counts a verdict of this lineup on `row`, to watch for drift; the fallback's
    /// are not counted.
    pub fn note(&self, tally: &mut Tally, row: &FeatureRow, verdict: &Verdict<'_>) {
        if let (Some(counter), Some(score)) = (&self.counter, &verdict.score) {
            tally.note(counter, row, score, verdict.outlier);
        }
    }

    /// Where the customer of `row` stands, who stood at `held` before; `verdict` is
    /// this lineup's on `row`. `None` where the fallback answers: it holds nobody.
    pub fn stand(
        &self,
        row: &FeatureRow,
        verdict: &Verdict<'_>,
        held: Option<&Held>,
        now: Timestamp,
        scratch: &mut Scratch,
    ) -> Option<Standing> {
        let (model, score) = (self.active.as_deref()?, verdict.score?);
        let before = held.and_then(|held| self.before(held));
        Some(self.rules.policy.stand(ScoredRow { model, row, score: &score }, before, now, scratch))
    }

    /// The key of a segment of the active model.
    pub fn key(&self, standing: &Standing) -> &str {
        let segments = self.active.as_deref().map_or(&[][..], Model::segments);
        standing.segment.and_then(|index| segments.get(index)).map_or(UNASSIGNED, |s| &s.key)
    }

    /// Where `held` is in the active model. Models keep the names of segments, so
    /// that it usually is there; a key that two segments have had is nobody's.
    pub fn before(&self, held: &Held) -> Option<Before> {
        let is_known =
            held.generation == self.generation || !self.namesakes.contains(&held.segment);
        let segments = self.active.as_deref().filter(|_| is_known && !held.fallback)?.segments();
        let segment = segments.iter().position(|segment| *segment.key == *held.segment)?;
        Some(Before { segment, moved_at: held.moved_at })
    }

    /// When a customer without events need be scored again, or `no_later`; `row`
    /// is the one of `state` at `now`, and `standing` where the active model sees it.
    pub fn recheck_at(
        &self,
        (state, row, standing): (&CustomerState, &FeatureRow, Option<Standing>),
        (now, no_later): (Timestamp, Option<Timestamp>),
        scratch: &mut Scratch,
    ) -> Option<Timestamp> {
        let Rules { outlier_alpha, policy } = self.rules;
        let model = self.active.as_deref().zip(standing);
        let model =
            model.map(|(model, standing)| ByModel { model, outlier_alpha, policy, standing });
        let answerer = Answerer { features: &self.features, model };
        self.watch.recheck_at(answerer, QuietCustomer { state, row, now }, no_later, scratch)
    }
}

/// Holds the lineup of this process.
#[derive(Debug)]
pub struct Live {
    current: ArcSwap<Lineup>,
    /// Who brings in what is stored takes turns: else an older lineup that takes
    /// longer to open would follow a newer one.
    turn: Mutex<()>,
    db: ReadDb,
    observer: Arc<Observer>,
    metrics: Arc<Metrics>,
}

impl Live {
    /// Starts with the fallback; [`Live::refresh`] brings what is stored.
    pub fn new(
        db: ReadDb,
        features: Arc<FeatureSet>,
        rules: Rules,
        observer: Arc<Observer>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let lineup = Lineup::new(-1, features, None, None, rules);
        let (current, turn) = (ArcSwap::from_pointee(lineup), Mutex::default());
        Self { current, turn, db, observer, metrics }
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
        let _turn = self.turn.lock().await;
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
        let (features, rules) = (|| Arc::clone(&current.features), current.rules);
        let active = match &stored.active {
            None => None,
            Some(id) => self.model(id, current).await?,
        };
        let previous = stored.previous.clone();
        let lineup = Lineup::new(stored.generation, features(), active, previous, rules);
        let mut lineup = self.named(lineup).await?.counted_by(&self.observer);
        if let Some(row) = &stored.canary {
            let model = self.model(&row.model, current).await?;
            if let Some(model) = model {
                let own = Lineup::new(row.generation, features(), Some(model), None, rules);
                let own = self.named(own).await?.counted_by(&self.observer);
                lineup.canary = Some(Canary { share: row.share, lineup: Arc::new(own) });
            }
        }
        Ok(lineup)
    }

    async fn named(&self, lineup: Lineup) -> Result<Lineup, ServiceError> {
        let namesakes = match &lineup.active {
            None => Vec::new(),
            Some(model) => lineage::namesakes(&self.db, model.id()).await?,
        };
        Ok(Lineup { namesakes, ..lineup })
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
