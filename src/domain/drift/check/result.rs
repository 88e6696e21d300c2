//! Result of a drift check.

use serde::Serialize;

use crate::domain::drift::dependence::OutputDependence;
use crate::domain::drift::figures::FeatureFigures;
use crate::domain::drift::finding::{ComparedQuantity, DriftFinding};
use crate::domain::drift::limits::Severity;
use crate::domain::drift::output_shift::{OutlierRateTest, RateComparison};
use crate::domain::drift::segments::SegmentDriftFigures;
use crate::domain::drift::statistics::chi_square::ChiSquareTest;
use crate::domain::drift::statistics::psi::StabilityIndex;

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

impl DriftCheck {
    /// Inserts a finding from outside this check, in the order of severity.
    pub(crate) fn insert_finding(&mut self, finding: DriftFinding) {
        self.findings.push(finding);
        sort_findings(&mut self.findings);
    }
}

/// Sorts by descending severity, then by ascending adjusted p-value.
pub(super) fn sort_findings(findings: &mut [DriftFinding]) {
    findings.sort_by(|a, b| {
        b.severity.cmp(&a.severity).then(a.adjusted_p_value.total_cmp(&b.adjusted_p_value))
    });
}
