//! Two-sample Kolmogorov-Smirnov test on binned counts.
//!
//! Between cuts both distribution functions are unknown. So the largest distance at a cut
//! is a lower bound of the true one, and its p-value an upper bound: the test is
//! conservative.

use serde::Serialize;

use crate::domain::drift::dependence::DesignEffects;
use crate::domain::stats::special;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct KolmogorovSmirnov {
    /// Largest difference of the cumulative shares at a cut.
    pub distance: f64,
    /// Upper bound of the p-value, from the asymptotic Kolmogorov distribution.
    pub p_value: f64,
}

impl KolmogorovSmirnov {
    /// `None` if a side has no rows.
    pub fn of(reference: &[u64], current: &[u64], effects: DesignEffects) -> Option<Self> {
        let differences = cumulative_differences(reference, current)?;
        let distance = differences.iter().fold(0.0_f64, |most, d| most.max(d.abs()));
        let n = rows(reference) * effects.weight_before();
        let m = rows(current) * effects.weight_now();
        let p_value = special::kolmogorov_upper_tail(distance * (n * m / (n + m)).sqrt());
        Some(Self { distance, p_value })
    }
}

/// Difference of the cumulative shares at each cut, reference minus current. Positive
/// where values have increased.
pub(crate) fn cumulative_differences(reference: &[u64], current: &[u64]) -> Option<Vec<f64>> {
    let (n, m) = (rows(reference), rows(current));
    if n <= 0.0 || m <= 0.0 {
        return None;
    }
    let (mut before, mut now) = (0.0, 0.0);
    let cuts = reference.len().saturating_sub(1);
    let steps = reference.iter().zip(current).take(cuts);
    Some(
        steps
            .map(|(a, b)| {
                before += *a as f64;
                now += *b as f64;
                before / n - now / m
            })
            .collect(),
    )
}

fn rows(counts: &[u64]) -> f64 {
    counts.iter().map(|count| *count as f64).sum()
}
