//! The current deployment: one immutable [`Deployment`], replaced as a whole (`ArcSwap`).
//!
//! Readers load it once per unit of work, so no response mixes two models. A new
//! deployment is opened and self-tested before publication; if that fails, the old one
//! remains. Postgres announces changes, and polling finds changes with a lost
//! announcement. The replica that promotes a model loads it in the same way as all
//! others.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Mutex;

use crate::domain::audience::{AudienceSet, ForecastSource};
use crate::domain::deployment::lifecycle;
use crate::domain::drift::{CountedRow, CustomerBucket};
use crate::domain::feature::{CustomerState, FeatureRow, FeatureSet};
use crate::domain::hysteresis::{HysteresisPolicy, PreviousSegment, ScoredRow, SegmentAssignment};
use crate::domain::id::{CustomerKey, ModelId};
use crate::domain::model::{
    AnomalyKind, Model, ModelSegment, NamedSegment, ScoringScratch, SegmentScore, UNASSIGNED,
};
use crate::domain::rescore_schedule::{AnswerSource, ModelAnswer, QuietCustomer, RescoreSchedule};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::audiences::current as audiences;
use crate::service::personas::current::CurrentPersonas;
use crate::service::scoring::observations::{BatchCounts, DriftCounters, ModelCounter};
use crate::store::audiences as stored_audiences;
use crate::store::customers::FreshnessBounds;
use crate::store::customers::assignments::PreviousAssignment;
use crate::store::models::{DeploymentRow, personas};
use crate::store::{ReadOnlyDatabase, models};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::repeated_failures::count_failure;

/// Scoring rules beside the model.
#[derive(Debug, Clone, Copy)]
pub struct ScoringRules {
    /// A p-value at or below this flags an outlier.
    pub outlier_alpha: f64,
    /// Hysteresis: when stored customers leave their segment.
    pub hysteresis: HysteresisPolicy,
}

/// A deployment: everything that scores depend on, checked to be consistent.
#[derive(Debug)]
pub struct Deployment {
    pub generation: i64,
    pub features: Arc<FeatureSet>,
    /// `None`: no model is trained yet, and the rule-based fallback answers.
    pub active: Option<Arc<Model>>,
    pub rules: ScoringRules,
    /// Computes when time alone may change an answer.
    pub rescore_schedule: RescoreSchedule,
    /// The canary deployment, which answers for a share of the customers.
    pub canary: Option<CanaryDeployment>,
    /// The stored deployment; `None` before the first one is loaded, and for a canary.
    pub(crate) stored: Option<DeploymentRow>,
    /// The personas of segments. The segments of the models have the names from their personas.
    pub(crate) personas: Arc<CurrentPersonas>,
    /// The audiences, which every stored score evaluates.
    pub(crate) audiences: Arc<AudienceSet>,
    /// Drift counters of the active model.
    counter: Option<Arc<ModelCounter>>,
}

/// Canary: a model that answers for a share of the customers.
#[derive(Debug)]
pub struct CanaryDeployment {
    pub share: f64,
    /// The deployment with the canary as active model, and without a canary of its own.
    pub deployment: Arc<Deployment>,
}

/// A scored row. Every field comes from one deployment.
#[derive(Debug, Clone, Copy)]
pub struct RowScore<'l> {
    /// `None`: the rule-based fallback answered.
    pub model: Option<&'l ModelId>,
    /// Index among the segments of the model or of the fallback; `None`: no segment.
    pub segment_index: Option<usize>,
    /// Id of the segment, or [`UNASSIGNED`] without a segment.
    pub segment_id: &'l str,
    pub segment_name: &'l str,
    /// Id of the nearest segment; equal to `segment_id` unless the customer is in none.
    pub nearest_segment_id: Option<&'l str>,
    pub runner_up_segment_id: Option<&'l str>,
    pub score: Option<SegmentScore>,
    pub is_outlier: bool,
    /// Kind of anomaly, if any.
    pub anomaly: Option<AnomalyKind>,
}

impl RowScore<'_> {
    /// The segment of the row.
    pub(crate) fn named_segment(&self) -> NamedSegment {
        NamedSegment { id: self.segment_id.into(), name: self.segment_name.into() }
    }
}

/// A scored customer, for the search of its next scheduled rescore.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScoredCustomer<'c> {
    pub state: &'c CustomerState,
    /// The row of `state` at `now`.
    pub row: &'c FeatureRow,
    /// The score of `row` by the active model; `None` with the fallback, as is the assignment.
    pub score: Option<SegmentScore>,
    pub assignment: Option<SegmentAssignment>,
    /// The source of the forecasts that rules of audiences may read.
    pub forecast: Option<ForecastSource<'c>>,
    pub now: Timestamp,
    pub rescore_by: Option<Timestamp>,
}

impl Deployment {
    fn new(
        generation: i64,
        features: Arc<FeatureSet>,
        active: Option<Arc<Model>>,
        rules: ScoringRules,
    ) -> Self {
        let rescore_schedule = RescoreSchedule::new(&features, active.as_deref());
        let (canary, stored, counter) = (None, None, None);
        let (personas, audiences) = (Arc::default(), Arc::default());
        Self {
            generation,
            features,
            active,
            rules,
            rescore_schedule,
            canary,
            stored,
            personas,
            audiences,
            counter,
        }
    }

    fn with_counter(mut self, drift_counters: &DriftCounters, deployed_at: Timestamp) -> Self {
        let active = self.active.as_deref();
        self.counter = active.and_then(|model| drift_counters.counter_for(model, deployed_at));
        self
    }

    /// The deployment that answers for this customer: this one or the canary.
    pub(crate) fn for_customer(&self, customer: &CustomerKey) -> &Self {
        match &self.canary {
            Some(CanaryDeployment { share, deployment })
                if deployment
                    .active
                    .as_ref()
                    .is_some_and(|model| lifecycle::is_in_canary(model.id(), *share, customer)) =>
            {
                deployment
            }
            _ => self,
        }
    }

    /// The current deployment of this generation: this one or the canary, if either
    /// matches.
    pub(crate) fn for_generation(&self, generation: i64) -> Option<&Self> {
        let canary = self.canary.as_ref().map(|canary| &*canary.deployment);
        [Some(self), canary].into_iter().flatten().find(|one| one.generation == generation)
    }

    /// The oldest current generation; assignments of earlier generations are stale.
    pub fn oldest_generation(&self) -> i64 {
        self.canary.as_ref().map_or(self.generation, |canary| canary.deployment.generation)
    }

    /// What a stored assignment must be computed with to be up to date.
    pub(crate) fn freshness_bounds(&self) -> FreshnessBounds {
        FreshnessBounds {
            generation: self.oldest_generation(),
            audience_version: self.audiences.version(),
        }
    }

    /// The segments of the active model, then those of the canary.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (&Model, &ModelSegment)> {
        let canary = self.canary.as_ref().and_then(|canary| canary.deployment.active.as_deref());
        let models = self.active.as_deref().into_iter().chain(canary);
        models.flat_map(|model| model.segments().iter().map(move |segment| (model, segment)))
    }

    /// A segment of the active model, or else of the canary, with its model.
    pub(crate) fn find_segment(&self, segment_id: &str) -> Option<(&Model, &ModelSegment)> {
        self.segments().find(|(_, segment)| *segment.id == *segment_id)
    }

    /// Scores a row with values in the order of `self.features`. Allocates nothing once
    /// `scratch` is warm.
    pub fn score_row(&self, row: &FeatureRow, scratch: &mut ScoringScratch) -> RowScore<'_> {
        let Some(model) = &self.active else {
            let rfm = self.features.rfm().score_row(row);
            return RowScore {
                model: None,
                segment_index: Some(rfm.index),
                segment_id: rfm.id,
                segment_name: rfm.name,
                nearest_segment_id: None,
                runner_up_segment_id: None,
                score: None,
                is_outlier: false,
                anomaly: None,
            };
        };
        let score = model.score(row, scratch);
        let segments = model.segments();
        let segment = score.segment().map(|index| &segments[index]);
        RowScore {
            model: Some(model.id()),
            segment_index: score.segment(),
            segment_id: segment.map_or(UNASSIGNED, |segment| &segment.id),
            segment_name: segment.map_or(UNASSIGNED, |segment| &segment.name),
            nearest_segment_id: Some(&segments[score.nearest].id),
            runner_up_segment_id: score.runner_up.map(|index| &*segments[index].id),
            score: Some(score),
            is_outlier: score.is_outlier(self.rules.outlier_alpha),
            anomaly: model.anomaly_kind(&score, self.rules.outlier_alpha),
        }
    }

    /// Counts a score of this deployment for drift detection. Fallback scores are not
    /// counted.
    pub(crate) fn count_score(
        &self,
        tally: &mut BatchCounts,
        row: &FeatureRow,
        row_score: &RowScore<'_>,
        customer: Option<CustomerBucket>,
    ) {
        if let (Some(counter), Some(score)) = (&self.counter, &row_score.score) {
            let is_outlier = row_score.is_outlier;
            tally.count_row(counter, &CountedRow { row, score, is_outlier, customer });
        }
    }

    /// The assignment of a customer by hysteresis, from the `previous` assignment
    /// and this deployment's score of `row`. `None` with the fallback, which has no
    /// hysteresis.
    pub fn apply_hysteresis(
        &self,
        row: &FeatureRow,
        row_score: &RowScore<'_>,
        previous: Option<&PreviousAssignment>,
        now: Timestamp,
        scratch: &mut ScoringScratch,
    ) -> Option<SegmentAssignment> {
        let (model, score) = (self.active.as_deref()?, row_score.score?);
        let before = previous.and_then(|previous| self.previous_segment(previous));
        Some(self.rules.hysteresis.assign_segment(
            ScoredRow { model, row, score: &score },
            before,
            now,
            scratch,
        ))
    }

    /// An assigned segment of the active model.
    pub fn assigned_segment(&self, assigned: &SegmentAssignment) -> NamedSegment {
        let segments = self.active.as_deref().map_or(&[][..], Model::segments);
        let segment = assigned.segment.and_then(|index| segments.get(index));
        segment.map_or_else(NamedSegment::unassigned, NamedSegment::from)
    }

    /// The previous assignment in terms of the active model. Segments keep their ids over
    /// trainings, so the segment usually exists there.
    pub(crate) fn previous_segment(
        &self,
        previous: &PreviousAssignment,
    ) -> Option<PreviousSegment> {
        let model = self.active.as_deref().filter(|_| !previous.is_fallback)?;
        let segment = model.segment_index(&previous.segment_id)?;
        Some(PreviousSegment { segment, moved_at: previous.moved_at })
    }

    /// When a customer must be rescored if no event arrives, at most `rescore_by`.
    pub(crate) fn next_rescore_at(
        &self,
        customer: ScoredCustomer<'_>,
        scratch: &mut ScoringScratch,
    ) -> Option<Timestamp> {
        let ScoredCustomer { state, row, score, assignment, forecast, now, rescore_by } = customer;
        let ScoringRules { outlier_alpha, hysteresis: policy } = self.rules;
        let model = self.active.as_deref().zip(score).zip(assignment).map(
            |((model, score), assignment)| ModelAnswer {
                model,
                outlier_alpha,
                hysteresis: policy,
                score,
                assignment,
            },
        );
        let answerer = AnswerSource { features: &self.features, model };
        let customer = QuietCustomer { state, row, now };
        let segment =
            self.rescore_schedule.next_rescore_at(answerer, customer, rescore_by, scratch);
        let no_later = segment.into_iter().chain(rescore_by).min();
        let audience = self.audiences.next_change_at(customer, &self.features, forecast, no_later);
        segment.into_iter().chain(audience).min()
    }
}

/// What users define beside the models.
#[derive(Debug)]
struct DeploymentContext {
    personas: Arc<CurrentPersonas>,
    audiences: Arc<AudienceSet>,
}

/// Holder of this process's deployment.
#[derive(Debug)]
pub struct ServingState {
    current: ArcSwap<Deployment>,
    /// Serialises refreshes. Otherwise an older deployment that takes longer to open
    /// could replace a newer one.
    refresh_lock: Mutex<()>,
    db: ReadOnlyDatabase,
    drift_counters: Arc<DriftCounters>,
    metrics: Arc<ServiceMetrics>,
}

impl ServingState {
    /// Starts with the fallback; `ServingState::refresh_deployment` loads the stored deployment.
    pub fn new(
        db: ReadOnlyDatabase,
        features: Arc<FeatureSet>,
        rules: ScoringRules,
        drift_counters: Arc<DriftCounters>,
        metrics: Arc<ServiceMetrics>,
    ) -> Self {
        let deployment = Deployment::new(-1, features, None, rules);
        let (current, refresh_lock) = (ArcSwap::from_pointee(deployment), Mutex::default());
        Self { current, refresh_lock, db, drift_counters, metrics }
    }

    /// The deployment for one unit of work.
    pub(crate) fn current(&self) -> Guard<Arc<Deployment>> {
        self.current.load()
    }

    /// The deployment as an `Arc`, for use across an await.
    pub fn snapshot(&self) -> Arc<Deployment> {
        self.current.load_full()
    }

    /// Publishes the stored deployment, personas and audiences if they differ from the current
    /// ones.
    pub(crate) async fn refresh_deployment(&self) -> Result<(), ServiceError> {
        // Taken before the read, so that the row read last is also published last.
        let _guard = self.refresh_lock.lock().await;
        let stored = models::current_deployment(&self.db).await?;
        let newest_persona = personas::newest_version(&self.db).await?;
        let newest_audience = stored_audiences::newest_version(&self.db).await?;
        let current = self.snapshot();
        // Every change has a new generation, so equal generations mean the same
        // deployment.
        let is_same_deployment = stored.generation == current.generation;
        let is_named_the_same = newest_persona == current.personas.version;
        let has_same_audiences = newest_audience == current.audiences.version();
        if is_same_deployment && is_named_the_same && has_same_audiences {
            return Ok(());
        }
        let audiences = if has_same_audiences {
            Arc::clone(&current.audiences)
        } else {
            Arc::new(audiences::load(&self.db, newest_audience, &current.features).await?)
        };
        let personas = if is_named_the_same {
            Arc::clone(&current.personas)
        } else {
            Arc::new(CurrentPersonas::load(&self.db).await?)
        };
        let context = DeploymentContext { personas, audiences };
        match self.open_deployment(&stored, &current, context).await {
            Ok(deployment) => {
                if !is_same_deployment {
                    let model =
                        deployment.active.as_ref().map(|model| model.id().short().to_owned());
                    let generation = deployment.generation;
                    tracing::info!(generation, model, "deployment published");
                    self.metrics.deployment.swaps.inc();
                }
                if !is_named_the_same {
                    tracing::info!(version = deployment.personas.version, "personas published");
                }
                if !has_same_audiences {
                    tracing::info!(version = newest_audience, "audiences published");
                }
                self.metrics.deployment.generation.set(deployment.generation);
                let active = deployment.active.as_deref();
                let outdated = active.map_or(0, |model| deployment.personas.count_outdated(model));
                self.metrics
                    .deployment
                    .outdated_personas
                    .set(i64::try_from(outdated).unwrap_or(i64::MAX));
                self.current.store(Arc::new(deployment));
                Ok(())
            }
            Err(error) => {
                self.metrics.deployment.refused.inc();
                Err(error)
            }
        }
    }

    async fn open_deployment(
        &self,
        stored: &DeploymentRow,
        current: &Deployment,
        context: DeploymentContext,
    ) -> Result<Deployment, ServiceError> {
        let DeploymentContext { personas, audiences } = context;
        let (features, rules) = (&current.features, current.rules);
        let counters = &self.drift_counters;
        let active = match &stored.active {
            None => None,
            Some(id) => self.find_or_load(id, current, &personas).await?,
        };
        let deployment = Deployment::new(stored.generation, Arc::clone(features), active, rules);
        let mut deployment = deployment.with_counter(counters, stored.changed_at);
        deployment.stored = Some(stored.clone());
        if let Some(row) = &stored.canary {
            let model = self.find_or_load(&row.model, current, &personas).await?;
            if let Some(model) = model {
                let features = Arc::clone(features);
                let canary = Deployment::new(row.generation, features, Some(model), rules);
                let mut canary = canary.with_counter(counters, stored.changed_at);
                canary.personas = Arc::clone(&personas);
                canary.audiences = Arc::clone(&audiences);
                deployment.canary =
                    Some(CanaryDeployment { share: row.share, deployment: Arc::new(canary) });
            }
        }
        deployment.personas = personas;
        deployment.audiences = audiences;
        Ok(deployment)
    }

    /// The model with the names of `personas`; opened only if it is not in use with them already.
    async fn find_or_load(
        &self,
        id: &ModelId,
        current: &Deployment,
        personas: &CurrentPersonas,
    ) -> Result<Option<Arc<Model>>, ServiceError> {
        let canary = current.canary.as_ref().and_then(|canary| canary.deployment.active.as_ref());
        let known = current.active.iter().chain(canary).find(|model| model.id() == id);
        match known {
            Some(model) if personas.version == current.personas.version => {
                Ok(Some(Arc::clone(model)))
            }
            _ => {
                let model = self.open_model(id).await?;
                Ok(model.map(|model| Arc::new(personas.name_segments(model))))
            }
        }
    }

    /// Loads a model with the names of its document. `None` as for [`Self::open_model`].
    pub(crate) async fn load_model(
        &self,
        id: &ModelId,
    ) -> Result<Option<Arc<Model>>, ServiceError> {
        Ok(self.open_model(id).await?.map(Arc::new))
    }

    /// Loads a model. `None` for a model of another feature set: the fallback answers
    /// until a model of this feature set is trained.
    async fn open_model(&self, id: &ModelId) -> Result<Option<Model>, ServiceError> {
        let bytes = models::artifact(&self.db, id)
            .await?
            .ok_or_else(|| ServiceError::internal(format!("model {id} is live but not stored")))?;
        let model = Model::open_addressed(&bytes, id).map_err(ServiceError::internal)?;
        if model.feature_set() != self.snapshot().features.id() {
            if let Some(repeated) = count_failure("feature set of a model", id.short()) {
                tracing::warn!(
                    model = id.short(),
                    "the model was trained with another feature set and cannot serve{repeated}"
                );
            }
            return Ok(None);
        }
        Ok(Some(model))
    }
}
