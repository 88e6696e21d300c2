//! Spearman's rank correlation.

use crate::domain::stats;

/// Spearman's rank correlation of two columns of equal length, with mean ranks for ties; `None` if a
/// column is constant or has fewer than two values.
pub fn rank_correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let (a, b) = (mean_ranks(a), mean_ranks(b));
    let (mean_a, mean_b) = (stats::mean(&a), stats::mean(&b));
    let (mut product, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(&b) {
        let (a, b) = (a - mean_a, b - mean_b);
        product += a * b;
        square_a += a * a;
        square_b += b * b;
    }
    let correlation = product / (square_a * square_b).sqrt();
    correlation.is_finite().then_some(correlation)
}

/// Ranks from 1; equal values have the mean of their ranks.
fn mean_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 1;
    for equal in order.chunk_by(|a, b| values[*a].total_cmp(&values[*b]).is_eq()) {
        let mean = first as f64 + (equal.len() - 1) as f64 / 2.0;
        for place in equal {
            ranks[*place] = mean;
        }
        first += equal.len();
    }
    ranks
}
