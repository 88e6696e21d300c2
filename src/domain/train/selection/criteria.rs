//! Selection criteria: gates that a candidate must pass, and the weighted criteria that rank it.

use serde::{Deserialize, Serialize};

use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::train::evaluation::internal_indices::SampleEstimate;
use crate::domain::train::range_check::check_range;

/// Conditions that a candidate must meet. `None`: no condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CandidateGates {
    /// Minimum share of the rows in the smallest segment, 0..=1.
    pub smallest_share: Option<f64>,
    /// Minimum of the mean bootstrap Jaccard index of the segments, 0..=1.
    pub mean_jaccard: Option<f64>,
    /// Minimum of the mean silhouette, -1..=1.
    pub silhouette: Option<f64>,
    /// Maximum share of the rows without a segment, 0..=1.
    pub noise_share: Option<f64>,
}

impl Default for CandidateGates {
    fn default() -> Self {
        Self {
            smallest_share: Some(0.005),
            mean_jaccard: None,
            silhouette: None,
            noise_share: Some(0.5),
        }
    }
}

impl CandidateGates {
    pub(crate) fn check(&self, faults: &mut ValidationFaults, bootstraps: usize) {
        let gates = [
            ("gates.smallest_share", self.smallest_share, 0.0),
            ("gates.mean_jaccard", self.mean_jaccard, 0.0),
            ("gates.silhouette", self.silhouette, -1.0),
            ("gates.noise_share", self.noise_share, 0.0),
        ];
        for (path, value, least) in gates {
            if let Some(value) = value {
                check_range(faults, path, value, least..=1.0);
            }
        }
        if self.mean_jaccard.is_some() && bootstraps == 0 {
            let problem = "is measured by bootstraps: `stability.bootstraps` must be above 0";
            faults.push(ValidationFault::new("gates.mean_jaccard", problem));
        }
    }
}

/// Criteria that rank the candidates. Each judges every shape alike, and charges rows without a
/// segment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SelectionCriteria {
    /// Mean adjusted Rand index between halves of the rows that are clustered separately, up to 1.
    pub reproducibility: SampleEstimate,
    /// Modularity in the graph of nearest neighbours, below 1.
    pub modularity: f64,
    /// Density-based validation (DBCV), -1..=1; `None` with one segment.
    pub density_validation: Option<f64>,
    /// Share of the variance of the outcomes that the segments explain, 0..=1; `None` without
    /// outcomes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<SampleEstimate>,
}

impl SelectionCriteria {
    /// Weighted mean of the criteria, with its standard error from the reproducibility and the
    /// outcomes; large is good.
    pub(crate) fn score(&self, weights: &CriterionWeights) -> SampleEstimate {
        let CriterionWeights { reproducibility, modularity, density_validation, outcomes } =
            weights;
        let (outcomes, explained) = match self.outcomes {
            Some(explained) => (*outcomes, explained),
            None => (0.0, SampleEstimate { value: 0.0, error: 0.0, rows: 0 }),
        };
        let total =
            (reproducibility + modularity + density_validation + outcomes).max(f64::MIN_POSITIVE);
        let sum = reproducibility * self.reproducibility.value
            + modularity * self.modularity
            + density_validation * self.density_validation.unwrap_or(-1.0)
            + outcomes * explained.value;
        SampleEstimate {
            value: sum / total,
            error: (reproducibility * self.reproducibility.error).hypot(outcomes * explained.error)
                / total,
            rows: self.reproducibility.rows,
        }
    }
}

/// Weight of each criterion in the score of a candidate. Not negative; 0 disables a criterion.
///
/// Reproducibility decides first: a segment that another sample does not have is of no use. But it
/// favours few large segments, and says nothing about borders through dense regions; the other two
/// do. Their defaults were fixed on 52 labelled sets, before 45 others were looked at. Outcomes
/// are declared by people who want them to count: between equally reproducible candidates, they
/// decide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CriterionWeights {
    pub reproducibility: f64,
    pub modularity: f64,
    pub density_validation: f64,
    pub outcomes: f64,
}

impl Default for CriterionWeights {
    fn default() -> Self {
        Self { reproducibility: 1.0, modularity: 0.25, density_validation: 0.25, outcomes: 0.5 }
    }
}

impl CriterionWeights {
    pub(crate) fn check(&self, faults: &mut ValidationFaults) {
        check_range(faults, "weights.reproducibility", self.reproducibility, 0.0..=1000.0);
        check_range(faults, "weights.modularity", self.modularity, 0.0..=1000.0);
        check_range(faults, "weights.density_validation", self.density_validation, 0.0..=1000.0);
        check_range(faults, "weights.outcomes", self.outcomes, 0.0..=1000.0);
    }
}
