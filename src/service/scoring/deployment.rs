//! A deployment: an immutable set of models and definitions that scores depend on.

use std::sync::Arc;

use crate::domain::audience::{AudienceSet, ForecastSource};
use crate::domain::deployment::lifecycle;
use crate::domain::drift::{CountedRow, CustomerBucket};
use crate::domain::experiment::spec::ExperimentSet;
use crate::domain::feature::{CustomerState, FeatureRow, FeatureSet};
use crate::domain::hysteresis::{HysteresisPolicy, PreviousSegment, ScoredRow, SegmentAssignment};
use crate::domain::id::{CustomerKey, ModelId};
use crate::domain::model::{
    AnomalyKind, Model, ModelSegment, NamedSegment, ScoringScratch, SegmentScore, UNASSIGNED,
};
use crate::domain::rescore_schedule::{AnswerSource, ModelAnswer, QuietCustomer, RescoreSchedule};
use crate::domain::time::Timestamp;
use crate::service::personas::current::CurrentPersonas;
use crate::service::scoring::observations::{BatchCounts, DriftCounters, ModelCounter};
use crate::store::audiences::AudienceVersions;
use crate::store::customers::assignments::PreviousAssignment;
use crate::store::models::DeploymentRow;

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
    pub(super) audience_versions: AudienceVersions,
    /// The experiments that have started.
    pub(crate) experiments: Arc<ExperimentSet>,
    /// Drift counters of the active model.
    counter: Option<Arc<ModelCounter>>,
}

/// What users define beside the models.
#[derive(Debug, Clone, Default)]
pub(super) struct DeploymentContext {
    pub(super) personas: Arc<CurrentPersonas>,
    pub(super) audiences: Arc<AudienceSet>,
    pub(super) audience_versions: AudienceVersions,
    pub(super) experiments: Arc<ExperimentSet>,
}

/// What a stored assignment must be computed with to be up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FreshnessBounds {
    /// The oldest current generation.
    pub generation: i64,
    /// Version of the definitions of audiences.
    pub audience_version: i64,
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
    pub(super) fn new(
        generation: i64,
        features: Arc<FeatureSet>,
        active: Option<Arc<Model>>,
        rules: ScoringRules,
        context: DeploymentContext,
    ) -> Self {
        let DeploymentContext { personas, audiences, audience_versions, experiments } = context;
        let read = audiences.features_read();
        let rescore_schedule = RescoreSchedule::new(&features, active.as_deref(), read);
        let (canary, stored, counter) = (None, None, None);
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
            audience_versions,
            experiments,
            counter,
        }
    }

    pub(super) fn with_counter(
        mut self,
        drift_counters: &DriftCounters,
        deployed_at: Timestamp,
    ) -> Self {
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

    /// The bounds for stored assignments of this deployment.
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

    /// A segment with its present name; its id if no serving model has it.
    pub(crate) fn name_segment(&self, segment_id: &str) -> NamedSegment {
        let learned = self.find_segment(segment_id);
        learned.map_or_else(|| NamedSegment::of_rules(segment_id), |(_, segment)| segment.into())
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
        // The schedule of the segment ends at every jump that the audiences read.
        let no_later = segment.into_iter().chain(rescore_by).min();
        let audience = self.audiences.next_change_at(customer, &self.features, forecast, no_later);
        segment.into_iter().chain(audience).min()
    }
}
