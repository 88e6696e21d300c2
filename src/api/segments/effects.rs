//! `GET /v1/segments/{segment_id}/effects`: what the strategy of a segment achieved.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::experiments::{
    ExperimentResults, ExperimentStatusBody, MetricKindBody, SegmentEffectBody, analyse,
};
use crate::api::named_segment::NamedSegmentBody;
use crate::api::request::{AuthorizedCaller, PathParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::model::NamedSegment;
use crate::domain::presentation::effect_plot::{SegmentEvidence, segment_effect_sentence};
use crate::domain::time::Timestamp;
use crate::store::experiments;

/// What the strategy of a segment achieved, by the experiments that its persona names.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StrategyEffectsBody {
    segment: NamedSegmentBody,
    /// In the order of `strategy.experiments`; empty without any.
    experiments: Vec<StrategyExperimentBody>,
}

/// Effects of one experiment among the customers that were in the segment at their exposure.
#[derive(Debug, Serialize, ToSchema)]
struct StrategyExperimentBody {
    /// Key of the experiment.
    #[schema(example = "spring-mail")]
    experiment: String,
    status: ExperimentStatusBody,
    /// Instant of the results; null before the start.
    read_at: Option<Timestamp>,
    /// Why there are no effects: the experiment has not started, or its results are withheld. Null: there
    /// are results.
    #[schema(example = json!(null))]
    withheld: Option<String>,
    /// One for each metric and treatment with a measurable effect among all customers; empty if the results
    /// are withheld.
    effects: Vec<StrategyEffectBody>,
    /// Other causes that may explain a difference.
    #[schema(example = json!(["412 customers were also exposed to the experiment `menu`."]))]
    confounders: Vec<String>,
}

/// Effect of a treatment on a metric in the segment.
#[derive(Debug, Serialize, ToSchema)]
struct StrategyEffectBody {
    /// Name of the metric.
    #[schema(example = "spend")]
    metric: String,
    kind: MetricKindBody,
    /// Key of the treatment.
    #[schema(example = "mail")]
    variation: String,
    /// The effect in one sentence.
    #[schema(
        example = "In this segment, `mail` raises spend: by 1.4 for each customer (95 % interval 0.6 to 2.2)."
    )]
    conclusion: String,
    /// Null: fewer than 30 customers of the segment saw one of the variations, or the effect cannot be
    /// measured.
    effect: Option<SegmentEffectBody>,
}

/// Get the effects of the strategy of a segment.
///
/// The effects of the experiments in `strategy.experiments` of the persona, among the customers that were in
/// the segment when they were exposed. A change of the segment by a later training does not change
/// them. Computed from stored events, so it takes some seconds for large experiments.
#[utoipa::path(
    get,
    path = "/v1/segments/{segment_id}/effects",
    tag = "Segments",
    security(("key" = ["read"])),
    params(("segment_id" = String, Path, description = "Id of the segment: `seg_…`")),
    responses(
        (status = 200, body = StrategyEffectsBody, description = "The effects"),
        (status = 404, description = "No model that is served has this segment"),
    )
)]
pub(crate) async fn get_strategy_effects(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    PathParameters(segment_id): PathParameters<String>,
) -> Result<Json<StrategyEffectsBody>, ApiError> {
    let deployment = state.deployments.snapshot();
    let (_, segment) = deployment.find_segment(&segment_id).ok_or_else(|| {
        ApiError::not_found(&format!("segment with the id `{segment_id}` that is served"))
    })?;
    let segment = NamedSegment::from(segment);
    let persona = deployment.personas.of_segment(&segment_id);
    let keys = persona.map(|stored| stored.persona.strategy.experiments.clone());
    let defined = experiments::list_in_force(&state.db).await?;
    let mut found = Vec::new();
    for key in keys.unwrap_or_default() {
        let Some(experiment) = defined.iter().find(|known| known.key == key) else { continue };
        let status = experiment.status.into();
        if experiment.started_at.is_none() {
            found.push(StrategyExperimentBody::not_started(key, status));
            continue;
        }
        let (data, results) = analyse(&state, caller.user(), &key, false).await?;
        found.push(StrategyExperimentBody {
            experiment: key,
            status,
            read_at: Some(data.read_at),
            withheld: results.withheld.as_ref().map(ToString::to_string),
            effects: effects_in_segment(&results, &segment),
            confounders: results.confounders,
        });
    }
    Ok(Json(StrategyEffectsBody { segment: segment.into(), experiments: found }))
}

fn effects_in_segment(
    results: &ExperimentResults,
    segment: &NamedSegment,
) -> Vec<StrategyEffectBody> {
    let names = results.sample.variations.names();
    let index = results.sample.segments.names().iter().position(|id| **id == *segment.id);
    let mut effects = Vec::new();
    for metric in &results.metrics {
        for one in &metric.effects {
            let in_segment = &one.result.segments;
            let effect = in_segment.segments.iter().find(|effect| Some(effect.segment) == index);
            let treatment = &names[one.result.variation];
            let evidence = SegmentEvidence { treatment, metric: &metric.metric, effect };
            effects.push(StrategyEffectBody {
                metric: metric.metric.name.to_string(),
                kind: metric.metric.kind.into(),
                variation: treatment.clone(),
                conclusion: segment_effect_sentence(evidence),
                effect: effect.map(|effect| SegmentEffectBody::new(effect, segment)),
            });
        }
    }
    effects
}

impl StrategyExperimentBody {
    fn not_started(experiment: String, status: ExperimentStatusBody) -> Self {
        Self {
            experiment,
            status,
            read_at: None,
            withheld: Some("the experiment has not started".into()),
            effects: Vec::new(),
            confounders: Vec::new(),
        }
    }
}
