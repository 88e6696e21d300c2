//! Analysis of an experiment: moments by variation and segment in, effects out, withheld if the
//! sample ratio is mismatched.

use std::fmt;

use crate::domain::experiment::always_valid::{AlwaysValidResult, SequentialDesign};
use crate::domain::experiment::cuped::ComparedEffect;
use crate::domain::experiment::moments::MetricMoments;
use crate::domain::experiment::sample_ratio::SampleRatioReport;
use crate::domain::experiment::segment_effects::{
    SegmentEffects, SegmentSettings, VariationMoments,
};

/// Moments of one metric by variation and segment.
#[derive(Debug, Clone, PartialEq)]
pub struct MomentTable {
    variations: usize,
    segments: usize,
    /// By variation, then by segment.
    cells: Vec<MetricMoments>,
}

/// Error for moments of different experiments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tables have different numbers of variations or segments")]
pub struct DifferentShapes;

impl MomentTable {
    /// An empty table. Customers without a segment count under an index of their own.
    pub fn new(variations: usize, segments: usize) -> Self {
        Self { variations, segments, cells: vec![MetricMoments::default(); variations * segments] }
    }

    /// Moments of one variation in one segment; `None` if the table has no such cell.
    pub fn cell(&self, variation: usize, segment: usize) -> Option<&MetricMoments> {
        self.cells.get(self.cell_index(variation, segment)?)
    }

    /// Moments of one variation in one segment, to observe outcomes.
    pub fn cell_mut(&mut self, variation: usize, segment: usize) -> Option<&mut MetricMoments> {
        let index = self.cell_index(variation, segment)?;
        self.cells.get_mut(index)
    }

    /// Adds all customers of `other`.
    pub fn merge(&mut self, other: &Self) -> Result<(), DifferentShapes> {
        if (self.variations, self.segments) != (other.variations, other.segments) {
            return Err(DifferentShapes);
        }
        for (cell, added) in self.cells.iter_mut().zip(&other.cells) {
            cell.merge(added);
        }
        Ok(())
    }

    /// Moments of one variation in all segments.
    pub fn variation_total(&self, variation: usize) -> MetricMoments {
        let mut total = MetricMoments::default();
        for segment in 0..self.segments {
            if let Some(cell) = self.cell(variation, segment) {
                total.merge(cell);
            }
        }
        total
    }

    fn cell_index(&self, variation: usize, segment: usize) -> Option<usize> {
        let is_inside = variation < self.variations && segment < self.segments;
        is_inside.then_some(variation * self.segments + segment)
    }

    fn segment_pairs(&self, treatment: usize, control: usize) -> Vec<VariationMoments> {
        let cell = |variation, segment| self.cell(variation, segment).copied().unwrap_or_default();
        (0..self.segments)
            .map(|segment| VariationMoments {
                treatment: cell(treatment, segment),
                control: cell(control, segment),
            })
            .collect()
    }
}

/// Settings of the analysis of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AnalysisSettings {
    /// Index of the control variation.
    pub control: usize,
    pub sequential: SequentialDesign,
    pub segments: SegmentSettings,
}

/// Effect of one treatment variation on one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct VariationResult {
    /// Index of the treatment variation.
    pub variation: usize,
    pub overall: ComparedEffect,
    /// Inference on the difference, adjusted if it can be, that allows any number of looks.
    pub always_valid_difference: AlwaysValidResult,
    /// The same for the relative lift; `None` without one.
    pub always_valid_lift: Option<AlwaysValidResult>,
    pub segments: SegmentEffects,
}

/// Compares every other variation with the control. `report`: of all exposed customers of the
/// experiment. A variation without a measured effect is left out.
///
/// P-values are not adjusted for several treatment variations or metrics.
pub fn analyse_experiment(
    table: &MomentTable,
    settings: &AnalysisSettings,
    report: SampleRatioReport,
) -> GatedResults<Vec<VariationResult>> {
    let mut results = Vec::new();
    for variation in (0..table.variations).filter(|variation| *variation != settings.control) {
        results.extend(analyse_variation(table, settings, variation));
    }
    GatedResults::new(report, results)
}

fn analyse_variation(
    table: &MomentTable,
    settings: &AnalysisSettings,
    variation: usize,
) -> Option<VariationResult> {
    let (treatment, control) =
        (table.variation_total(variation), table.variation_total(settings.control));
    let overall = ComparedEffect::compare(&treatment, &control)?;
    let customers = treatment.customers() + control.customers();
    let best = overall.best();
    let sequential = &settings.sequential;
    let pairs = table.segment_pairs(variation, settings.control);
    Some(VariationResult {
        variation,
        overall,
        always_valid_difference: sequential.infer(best.difference.estimate(), customers),
        always_valid_lift: best.lift.map(|lift| sequential.infer(lift.estimate(), customers)),
        segments: SegmentEffects::measure(&pairs, &settings.segments, sequential),
    })
}

/// Results that can be read only if the sample ratio is not mismatched.
#[derive(Clone, PartialEq)]
pub struct GatedResults<T> {
    report: SampleRatioReport,
    results: T,
}

impl<T> GatedResults<T> {
    /// Joins results with the test that decides about reading them.
    pub const fn new(report: SampleRatioReport, results: T) -> Self {
        Self { report, results }
    }

    /// The test of the sample ratio, which is always readable.
    pub const fn sample_ratio(&self) -> &SampleRatioReport {
        &self.report
    }

    /// The results, or an error if the sample ratio is mismatched.
    pub fn read(&self) -> Result<&T, ResultsWithheld> {
        if self.report.is_mismatched() {
            Err(ResultsWithheld::new(&self.report))
        } else {
            Ok(&self.results)
        }
    }

    /// Results of a mismatched experiment, by an explicit decision with a reason, which stays with
    /// the results.
    pub fn override_mismatch(self, reason: OverrideReason) -> OverriddenResults<T> {
        OverriddenResults { report: self.report, reason, results: self.results }
    }
}

/// Shows the test of the sample ratio, but never withheld results.
impl<T: fmt::Debug> fmt::Debug for GatedResults<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedResults")
            .field("report", &self.report)
            .field("results", &self.read())
            .finish()
    }
}

/// Results that were read although the sample ratio may be mismatched.
#[derive(Debug, Clone, PartialEq)]
pub struct OverriddenResults<T> {
    pub report: SampleRatioReport,
    pub reason: OverrideReason,
    pub results: T,
}

/// Reason for reading the results of a mismatched experiment; not blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverrideReason(Box<str>);

/// Error for a blank reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reason for reading results of a mismatched experiment is blank")]
pub struct BlankReason;

impl OverrideReason {
    /// Checks and trims a reason.
    pub fn new(reason: &str) -> Result<Self, BlankReason> {
        let reason = reason.trim();
        if reason.is_empty() { Err(BlankReason) } else { Ok(Self(reason.into())) }
    }

    /// The reason, without surrounding blanks.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Error for results that are withheld because the sample ratio is mismatched.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "the results are withheld: the sample ratio is mismatched (overall p = {overall_p_value:.2e}; \
     mismatched segments: {}; mismatched days: {})", segments.len(), days.len()
)]
pub struct ResultsWithheld {
    pub overall_p_value: f64,
    /// Indices of mismatched segments.
    pub segments: Vec<usize>,
    /// Indices of mismatched days.
    pub days: Vec<usize>,
}

impl ResultsWithheld {
    fn new(report: &SampleRatioReport) -> Self {
        Self {
            overall_p_value: report.overall.p_value,
            segments: report.mismatched_segments().collect(),
            days: report.mismatched_days().collect(),
        }
    }
}
