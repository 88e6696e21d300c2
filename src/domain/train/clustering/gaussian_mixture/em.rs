//! Expectation and maximisation steps of a Gaussian mixture, as one pass over the rows.
//!
//! Rows are processed in blocks, column by column, so the inner loops run over adjacent numbers
//! and compile to vector instructions. Every sum is taken about the component's mean of the
//! previous step: differences are small, and no digits are lost to cancellation.

use std::ops::Range;

use ndarray::{Array1, Array2};

use crate::domain::stats::symmetric;
use crate::domain::train::EncodedDataset;

/// Rows of a block, and rows for which a density is computed at a time.
const BLOCK: usize = 64;
const LANES: usize = 16;
/// Sums of products computed side by side and added in a fixed order.
const SUMS: usize = 8;

/// ln 2π
const LN_TAU: f64 = 1.837_877_066_409_345_3;

/// Covariances of the components.
#[derive(Debug, Clone, PartialEq)]
pub enum ComponentCovariances {
    /// Variances, (`components`, `n_columns`).
    Diagonal(Array2<f64>),
    /// One covariance matrix per component.
    Full(Vec<Array2<f64>>),
}

/// Parameters of a Gaussian mixture.
#[derive(Debug, Clone, PartialEq)]
pub struct MixtureParameters {
    /// Mixing weight of each component; they add up to 1.
    pub mixing_weights: Vec<f64>,
    /// (`components`, `n_columns`)
    pub means: Array2<f64>,
    pub covariances: ComponentCovariances,
}

/// Sufficient statistics of a step: sums weighted by the responsibilities r, about the means of
/// the mixture that they were computed with.
pub(crate) struct SufficientStatistics {
    /// Natural logarithm of the density of all rows.
    pub(crate) log_likelihood: f64,
    /// Expected number of rows of each component.
    pub(crate) counts: Vec<f64>,
    /// Σ r (x − mean), (`components`, `n_columns`)
    pub(crate) firsts: Array2<f64>,
    /// Σ r (x − mean)², (`components`, `n_columns`), or the lower triangle of
    /// Σ r (x − mean)(x − mean)ᵀ row by row.
    pub(crate) seconds: Array2<f64>,
}

impl SufficientStatistics {
    pub(crate) fn zero(mixture: &MixtureParameters) -> Self {
        let (components, columns) = mixture.means.dim();
        let products = match mixture.covariances {
            ComponentCovariances::Diagonal(_) => columns,
            ComponentCovariances::Full(_) => columns * (columns + 1) / 2,
        };
        Self {
            log_likelihood: 0.0,
            counts: vec![0.0; components],
            firsts: Array2::zeros((components, columns)),
            seconds: Array2::zeros((components, products)),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.log_likelihood += other.log_likelihood;
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.firsts += &other.firsts;
        self.seconds += &other.seconds;
    }

    /// Maximisation step: the most likely mixture given these sums; `floor` is added to each
    /// variance. A component without rows does not move.
    pub(crate) fn maximise(&self, before: &MixtureParameters, floor: f64) -> MixtureParameters {
        // As in scikit-learn: never divides by zero.
        let counts: Array1<f64> =
            self.counts.iter().map(|count| count + 10.0 * f64::EPSILON).collect();
        // The sums are about the old means: the covariance is the mean product minus the product
        // of the shifts.
        let shift = &self.firsts / &counts.view().insert_axis(ndarray::Axis(1));
        let seconds = &self.seconds / &counts.view().insert_axis(ndarray::Axis(1));
        let spread = match before.covariances {
            ComponentCovariances::Diagonal(_) => {
                let variances = seconds - &shift * &shift;
                ComponentCovariances::Diagonal(variances.mapv(|variance| variance.max(0.0) + floor))
            }
            ComponentCovariances::Full(_) => {
                let mut covariances = Vec::with_capacity(counts.len());
                for (packed, shift) in seconds.rows().into_iter().zip(shift.rows()) {
                    let shape = (shift.len(), shift.len());
                    covariances.push(Array2::from_shape_fn(shape, |(i, j)| {
                        let (low, high) = (i.min(j), i.max(j));
                        packed[high * (high + 1) / 2 + low] - shift[i] * shift[j]
                            + if i == j { floor } else { 0.0 }
                    }));
                }
                ComponentCovariances::Full(covariances)
            }
        };
        let total = counts.sum();
        MixtureParameters {
            mixing_weights: counts.iter().map(|count| count / total).collect(),
            means: &before.means + &shift,
            covariances: spread,
        }
    }
}

/// A mixture prepared for evaluation.
pub(crate) struct MixtureDensity<'a> {
    mixture: &'a MixtureParameters,
    /// Logarithm of share and normalisation of each component.
    constants: Vec<f64>,
    /// Inverse variances, or the inverses of the Cholesky factors with their lower triangles row
    /// by row; (`components`, …).
    scales: Array2<f64>,
}

impl<'a> MixtureDensity<'a> {
    /// `None` when a covariance is not positive definite.
    pub(crate) fn prepare(mixture: &'a MixtureParameters) -> Option<Self> {
        let (components, columns) = mixture.means.dim();
        let mut constants: Vec<f64> = mixture
            .mixing_weights
            .iter()
            .map(|share| share.ln() - 0.5 * columns as f64 * LN_TAU)
            .collect();
        let scales = match &mixture.covariances {
            ComponentCovariances::Diagonal(variances) => {
                for (constant, variances) in constants.iter_mut().zip(variances.rows()) {
                    *constant -= 0.5 * variances.iter().map(|variance| variance.ln()).sum::<f64>();
                }
                variances.mapv(f64::recip)
            }
            ComponentCovariances::Full(covariances) => {
                let mut packed = Vec::with_capacity(components * columns * (columns + 1) / 2);
                for (constant, covariance) in constants.iter_mut().zip(covariances) {
                    let inverse = symmetric::invert_lower_triangular(&symmetric::cholesky_factor(
                        covariance,
                    )?);
                    *constant += inverse.diag().iter().map(|scale| scale.ln()).sum::<f64>();
                    packed.extend(
                        (0..columns)
                            .flat_map(|i| (0..=i).map(move |j| (i, j)))
                            .map(|at| inverse[at]),
                    );
                }
                Array2::from_shape_vec((components, packed.len() / components), packed).ok()?
            }
        };
        let finite = constants.iter().chain(&scales).all(|number| number.is_finite());
        finite.then_some(Self { mixture, constants, scales })
    }

    /// ln(share × density) of each component for the rows of `block`.
    fn log_densities(&self, block: &RowBlock, logs: &mut [[f64; BLOCK]]) {
        for (component, logs) in logs.iter_mut().enumerate() {
            let mean = self.mixture.means.row(component);
            let scales = self.scales.row(component);
            let (Some(mean), Some(scales)) = (mean.as_slice(), scales.as_slice()) else { continue };
            // One tile at a time: its sums stay in registers over all columns.
            for (tile, logs) in logs.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                let distances = match self.mixture.covariances {
                    ComponentCovariances::Diagonal(_) => block.scaled_squares(tile, mean, scales),
                    ComponentCovariances::Full(_) => block.mahalanobis(tile, mean, scales),
                };
                for (log, distance) in logs.iter_mut().zip(distances) {
                    *log = self.constants[component] - 0.5 * distance;
                }
            }
        }
    }

    /// Expectation step: the statistics of `rows`.
    pub(crate) fn accumulate(
        &self,
        data: &EncodedDataset,
        rows: Range<usize>,
    ) -> SufficientStatistics {
        let mut sums = SufficientStatistics::zero(self.mixture);
        let mut logs = vec![[0.0; BLOCK]; self.constants.len()];
        let mut block = RowBlock::new(data.columns());
        for first in rows.clone().step_by(BLOCK) {
            data.pause();
            let count = block.load(data, first..(first + BLOCK).min(rows.end));
            self.log_densities(&block, &mut logs);
            sums.log_likelihood += to_responsibilities(&mut logs)[..count].iter().sum::<f64>();
            // Lanes past the last row contain old values: they must not count.
            for responsibilities in &mut logs {
                responsibilities[count..].fill(0.0);
            }
            self.add(&mut block, &logs, &mut sums);
        }
        sums
    }

    /// Most likely component of each of `rows`, of equal ones the first, and the total
    /// log-likelihood.
    pub(crate) fn label_rows(&self, data: &EncodedDataset, rows: Range<usize>) -> (Vec<u32>, f64) {
        let mut labels = Vec::with_capacity(rows.len());
        let mut logs = vec![[0.0; BLOCK]; self.constants.len()];
        let mut block = RowBlock::new(data.columns());
        let mut log_likelihood = 0.0;
        for first in rows.clone().step_by(BLOCK) {
            data.pause();
            let count = block.load(data, first..(first + BLOCK).min(rows.end));
            self.log_densities(&block, &mut logs);
            labels.extend((0..count).map(|row| {
                let best =
                    // Reversed, because `max_by` returns the last maximum: ties go to the first.
                    logs.iter().enumerate().rev().max_by(|a, b| a.1[row].total_cmp(&b.1[row]));
                best.map_or(0, |(component, _)| component as u32)
            }));
            log_likelihood += to_responsibilities(&mut logs)[..count].iter().sum::<f64>();
        }
        (labels, log_likelihood)
    }

    /// Adds the rows of `block` to each component, weighted by responsibility.
    fn add(
        &self,
        block: &mut RowBlock,
        responsibilities: &[[f64; BLOCK]],
        sums: &mut SufficientStatistics,
    ) {
        for (component, shares) in responsibilities.iter().enumerate() {
            let count = dot_product(shares, &[1.0; BLOCK]);
            // Most components have no weight in most blocks.
            if count == 0.0 {
                continue;
            }
            sums.counts[component] += count;
            block.subtract_mean(self.mixture.means.row(component).as_slice().unwrap_or_default());
            let (mut firsts, mut seconds) =
                (sums.firsts.row_mut(component), sums.seconds.row_mut(component));
            let mut place = 0;
            for (i, differences) in block.differences.iter().enumerate() {
                let shared: [f64; BLOCK] =
                    std::array::from_fn(|row| shares[row] * differences[row]);
                firsts[i] += dot_product(shares, differences);
                let partners = match self.mixture.covariances {
                    ComponentCovariances::Diagonal(_) => i..i + 1,
                    ComponentCovariances::Full(_) => 0..i + 1,
                };
                for other in &block.differences[partners] {
                    seconds[place] += dot_product(&shared, other);
                    place += 1;
                }
            }
        }
    }
}

/// Statistics of a hard partition: each row belongs to the component of its label.
pub(crate) fn statistics_of_partition(
    data: &EncodedDataset,
    labels: &[u32],
    about: &MixtureParameters,
) -> SufficientStatistics {
    let partial = data.map_chunks(|rows| {
        let mut sums = SufficientStatistics::zero(about);
        for row in rows {
            let component = labels[row] as usize;
            let mean = about.means.row(component);
            let differences: Vec<f64> =
                data.row(row).iter().zip(mean).map(|(x, m)| f64::from(*x) - m).collect();
            sums.counts[component] += 1.0;
            let mut seconds = sums.seconds.row_mut(component);
            let mut place = 0;
            for (i, difference) in differences.iter().enumerate() {
                sums.firsts[[component, i]] += difference;
                let partners = match about.covariances {
                    ComponentCovariances::Diagonal(_) => i..i + 1,
                    ComponentCovariances::Full(_) => 0..i + 1,
                };
                for other in &differences[partners] {
                    seconds[place] += difference * other;
                    place += 1;
                }
            }
        }
        sums
    });
    let mut sums = SufficientStatistics::zero(about);
    for part in &partial {
        sums.add(part);
    }
    sums
}

/// A block of rows, column by column.
struct RowBlock {
    values: Vec<[f64; BLOCK]>,
    /// `values` minus a mean.
    differences: Vec<[f64; BLOCK]>,
}

impl RowBlock {
    fn new(columns: usize) -> Self {
        let empty = vec![[0.0; BLOCK]; columns];
        Self { values: empty.clone(), differences: empty }
    }

    /// Loads `rows`; returns their number. Lanes beyond it retain old values.
    fn load(&mut self, data: &EncodedDataset, rows: Range<usize>) -> usize {
        let count = rows.len();
        for (place, row) in rows.enumerate() {
            for (column, x) in self.values.iter_mut().zip(data.row(row)) {
                column[place] = f64::from(*x);
            }
        }
        count
    }

    fn subtract_mean(&mut self, mean: &[f64]) {
        for ((differences, values), mean) in self.differences.iter_mut().zip(&self.values).zip(mean)
        {
            for (difference, x) in differences.iter_mut().zip(values) {
                *difference = x - mean;
            }
        }
    }

    fn tile(&self, column: usize, tile: usize) -> &[f64; LANES] {
        &self.values[column].as_chunks().0[tile]
    }

    /// Squared distance in units of the variances: Σ (x − mean)² × scale, per lane.
    fn scaled_squares(&self, tile: usize, mean: &[f64], scales: &[f64]) -> [f64; LANES] {
        let mut sums = [0.0; LANES];
        for (column, (mean, scale)) in mean.iter().zip(scales).enumerate() {
            for (sum, x) in sums.iter_mut().zip(self.tile(column, tile)) {
                *sum += (x - mean) * (x - mean) * scale;
            }
        }
        sums
    }

    /// Squared Mahalanobis distance |L (x − mean)|² per lane; L is lower triangular, row by row.
    fn mahalanobis(&self, tile: usize, mean: &[f64], mut triangle: &[f64]) -> [f64; LANES] {
        let mut sums = [0.0; LANES];
        for i in 0..mean.len() {
            let (row, rest) = triangle.split_at(i + 1);
            triangle = rest;
            let mut image = [0.0; LANES];
            for (column, (scale, mean)) in row.iter().zip(mean).enumerate() {
                for (y, x) in image.iter_mut().zip(self.tile(column, tile)) {
                    *y += (x - mean) * scale;
                }
            }
            for (sum, y) in sums.iter_mut().zip(image) {
                *sum += y * y;
            }
        }
        sums
    }
}

/// Turns log densities into responsibilities, which add up to 1 per row (log-sum-exp); returns
/// the log density of each row.
fn to_responsibilities(logs: &mut [[f64; BLOCK]]) -> [f64; BLOCK] {
    // The largest exponent becomes 0: no overflow, and at least one term of 1.
    let mut most = [f64::NEG_INFINITY; BLOCK];
    for component in &*logs {
        for (most, log) in most.iter_mut().zip(component) {
            *most = if log > most { *log } else { *most };
        }
    }
    let mut totals = [0.0; BLOCK];
    for component in &mut *logs {
        for ((log, most), total) in component.iter_mut().zip(&most).zip(&mut totals) {
            *log = (*log - most).exp();
            *total += *log;
        }
    }
    for component in logs {
        for (share, total) in component.iter_mut().zip(&totals) {
            *share /= total;
        }
    }
    std::array::from_fn(|row| most[row] + totals[row].ln())
}

fn dot_product(a: &[f64; BLOCK], b: &[f64; BLOCK]) -> f64 {
    let mut sums = [0.0; SUMS];
    // Independent sums do not wait for each other; the fixed order keeps results equal.
    for (a, b) in a.as_chunks::<SUMS>().0.iter().zip(b.as_chunks::<SUMS>().0) {
        for lane in 0..SUMS {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}
