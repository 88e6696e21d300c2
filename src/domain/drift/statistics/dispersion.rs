//! Dispersion of counts: their variance relative to that of independent rows.

/// Variance of the shares of a sequence of blocks, relative to that of independent rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dispersion {
    /// The factor of the contrasts with the largest variance.
    pub factor: f64,
    pub degrees: DispersionDegrees,
}

/// Degrees of freedom of tests whose design effect is an estimated dispersion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DispersionDegrees {
    /// Degrees of freedom of the estimate, for each degree of a test.
    pub of_estimate: f64,
    /// Degrees of freedom that a test has, of one degree for each bin but one.
    pub share: f64,
}

/// Index of dispersion of equally likely cells: the variance of their counts relative to that of
/// a Poisson variable (Fisher 1925, *Statistical Methods for Research Workers*). `None` without
/// counts.
pub fn index_of_dispersion(counts: &[u64]) -> Option<f64> {
    let cells = counts.len() as f64;
    let mean = sum(counts) / cells;
    let squares: f64 = counts.iter().map(|count| (*count as f64 - mean).powi(2)).sum();
    (mean > 0.0).then(|| squares / mean / (cells - 1.0))
}

/// Design effect of the shares of a sequence of blocks, from the differences of successive
/// blocks; `None` if there are no two cells with rows.
pub fn successive_dispersion(blocks: &[Vec<u64>]) -> Option<Dispersion> {
    let width = blocks.first()?.len();
    let totals: Vec<f64> = blocks.iter().map(|block| sum(block)).collect();
    let rows: f64 = totals.iter().sum();
    let counted = |cell: usize| blocks.iter().map(|block| block[cell] as f64).sum::<f64>();
    let cells: Vec<(usize, f64)> =
        (0..width).map(|cell| (cell, counted(cell))).filter(|(_, rows)| *rows > 0.0).collect();
    let free = cells.len() as f64 - 1.0;
    if free < 1.0 {
        return None;
    }
    let steps = blocks.len() as f64 - 1.0;
    let mut covariance = SquareMatrix::new(cells.len());
    let mut before = vec![0.0; cells.len()];
    for (index, (block, total)) in blocks.iter().zip(&totals).enumerate() {
        let mut differences = Vec::with_capacity(cells.len());
        for ((cell, counted), before) in cells.iter().zip(&mut before) {
            let residual = block[*cell] as f64 - counted / rows * total;
            differences.push((residual - *before) / counted.sqrt());
            *before = residual;
        }
        if index > 0 {
            covariance.add_square(&differences);
        }
    }
    // The sum of B blocks varies B times as much as one, and a difference of two twice as much.
    covariance.scale((steps + 1.0) / (2.0 * steps));
    // Degrees of freedom for normal, independent blocks (von Neumann 1941).
    let degrees = 2.0 * steps * steps / (3.0 * steps - 1.0);
    // The eigenvalues of the matrix are the design effects of orthogonal contrasts. Its trace is
    // unbiased; the trace of its square is corrected as that of a Wishart matrix.
    let trace = covariance.trace();
    let squared = covariance.trace_of_square() - trace * trace / degrees;
    let squared = squared * degrees * degrees / ((degrees - 1.0) * (degrees + 2.0));
    if trace <= 0.0 {
        return None;
    }
    let spread = (free * squared / (trace * trace)).clamp(1.0, free);
    Some(Dispersion {
        factor: trace / free * spread,
        degrees: DispersionDegrees { of_estimate: degrees, share: 1.0 / spread },
    })
}

/// A symmetric matrix of a few rows.
struct SquareMatrix {
    width: usize,
    values: Vec<f64>,
}

impl SquareMatrix {
    fn new(width: usize) -> Self {
        Self { width, values: vec![0.0; width * width] }
    }

    /// Adds the product of a vector with itself.
    fn add_square(&mut self, vector: &[f64]) {
        for (row, x) in self.values.chunks_exact_mut(self.width).zip(vector) {
            for (value, y) in row.iter_mut().zip(vector) {
                *value += x * y;
            }
        }
    }

    fn scale(&mut self, factor: f64) {
        self.values.iter_mut().for_each(|value| *value *= factor);
    }

    fn trace(&self) -> f64 {
        self.values.iter().step_by(self.width + 1).sum()
    }

    fn trace_of_square(&self) -> f64 {
        self.values.iter().map(|value| value * value).sum()
    }
}

fn sum(counts: &[u64]) -> f64 {
    counts.iter().map(|count| *count as f64).sum()
}
