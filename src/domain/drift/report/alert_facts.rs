//! The figures behind a finding, each with its name, as a person reads them.

use crate::domain::drift::by_key::RESTS_ON_FACT;
use crate::domain::drift::check::Check;
use crate::domain::drift::figures::{FeatureFigures, ValueFigures};
use crate::domain::drift::finding::{About, Finding};
use crate::domain::drift::report::number_format::{number, percent, probability, whole, with_unit};
use crate::domain::drift::segments::WithinFigures;
use crate::domain::drift::statistics::psi::Psi;

/// Of a finding of this check.
pub fn facts(check: &Check, finding: &Finding) -> Vec<(&'static str, String)> {
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
            facts.push(("The segment's mean moved by", format!("{} spreads", number(movement))));
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

/// The segment that a finding is within.
fn within<'c>(check: &'c Check, finding: &Finding) -> Option<&'c WithinFigures> {
    let which = finding.segment.as_ref()?;
    check.within.iter().find(|within| within.segment == *which)
}

/// In what the limits are in.
fn size(
    check: &Check,
    finding: &Finding,
    figures: Option<&FeatureFigures>,
) -> (&'static str, String) {
    let index = |psi: Option<Psi>| {
        let told =
            |psi: Psi| format!("{} ({} by chance alone)", number(psi.value), number(psi.by_chance));
        ("PSI", psi.map_or_else(|| number(finding.size), told))
    };
    match finding.about {
        About::Values => index(figures.and_then(|figures| figures.psi)),
        About::Distances => index(check.distances),
        About::PValues => index(check.p_values),
        About::Missing | About::Segments | About::Unassigned => {
            ("Share changed by", percent(finding.size))
        }
        About::Within => ("Moved by", format!("{} spreads", number(finding.size))),
        About::Outliers => {
            ("Outliers, of what is promised", format!("{} times", number(finding.size)))
        }
        About::Stream => ("Detectors", number(finding.size)),
    }
}

/// One line that says what was found.
pub fn headline(finding: &Finding) -> String {
    let title = &finding.title;
    match finding.about {
        About::Values => format!("{title} is not what it was at training"),
        About::Missing => format!("{title} is missing more or less often than at training"),
        About::Within => {
            let key = finding.segment.as_ref().map_or("one", |segment| &segment.key);
            format!("{title} is not what it was at training in segment {key}")
        }
        About::Segments => "The segments are not as large as at training".into(),
        About::Unassigned => "Another share than at training is in no segment".into(),
        About::Distances => "Customers are not as far from their segments as at training".into(),
        About::Outliers => "There are more or fewer outliers than promised".into(),
        About::PValues => "Outlier p-values are not spread as at training".into(),
        About::Stream => "What is scored has changed, by little or slowly".into(),
    }
}
