//! Poisson regression of counts in a table on one regressor, with an effect of each row and column.
//!
//! Pseudo-maximum likelihood: the mean must be right, the variance may be any (Santos Silva and Tenreyro
//! (2006), *The log of gravity*). Iteratively reweighted least squares, in which the effects are removed by
//! weighted demeaning (Correia, Guimarães and Zylkin (2020), *Fast Poisson estimation with
//! high-dimensional fixed effects*). Standard errors are clustered by row.

use crate::domain::stats::student::student_tail_quantile;

const MAX_STEPS: usize = 50;
/// Relative change of the deviance at which the fit has converged.
const CONVERGED: f64 = 1e-10;
const MAX_SWEEPS: usize = 1_000;
/// Largest mean of a row or column, relative to the largest value, that counts as demeaned.
const DEMEANED: f64 = 1e-11;

/// A count in one cell of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PanelCell {
    pub row: usize,
    pub column: usize,
    pub regressor: f64,
    /// Not negative.
    pub count: f64,
}

/// The coefficient of the regressor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PanelSlope {
    pub value: f64,
    /// Clustered by row, times the square root of rows / (rows − 1).
    pub standard_error: f64,
    /// 95 % confidence interval by Student's t with rows − 1 degrees of freedom.
    pub interval: [f64; 2],
    /// Spread of the regressor within rows and columns: the standard deviation of what their effects do
    /// not explain, weighted by the expected counts.
    pub regressor_spread: f64,
    /// Rows and columns that take part.
    pub rows: usize,
    pub columns: usize,
    /// Sum of the counts.
    pub total: f64,
}

/// Why the coefficient is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownSlope {
    TooFewRows,
    /// The effects of rows and columns explain the regressor, or the maximum is at infinity.
    Undetermined,
}

/// The cells as columns. Rows and columns are numbered without gaps.
#[derive(Debug, Default)]
struct Panel {
    row_of: Vec<usize>,
    column_of: Vec<usize>,
    rows: usize,
    columns: usize,
    regressor: Vec<f64>,
    counts: Vec<f64>,
}

/// Fits the regression. Rows and columns without a count, and rows with one cell, say nothing and are left
/// out; `least_rows` must remain.
pub fn fit(cells: &[PanelCell], least_rows: usize) -> Result<PanelSlope, UnknownSlope> {
    let panel = Panel::new(cells);
    if panel.rows < least_rows.max(2) {
        return Err(UnknownSlope::TooFewRows);
    }
    let mean = panel.counts.iter().sum::<f64>() / panel.counts.len() as f64;
    let mut expected: Vec<f64> = panel.counts.iter().map(|count| (count + mean) / 2.0).collect();
    let mut deviance = f64::INFINITY;
    for _ in 0..MAX_STEPS {
        let ln_expected: Vec<f64> = expected.iter().map(|expected| expected.ln()).collect();
        let mut working = Vec::with_capacity(expected.len());
        for ((count, expected), ln) in panel.counts.iter().zip(&expected).zip(&ln_expected) {
            working.push(ln + (count - expected) / expected);
        }
        let regressor = panel.demean(&panel.regressor, &expected);
        let residual = panel.demean(&working, &expected);
        let slope = weighted_dot(&expected, &regressor, &residual)
            / weighted_dot(&expected, &regressor, &regressor);
        if !slope.is_finite() {
            return Err(UnknownSlope::Undetermined);
        }
        for (i, expected) in expected.iter_mut().enumerate() {
            *expected = (working[i] - residual[i] + slope * regressor[i]).exp();
        }
        let before = std::mem::replace(&mut deviance, panel.deviance(&expected));
        if !deviance.is_finite() {
            return Err(UnknownSlope::Undetermined);
        }
        if (before - deviance).abs() <= CONVERGED * (deviance + mean) {
            return panel.slope(slope, &expected);
        }
    }
    Err(UnknownSlope::Undetermined)
}

impl Panel {
    fn new(cells: &[PanelCell]) -> Self {
        let mut cells = cells.to_vec();
        loop {
            let before = cells.len();
            let rows = Totals::of(&cells, |cell| cell.row);
            let columns = Totals::of(&cells, |cell| cell.column);
            cells.retain(|cell| {
                rows.counts[cell.row] > 0.0
                    && columns.counts[cell.column] > 0.0
                    && rows.cells[cell.row] > 1
            });
            if cells.len() == before {
                break;
            }
        }
        let (mut row_numbers, mut column_numbers) = (Numbering::default(), Numbering::default());
        let mut panel = Self::default();
        for cell in cells {
            panel.row_of.push(row_numbers.number(cell.row));
            panel.column_of.push(column_numbers.number(cell.column));
            panel.regressor.push(cell.regressor);
            panel.counts.push(cell.count);
        }
        Self { rows: row_numbers.next, columns: column_numbers.next, ..panel }
    }

    /// The values without the weighted means of rows and columns, by alternating projections.
    fn demean(&self, values: &[f64], weights: &[f64]) -> Vec<f64> {
        let mut values = values.to_vec();
        let largest = values.iter().fold(f64::MIN_POSITIVE, |largest, x| x.abs().max(largest));
        for _ in 0..MAX_SWEEPS {
            let by_row = subtract_means(&mut values, weights, &self.row_of, self.rows);
            let by_column = subtract_means(&mut values, weights, &self.column_of, self.columns);
            if by_row.max(by_column) <= DEMEANED * largest {
                break;
            }
        }
        values
    }

    fn deviance(&self, expected: &[f64]) -> f64 {
        let terms = self.counts.iter().zip(expected).map(|(count, expected)| {
            let ln_term = if *count > 0.0 { count * (count / expected).ln() } else { 0.0 };
            2.0 * (ln_term - (count - expected))
        });
        terms.sum()
    }

    fn slope(&self, value: f64, expected: &[f64]) -> Result<PanelSlope, UnknownSlope> {
        let regressor = self.demean(&self.regressor, expected);
        let information = weighted_dot(expected, &regressor, &regressor);
        let mut scores = vec![0.0; self.rows];
        for (i, row) in self.row_of.iter().enumerate() {
            scores[*row] += regressor[i] * (self.counts[i] - expected[i]);
        }
        let rows = self.rows as f64;
        let squares: f64 = scores.iter().map(|score| score * score).sum();
        let standard_error = (squares * rows / (rows - 1.0)).sqrt() / information;
        if !standard_error.is_finite() {
            return Err(UnknownSlope::Undetermined);
        }
        let half = student_tail_quantile(0.05, rows - 1.0) * standard_error;
        Ok(PanelSlope {
            value,
            standard_error,
            interval: [value - half, value + half],
            regressor_spread: (information / expected.iter().sum::<f64>()).sqrt(),
            rows: self.rows,
            columns: self.columns,
            total: self.counts.iter().sum(),
        })
    }
}

/// Sums of counts and numbers of cells, by row or column.
struct Totals {
    counts: Vec<f64>,
    cells: Vec<usize>,
}

impl Totals {
    fn of(cells: &[PanelCell], part: fn(&PanelCell) -> usize) -> Self {
        let parts = cells.iter().map(part).max().map_or(0, |last| last + 1);
        let mut totals = Self { counts: vec![0.0; parts], cells: vec![0; parts] };
        for cell in cells {
            totals.counts[part(cell)] += cell.count;
            totals.cells[part(cell)] += 1;
        }
        totals
    }
}

/// Numbers from 0 on, in order of appearance.
#[derive(Default)]
struct Numbering {
    numbers: Vec<Option<usize>>,
    next: usize,
}

impl Numbering {
    fn number(&mut self, of: usize) -> usize {
        if self.numbers.len() <= of {
            self.numbers.resize(of + 1, None);
        }
        *self.numbers[of].get_or_insert_with(|| {
            self.next += 1;
            self.next - 1
        })
    }
}

/// Subtracts the weighted mean of each part. Returns the largest absolute one.
fn subtract_means(values: &mut [f64], weights: &[f64], part_of: &[usize], parts: usize) -> f64 {
    let (mut sums, mut totals) = (vec![0.0; parts], vec![0.0; parts]);
    for ((value, weight), part) in values.iter().zip(weights).zip(part_of) {
        sums[*part] += value * weight;
        totals[*part] += weight;
    }
    let mut largest = 0.0_f64;
    for (sum, total) in sums.iter_mut().zip(&totals) {
        *sum /= total;
        largest = largest.max(sum.abs());
    }
    for (value, part) in values.iter_mut().zip(part_of) {
        *value -= sums[*part];
    }
    largest
}

fn weighted_dot(weights: &[f64], a: &[f64], b: &[f64]) -> f64 {
    weights.iter().zip(a).zip(b).map(|((weight, a), b)| weight * a * b).sum()
}
