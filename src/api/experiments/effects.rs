//! Effects of treatments as JSON.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::experiments::definition::MetricKindBody;
use crate::api::named_segment::NamedSegmentBody;
use crate::domain::experiment::spec::OutcomeMetric;
use crate::domain::experiment::{
    AlwaysValidResult, EffectEstimate, SegmentEffect, SegmentationWorth,
};
use crate::domain::model::NamedSegment;
use crate::domain::presentation::effect_plot::{EffectEvidence, effect_sentence};
use crate::service::experiments::results::{MetricResults, VariationEffects};

/// Significance level of the intervals.
const ALPHA: f64 = 0.05;

/// Effects on one metric.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MetricResultsBody {
    /// Name of the metric.
    #[schema(example = "spend")]
    metric: String,
    kind: MetricKindBody,
    /// Value at which outcomes are capped; null: not capped.
    #[schema(example = json!(null))]
    cap: Option<f64>,
    /// One effect for each treatment. A treatment without a measurable effect is left out: it or the
    /// control has fewer than 5 customers, or all of them have one value.
    effects: Vec<VariationEffectBody>,
}

/// Effect of one treatment against the control.
#[derive(Debug, Serialize, ToSchema)]
struct VariationEffectBody {
    /// Key of the treatment.
    #[schema(example = "mail")]
    variation: String,
    /// The result in one sentence: an effect is said to be shown if `adjusted_p_value` is below 0.05 and
    /// the always-valid interval excludes 0. Figures are adjusted by CUPED if possible.
    #[schema(
        example = "`mail` raises spend: 13.2 for each customer instead of 12.1 (9.1 %, 95 % interval 3.6 % to 15 %)."
    )]
    conclusion: String,
    /// Customers of the control.
    #[schema(example = 19_800)]
    control_customers: u64,
    /// Customers of the treatment.
    #[schema(example = 19_790)]
    treatment_customers: u64,
    /// Mean of the control.
    #[schema(example = 12.1)]
    control_mean: f64,
    /// Mean of the treatment.
    #[schema(example = 13.2)]
    treatment_mean: f64,
    /// Difference of the means.
    difference: EffectBody,
    /// The difference relative to the control; null unless the mean of the control exceeds 0 by five
    /// standard errors.
    lift: Option<EffectBody>,
    /// P-value of the difference, adjusted over all metrics and treatments (Benjamini and Hochberg
    /// 1995); of the CUPED difference if there is one.
    #[schema(minimum = 0, maximum = 1, example = 0.003)]
    adjusted_p_value: f64,
    /// The difference adjusted by behaviour before the exposure (Deng et al. 2013); null without any.
    cuped: Option<CupedEffectBody>,
    always_valid: AlwaysValidBody,
    /// Effects by segment at the exposure.
    segments: Vec<SegmentEffectBody>,
    /// Segments with fewer than 30 customers in a variation, or without a measurable effect.
    unmeasured_segments: Vec<NamedSegmentBody>,
    /// P-value of Cochran's Q: small if the segments have different effects; null for fewer than two
    /// segments.
    #[schema(minimum = 0, maximum = 1, example = 0.21)]
    heterogeneity_p_value: Option<f64>,
    /// Whether treating by segment is worth it; null without `with_segmentation_worth`, for other metrics
    /// than the first, for a ratio, for too few customers and for more than 100,000.
    segmentation_worth: Option<SegmentationWorthBody>,
}

/// An effect with its uncertainty, for one look at the results.
#[derive(Debug, Serialize, ToSchema)]
struct EffectBody {
    /// The effect.
    #[schema(example = 1.1)]
    value: f64,
    /// Lower and upper bound of the 95 % confidence interval.
    #[schema(example = json!([0.4, 1.8]))]
    interval: [f64; 2],
    /// Two-sided p-value of Welch's t-test.
    #[schema(minimum = 0, maximum = 1, example = 0.002)]
    p_value: f64,
}

/// An effect without the part of the variance that earlier behaviour explains.
#[derive(Debug, Serialize, ToSchema)]
struct CupedEffectBody {
    difference: EffectBody,
    /// Share of the variance that is removed.
    #[schema(maximum = 1, example = 0.34)]
    variance_reduction: f64,
}

/// Inference on the difference that holds however often the results are read (Waudby-Smith et al. 2024).
#[derive(Debug, Serialize, ToSchema)]
struct AlwaysValidBody {
    /// Lower and upper bound of the 95 % confidence sequence.
    #[schema(example = json!([-0.1, 2.3]))]
    interval: [f64; 2],
    /// Always-valid p-value.
    #[schema(minimum = 0, maximum = 1, example = 0.06)]
    p_value: f64,
}

/// Effect among the customers of one segment.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SegmentEffectBody {
    segment: NamedSegmentBody,
    /// Customers of both variations.
    #[schema(example = 8_412)]
    customers: u64,
    /// Difference of the means, adjusted by CUPED if possible.
    difference: EffectBody,
    /// P-value of the difference, adjusted over the segments.
    #[schema(minimum = 0, maximum = 1, example = 0.03)]
    adjusted_p_value: f64,
    /// The difference shrunken towards the mean of all segments, for forecasts: the largest of several
    /// measured effects is too large on average.
    #[schema(example = 1.0)]
    shrunken: f64,
    /// Adjusted p-value of the comparison with all other customers; null if these have no measurable
    /// effect.
    #[schema(minimum = 0, maximum = 1, example = 0.4)]
    difference_from_others_p_value: Option<f64>,
}

/// Rank-weighted average treatment effect (AUTOC, Yadlowsky et al. 2025): how far the mean effect of the
/// segments treated first exceeds that of all customers.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentationWorthBody {
    /// AUTOC in the unit of the metric; the median of 11 random splits.
    #[schema(example = 0.19)]
    value: f64,
    /// Lower and upper bound of the 95 % confidence interval.
    #[schema(example = json!([0.02, 0.36]))]
    interval: [f64; 2],
    /// Value below which 95 % of random groups of the same sizes are.
    #[schema(example = 0.11)]
    random_upper: f64,
    /// P-value of the comparison with random groups.
    #[schema(minimum = 0, maximum = 1, example = 0.01)]
    p_value: f64,
}

impl MetricResultsBody {
    pub(super) fn new(
        results: &MetricResults,
        variations: &[String],
        segments: &[NamedSegment],
    ) -> Self {
        let metric = &results.metric;
        let effects = results.effects.iter();
        Self {
            metric: metric.name.to_string(),
            kind: metric.kind.into(),
            cap: results.cap,
            effects: effects
                .map(|effect| {
                    let variation = &variations[effect.result.variation];
                    VariationEffectBody::new(variation, metric, effect, segments)
                })
                .collect(),
        }
    }
}

impl VariationEffectBody {
    fn new(
        variation: &str,
        metric: &OutcomeMetric,
        effects: &VariationEffects,
        segments: &[NamedSegment],
    ) -> Self {
        let VariationEffects { result, adjusted_p_value, worth } = effects;
        let adjusted_p_value = *adjusted_p_value;
        let evidence = EffectEvidence { treatment: variation, metric, result, adjusted_p_value };
        let unadjusted = &result.overall.unadjusted;
        let (treatment, control) = (&unadjusted.means.treatment, &unadjusted.means.control);
        let by_segment = &result.segments;
        Self {
            variation: variation.to_owned(),
            conclusion: effect_sentence(evidence),
            control_customers: control.customers,
            treatment_customers: treatment.customers,
            control_mean: control.mean,
            treatment_mean: treatment.mean,
            difference: (&unadjusted.difference).into(),
            lift: unadjusted.lift.as_ref().map(EffectBody::from),
            adjusted_p_value,
            cuped: result.overall.adjusted.as_ref().map(|adjusted| CupedEffectBody {
                difference: (&adjusted.effect.difference).into(),
                variance_reduction: adjusted.variance_reduction,
            }),
            always_valid: result.always_valid_difference.into(),
            segments: by_segment
                .segments
                .iter()
                .map(|one| SegmentEffectBody::new(one, &segments[one.segment]))
                .collect(),
            unmeasured_segments: by_segment
                .unmeasured_segments
                .iter()
                .map(|index| segments[*index].clone().into())
                .collect(),
            heterogeneity_p_value: by_segment
                .heterogeneity
                .map(|pooled| pooled.heterogeneity_p_value),
            segmentation_worth: worth.as_ref().map(SegmentationWorthBody::from),
        }
    }
}

impl SegmentEffectBody {
    pub(in crate::api) fn new(effect: &SegmentEffect, segment: &NamedSegment) -> Self {
        Self {
            segment: segment.clone().into(),
            customers: effect.customers,
            difference: (&effect.effect).into(),
            adjusted_p_value: effect.adjusted_p_value,
            shrunken: effect.shrunken.value,
            difference_from_others_p_value: effect.rest.as_ref().map(|rest| rest.adjusted_p_value),
        }
    }
}

impl From<&EffectEstimate> for EffectBody {
    fn from(effect: &EffectEstimate) -> Self {
        Self { value: effect.value, interval: effect.interval(ALPHA), p_value: effect.p_value() }
    }
}

impl From<AlwaysValidResult> for AlwaysValidBody {
    fn from(result: AlwaysValidResult) -> Self {
        Self { interval: result.interval, p_value: result.p_value }
    }
}

impl From<&SegmentationWorth> for SegmentationWorthBody {
    fn from(worth: &SegmentationWorth) -> Self {
        Self {
            value: worth.rate.value,
            interval: worth.rate.interval(),
            random_upper: worth.random_upper,
            p_value: worth.p_value,
        }
    }
}
