//! Linear maps of the encoded space: y = M (x − centre).

use ndarray::Array2;

use crate::domain::encode::LinearProjection;
use crate::domain::train::EncodedDataset;

/// A linear map fitted to rows.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearMap {
    /// Subtracted first: the means of the columns.
    pub centre: Vec<f64>,
    /// M, (`n_axes`, `n_columns`).
    pub matrix: Array2<f64>,
}

impl LinearMap {
    /// The map in single precision, as serving uses it; `unit` adds normalisation to unit length.
    /// `None` when a number is out of range.
    pub fn projection(&self, unit: bool) -> Option<LinearProjection> {
        let centre = self.centre.iter().map(|x| *x as f32).collect();
        // Iteration is in logical order, which is row by row.
        let matrix = self.matrix.iter().map(|x| *x as f32).collect();
        LinearProjection::new(centre, matrix, unit)
    }
}

/// Column means and covariance matrix (divided by n).
pub(crate) fn covariance(data: &EncodedDataset) -> (Vec<f64>, Array2<f64>) {
    let (means, _) = data.column_moments();
    let columns = data.columns();
    let partial = data.map_chunks(|rows| {
        let mut sums = Array2::<f64>::zeros((columns, columns));
        for row in rows {
            let differences = centred_row(data, row, &means);
            for (i, x) in differences.iter().enumerate() {
                for (sum, y) in sums.row_mut(i).iter_mut().zip(&differences) {
                    *sum += x * y;
                }
            }
        }
        sums
    });
    let mut sums = Array2::<f64>::zeros((columns, columns));
    for part in &partial {
        sums += part;
    }
    (means, sums / data.rows().max(1) as f64)
}

/// A row minus the column means, in double precision.
pub(crate) fn centred_row(data: &EncodedDataset, row: usize, means: &[f64]) -> Vec<f64> {
    data.row(row).iter().zip(means).map(|(x, mean)| f64::from(*x) - mean).collect()
}
