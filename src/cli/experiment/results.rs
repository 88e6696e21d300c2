//! Results of an experiment as text.

use std::fmt::Write as _;

use crate::cli::experiment::rows::ExperimentRows;
use crate::cli::train::show::table;
use crate::domain::experiment::effect::EffectScale;
use crate::domain::experiment::sample_ratio::SampleRatioVerdict;
use crate::domain::experiment::{
    EffectEstimate, ExperimentSample, SPLITS, SampleRatioReport, SegmentEffects, SegmentationWorth,
    VariationEffect, VariationResult,
};
use crate::domain::presentation::number_format::{format_number, format_p_value, format_percent};
use crate::domain::stats::Estimate;

/// Customers of each variation, excluded customers, and the test of the sample ratio.
pub(super) fn data_report(rows: &ExperimentRows, report: &SampleRatioReport) -> String {
    let sample = &rows.sample;
    let mut shown = format!("{} customers:", sample.customers.len());
    for (index, name) in sample.variations.names().iter().enumerate() {
        let customers = sample.customers.iter().filter(|one| one.variation == index).count();
        let control = if index == 0 { " (control)" } else { "" };
        let separator = if index == 0 { "" } else { "," };
        let _ = write!(shown, "{separator} {name}{control} {customers}");
    }
    if rows.ambiguous > 0 {
        let _ = write!(shown, "\nleft out, in several variations: {}", rows.ambiguous);
    }
    if rows.without_metric > 0 {
        let _ =
            write!(shown, "\nwithout a value of the metric, counted as 0: {}", rows.without_metric);
    }
    let verdict = match report.overall.verdict {
        _ if report.is_mismatched() => "NOT as planned",
        SampleRatioVerdict::TooFewCustomers => "too few customers for a test",
        _ => "as planned",
    };
    let p = format_p_value(report.overall.p_value);
    let _ = write!(shown, "\nsample ratio: {verdict} (p {p}; a mismatch is below 0.001)");
    for index in report.mismatched_segments() {
        let _ =
            write!(shown, "\n  not as planned in the segment {}", sample.segments.names()[index]);
    }
    for index in report.mismatched_days() {
        let _ = write!(shown, "\n  not as planned on {}", sample.days.names()[index]);
    }
    shown
}

/// What the effects are shown with.
#[derive(Debug, Clone, Copy)]
pub(super) struct EffectStyle {
    /// Intervals that are valid at any number of looks.
    pub(super) is_sequential: bool,
    /// Effects of segments are adjusted by a covariate.
    pub(super) is_adjusted: bool,
}

/// The effect of one treatment, overall and by segment.
pub(super) fn effect_report(
    sample: &ExperimentSample,
    result: &VariationResult,
    style: EffectStyle,
) -> String {
    let names = sample.variations.names();
    let mut shown = format!("\n{} against {}", names[result.variation], names[0]);
    let mut overall = table(&["", "control", "treatment", "difference", "lift", "p"]);
    overall.add_row(effect_row("all customers", &result.overall.unadjusted));
    if let Some(adjusted) = &result.overall.adjusted {
        let reduction = 100.0 * adjusted.variance_reduction.max(0.0);
        let label = format!("adjusted, {reduction:.1} % less variance");
        overall.add_row(effect_row(&label, &adjusted.effect));
    }
    let _ = write!(shown, "\n{overall}");
    if style.is_sequential {
        let valid = &result.always_valid_difference;
        let [low, high] = valid.interval.map(format_number);
        let _ = write!(
            shown,
            "\nvalid at any number of looks: difference {low} to {high}, p {}",
            format_p_value(valid.p_value)
        );
    }
    if sample.segments.names().len() > 1 {
        let _ = write!(shown, "\n{}", segment_report(sample, &result.segments, style));
    }
    shown
}

fn effect_row(label: &str, effect: &VariationEffect) -> [String; 6] {
    [
        label.to_owned(),
        format_number(effect.means.control.mean),
        format_number(effect.means.treatment.mean),
        estimate(&effect.difference, format_number),
        effect
            .lift
            .as_ref()
            .map_or_else(|| "unknown".to_owned(), |lift| estimate(lift, format_percent)),
        p_value(effect.difference.p_value()),
    ]
}

fn segment_report(
    sample: &ExperimentSample,
    effects: &SegmentEffects,
    style: EffectStyle,
) -> String {
    let format = match effects.scale {
        EffectScale::Difference => format_number,
        EffectScale::Lift => format_percent,
    };
    let scale = match (effects.scale, style.is_adjusted) {
        (EffectScale::Difference, false) => "difference",
        (EffectScale::Difference, true) => "adjusted difference",
        (EffectScale::Lift, false) => "lift",
        (EffectScale::Lift, true) => "adjusted lift",
    };
    let mut segments = table(&[
        "segment",
        "customers",
        scale,
        "p over all segments",
        "shrunken",
        "p against the rest",
    ]);
    for one in &effects.segments {
        let rest = one.rest.as_ref();
        segments.add_row([
            sample.segments.names()[one.segment].clone(),
            one.customers.to_string(),
            estimate(&one.effect, format),
            p_value(one.adjusted_p_value),
            format(one.shrunken.value),
            rest.map_or_else(|| "unknown".to_owned(), |rest| p_value(rest.adjusted_p_value)),
        ]);
    }
    let mut shown = segments.to_string();
    for index in &effects.unmeasured_segments {
        let _ = write!(
            shown,
            "\nnot measured, too few customers or outcomes: {}",
            sample.segments.names()[*index]
        );
    }
    if let Some(pooled) = &effects.heterogeneity {
        let _ = write!(
            shown,
            "\ndifferent effects in different segments: p {}",
            format_p_value(pooled.heterogeneity_p_value)
        );
    }
    shown
}

/// Whether treating by segment is worth it.
pub(super) fn worth_report(worth: Option<&SegmentationWorth>) -> String {
    let Some(worth) = worth else {
        return "worth of treating by segment: not computed for a ratio metric".to_owned();
    };
    let [low, high] = worth.rate.interval();
    let conclusion = if low > 0.0 {
        "evidence for treating the segments with the larger effects first"
    } else {
        "no evidence that it is better than treating all customers alike"
    };
    let [low, high] = [low, high].map(format_number);
    format!(
        "worth of treating by segment (AUTOC, median of {SPLITS} random splits): {} ({low} to {high}); random \
         groups of the same sizes: 95 % below {}; {conclusion}",
        format_number(worth.rate.value),
        format_number(worth.random_upper),
    )
}

/// Whether the segments of the model are better for the choice of customers than those of the other.
pub(super) fn comparison_report(difference: Option<Estimate>) -> String {
    let Some(difference) = difference else {
        return "worth compared with the other model: too few customers".to_owned();
    };
    let [low, high] = difference.interval();
    let conclusion = if low > 0.0 {
        "evidence that the segments of --model are the better choice"
    } else if high < 0.0 {
        "evidence that the segments of --compare-model are the better choice"
    } else {
        "no evidence that either model's segments are better"
    };
    let [low, high] = [low, high].map(format_number);
    format!(
        "worth compared with the other model (difference of AUTOC, median of {SPLITS} random splits): {} \
         ({low} to {high}); {conclusion}",
        format_number(difference.value)
    )
}

/// A value with its 95 % interval.
fn estimate(effect: &EffectEstimate, format: fn(f64) -> String) -> String {
    let [low, high] = effect.interval(0.05).map(format);
    format!("{} ({low} to {high})", format(effect.value))
}

fn p_value(p: f64) -> String {
    format_p_value(p).trim_start_matches("= ").to_owned()
}
