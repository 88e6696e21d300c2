//! Selection criteria: gates that a candidate must pass, and weights of the criteria that rank it.

use serde::{Deserialize, Serialize};

use crate::domain::fault::{ValidationFault, ValidationFaults};
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

/// Weight of each criterion among candidates with equal silhouettes. Not negative; 0 disables a
/// criterion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CriterionWeights {
    pub stability: f64,
    pub davies_bouldin: f64,
    pub calinski_harabasz: f64,
}

impl Default for CriterionWeights {
    fn default() -> Self {
        Self { stability: 2.0, davies_bouldin: 1.0, calinski_harabasz: 1.0 }
    }
}

impl CriterionWeights {
    pub(crate) fn check(&self, faults: &mut ValidationFaults) {
        check_range(faults, "weights.stability", self.stability, 0.0..=1000.0);
        check_range(faults, "weights.davies_bouldin", self.davies_bouldin, 0.0..=1000.0);
        check_range(faults, "weights.calinski_harabasz", self.calinski_harabasz, 0.0..=1000.0);
    }
}
