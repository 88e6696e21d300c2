//! Population stability index (PSI), with its distribution under the null hypothesis.
//!
//! PSI = Σ (q − p) ln(q / p) over the shares p before and q now. Between two
//! samples of *one* population it is not 0: with n and m rows in B bins it is
//! distributed as about (1/n + 1/m) χ²(B − 1) (Yurdakul 2018, *Statistical Properties of
//! Population Stability Index*). The customary bands 0.1 and 0.25 ignore the number of
//! rows. So the index is reported with its value by chance, a p-value, an interval, and
//! its band.

use serde::Serialize;

use crate::domain::drift::statistics::contingency_table::Cells;
use crate::domain::stats::special;

/// The 97.5 % quantile of the normal distribution, for two-sided 95 % intervals.
const NORMAL_95: f64 = 1.959_963_984_540_054;

/// Band of the index by the two customary bounds (Siddiqi 2006, *Credit Risk Scorecards*),
/// regardless of the number of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// Below 0.1.
    Stable,
    /// Below 0.25.
    Moderate,
    Large,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Psi {
    pub value: f64,
    /// Mean under the null hypothesis, for these numbers of rows.
    pub by_chance: f64,
    /// Standard deviation under the null hypothesis.
    pub chance_deviation: f64,
    /// `value` less `by_chance`, at least 0: estimate of the index of the populations.
    pub excess: f64,
    /// 95 % confidence interval of the index of the populations.
    pub interval: (f64, f64),
    /// Probability of an index at least this large under the null hypothesis.
    pub p_value: f64,
    pub band: Band,
    /// Number of bins compared, after pooling of sparse ones.
    pub bins: usize,
}

impl Psi {
    pub fn of(cells: &Cells) -> Self {
        let (n, m) = (cells.reference, cells.current);
        let value: f64 = cells.pairs.iter().map(|pair| term(*pair, n, m)).sum();

        // Second-order expansion of the mean; the first order is (B − 1) (1/n + 1/m).
        let both = n + m;
        let inverse: f64 = cells.pairs.iter().map(|(a, b)| both / (a + b)).sum();
        let bins = cells.pairs.len() as f64;
        let by_chance = cells.degrees() * (1.0 / n + 1.0 / m)
            + 0.5 * (1.0 / (n * n) + 1.0 / (m * m)) * (inverse - bins);
        let scale = by_chance / cells.degrees();
        let chance_deviation = scale * (2.0 * cells.degrees()).sqrt();

        let excess = (value - by_chance).max(0.0);
        let deviation = (delta_variance(cells) + chance_deviation * chance_deviation).sqrt();
        let end = |side: f64| (value - by_chance + side * NORMAL_95 * deviation).max(0.0);
        Self {
            value,
            by_chance,
            chance_deviation,
            excess,
            interval: (end(-1.0), end(1.0)),
            p_value: special::chi_square_above(value / scale, cells.degrees()),
            band: Band::of(value),
            bins: cells.pairs.len(),
        }
    }
}

impl Band {
    pub fn of(psi: f64) -> Self {
        match psi {
            _ if psi < 0.1 => Self::Stable,
            _ if psi < 0.25 => Self::Moderate,
            _ => Self::Large,
        }
    }
}

/// Shares of one bin. An empty side counts as half a row, because ln 0 is infinite.
fn shares((a, b): (f64, f64), n: f64, m: f64) -> (f64, f64) {
    (a.max(0.5) / n, b.max(0.5) / m)
}

fn term(pair: (f64, f64), n: f64, m: f64) -> f64 {
    if pair == (0.0, 0.0) {
        return 0.0;
    }
    let (p, q) = shares(pair, n, m);
    (q - p) * (q / p).ln()
}

/// Delta-method variance of the index around a value that is not 0: the slope of the index
/// in each share, times the multinomial variance of the shares.
fn delta_variance(cells: &Cells) -> f64 {
    let (n, m) = (cells.reference, cells.current);
    let variance = |slope: &dyn Fn(f64, f64) -> (f64, f64), rows: f64| {
        let (mut mean, mut square) = (0.0, 0.0);
        for pair in &cells.pairs {
            let (p, q) = shares(*pair, n, m);
            let (weight, slope) = slope(p, q);
            mean += weight * slope;
            square += weight * slope * slope;
        }
        (square - mean * mean).max(0.0) / rows
    };
    variance(&|p, q| (p, (p / q).ln() + 1.0 - q / p), n)
        + variance(&|p, q| (q, (q / p).ln() + 1.0 - p / q), m)
}
