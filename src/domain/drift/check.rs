//! Drift check of one window: figures, tests with multiple-testing correction, findings.

use serde::Serialize;

use crate::domain::drift::dependence::{
    DesignEffects, FeatureDependence, ObservedWindow, OutputDependence, WindowDependence,
};
use crate::domain::drift::figures::FeatureFigures;
use crate::domain::drift::finding::{self, ComparedQuantity, DriftFinding, FindingText};
use crate::domain::drift::limits::{DriftLimits, Severity, SeverityThresholds};
use crate::domain::drift::output_shift::{OutlierRateTest, RateComparison, RowCount, most_changed};
use crate::domain::drift::segments;
use crate::domain::drift::segments::SegmentDriftFigures;
use crate::domain::drift::segments::sums::{DeviationUnits, SegmentSums};
use crate::domain::drift::statistics::benjamini_hochberg::benjamini_hochberg;
use crate::domain::drift::statistics::chi_square::ChiSquareTest;
use crate::domain::drift::statistics::contingency_table::{ContingencyTable, shares};
use crate::domain::drift::statistics::psi::StabilityIndex;
use crate::domain::drift::statistics::wasserstein::BinnedMedian;
use crate::domain::drift::window::{WindowLayout, WindowLengthError, WindowView};
use crate::domain::model::Model;

/// Result of a drift check: a window compared with the training rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DriftCheck {
    /// Rows in the window.
    pub scored: u64,
    /// Whether the window has enough rows for tests.
    pub is_enough: bool,
    /// In the order of the baseline's features.
    pub features: Vec<FeatureFigures>,
    pub segments: SegmentShareFigures,
    pub unassigned: Option<RateComparison>,
    pub distances: Option<StabilityIndex>,
    /// `None` with too few held-out rows for an outlier limit.
    pub outliers: Option<OutlierRateTest>,
    pub p_values: Option<StabilityIndex>,
    /// Dependence of the rows with respect to the model's output; of the features with theirs.
    #[serde(skip)]
    pub dependence: OutputDependence,
    /// Mean confidence, each value rounded to the middle of its bin of 0.05. Its value at
    /// training is the model's silhouette.
    pub confidence: Option<f64>,
    /// By segment of the model; empty if the check does not look within segments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<SegmentDriftFigures>,
    /// All tests, corrected together; empty with too few rows.
    pub tests: Vec<DriftTest>,
    /// By descending severity, then by ascending adjusted p-value.
    pub findings: Vec<DriftFinding>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentShareFigures {
    /// Shares of the assigned rows at training, by segment of the model.
    pub before: Vec<f64>,
    /// The same shares now.
    pub now: Vec<f64>,
    pub psi: Option<StabilityIndex>,
    pub chi_square: Option<ChiSquareTest>,
}

/// Result of one test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DriftTest {
    pub about: ComparedQuantity,
    /// Name of the feature; `None`: the test concerns the model as a whole.
    pub feature: Option<Box<str>>,
    /// Id of the segment to which the test is limited; `None`: all customers.
    pub segment_id: Option<Box<str>>,
    /// Size of the difference, in the unit of the limits of `about`.
    pub size: f64,
    /// Severity of a significant difference of this size.
    pub severity: Option<Severity>,
    pub p_value: f64,
    /// The p-value after the correction over all tests of the check.
    pub adjusted_p_value: f64,
    pub is_finding: bool,
}

/// A test before the correction.
struct UncorrectedTest {
    about: ComparedQuantity,
    /// Index in `DriftCheck::features`.
    feature: Option<usize>,
    within: Option<WithinIndex>,
    size: f64,
    severity: Option<Severity>,
    p_value: f64,
}

/// Index of a segment in `DriftCheck::within`, and of a feature in that segment.
#[derive(Clone, Copy)]
struct WithinIndex {
    segment: usize,
    feature: usize,
}

/// The training rows and the scored rows, in one layout.
#[derive(Clone, Copy)]
struct ComparedViews<'a> {
    before: WindowView<'a>,
    now: WindowView<'a>,
}

impl DriftCheck {
    /// Inserts a finding from outside this check, in the order of severity.
    pub(crate) fn insert_finding(&mut self, finding: DriftFinding) {
        self.findings.push(finding);
        sort(&mut self.findings);
    }
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

impl UncorrectedTest {
    /// Whether this significant test already reports the change that `other` found, so that
    /// an owner reads about one change of a feature once.
    ///
    /// A shift over all customers is not reported again for each segment, unless it is more
    /// severe there. A change of the missing share covers the segments too: imputed values move
    /// the mean of every segment. Of unseen, rare and all values, the most severe is reported.
    fn covers(&self, other: &Self) -> bool {
        use ComparedQuantity::{Missing, Rare, Unseen, Values};
        if self.feature.is_none() || self.feature != other.feature || self.within.is_some() {
            return false;
        }
        match (self.about, other.about, other.within) {
            (Missing, _, Some(_)) => true,
            (Values | Unseen, _, Some(_))
            | (Values, Unseen | Rare, None)
            | (Unseen, Rare, None) => self.severity >= other.severity,
            (Unseen, Values, None) => self.severity > other.severity,
            _ => false,
        }
    }
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

/// Collects the tests over all customers, each with the severity of its difference.
fn uncorrected_tests(check: &DriftCheck, limits: &DriftLimits) -> Vec<UncorrectedTest> {
    let mut uncorrected = Vec::new();
    for (index, figures) in check.features.iter().enumerate() {
        let enough_known = figures.now.known >= limits.minimum_rows;
        if let (true, Some(psi), Some(p)) = (enough_known, figures.psi, figures.values_p_value()) {
            let test = UncorrectedTest::new(ComparedQuantity::Values, psi.excess, &limits.psi, p);
            uncorrected.push(UncorrectedTest { feature: Some(index), ..test });
        }
        if let (true, Some(unseen)) = (enough_known, figures.unseen) {
            let (size, p) = (unseen.excess(), unseen.p_value);
            let test = UncorrectedTest::new(ComparedQuantity::Unseen, size, &limits.unseen, p);
            uncorrected.push(UncorrectedTest { feature: Some(index), ..test });
        }
        if let (true, Some(rate)) = (enough_known, figures.rare) {
            let size = rate.change().abs();
            let test =
                UncorrectedTest::new(ComparedQuantity::Rare, size, &limits.share, rate.p_value);
            uncorrected.push(UncorrectedTest { feature: Some(index), ..test });
        }
        if let Some(rate) = figures.missing {
            let size = rate.change().abs();
            let test =
                UncorrectedTest::new(ComparedQuantity::Missing, size, &limits.share, rate.p_value);
            uncorrected.push(UncorrectedTest { feature: Some(index), ..test });
        }
    }
    let mix = &check.segments;
    if let (Some(test), Some(changed)) = (mix.chi_square, most_changed(&mix.before, &mix.now)) {
        let size = changed.size();
        uncorrected.push(UncorrectedTest::new(
            ComparedQuantity::Segments,
            size,
            &limits.share,
            test.p_value,
        ));
    }
    if let Some(rate) = check.unassigned {
        let size = rate.change().abs();
        uncorrected.push(UncorrectedTest::new(
            ComparedQuantity::Unassigned,
            size,
            &limits.share,
            rate.p_value,
        ));
    }
    for (about, psi) in [
        (ComparedQuantity::Distances, check.distances),
        (ComparedQuantity::PValues, check.p_values),
    ] {
        if let Some(psi) = psi {
            uncorrected.push(UncorrectedTest::new(about, psi.excess, &limits.psi, psi.p_value));
        }
    }
    if let Some(outliers) = check.outliers {
        let size = outliers.now / outliers.promised;
        uncorrected.push(UncorrectedTest::new(
            ComparedQuantity::Outliers,
            size,
            &limits.outliers,
            outliers.p_value,
        ));
    }
    uncorrected
}

/// Collects one test per segment and feature, for segments with enough rows.
fn open_within(model: &Model, check: &DriftCheck, limits: &DriftLimits) -> Vec<UncorrectedTest> {
    let reference = &model.drift_baseline().features;
    let mut uncorrected = Vec::new();
    for (segment, figures) in check.within.iter().enumerate() {
        for (feature, figures) in figures.features.iter().enumerate() {
            let index = reference.iter().position(|known| known.feature == figures.feature_index);
            if let (Some(index), Some(p_value)) = (index, figures.p_value) {
                let size = figures.d.abs();
                uncorrected.push(UncorrectedTest {
                    feature: Some(index),
                    within: Some(WithinIndex { segment, feature }),
                    ..UncorrectedTest::new(
                        ComparedQuantity::Within,
                        size,
                        &limits.movement,
                        p_value,
                    )
                });
            }
        }
    }
    uncorrected
}

impl UncorrectedTest {
    /// A test of the model as a whole.
    fn new(about: ComparedQuantity, size: f64, steps: &SeverityThresholds, p_value: f64) -> Self {
        let severity = steps.severity(size);
        Self { about, feature: None, within: None, size, severity, p_value }
    }
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
        let description = describe(model, check, uncorrected, views);
        let (Some(severity), Some(FindingText { description, advice })) =
            (test.severity, description)
        else {
            continue;
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
            p_value: test.p_value,
            adjusted_p_value: test.adjusted_p_value,
            effective_rows: Some(design_effects(check, uncorrected).effective_rows(check.scored)),
            description,
            advice,
            decisive_key: None,
        });
    }
    sort(&mut findings);
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

/// Sorts by descending severity, then by ascending adjusted p-value.
fn sort(findings: &mut [DriftFinding]) {
    findings.sort_by(|a, b| {
        b.severity.cmp(&a.severity).then(a.adjusted_p_value.total_cmp(&b.adjusted_p_value))
    });
}

fn describe(
    model: &Model,
    check: &DriftCheck,
    uncorrected: &UncorrectedTest,
    views: ComparedViews<'_>,
) -> Option<FindingText> {
    let figures = uncorrected.feature.map(|index| &check.features[index]);
    Some(match uncorrected.about {
        ComparedQuantity::Values => finding::values(figures?),
        ComparedQuantity::Missing => finding::missing(figures?, figures?.missing?),
        ComparedQuantity::Unseen => {
            let seen = model.drift_baseline().features.get(uncorrected.feature?)?.seen.as_ref();
            finding::unseen(figures?, figures?.unseen?, seen)
        }
        ComparedQuantity::Rare => finding::rare(figures?, figures?.rare?),
        ComparedQuantity::Within => {
            let WithinIndex { segment, feature } = uncorrected.within?;
            let within = check.within.get(segment)?;
            finding::within(figures?, &within.segment, within.features.get(feature)?)
        }
        ComparedQuantity::Segments => {
            let SegmentShareFigures { before, now, .. } = &check.segments;
            finding::segments(model, most_changed(before, now))
        }
        ComparedQuantity::Unassigned => finding::unassigned(check.unassigned?),
        ComparedQuantity::Distances => {
            let cuts = &model.drift_baseline().distances.cuts;
            let before = BinnedMedian::of(cuts, views.before.distances());
            finding::distances(before, BinnedMedian::of(cuts, views.now.distances()))
        }
        ComparedQuantity::Outliers => finding::outliers(check.outliers?),
        ComparedQuantity::PValues => {
            let (before, now) = (views.before.p_values(), views.now.p_values());
            finding::p_values(most_changed(&shares(before), &shares(now)))
        }
        // A sequential detector's finding covers many windows: no test of this check has
        // it.
        ComparedQuantity::Stream => return None,
    })
}
