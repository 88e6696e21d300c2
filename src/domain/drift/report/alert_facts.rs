//! Alert facts: the named figures behind a finding, formatted for people.

use crate::domain::drift::by_key::RESTS_ON_FACT;
use crate::domain::drift::check::Check;
use crate::domain::drift::figures::{FeatureFigures, ValueFigures};
use crate::domain::drift::finding::{About, DriftFinding};
use crate::domain::drift::report::number_format::{number, percent, probability, whole, with_unit};
use crate::domain::drift::segments::WithinFigures;
use crate::domain::drift::statistics::psi::Psi;

/// Figures of one finding of a check.
pub fn facts(check: &Check, finding: &DriftFinding) -> Vec<(&'static str, String)> {
    let figures = check.features.iter().find(|figures| {
        finding.feature.as_ref().is_some_and(|feature| *feature == figures.feature)
    });
    let mut facts = vec![size(check, finding, figures)];
    if let (About::Values, Some(figures)) = (finding.about, figures) {
        if let ValueFigures::Number { moved: Some(moved), .. } = &figures.values {
            let distance = with_unit(moved.distance, &figures.unit);
            facts.push(("Moved by, on average", format!("at least {distance}")));
            facts.push(("Mean moved by", with_unit(moved.shift, &figures.unit)));
        }
        facts.push(("Rows at training", whole(figures.before.all() as f64)));
    }
    if let Some(within) = within(check, finding) {
        facts.push(("Segment", format!("{} ({})", within.segment.key, within.segment.label)));
        facts.push(("Its rows at training", whole(within.rows_before as f64)));
        facts.push(("Its rows now", whole(within.rows_now as f64)));
        if let Some(movement) = within.movement {
            let spreads = format!("{} standard deviations", number(movement));
            facts.push(("The segment's mean moved by", spreads));
        }
    }
    if let Some(rests_on) = &finding.rests_on {
        facts.push((RESTS_ON_FACT, rests_on.text()));
    }
    facts.push(("Rows compared", whole(check.scored as f64)));
    facts.push(("p-value", probability(finding.p_value)));
    facts.push(("p-value, corrected", probability(finding.adjusted_p_value)));
    facts
}

/// The figures of the segment to which a finding is limited.
fn within<'c>(check: &'c Check, finding: &DriftFinding) -> Option<&'c WithinFigures> {
    let which = finding.segment.as_ref()?;
    check.within.iter().find(|within| within.segment == *which)
}

/// The size of a finding, in the unit of its limits.
fn size(
    check: &Check,
    finding: &DriftFinding,
    figures: Option<&FeatureFigures>,
) -> (&'static str, String) {
    match finding.about {
        About::Values => psi_fact(figures.and_then(|figures| figures.psi), finding),
        About::Distances => psi_fact(check.distances, finding),
        About::PValues => psi_fact(check.p_values, finding),
        About::Missing | About::Segments | About::Unassigned => {
            ("Share changed by", percent(finding.size))
        }
        About::Within => ("Moved by", format!("{} standard deviations", number(finding.size))),
        About::Outliers => {
            ("Outliers, relative to promised rate", format!("{} times", number(finding.size)))
        }
        About::Stream => ("Detectors", number(finding.size)),
    }
}

fn psi_fact(psi: Option<Psi>, finding: &DriftFinding) -> (&'static str, String) {
    let value = match psi {
        Some(psi) => format!("{} ({} by chance alone)", number(psi.value), number(psi.by_chance)),
        None => number(finding.size),
    };
    ("PSI", value)
}

/// Alert title of a finding, one line.
pub fn headline(finding: &DriftFinding) -> String {
    let title = &finding.title;
    match finding.about {
        About::Values => format!("{title} has changed since training"),
        About::Missing => format!("{title} is missing more or less often than at training"),
        About::Within => {
            let key = finding.segment.as_ref().map_or("one", |segment| &segment.key);
            format!("{title} has changed since training in segment {key}")
        }
        About::Segments => "Segment sizes have changed since training".into(),
        About::Unassigned => "The share of customers in no segment has changed".into(),
        About::Distances => "Distances of customers from their segments have changed".into(),
        About::Outliers => "The outlier rate exceeds the promised rate".into(),
        About::PValues => "The distribution of outlier p-values has changed".into(),
        About::Stream => "Scored rows show a small or slow, lasting change".into(),
    }
}
