//! Drift check of one window: figures, tests with multiple-testing correction, findings.

use serde::Serialize;

use crate::domain::drift::figures::FeatureFigures;
use crate::domain::drift::finding::{self, About, Finding, Said};
use crate::domain::drift::limits::{Limits, Severity};
use crate::domain::drift::output_shift::{Outliers, Rate, most_changed};
use crate::domain::drift::segments;
use crate::domain::drift::segments::sums::{Inside, Yardstick};
use crate::domain::drift::segments::{FeatureWithin, WithinFigures};
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
    pub findings: Vec<Finding>,
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

/// A test before the correction. `feature` is the index in `Check::features`, `within` the
/// index of the segment in `Check::within` and of the feature in it.
struct Open {
    about: About,
    feature: Option<usize>,
    within: Option<(usize, usize)>,
    size: f64,
    severity: Option<Severity>,
    p_value: f64,
}

impl Check {
    /// Inserts a finding from outside this check, in the order of severity.
    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
        sort(&mut self.findings);
    }
}

/// Compares a window with the training rows of the model. The cost does not depend on the
/// number of rows.
pub fn check(model: &Model, window: &Window, limits: &Limits) -> Result<Check, WrongLength> {
    compare(model, window, Vec::new(), limits)
}

/// [`check`], and within each segment too. `inside` covers the same rows, except hours from
/// before sums within segments were stored.
pub fn check_within(
    model: &Model,
    window: &Window,
    (by, inside): (&Yardstick, &Inside),
    limits: &Limits,
) -> Result<Check, WrongLength> {
    by.check(inside)?;
    compare(model, window, segments::figures(model, by, inside), limits)
}

fn compare(
    model: &Model,
    window: &Window,
    within: Vec<WithinFigures>,
    limits: &Limits,
) -> Result<Check, WrongLength> {
    let layout = Layout::of(model);
    let reference = layout.reference();
    let (before, now) = (layout.view(&reference)?, layout.view(window)?);
    let mut check = Check { within, ..figures(model, (before, now), limits) };
    if check.is_enough {
        let mut open = open_tests(&check, limits);
        open.extend(open_within(model, &check, limits));
        let p_values: Vec<f64> = open.iter().map(|test| test.p_value).collect();
        let adjusted = benjamini_hochberg(&p_values);
        for (test, adjusted) in open.iter().zip(&adjusted) {
            if let Some((segment, feature)) = test.within {
                check.within[segment].features[feature].adjusted_p_value = Some(*adjusted);
            }
        }
        check.tests = tests(&check, &open, &adjusted, limits);
        check.findings = findings(model, &check, &open, (before, now));
    }
    Ok(check)
}

fn tests(check: &Check, open: &[Open], adjusted: &[f64], limits: &Limits) -> Vec<Test> {
    let is_certain =
        |(test, adjusted): (&Open, &f64)| test.severity.is_some() && *adjusted <= limits.level;
    // A shift over all customers is reported once, not again for each segment, unless it
    // is more severe there. A change of the missing share covers the segments too: imputed
    // values move the mean of every segment.
    let certain = open.iter().zip(adjusted).filter(|test| is_certain(*test));
    let told: Vec<&Open> = certain.map(|(test, _)| test).collect();
    let is_told = |test: &Open| {
        let covers = |one: &&Open| match one.about {
            About::Values => one.feature == test.feature && one.severity >= test.severity,
            About::Missing => one.feature == test.feature,
            _ => false,
        };
        test.within.is_some() && told.iter().any(covers)
    };
    let test = |(test, adjusted): (&Open, &f64)| Test {
        about: test.about,
        feature: test.feature.map(|place| check.features[place].feature.clone()),
        segment: test.within.map(|(segment, _)| check.within[segment].segment.id.clone()),
        size: test.size,
        severity: test.severity,
        p_value: test.p_value,
        adjusted_p_value: *adjusted,
        is_finding: is_certain((test, adjusted)) && !is_told(test),
    };
    open.iter().zip(adjusted).map(test).collect()
}

fn figures(model: &Model, (before, now): (View<'_>, View<'_>), limits: &Limits) -> Check {
    let reference = model.reference();
    let features = reference.features.iter().enumerate().map(|(place, feature)| {
        FeatureFigures::of(model, feature, before.feature(place), now.feature(place))
    });
    let held_out = before.p_values().iter().fold(0, |sum: u64, rows| sum.saturating_add(*rows));
    let psi = |before: &[u64], now: &[u64]| Cells::ordered(before, now).as_ref().map(Psi::of);
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
        unassigned: Rate::of(outside(before), outside(now)),
        distances: psi(before.distances(), now.distances()),
        outliers: Outliers::of(now.outliers(), now.scored(), limits.alpha, held_out),
        p_values: psi(before.p_values(), now.p_values()),
        confidence: mean(now.confidences()),
        within: vec![],
        tests: vec![],
        findings: vec![],
    }
}

/// Mean of values from 0 to 1 that are counted in equal bins.
fn mean(bins: &[u64]) -> Option<f64> {
    let all: f64 = bins.iter().map(|count| *count as f64).sum();
    let middle = |bin: usize| (bin as f64 + 0.5) / bins.len() as f64;
    let sum: f64 = bins.iter().enumerate().map(|(bin, count)| *count as f64 * middle(bin)).sum();
    (all > 0.0).then(|| sum / all)
}

/// Unassigned rows, and all rows.
fn outside(view: View<'_>) -> (u64, u64) {
    let unassigned = view.unassigned();
    (unassigned, view.segments().iter().fold(unassigned, |sum, rows| sum.saturating_add(*rows)))
}

/// Collects the tests over all customers, each with the severity of its difference.
fn open_tests(check: &Check, limits: &Limits) -> Vec<Open> {
    let mut open = Vec::new();
    let mut add = |about, feature, size: f64, severity, p_value| {
        open.push(Open { about, feature, within: None, size, severity, p_value });
    };
    for (place, figures) in check.features.iter().enumerate() {
        let enough_known = figures.now.known >= limits.minimum_rows;
        if let (true, Some(psi), Some(p)) = (enough_known, figures.psi, figures.values_p_value()) {
            let severity = limits.psi.severity(psi.excess);
            add(About::Values, Some(place), psi.excess, severity, p);
        }
        if let Some(rate) = figures.missing {
            let size = rate.change().abs();
            add(About::Missing, Some(place), size, limits.share.severity(size), rate.p_value);
        }
    }
    let mix = &check.segments;
    if let (Some(test), Some((_, before, now))) =
        (mix.chi_square, most_changed(&mix.before, &mix.now))
    {
        let size = (now - before).abs();
        add(About::Segments, None, size, limits.share.severity(size), test.p_value);
    }
    if let Some(rate) = check.unassigned {
        let size = rate.change().abs();
        add(About::Unassigned, None, size, limits.share.severity(size), rate.p_value);
    }
    for (about, psi) in [(About::Distances, check.distances), (About::PValues, check.p_values)] {
        if let Some(psi) = psi {
            add(about, None, psi.excess, limits.psi.severity(psi.excess), psi.p_value);
        }
    }
    if let Some(outliers) = check.outliers {
        let size = outliers.now / outliers.promised;
        add(About::Outliers, None, size, limits.outliers.severity(size), outliers.p_value);
    }
    open
}

/// Collects one test per segment and feature, for segments with enough rows.
fn open_within(model: &Model, check: &Check, limits: &Limits) -> Vec<Open> {
    let reference = &model.reference().features;
    let of = |segment: usize, feature: usize, figures: &FeatureWithin| {
        let place = reference.iter().position(|known| known.feature == figures.place)?;
        let size = figures.d.abs();
        Some(Open {
            about: About::Within,
            feature: Some(place),
            within: Some((segment, feature)),
            size,
            severity: limits.movement.severity(size),
            p_value: figures.p_value?,
        })
    };
    let segments = check.within.iter().enumerate();
    let pairs = segments.flat_map(|(segment, within)| {
        within
            .features
            .iter()
            .enumerate()
            .map(move |(feature, figures)| (segment, feature, figures))
    });
    pairs.filter_map(|(segment, feature, figures)| of(segment, feature, figures)).collect()
}

fn findings(
    model: &Model,
    check: &Check,
    open: &[Open],
    (before, now): (View<'_>, View<'_>),
) -> Vec<Finding> {
    let found = open.iter().zip(&check.tests).filter(|(_, test)| test.is_finding);
    let mut findings: Vec<Finding> = found
        .filter_map(|(open, test)| {
            let figures = open.feature.map(|place| &check.features[place]);
            let Said { what, advice } = said(model, check, open, (before, now))?;
            Some(Finding {
                about: test.about,
                feature: test.feature.clone(),
                segment: open.within.map(|(segment, _)| check.within[segment].segment.clone()),
                title: figures.map_or("The model", |figures| &figures.title).into(),
                owner: figures.map(|figures| figures.owner.clone()),
                unit: figures.map(|figures| figures.unit.clone()),
                severity: test.severity?,
                size: test.size,
                p_value: test.p_value,
                adjusted_p_value: test.adjusted_p_value,
                what,
                advice,
                rests_on: None,
            })
        })
        .collect();
    sort(&mut findings);
    findings
}

/// Sorts by descending severity, then by ascending adjusted p-value.
fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        b.severity.cmp(&a.severity).then(a.adjusted_p_value.total_cmp(&b.adjusted_p_value))
    });
}

fn said(
    model: &Model,
    check: &Check,
    open: &Open,
    (before, now): (View<'_>, View<'_>),
) -> Option<Said> {
    let figures = open.feature.map(|place| &check.features[place]);
    Some(match open.about {
        About::Values => finding::values(figures?),
        About::Missing => finding::missing(figures?, figures?.missing?),
        About::Within => {
            let (segment, feature) = open.within?;
            let within = check.within.get(segment)?;
            finding::within(figures?, &within.segment, within.features.get(feature)?)
        }
        About::Segments => {
            let SegmentFigures { before, now, .. } = &check.segments;
            finding::segments(most_changed(before, now).and_then(|(segment, before, now)| {
                Some((model.segments().get(segment)?, before, now))
            }))
        }
        About::Unassigned => finding::unassigned(check.unassigned?),
        About::Distances => {
            let cuts = &model.reference().distances.cuts;
            let median = |view: View<'_>| Median::of(cuts, view.distances());
            finding::distances(median(before), median(now))
        }
        About::Outliers => finding::outliers(check.outliers?),
        About::PValues => {
            let all: f64 = now.p_values().iter().map(|count| *count as f64).sum();
            finding::p_values(share(now.p_values()[0] as f64, all))
        }
        // A sequential detector's finding covers many windows: no test of this check has
        // it.
        About::Stream => return None,
    })
}
