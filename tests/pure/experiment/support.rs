//! Shared by the tests of experiments: the golden figures, and drawn outcomes.

use segmentd::domain::experiment::{
    Allocation, CustomerOutcome, ExperimentDefinition, HashVersion, MetricMoments,
};
use segmentd::domain::stats::RandomStream;
use serde::Deserialize;

/// Figures by tests/data/golden/experiment.py.
#[derive(Deserialize)]
pub(super) struct Golden {
    pub(super) student: Vec<GoldenTail>,
    pub(super) student_quantiles: Vec<GoldenTail>,
    pub(super) comparisons: Vec<GoldenComparison>,
    pub(super) always_valid: Vec<GoldenAlwaysValid>,
    pub(super) sample_ratios: Vec<GoldenSampleRatio>,
    pub(super) p_value_adjustments: Vec<GoldenAdjustment>,
    pub(super) heterogeneity: Vec<GoldenHeterogeneity>,
    pub(super) segments: GoldenSegments,
    pub(super) power_of_means: Vec<GoldenPower>,
    pub(super) power_of_proportions: Vec<GoldenPower>,
    pub(super) rank_weighted: Vec<GoldenRanking>,
    pub(super) sequential_folds: GoldenTrial,
}

#[derive(Deserialize)]
pub(super) struct GoldenTail {
    pub(super) t: f64,
    pub(super) degrees: f64,
    pub(super) tail: f64,
}

/// Rows of metric, denominator and covariate, with their effects.
#[derive(Deserialize)]
pub(super) struct GoldenComparison {
    pub(super) kind: String,
    pub(super) treatment: Vec<[f64; 3]>,
    pub(super) control: Vec<[f64; 3]>,
    pub(super) difference: GoldenEffect,
    pub(super) lift: GoldenEffect,
    pub(super) adjusted: Option<GoldenAdjusted>,
}

#[derive(Deserialize)]
pub(super) struct GoldenAdjusted {
    pub(super) theta: f64,
    pub(super) difference: GoldenEffect,
    pub(super) lift: GoldenEffect,
    pub(super) variance_reduction: f64,
}

#[derive(Deserialize)]
pub(super) struct GoldenEffect {
    pub(super) value: f64,
    pub(super) standard_error: f64,
    pub(super) degrees: f64,
    pub(super) p_value: f64,
    pub(super) interval: [f64; 2],
}

#[derive(Deserialize)]
pub(super) struct GoldenAlwaysValid {
    pub(super) value: f64,
    pub(super) standard_error: f64,
    pub(super) customers: u64,
    pub(super) alpha: f64,
    pub(super) tuned_customers: f64,
    pub(super) interval: [f64; 2],
    pub(super) p_value: f64,
}

#[derive(Deserialize)]
pub(super) struct GoldenSampleRatio {
    pub(super) counts: Vec<u64>,
    pub(super) shares: Vec<f64>,
    pub(super) chi_square: f64,
    pub(super) p_value: f64,
}

#[derive(Deserialize)]
pub(super) struct GoldenAdjustment {
    pub(super) p_values: Vec<f64>,
    pub(super) adjusted: Vec<f64>,
}

#[derive(Deserialize)]
pub(super) struct GoldenHeterogeneity {
    pub(super) effects: Vec<f64>,
    pub(super) errors: Vec<f64>,
    pub(super) q: f64,
    pub(super) p_value: f64,
    pub(super) i_squared: f64,
    pub(super) between_variance: f64,
    pub(super) mean: f64,
    pub(super) mean_error: f64,
    pub(super) shrunken: Vec<f64>,
    pub(super) shrunken_errors: Vec<f64>,
}

#[derive(Deserialize)]
pub(super) struct GoldenSegments {
    pub(super) segments: Vec<GoldenRows>,
    pub(super) differences: Vec<GoldenEffect>,
    pub(super) adjusted: Vec<f64>,
}

#[derive(Deserialize)]
pub(super) struct GoldenRows {
    pub(super) treatment: Vec<[f64; 3]>,
    pub(super) control: Vec<[f64; 3]>,
}

/// Power at `customers` of the control, and what a power of 80 % needs.
#[derive(Deserialize)]
pub(super) struct GoldenPower {
    pub(super) difference: f64,
    /// Standard deviation of a mean.
    pub(super) deviation: Option<f64>,
    /// Rate of a proportion.
    pub(super) rate: Option<f64>,
    pub(super) customers: f64,
    pub(super) ratio: f64,
    pub(super) alpha: f64,
    pub(super) power: f64,
    pub(super) needed: f64,
    pub(super) detectable: f64,
}

#[derive(Deserialize)]
pub(super) struct GoldenRanking {
    pub(super) groups: Vec<Vec<f64>>,
    pub(super) autoc: f64,
    pub(super) qini: f64,
}

#[derive(Deserialize)]
pub(super) struct GoldenTrial {
    pub(super) outcomes: Vec<f64>,
    pub(super) treated: Vec<bool>,
    pub(super) groups: Vec<usize>,
    pub(super) folds: Vec<usize>,
    pub(super) probability: f64,
    pub(super) scores: Vec<f64>,
    pub(super) autoc: f64,
    pub(super) qini: f64,
}

pub(super) fn golden() -> Golden {
    let file = std::fs::read("tests/data/golden/experiment.json").unwrap();
    serde_json::from_slice(&file).unwrap()
}

/// Agreement to 1e-9 of the expected value, or absolutely below 1e-12.
#[track_caller]
pub(super) fn assert_close(found: f64, expected: f64, what: &str) {
    let error = (found - expected).abs();
    assert!(error <= 1e-9 * expected.abs() + 1e-12, "{what} is {found}, not {expected}");
}

pub(super) fn moments(rows: &[[f64; 3]]) -> MetricMoments {
    let mut moments = MetricMoments::default();
    for [metric, denominator, covariate] in rows.iter().copied() {
        moments.observe(&CustomerOutcome { metric, denominator, covariate });
    }
    moments
}

/// An experiment with these weights and full coverage.
pub(super) fn definition(key: &str, weights: &[f64]) -> ExperimentDefinition {
    ExperimentDefinition {
        key: key.into(),
        hash_seed: None,
        hash_version: HashVersion::V2,
        allocation: Allocation::Weights { weights: weights.to_vec(), coverage: 1.0 },
        namespace: None,
        holdout: None,
    }
}

/// Asserts that a count among `trials` is within four standard deviations of its expectation.
#[track_caller]
pub(super) fn assert_binomial(count: usize, trials: usize, probability: f64, what: &str) {
    let trials = trials as f64;
    let band = 4.0 * (trials * probability * (1.0 - probability)).sqrt();
    let distance = (count as f64 - trials * probability).abs();
    assert!(distance <= band, "{what}: {count} of {trials}, expected {probability}");
}

/// Draws from a gamma distribution with shape 2: skewed, as spend is.
pub(super) fn skewed(rng: &mut RandomStream, scale: f64) -> f64 {
    -scale * ((1.0 - rng.uniform_unit()) * (1.0 - rng.uniform_unit())).ln()
}
