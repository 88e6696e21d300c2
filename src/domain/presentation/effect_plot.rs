//! Picture of the effects of an experiment: a forest plot.

use crate::domain::experiment::effect::EffectScale;
use crate::domain::experiment::spec::{MetricKind, OutcomeMetric};
use crate::domain::experiment::{EffectEstimate, SegmentEffect, VariationResult};
use crate::domain::presentation::forest_plot::{ForestHead, ForestRow, draw_forest_plot};
use crate::domain::presentation::number_format::{format_number, format_percent};

/// Names for people.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EffectLabels<'l> {
    /// By index, control first.
    pub(crate) variations: &'l [String],
    /// By index.
    pub(crate) segments: &'l [String],
    pub(crate) metric: &'l str,
}

/// Draws the effects of all treatments, overall and by segment, as an SVG.
pub(crate) fn draw_effects(labels: EffectLabels<'_>, results: &[&VariationResult]) -> String {
    let scale = results.first().map_or(EffectScale::Difference, |result| result.segments.scale);
    let (word, format): (_, fn(f64) -> String) = match scale {
        EffectScale::Difference => ("Difference", format_number),
        EffectScale::Lift => ("Lift", format_percent),
    };
    let names = labels.variations;
    let mut effects = Vec::new();
    for result in results {
        let name = &names[result.variation];
        if let Some(effect) = result.overall.best().on_scale(scale) {
            effects.push(forest_row(format!("{name}: all customers"), &effect, format, true));
        }
        for one in &result.segments.segments {
            let label = format!("{name}: {}", labels.segments[one.segment]);
            effects.push(forest_row(label, &one.effect, format, false));
        }
    }
    let head = ForestHead {
        name: &format!("{word} in {}, against {}", labels.metric, names[0]),
        subtitle: "With 95 % intervals. An interval that includes 0 does not show an effect.",
    };
    draw_forest_plot(&head, &effects, format)
}

fn forest_row(
    label: String,
    effect: &EffectEstimate,
    format: fn(f64) -> String,
    is_total: bool,
) -> ForestRow {
    let interval = effect.interval(0.05);
    let [low, high] = interval.map(format);
    let figures = format!("{} ({low} to {high})", format(effect.value));
    ForestRow { label, value: effect.value, interval, figures, is_total }
}

/// What an effect is concluded from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EffectEvidence<'e> {
    /// Key of the variation.
    pub(crate) treatment: &'e str,
    pub(crate) metric: &'e OutcomeMetric,
    pub(crate) result: &'e VariationResult,
    /// P-value, adjusted over all metrics and variations.
    pub(crate) adjusted_p_value: f64,
}

/// The effect of a treatment in a sentence for people who do not know statistics. An effect counts as
/// shown if both the adjusted p-value and the always-valid interval show it.
pub(crate) fn effect_sentence(evidence: EffectEvidence<'_>) -> String {
    let EffectEvidence { treatment, metric, result, adjusted_p_value } = evidence;
    let effect = result.overall.best();
    let (shown, format): (_, fn(f64) -> String) = match &effect.lift {
        Some(lift) => (lift, format_percent),
        None => (&effect.difference, format_number),
    };
    let (value, [low, high]) = (format(shown.value), shown.interval(0.05).map(format));
    let means = effect.means;
    let compared = match metric.kind {
        MetricKind::Proportion => {
            let [new, old] = [means.treatment.mean, means.control.mean].map(format_percent);
            format!("{new} of the customers instead of {old}")
        }
        MetricKind::Mean => {
            let [new, old] = [means.treatment.mean, means.control.mean].map(format_number);
            format!("{new} for each customer instead of {old}")
        }
        MetricKind::Ratio => {
            let [new, old] = [means.treatment.mean, means.control.mean].map(format_number);
            format!("{new} instead of {old}")
        }
    };
    let figures = format!("{compared} ({value}, 95 % interval {low} to {high})");
    let name = &metric.name;
    let verb = if effect.difference.value > 0.0 { "raise" } else { "lower" };
    let [lowest, highest] = result.always_valid_difference.interval;
    if adjusted_p_value >= 0.05 {
        format!("No effect of `{treatment}` on {name} is shown: {figures}.")
    } else if lowest > 0.0 || highest < 0.0 {
        format!("`{treatment}` {verb}s {name}: {figures}.")
    } else {
        format!("`{treatment}` seems to {verb} {name}, but it is too early to be sure: {figures}.")
    }
}

/// What the effect in one segment is concluded from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentEvidence<'e> {
    /// Key of the variation.
    pub(crate) treatment: &'e str,
    pub(crate) metric: &'e OutcomeMetric,
    /// `None`: not measured.
    pub(crate) effect: Option<&'e SegmentEffect>,
}

/// The effect of a treatment in one segment in a sentence. An effect counts as shown if both the p-value
/// and the always-valid p-value, each adjusted over the segments, show it.
pub(crate) fn segment_effect_sentence(evidence: SegmentEvidence<'_>) -> String {
    let SegmentEvidence { treatment, metric, effect } = evidence;
    let name = &metric.name;
    let Some(effect) = effect else {
        return format!(
            "In this segment, the effect of `{treatment}` on {name} cannot be measured: too few customers saw it."
        );
    };
    let value = effect.effect.value;
    let interval = effect.effect.interval(0.05);
    let (format, unit): (fn(f64) -> String, _) = match metric.kind {
        MetricKind::Proportion => (|share| format_number(share * 100.0), " percentage points"),
        MetricKind::Mean => (format_number, " for each customer"),
        MetricKind::Ratio => (format_number, ""),
    };
    if effect.adjusted_p_value >= 0.05 {
        let (value, [low, high]) = (format(value), interval.map(format));
        return format!(
            "In this segment, no effect of `{treatment}` on {name} is shown: the difference is \
             {value}{unit} (95 % interval {low} to {high})."
        );
    }
    let verb = if value > 0.0 { "raise" } else { "lower" };
    // The size of a loss is a positive number.
    let mut sizes = interval.map(|end| end * value.signum());
    sizes.sort_by(f64::total_cmp);
    let [low, high] = sizes.map(format);
    let by = format!("by {}{unit} (95 % interval {low} to {high})", format(value.abs()));
    if effect.adjusted_always_valid_p_value < 0.05 {
        format!("In this segment, `{treatment}` {verb}s {name}: {by}.")
    } else {
        format!(
            "In this segment, `{treatment}` seems to {verb} {name}, but it is too early to be sure: {by}."
        )
    }
}
