//! Comparison of category frequencies: Pearson's chi-square test and the Jensen-Shannon
//! distance.

use serde::Serialize;

use crate::domain::drift::statistics::contingency_table::{ContingencyTable, shares};

/// Pearson's chi-square test of homogeneity: both samples come from one population.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChiSquareTest {
    pub statistic: f64,
    pub degrees: f64,
    pub p_value: f64,
}

impl ChiSquareTest {
    pub fn of(cells: &ContingencyTable) -> Self {
        let (n, m) = (cells.reference, cells.current);
        let statistic = cells
            .cells
            .iter()
            .map(|cell| {
                let difference = cell.reference / n - cell.current / m;
                n * m * difference * difference / cell.rows()
            })
            .sum();
        let degrees = cells.effective_degrees();
        let p_value = cells.chi_square_upper_tail(statistic);
        Self { statistic, degrees, p_value }
    }
}

/// Jensen-Shannon distance with base-2 logarithms, as SciPy's `jensenshannon(base=2)`: 0
/// for equal shares, 1 for samples with no category in common. `None` if a side has no
/// rows.
pub fn jensen_shannon(reference: &[u64], current: &[u64]) -> Option<f64> {
    if [reference, current].iter().any(|counts| counts.iter().all(|count| *count == 0)) {
        return None;
    }
    let divergence: f64 = shares(reference)
        .into_iter()
        .zip(shares(current))
        .map(|(p, q)| {
            let middle = f64::midpoint(p, q);
            relative_entropy_term(p, middle) + relative_entropy_term(q, middle)
        })
        .sum();
    Some((divergence / 2.0).clamp(0.0, 1.0).sqrt())
}

/// One term of the Kullback-Leibler divergence in bits; its limit at 0 is 0.
fn relative_entropy_term(share: f64, middle: f64) -> f64 {
    if share > 0.0 { share * (share / middle).log2() } else { 0.0 }
}
