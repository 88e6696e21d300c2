//! Alert facts: the named figures behind a finding, formatted for people.

use crate::domain::drift::by_key::DECISIVE_KEY_FACT;
use crate::domain::drift::check::DriftCheck;
use crate::domain::drift::figures::{FeatureFigures, ValueFigures};
use crate::domain::drift::finding::{ComparedQuantity, DriftFinding};
use crate::domain::drift::segments::SegmentDriftFigures;
use crate::domain::drift::statistics::psi::StabilityIndex;
use crate::domain::presentation::number_format::{
    format_integer, format_number, format_p_value, format_percent, format_with_unit,
};

/// Figures of one finding of a check.
pub fn finding_facts(check: &DriftCheck, finding: &DriftFinding) -> Vec<(&'static str, String)> {
    let figures = check.features.iter().find(|figures| {
        finding.feature.as_ref().is_some_and(|feature| *feature == figures.feature)
    });
    let mut facts = vec![size(check, finding, figures)];
    if let (ComparedQuantity::Values, Some(figures)) = (finding.about, figures) {
        if let ValueFigures::Number { moved: Some(moved), .. } = &figures.values {
            let distance = format_with_unit(moved.distance, &figures.unit);
            facts.push(("Moved by, on average", format!("at least {distance}")));
            facts.push(("Mean moved by", format_with_unit(moved.shift, &figures.unit)));
        }
        facts.push(("Rows at training", format_integer(figures.before.all() as f64)));
    }
    if let Some(within) = within(check, finding) {
        facts.push(("Segment", format!("{} ({})", within.segment.name, within.segment.id)));
        facts.push(("Its rows at training", format_integer(within.rows_before as f64)));
        facts.push(("Its rows now", format_integer(within.rows_now as f64)));
        if let Some(movement) = within.movement {
            let spreads = format!("{} standard deviations", format_number(movement));
            facts.push(("The segment's mean moved by", spreads));
        }
    }
    if let Some(decisive_key) = &finding.decisive_key {
        facts.push((DECISIVE_KEY_FACT, decisive_key.describe()));
    }
    facts.push(("Rows compared", rows_compared(check.scored, finding.effective_sample_size)));
    facts.push(("p-value", format_p_value(finding.p_value)));
    facts.push(("p-value, corrected", format_p_value(finding.adjusted_p_value)));
    facts
}

/// Number of rows, and their effective sample size if it is smaller.
fn rows_compared(scored: u64, effective_sample_size: Option<f64>) -> String {
    let rows = format_integer(scored as f64);
    match effective_sample_size.map(f64::round) {
        Some(effective) if effective < scored as f64 => {
            format!("{rows}, with an effective sample size of {}", format_integer(effective))
        }
        _ => rows,
    }
}

/// The figures of the segment to which a finding is limited.
fn within<'c>(check: &'c DriftCheck, finding: &DriftFinding) -> Option<&'c SegmentDriftFigures> {
    let which = finding.segment.as_ref()?;
    check.within.iter().find(|within| within.segment == *which)
}

/// The size of a finding, in the unit of its limits.
fn size(
    check: &DriftCheck,
    finding: &DriftFinding,
    figures: Option<&FeatureFigures>,
) -> (&'static str, String) {
    match finding.about {
        ComparedQuantity::Values => psi_fact(figures.and_then(|figures| figures.psi), finding),
        ComparedQuantity::Distances => psi_fact(check.distances, finding),
        ComparedQuantity::PValues => psi_fact(check.p_values, finding),
        ComparedQuantity::Missing
        | ComparedQuantity::Rare
        | ComparedQuantity::Segments
        | ComparedQuantity::Unassigned => ("Share changed by", format_percent(finding.size)),
        ComparedQuantity::Unseen => {
            ("Share of new values, beyond the expected", format_percent(finding.size))
        }
        ComparedQuantity::Within => {
            ("Moved by", format!("{} standard deviations", format_number(finding.size)))
        }
        ComparedQuantity::Outliers => (
            "Outliers, relative to promised rate",
            format!("{} times", format_number(finding.size)),
        ),
        ComparedQuantity::Stream => ("Detectors", format_number(finding.size)),
    }
}

fn psi_fact(psi: Option<StabilityIndex>, finding: &DriftFinding) -> (&'static str, String) {
    let value = match psi {
        Some(psi) => format!(
            "{} ({} by chance alone)",
            format_number(psi.value),
            format_number(psi.by_chance)
        ),
        None => format_number(finding.size),
    };
    ("PSI", value)
}
