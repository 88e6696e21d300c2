//! Forest plot of the effects of an experiment.

use crate::cli::experiment::rows::ExperimentRows;
use crate::domain::experiment::effect::EffectScale;
use crate::domain::experiment::{EffectEstimate, VariationResult};
use crate::domain::presentation::forest_plot::{ForestHead, ForestRow, draw_forest_plot};
use crate::domain::presentation::number_format::{format_number, format_percent};

/// Draws the effects of all treatments, overall and by segment, as an SVG.
pub(super) fn draw_effects(
    rows: &ExperimentRows,
    results: &[VariationResult],
    metric: &str,
) -> String {
    let scale = results.first().map_or(EffectScale::Difference, |result| result.segments.scale);
    let (word, format): (_, fn(f64) -> String) = match scale {
        EffectScale::Difference => ("Difference", format_number),
        EffectScale::Lift => ("Lift", format_percent),
    };
    let names = rows.variations.names();
    let mut effects = Vec::new();
    for result in results {
        let name = &names[result.variation];
        if let Some(effect) = result.overall.best().on_scale(scale) {
            effects.push(forest_row(format!("{name}: all customers"), &effect, format, true));
        }
        for one in &result.segments.segments {
            let label = format!("{name}: {}", rows.segments.names()[one.segment]);
            effects.push(forest_row(label, &one.effect, format, false));
        }
    }
    let head = ForestHead {
        name: &format!("{word} in {metric}, against {}", names[0]),
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
