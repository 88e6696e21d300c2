//! Drift check of one window: figures, tests with multiple-testing correction, findings.

mod result;
mod uncorrected;

use crate::domain::drift::check::result::sort_findings;
use crate::domain::drift::check::uncorrected::{
    UncorrectedTest, WithinIndex, open_within, uncorrected_tests,
};
use crate::domain::drift::dependence::{
    DesignEffects, FeatureDependence, ObservedWindow, WindowDependence,
};
use crate::domain::drift::figures::FeatureFigures;
use crate::domain::drift::finding::{ComparedQuantity, DriftFinding};
use crate::domain::drift::limits::DriftLimits;
use crate::domain::drift::output_shift::{OutlierRateTest, RateComparison, RowCount, most_changed};
use crate::domain::drift::report::finding_text::{self, FindingText, Significance};
use crate::domain::drift::segments;
use crate::domain::drift::segments::sums::{DeviationUnits, SegmentSums};
use crate::domain::drift::statistics::chi_square::ChiSquareTest;
use crate::domain::drift::statistics::contingency_table::{ContingencyTable, shares};
use crate::domain::drift::statistics::psi::StabilityIndex;
use crate::domain::drift::statistics::wasserstein::BinnedMedian;
use crate::domain::drift::window::{WindowLayout, WindowLengthError, WindowView};
use crate::domain::model::Model;
use crate::domain::stats::benjamini_hochberg;

pub use result::{DriftCheck, DriftTest, SegmentShareFigures};

/// The training rows and the scored rows, in one layout.
#[derive(Clone, Copy)]
struct ComparedViews<'a> {
    before: WindowView<'a>,
    now: WindowView<'a>,
}

/// Compares a window with the training rows of the model. The cost does not depend on the
/// number of rows. Of a plain [`DriftWindow`](super::DriftWindow) nothing is known over time: its
/// rows are taken to be independent, except those of one customer.
pub fn check_window<'w>(
    model: &Model,
    window: impl Into<ObservedWindow<'w>>,
    limits: &DriftLimits,
) -> Result<DriftCheck, WindowLengthError> {
    compare(model, window.into(), None, limits)
}

/// [`check_window`], and within each segment too. `inside` covers the same rows, except hours from
/// before sums within segments were stored.
pub fn check_window_within_segments<'w>(
    model: &Model,
    window: impl Into<ObservedWindow<'w>>,
    by: &DeviationUnits,
    inside: &SegmentSums,
    limits: &DriftLimits,
) -> Result<DriftCheck, WindowLengthError> {
    by.check(inside)?;
    compare(model, window.into(), Some((by, inside)), limits)
}

fn compare(
    model: &Model,
    window: ObservedWindow<'_>,
    inside: Option<(&DeviationUnits, &SegmentSums)>,
    limits: &DriftLimits,
) -> Result<DriftCheck, WindowLengthError> {
    let layout = WindowLayout::of(model);
    let reference = layout.reference();
    let now = layout.view(window.counts)?;
    let views = ComparedViews { before: layout.view(&reference)?, now };
    let dependence = WindowDependence::of(&layout, now, window.over_time);
    let mut check = figures(model, views, &dependence, limits);
    if let Some((by, inside)) = inside {
        check.within = segments::figures(model, by, inside, &dependence);
    }
    if check.is_enough {
        let mut uncorrected = uncorrected_tests(&check, limits);
        uncorrected.extend(open_within(model, &check, limits));
        let p_values: Vec<f64> = uncorrected.iter().map(|test| test.p_value).collect();
        let adjusted = benjamini_hochberg(&p_values);
        for (test, adjusted) in uncorrected.iter().zip(&adjusted) {
            if let Some(WithinIndex { segment, feature }) = test.within {
                check.within[segment].features[feature].adjusted_p_value = Some(*adjusted);
            }
        }
        check.tests = tests(&check, &uncorrected, &adjusted, limits);
        check.findings = findings(model, &check, &uncorrected, views);
    }
    Ok(check)
}

fn tests(
    check: &DriftCheck,
    uncorrected: &[UncorrectedTest],
    adjusted: &[f64],
    limits: &DriftLimits,
) -> Vec<DriftTest> {
    let mut tests = Vec::with_capacity(uncorrected.len());
    let mut significant = Vec::new();
    for (test, adjusted) in uncorrected.iter().zip(adjusted) {
        let is_finding = test.severity.is_some() && *adjusted <= limits.significance_level;
        if is_finding {
            significant.push(test);
        }
        tests.push(DriftTest {
            about: test.about,
            feature: test.feature.map(|index| check.features[index].feature.clone()),
            segment_id: test.within.map(|within| check.within[within.segment].segment.id.clone()),
            size: test.size,
            severity: test.severity,
            p_value: test.p_value,
            adjusted_p_value: *adjusted,
            is_finding,
        });
    }
    for (test, uncorrected) in tests.iter_mut().zip(uncorrected) {
        if significant.iter().any(|other| other.covers(uncorrected)) {
            test.is_finding = false;
        }
    }
    tests
}

fn figures(
    model: &Model,
    views: ComparedViews<'_>,
    dependence: &WindowDependence,
    limits: &DriftLimits,
) -> DriftCheck {
    let ComparedViews { before, now } = views;
    let reference = model.drift_baseline();
    let features = reference.features.iter().zip(&dependence.features).enumerate();
    let features = features.map(|(index, (feature, dependence))| {
        let (before, now) = (before.feature(index), now.feature(index));
        FeatureFigures::of(model, feature, before, now, *dependence)
    });
    let held_out = before.p_values().iter().fold(0, |sum: u64, rows| sum.saturating_add(*rows));
    let mix =
        ContingencyTable::unordered(before.segments(), now.segments(), dependence.outputs.segments);
    let outliers = RowCount { counted: now.outliers(), all: now.scored() };
    DriftCheck {
        scored: now.scored(),
        is_enough: now.scored() >= limits.minimum_rows.max(1),
        features: features.collect(),
        segments: SegmentShareFigures {
            before: shares(before.segments()),
            now: shares(now.segments()),
            psi: mix.as_ref().map(StabilityIndex::of),
            chi_square: mix.as_ref().map(ChiSquareTest::of),
        },
        unassigned: RateComparison::of(
            unassigned_count(before),
            unassigned_count(now),
            dependence.outputs.unassigned,
        ),
        distances: ordered_psi(before.distances(), now.distances(), dependence.outputs.distances),
        outliers: OutlierRateTest::of(
            outliers,
            limits.alpha,
            held_out,
            dependence.outputs.outliers,
        ),
        p_values: ordered_psi(before.p_values(), now.p_values(), dependence.outputs.p_values),
        dependence: dependence.outputs,
        confidence: mean(now.confidences()),
        within: vec![],
        tests: vec![],
        findings: vec![],
    }
}

fn ordered_psi(before: &[u64], now: &[u64], effects: DesignEffects) -> Option<StabilityIndex> {
    ContingencyTable::ordered(before, now, effects).as_ref().map(StabilityIndex::of)
}

/// Mean of values from 0 to 1 that are counted in equal bins.
fn mean(bins: &[u64]) -> Option<f64> {
    let all: f64 = bins.iter().map(|count| *count as f64).sum();
    let mut sum = 0.0;
    for (bin, count) in bins.iter().enumerate() {
        let middle = (bin as f64 + 0.5) / bins.len() as f64;
        sum += *count as f64 * middle;
    }
    (all > 0.0).then(|| sum / all)
}

/// Unassigned rows, of all rows.
fn unassigned_count(view: WindowView<'_>) -> RowCount {
    let counted = view.unassigned();
    let all = view.segments().iter().fold(counted, |sum, rows| sum.saturating_add(*rows));
    RowCount { counted, all }
}

fn findings(
    model: &Model,
    check: &DriftCheck,
    uncorrected: &[UncorrectedTest],
    views: ComparedViews<'_>,
) -> Vec<DriftFinding> {
    let mut findings = Vec::new();
    for (uncorrected, test) in
        uncorrected.iter().zip(&check.tests).filter(|(_, test)| test.is_finding)
    {
        let figures = uncorrected.feature.map(|index| &check.features[index]);
        let text = describe(model, check, uncorrected, views);
        let (Some(severity), Some(FindingText { change, advice })) = (test.severity, text) else {
            continue;
        };
        let significance = Significance {
            adjusted_p_value: test.adjusted_p_value,
            effective_sample_size: design_effects(check, uncorrected)
                .effective_sample_size(check.scored),
        };
        findings.push(DriftFinding {
            about: test.about,
            feature: test.feature.clone(),
            segment: uncorrected.within.map(|within| check.within[within.segment].segment.clone()),
            title: figures.map_or("The model", |figures| &figures.title).into(),
            owner: figures.map(|figures| figures.owner.clone()),
            unit: figures.map(|figures| figures.unit.clone()),
            severity,
            size: test.size,
            relative_size: uncorrected.relative_size,
            p_value: test.p_value,
            adjusted_p_value: test.adjusted_p_value,
            effective_sample_size: Some(significance.effective_sample_size),
            change,
            statistics: finding_text::statistics(test.about, test.size, figures, &significance),
            advice,
            decisive_key: None,
        });
    }
    sort_findings(&mut findings);
    findings
}

/// The design effects of the quantity of a test.
fn design_effects(check: &DriftCheck, test: &UncorrectedTest) -> DesignEffects {
    let feature = test
        .feature
        .map_or(FeatureDependence::INDEPENDENT, |index| check.features[index].dependence);
    match test.about {
        ComparedQuantity::Values | ComparedQuantity::Rare | ComparedQuantity::Within => {
            feature.values
        }
        ComparedQuantity::Missing => feature.missing,
        ComparedQuantity::Unseen => feature.unseen,
        ComparedQuantity::Segments => check.dependence.segments,
        ComparedQuantity::Unassigned => check.dependence.unassigned,
        ComparedQuantity::Distances => check.dependence.distances,
        ComparedQuantity::Outliers => check.dependence.outliers,
        ComparedQuantity::PValues => check.dependence.p_values,
        ComparedQuantity::Stream => DesignEffects::INDEPENDENT,
    }
}

fn describe(
    model: &Model,
    check: &DriftCheck,
    uncorrected: &UncorrectedTest,
    views: ComparedViews<'_>,
) -> Option<FindingText> {
    let figures = uncorrected.feature.map(|index| &check.features[index]);
    let baseline = uncorrected.feature.and_then(|index| model.drift_baseline().features.get(index));
    let seen = baseline.and_then(|feature| feature.seen.as_ref());
    Some(match uncorrected.about {
        ComparedQuantity::Values => finding_text::values(figures?, seen),
        ComparedQuantity::Missing => finding_text::missing(figures?, figures?.missing?),
        ComparedQuantity::Unseen => finding_text::unseen(figures?, figures?.unseen?, seen),
        ComparedQuantity::Rare => finding_text::rare(figures?, figures?.rare?),
        ComparedQuantity::Within => {
            let WithinIndex { segment, feature } = uncorrected.within?;
            let within = check.within.get(segment)?;
            finding_text::within(figures?, &within.segment, within.features.get(feature)?)
        }
        ComparedQuantity::Segments => {
            let SegmentShareFigures { before, now, .. } = &check.segments;
            finding_text::segments(model, most_changed(before, now))
        }
        ComparedQuantity::Unassigned => finding_text::unassigned(check.unassigned?),
        ComparedQuantity::Distances => {
            let cuts = &model.drift_baseline().distances.cuts;
            let before = BinnedMedian::of(cuts, views.before.distances());
            finding_text::distances(before, BinnedMedian::of(cuts, views.now.distances()))
        }
        ComparedQuantity::Outliers => finding_text::outliers(check.outliers?),
        ComparedQuantity::PValues => {
            let (before, now) = (views.before.p_values(), views.now.p_values());
            finding_text::p_values(most_changed(&shares(before), &shares(now)))
        }
        // A sequential detector's finding covers many windows: no test of this check has
        // it.
        ComparedQuantity::Stream => return None,
    })
}
