//! Population stability index (PSI), with its distribution under the null hypothesis.
//!
//! PSI = Σ (q − p) ln(q / p) over the shares p before and q now. Between two
//! samples of *one* population it is not 0: with n and m rows in B bins it is
//! distributed as about (1/n + 1/m) χ²(B − 1) (Yurdakul 2018, *Statistical Properties of
//! Population Stability Index*). The customary bands 0.1 and 0.25 ignore the number of
//! rows. So the index is reported with its value by chance, a p-value, an interval, and
//! its band.

use serde::Serialize;

use crate::domain::drift::statistics::contingency_table::{CellCounts, ContingencyTable};
use crate::domain::stats::NORMAL_975;

/// Band of the index by the two customary bounds (Siddiqi 2006, *Credit Risk Scorecards*),
/// regardless of the number of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StabilityBand {
    /// Below 0.1.
    Stable,
    /// Below 0.25.
    Moderate,
    Large,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StabilityIndex {
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
    pub band: StabilityBand,
    /// Number of bins compared, after pooling of sparse ones.
    pub bins: usize,
}

impl StabilityIndex {
    pub fn of(cells: &ContingencyTable) -> Self {
        let (n, m) = (cells.reference, cells.current);
        let value: f64 = cells.cells.iter().map(|cell| BinShares::of(*cell, n, m).term()).sum();

        // Second-order expansion of the mean; the first order is (B − 1) (1/n + 1/m).
        let both = n + m;
        let inverse: f64 = cells.cells.iter().map(|cell| both / cell.rows()).sum();
        let bins = cells.cells.len() as f64;
        let degrees = cells.effective_degrees();
        let by_chance = degrees * (1.0 / n + 1.0 / m)
            + 0.5 * (1.0 / (n * n) + 1.0 / (m * m)) * (inverse - bins) * degrees / (bins - 1.0);
        let scale = by_chance / degrees;
        let chance_deviation = scale * (2.0 * degrees).sqrt();

        let excess = (value - by_chance).max(0.0);
        let deviation = (delta_variance(cells) + chance_deviation * chance_deviation).sqrt();
        let low = (value - by_chance - NORMAL_975 * deviation).max(0.0);
        let high = (value - by_chance + NORMAL_975 * deviation).max(0.0);
        Self {
            value,
            by_chance,
            chance_deviation,
            excess,
            interval: (low, high),
            p_value: cells.chi_square_upper_tail(value / scale),
            band: StabilityBand::of(value),
            bins: cells.cells.len(),
        }
    }
}

impl StabilityBand {
    pub fn of(psi: f64) -> Self {
        match psi {
            _ if psi < 0.1 => Self::Stable,
            _ if psi < 0.25 => Self::Moderate,
            _ => Self::Large,
        }
    }
}

/// Shares of one bin in the reference (p) and in the current sample (q).
#[derive(Clone, Copy)]
struct BinShares {
    p: f64,
    q: f64,
}

impl BinShares {
    /// An empty side counts as half a row, because ln 0 is infinite.
    fn of(cell: CellCounts, n: f64, m: f64) -> Self {
        Self { p: cell.reference.max(0.5) / n, q: cell.current.max(0.5) / m }
    }

    fn term(self) -> f64 {
        (self.q - self.p) * (self.q / self.p).ln()
    }

    /// Derivative of the term with respect to p.
    fn slope_in_p(self) -> f64 {
        (self.p / self.q).ln() + 1.0 - self.q / self.p
    }

    /// Derivative of the term with respect to q.
    fn slope_in_q(self) -> f64 {
        (self.q / self.p).ln() + 1.0 - self.p / self.q
    }
}

/// Delta-method variance of the index around a value that is not 0: the slope of the index
/// in each share, times the multinomial variance of the shares.
fn delta_variance(cells: &ContingencyTable) -> f64 {
    let (n, m) = (cells.reference, cells.current);
    let (mut of_reference, mut of_current) = (SlopeMoments::default(), SlopeMoments::default());
    for cell in &cells.cells {
        let shares = BinShares::of(*cell, n, m);
        of_reference.add(shares.p, shares.slope_in_p());
        of_current.add(shares.q, shares.slope_in_q());
    }
    of_reference.variance() / n + of_current.variance() / m
}

/// Mean and mean square of the slopes, weighted by the shares.
#[derive(Default)]
struct SlopeMoments {
    mean: f64,
    mean_square: f64,
}

impl SlopeMoments {
    fn add(&mut self, share: f64, slope: f64) {
        self.mean += share * slope;
        self.mean_square += share * slope * slope;
    }

    fn variance(&self) -> f64 {
        (self.mean_square - self.mean * self.mean).max(0.0)
    }
}
