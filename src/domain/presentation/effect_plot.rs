//! Picture of the effects of an experiment: a forest plot.

use crate::domain::experiment::effect::EffectScale;
use crate::domain::experiment::{EffectEstimate, VariationEffect, VariationResult};
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
        subtitle: "With 95 % intervals. An interval that includes 0 shows no effect.",
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

/// The effect of a treatment on a metric, in a sentence for people who do not know statistics.
pub(crate) fn effect_sentence(treatment: &str, metric: &str, effect: &VariationEffect) -> String {
    let [low, high] = effect.difference.interval(0.05);
    let means = effect.means;
    let compared = format!(
        "{} instead of {} for each customer",
        format_number(means.treatment.mean),
        format_number(means.control.mean)
    );
    let (value, bounds) = match &effect.lift {
        Some(lift) => (format_percent(lift.value), lift.interval(0.05).map(format_percent)),
        None => (format_number(effect.difference.value), [low, high].map(format_number)),
    };
    let range = format!("{value}, 95 % interval {} to {}", bounds[0], bounds[1]);
    if low > 0.0 {
        format!("`{treatment}` raises {metric}: {compared} ({range}).")
    } else if high < 0.0 {
        format!("`{treatment}` lowers {metric}: {compared} ({range}).")
    } else {
        format!("No effect of `{treatment}` on {metric} is shown: {compared} ({range}).")
    }
}
