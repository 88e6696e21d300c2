//! Tests of a drift check before the correction for multiple tests.

use crate::domain::drift::check::result::DriftCheck;
use crate::domain::drift::finding::ComparedQuantity;
use crate::domain::drift::limits::{DriftLimits, Severity, SeverityThresholds};
use crate::domain::drift::output_shift::most_changed;
use crate::domain::model::Model;

/// A test before the correction.
pub(super) struct UncorrectedTest {
    pub(super) about: ComparedQuantity,
    /// Index in `DriftCheck::features`.
    pub(super) feature: Option<usize>,
    pub(super) within: Option<WithinIndex>,
    pub(super) size: f64,
    /// The size as a multiple of the limit of a critical difference.
    pub(super) relative_size: f64,
    pub(super) severity: Option<Severity>,
    pub(super) p_value: f64,
}

/// Index of a segment in `DriftCheck::within`, and of a feature in that segment.
#[derive(Clone, Copy)]
pub(super) struct WithinIndex {
    pub(super) segment: usize,
    pub(super) feature: usize,
}

impl UncorrectedTest {
    /// Whether this significant test already reports the change that `other` found, so that
    /// an owner reads about one change of a feature once.
    ///
    /// A shift over all customers is not reported again for each segment, unless it is more
    /// severe there. A change of the missing share covers the segments too: imputed values move
    /// the mean of every segment. Of unseen, rare and all values, the most severe is reported.
    pub(super) fn covers(&self, other: &Self) -> bool {
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

/// Collects the tests over all customers, each with the severity of its difference.
pub(super) fn uncorrected_tests(check: &DriftCheck, limits: &DriftLimits) -> Vec<UncorrectedTest> {
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
pub(super) fn open_within(
    model: &Model,
    check: &DriftCheck,
    limits: &DriftLimits,
) -> Vec<UncorrectedTest> {
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
        let (severity, relative_size) = (steps.severity(size), size / steps.critical);
        Self { about, feature: None, within: None, size, relative_size, severity, p_value }
    }
}
