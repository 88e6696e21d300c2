//! Effects by segment: heterogeneity, difference of each segment from all others, partial pooling.
//!
//! Segments must be those at the exposure. A treatment can move customers to another segment, so
//! effects by a later segment compare different kinds of customers.

use crate::domain::experiment::always_valid::{AlwaysValidResult, SequentialDesign};
use crate::domain::experiment::cuped::ComparedEffect;
use crate::domain::experiment::effect::{EffectEstimate, EffectScale};
use crate::domain::experiment::moments::MetricMoments;
use crate::domain::stats::groups::meta_analysis::RandomEffects;
use crate::domain::stats::{Estimate, benjamini_hochberg};

/// Moments of the two compared variations in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct VariationMoments {
    pub treatment: MetricMoments,
    pub control: MetricMoments,
}

/// Settings of the comparison of segments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentSettings {
    /// Scale on which effects are compared. Segments with different means can have the same lift, but
    /// different differences.
    pub scale: EffectScale,
    /// Adjust by CUPED, separately in each segment.
    pub is_adjusted: bool,
    /// Fewest customers of each variation in a segment.
    pub least_customers: u64,
}

impl Default for SegmentSettings {
    fn default() -> Self {
        Self { scale: EffectScale::Difference, is_adjusted: true, least_customers: 30 }
    }
}

/// Effect in one segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentEffect {
    /// Index of the segment.
    pub segment: usize,
    /// Customers of both variations.
    pub customers: u64,
    pub effect: EffectEstimate,
    /// Welch's p-value of the effect, adjusted over the segments (Benjamini and Hochberg 1995).
    pub adjusted_p_value: f64,
    /// Inference on the effect that allows any number of looks; not adjusted over the segments.
    pub always_valid: AlwaysValidResult,
    /// Always-valid p-value, adjusted over the segments.
    pub adjusted_always_valid_p_value: f64,
    /// Comparison with all other customers; `None` if these have no measured effect.
    pub rest: Option<RestComparison>,
    /// Effect shrunken towards the mean of the segments (partial pooling). The largest of several
    /// measured effects is too large on average; the largest shrunken effect is not.
    pub shrunken: Estimate,
}

/// Difference between the effect in a segment and the effect among all other customers:
/// *differential impact* of Statsig.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RestComparison {
    pub difference: EffectEstimate,
    /// P-value of `difference`, adjusted over the segments (Benjamini and Hochberg 1995).
    pub adjusted_p_value: f64,
}

/// Effects of a treatment by segment.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentEffects {
    pub scale: EffectScale,
    /// Segments with a measured effect.
    pub segments: Vec<SegmentEffect>,
    /// Segments with too few customers, or without a measured effect on the scale.
    pub unmeasured_segments: Vec<usize>,
    /// Mean of the effects and test of their heterogeneity; `None` for fewer than two segments.
    pub heterogeneity: Option<RandomEffects>,
}

/// A segment's effect, and its difference from the effect of all others.
struct MeasuredSegment {
    segment: usize,
    customers: u64,
    effect: EffectEstimate,
    difference_from_rest: Option<EffectEstimate>,
}

impl SegmentEffects {
    /// Measures the effect in each segment. `segments`: all customers of the experiment, also those of
    /// small segments, which belong to the rest of the others.
    pub fn measure(
        segments: &[VariationMoments],
        settings: &SegmentSettings,
        sequential: &SequentialDesign,
    ) -> Self {
        let mut measured = Vec::new();
        let mut unmeasured_segments = Vec::new();
        for segment in 0..segments.len() {
            match measure_segment(segments, segment, settings) {
                Some(one) => measured.push(one),
                None => unmeasured_segments.push(segment),
            }
        }
        let effects: Vec<Estimate> = measured.iter().map(|one| one.effect.estimate()).collect();
        let heterogeneity = RandomEffects::combine(&effects);
        Self {
            scale: settings.scale,
            segments: conclude_segments(&measured, heterogeneity.as_ref(), sequential),
            unmeasured_segments,
            heterogeneity,
        }
    }
}

fn measure_segment(
    segments: &[VariationMoments],
    segment: usize,
    settings: &SegmentSettings,
) -> Option<MeasuredSegment> {
    let own = &segments[segment];
    let smaller = own.treatment.customers().min(own.control.customers());
    if smaller < settings.least_customers {
        return None;
    }
    let effect = measure_effect(own, settings)?;
    let mut rest = VariationMoments::default();
    for (other, moments) in segments.iter().enumerate() {
        if other != segment {
            rest.treatment.merge(&moments.treatment);
            rest.control.merge(&moments.control);
        }
    }
    let rest_effect = measure_effect(&rest, settings);
    Some(MeasuredSegment {
        segment,
        customers: own.treatment.customers() + own.control.customers(),
        effect,
        difference_from_rest: rest_effect.and_then(|rest| subtract_effects(&effect, &rest)),
    })
}

fn measure_effect(
    moments: &VariationMoments,
    settings: &SegmentSettings,
) -> Option<EffectEstimate> {
    let compared = ComparedEffect::compare(&moments.treatment, &moments.control)?;
    let effect = if settings.is_adjusted { compared.best() } else { &compared.unadjusted };
    effect.on_scale(settings.scale)
}

/// Difference of two independent effects.
fn subtract_effects(effect: &EffectEstimate, other: &EffectEstimate) -> Option<EffectEstimate> {
    let parts = [effect.variance_part(), other.variance_part()];
    EffectEstimate::from_parts(effect.value - other.value, &parts)
}

/// Adjusts the p-values over the segments, and shrinks the effects.
fn conclude_segments(
    measured: &[MeasuredSegment],
    pooled: Option<&RandomEffects>,
    sequential: &SequentialDesign,
) -> Vec<SegmentEffect> {
    let mut welch_p_values = Vec::with_capacity(measured.len());
    let mut always_valid = Vec::with_capacity(measured.len());
    let mut rest_p_values = Vec::new();
    for one in measured {
        welch_p_values.push(one.effect.p_value());
        always_valid.push(sequential.infer(one.effect.estimate(), one.customers));
        rest_p_values.extend(one.difference_from_rest.map(|difference| difference.p_value()));
    }
    let always_valid_p_values: Vec<f64> = always_valid.iter().map(|one| one.p_value).collect();
    let adjusted = benjamini_hochberg(&welch_p_values);
    let always_valid_adjusted = benjamini_hochberg(&always_valid_p_values);
    let mut rest_adjusted = benjamini_hochberg(&rest_p_values).into_iter();
    let mut effects = Vec::with_capacity(measured.len());
    for (index, one) in measured.iter().enumerate() {
        // One adjusted p-value for each segment with a difference, in the same order.
        let rest = one.difference_from_rest.and_then(|difference| {
            Some(RestComparison { difference, adjusted_p_value: rest_adjusted.next()? })
        });
        let own = one.effect.estimate();
        effects.push(SegmentEffect {
            segment: one.segment,
            customers: one.customers,
            effect: one.effect,
            adjusted_p_value: adjusted[index],
            always_valid: always_valid[index],
            adjusted_always_valid_p_value: always_valid_adjusted[index],
            rest,
            shrunken: pooled.map_or(own, |pooled| pooled.shrink(own)),
        });
    }
    effects
}
