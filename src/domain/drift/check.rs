//! Drift check of one window: figures, tests with multiple-testing correction, findings.

use serde::Serialize;

use crate::domain::drift::figures::FeatureFigures;
use crate::domain::drift::finding::{self, About, DriftFinding, FindingText};
use crate::domain::drift::limits::{DriftLimits, Severity, Steps};
use crate::domain::drift::output_shift::{Outliers, Rate, RowCount, most_changed};
use crate::domain::drift::segments;
use crate::domain::drift::segments::WithinFigures;
use crate::domain::drift::segments::sums::{Inside, Yardstick};
use crate::domain::drift::statistics::benjamini_hochberg::benjamini_hochberg;
use crate::domain::drift::statistics::chi_square::ChiSquare;
use crate::domain::drift::statistics::contingency_table::{Cells, share, shares};
use crate::domain::drift::statistics::psi::Psi;
use crate::domain::drift::statistics::wasserstein::Median;
use crate::domain::drift::window::{Layout, View, Window, WrongLength};
use crate::domain::model::Model;

/// Result of a drift check: a window compared with the training rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Rows in the window.
    pub scored: u64,
    /// Whether the window has enough rows for tests.
    pub is_enough: bool,
    /// In the order of the baseline's features.
    pub features: Vec<FeatureFigures>,
    pub segments: SegmentFigures,
    pub unassigned: Option<Rate>,
    pub distances: Option<Psi>,
    /// `None` with too few held-out rows for an outlier limit.
    pub outliers: Option<Outliers>,
    pub p_values: Option<Psi>,
    /// Mean confidence, each value rounded to the middle of its bin of 0.05. Its value at
    /// training is the model's silhouette.
    pub confidence: Option<f64>,
    /// By segment of the model; empty if the check does not look within segments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<WithinFigures>,
    /// All tests, corrected together; empty with too few rows.
    pub tests: Vec<Test>,
    /// By descending severity, then by ascending adjusted p-value.
    pub findings: Vec<DriftFinding>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentFigures {
    /// Shares of the assigned rows at training, by segment of the model.
    pub before: Vec<f64>,
    /// The same shares now.
    pub now: Vec<f64>,
    pub psi: Option<Psi>,
    pub chi_square: Option<ChiSquare>,
}

/// Result of one test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Test {
    pub about: About,
    /// Name of the feature; `None`: the test concerns the model as a whole.
    pub feature: Option<Box<str>>,
    /// Id of the segment to which the test is limited; `None`: all customers.
    pub segment: Option<Box<str>>,
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
struct OpenTest {
    about: About,
    /// Index in `Check::features`.
    feature: Option<usize>,
    within: Option<WithinIndex>,
    size: f64,
    severity: Option<Severity>,
    p_value: f64,
}

/// Index of a segment in `Check::within`, and of a feature in that segment.
#[derive(Clone, Copy)]
struct WithinIndex {
    segment: usize,
    feature: usize,
}

/// The training rows and the scored rows, in one layout.
#[derive(Clone, Copy)]
struct ComparedViews<'a> {
    before: View<'a>,
    now: View<'a>,
}

impl Check {
    /// Inserts a finding from outside this check, in the order of severity.
    pub fn add(&mut self, finding: DriftFinding) {
        self.findings.push(finding);
        sort(&mut self.findings);
    }
}

/// Compares a window with the training rows of the model. The cost does not depend on the
/// number of rows.
pub fn check(model: &Model, window: &Window, limits: &DriftLimits) -> Result<Check, WrongLength> {
    compare(model, window, Vec::new(), limits)
}

/// [`check`], and within each segment too. `inside` covers the same rows, except hours from
/// before sums within segments were stored.
pub fn check_within(
    model: &Model,
    window: &Window,
    by: &Yardstick,
    inside: &Inside,
    limits: &DriftLimits,
) -> Result<Check, WrongLength> {
    by.check(inside)?;
    compare(model, window, segments::figures(model, by, inside), limits)
}

fn compare(
    model: &Model,
    window: &Window,
    within: Vec<WithinFigures>,
    limits: &DriftLimits,
) -> Result<Check, WrongLength> {
    let layout = Layout::of(model);
    let reference = layout.reference();
    let views = ComparedViews { before: layout.view(&reference)?, now: layout.view(window)? };
    let mut check = Check { within, ..figures(model, views, limits) };
    if check.is_enough {
        let mut open = open_tests(&check, limits);
        open.extend(open_within(model, &check, limits));
        let p_values: Vec<f64> = open.iter().map(|test| test.p_value).collect();
        let adjusted = benjamini_hochberg(&p_values);
        for (test, adjusted) in open.iter().zip(&adjusted) {
            if let Some(WithinIndex { segment, feature }) = test.within {
                check.within[segment].features[feature].adjusted_p_value = Some(*adjusted);
            }
        }
        check.tests = tests(&check, &open, &adjusted, limits);
        check.findings = findings(model, &check, &open, views);
    }
    Ok(check)
}

fn tests(check: &Check, open: &[OpenTest], adjusted: &[f64], limits: &DriftLimits) -> Vec<Test> {
    let mut tests = Vec::with_capacity(open.len());
    let mut significant = Vec::new();
    for (test, adjusted) in open.iter().zip(adjusted) {
        let is_finding = test.severity.is_some() && *adjusted <= limits.level;
        if is_finding {
            significant.push(test);
        }
        tests.push(Test {
            about: test.about,
            feature: test.feature.map(|index| check.features[index].feature.clone()),
            segment: test.within.map(|within| check.within[within.segment].segment.id.clone()),
            size: test.size,
            severity: test.severity,
            p_value: test.p_value,
            adjusted_p_value: *adjusted,
            is_finding,
        });
    }
    for (test, open) in tests.iter_mut().zip(open) {
        if significant.iter().any(|other| other.covers(open)) {
            test.is_finding = false;
        }
    }
    tests
}

impl OpenTest {
    /// Whether a significant test over all customers already reports the change within a
    /// segment.
    ///
    /// A shift over all customers is reported once, not again for each segment, unless it
    /// is more severe there. A change of the missing share covers the segments too: imputed
    /// values move the mean of every segment.
    fn covers(&self, within: &Self) -> bool {
        within.within.is_some()
            && self.feature == within.feature
            && match self.about {
                About::Values => self.severity >= within.severity,
                About::Missing => true,
                _ => false,
            }
    }
}

fn figures(model: &Model, views: ComparedViews<'_>, limits: &DriftLimits) -> Check {
    let ComparedViews { before, now } = views;
    let reference = model.reference();
    let features = reference.features.iter().enumerate().map(|(index, feature)| {
        FeatureFigures::of(model, feature, before.feature(index), now.feature(index))
    });
    let held_out = before.p_values().iter().fold(0, |sum: u64, rows| sum.saturating_add(*rows));
    let mix = Cells::unordered(before.segments(), now.segments());
    Check {
        scored: now.scored(),
        is_enough: now.scored() >= limits.minimum_rows.max(1),
        features: features.collect(),
        segments: SegmentFigures {
            before: shares(before.segments()),
            now: shares(now.segments()),
            psi: mix.as_ref().map(Psi::of),
            chi_square: mix.as_ref().map(ChiSquare::of),
        },
        unassigned: Rate::of(unassigned_count(before), unassigned_count(now)),
        distances: ordered_psi(before.distances(), now.distances()),
        outliers: Outliers::of(now.outliers(), now.scored(), limits.alpha, held_out),
        p_values: ordered_psi(before.p_values(), now.p_values()),
        confidence: mean(now.confidences()),
        within: vec![],
        tests: vec![],
        findings: vec![],
    }
}

fn ordered_psi(before: &[u64], now: &[u64]) -> Option<Psi> {
    Cells::ordered(before, now).as_ref().map(Psi::of)
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
fn unassigned_count(view: View<'_>) -> RowCount {
    let counted = view.unassigned();
    let all = view.segments().iter().fold(counted, |sum, rows| sum.saturating_add(*rows));
    RowCount { counted, all }
}

/// Collects the tests over all customers, each with the severity of its difference.
fn open_tests(check: &Check, limits: &DriftLimits) -> Vec<OpenTest> {
    let mut open = Vec::new();
    for (index, figures) in check.features.iter().enumerate() {
        let enough_known = figures.now.known >= limits.minimum_rows;
        if let (true, Some(psi), Some(p)) = (enough_known, figures.psi, figures.values_p_value()) {
            let test = OpenTest::new(About::Values, psi.excess, &limits.psi, p);
            open.push(OpenTest { feature: Some(index), ..test });
        }
        if let Some(rate) = figures.missing {
            let size = rate.change().abs();
            let test = OpenTest::new(About::Missing, size, &limits.share, rate.p_value);
            open.push(OpenTest { feature: Some(index), ..test });
        }
    }
    let mix = &check.segments;
    if let (Some(test), Some(changed)) = (mix.chi_square, most_changed(&mix.before, &mix.now)) {
        let size = changed.size();
        open.push(OpenTest::new(About::Segments, size, &limits.share, test.p_value));
    }
    if let Some(rate) = check.unassigned {
        let size = rate.change().abs();
        open.push(OpenTest::new(About::Unassigned, size, &limits.share, rate.p_value));
    }
    for (about, psi) in [(About::Distances, check.distances), (About::PValues, check.p_values)] {
        if let Some(psi) = psi {
            open.push(OpenTest::new(about, psi.excess, &limits.psi, psi.p_value));
        }
    }
    if let Some(outliers) = check.outliers {
        let size = outliers.now / outliers.promised;
        open.push(OpenTest::new(About::Outliers, size, &limits.outliers, outliers.p_value));
    }
    open
}

/// Collects one test per segment and feature, for segments with enough rows.
fn open_within(model: &Model, check: &Check, limits: &DriftLimits) -> Vec<OpenTest> {
    let reference = &model.reference().features;
    let mut open = Vec::new();
    for (segment, figures) in check.within.iter().enumerate() {
        for (feature, figures) in figures.features.iter().enumerate() {
            let index = reference.iter().position(|known| known.feature == figures.place);
            if let (Some(index), Some(p_value)) = (index, figures.p_value) {
                let size = figures.d.abs();
                open.push(OpenTest {
                    feature: Some(index),
                    within: Some(WithinIndex { segment, feature }),
                    ..OpenTest::new(About::Within, size, &limits.movement, p_value)
                });
            }
        }
    }
    open
}

impl OpenTest {
    /// A test of the model as a whole.
    fn new(about: About, size: f64, steps: &Steps, p_value: f64) -> Self {
        let severity = steps.severity(size);
        Self { about, feature: None, within: None, size, severity, p_value }
    }
}

fn findings(
    model: &Model,
    check: &Check,
    open: &[OpenTest],
    views: ComparedViews<'_>,
) -> Vec<DriftFinding> {
    let mut findings = Vec::new();
    for (open, test) in open.iter().zip(&check.tests).filter(|(_, test)| test.is_finding) {
        let figures = open.feature.map(|index| &check.features[index]);
        let description = describe(model, check, open, views);
        let (Some(severity), Some(FindingText { what, advice })) = (test.severity, description)
        else {
            continue;
        };
        findings.push(DriftFinding {
            about: test.about,
            feature: test.feature.clone(),
            segment: open.within.map(|within| check.within[within.segment].segment.clone()),
            title: figures.map_or("The model", |figures| &figures.title).into(),
            owner: figures.map(|figures| figures.owner.clone()),
            unit: figures.map(|figures| figures.unit.clone()),
            severity,
            size: test.size,
            p_value: test.p_value,
            adjusted_p_value: test.adjusted_p_value,
            what,
            advice,
            rests_on: None,
        });
    }
    sort(&mut findings);
    findings
}

/// Sorts by descending severity, then by ascending adjusted p-value.
fn sort(findings: &mut [DriftFinding]) {
    findings.sort_by(|a, b| {
        b.severity.cmp(&a.severity).then(a.adjusted_p_value.total_cmp(&b.adjusted_p_value))
    });
}

fn describe(
    model: &Model,
    check: &Check,
    open: &OpenTest,
    views: ComparedViews<'_>,
) -> Option<FindingText> {
    let figures = open.feature.map(|index| &check.features[index]);
    Some(match open.about {
        About::Values => finding::values(figures?),
        About::Missing => finding::missing(figures?, figures?.missing?),
        About::Within => {
            let WithinIndex { segment, feature } = open.within?;
            let within = check.within.get(segment)?;
            finding::within(figures?, &within.segment, within.features.get(feature)?)
        }
        About::Segments => {
            let SegmentFigures { before, now, .. } = &check.segments;
            finding::segments(model, most_changed(before, now))
        }
        About::Unassigned => finding::unassigned(check.unassigned?),
        About::Distances => {
            let cuts = &model.reference().distances.cuts;
            let before = Median::of(cuts, views.before.distances());
            finding::distances(before, Median::of(cuts, views.now.distances()))
        }
        About::Outliers => finding::outliers(check.outliers?),
        About::PValues => {
            let counts = views.now.p_values();
            let all: f64 = counts.iter().map(|count| *count as f64).sum();
            finding::p_values(share(counts[0] as f64, all))
        }
        // A sequential detector's finding covers many windows: no test of this check has
        // it.
        About::Stream => return None,
    })
}
