//! Optional last steps of an encoding: a linear map (principal components, whitening) and
//! normalisation to unit length, which turns the Euclidean distance into one of angles.

use serde::{Deserialize, Serialize};

use crate::domain::encode::{MAX_COLUMNS, MAX_ENCODED};

/// Partial sums computed side by side and added in a fixed order.
const LANES: usize = 8;
/// Bound of the matrix entries, so that no sum of products overflows `f32`.
const MAX_ENTRY: f32 = 1e9;

/// The map y = M (x − centre), then y / |y| where normalisation is on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearProjection {
    /// Subtracted first: one number per column of the encoder.
    centre: Vec<f32>,
    /// M, row by row, each row as long as `centre`; empty: the identity map.
    matrix: Vec<f32>,
    /// Scales every vector except 0 to length 1.
    #[serde(rename = "unit")]
    unit_length_only: bool,
}

impl LinearProjection {
    /// Checked constructor: `None` unless `matrix` consists of one or more whole rows as long as
    /// `centre`, with all entries in range.
    pub fn new(centre: Vec<f32>, matrix: Vec<f32>, unit: bool) -> Option<Self> {
        let projection = Self { centre, matrix, unit_length_only: unit };
        (!projection.matrix.is_empty() && projection.check(projection.centre.len()).is_ok())
            .then_some(projection)
    }

    /// Normalisation to unit length only.
    pub fn unit() -> Self {
        Self { centre: Vec::new(), matrix: Vec::new(), unit_length_only: true }
    }

    /// Length of the image of a vector with `columns` numbers.
    pub fn width(&self, columns: usize) -> usize {
        if self.matrix.is_empty() { columns } else { self.matrix.len() / self.centre.len().max(1) }
    }

    /// Writes the image of `vector` into `out`, which is [`Self::width`] long. Never allocates;
    /// every number written is within ±[`MAX_ENCODED`].
    pub fn apply(&self, vector: &[f32], out: &mut [f32]) {
        if self.matrix.is_empty() {
            out.copy_from_slice(vector);
        } else {
            for (y, row) in out.iter_mut().zip(self.rows()) {
                *y =
                    centred_dot_product(row, vector, &self.centre).clamp(-MAX_ENCODED, MAX_ENCODED);
            }
        }
        if self.unit_length_only {
            let length = out.iter().map(|y| f64::from(*y) * f64::from(*y)).sum::<f64>().sqrt();
            if length > 0.0 {
                for y in out {
                    *y = (f64::from(*y) / length) as f32;
                }
            }
        }
    }

    pub(in crate::domain) fn centre(&self) -> &[f32] {
        &self.centre
    }

    /// Rows of the matrix; none for the identity map.
    pub(in crate::domain) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.matrix.chunks_exact(self.centre.len().max(1))
    }

    pub(in crate::domain) fn is_unit(&self) -> bool {
        self.unit_length_only
    }

    /// Validates a deserialised projection for `columns`; the error names the defect.
    pub(in crate::domain) fn check(&self, columns: usize) -> Result<(), &'static str> {
        let whole = if self.matrix.is_empty() {
            self.centre.is_empty() && self.unit_length_only
        } else {
            self.centre.len() == columns
                && self.matrix.len().is_multiple_of(columns)
                && self.matrix.len() / columns <= MAX_COLUMNS
        };
        if !whole {
            return Err("the projection does not fit the encoder");
        }
        // NaN fails both comparisons.
        let within = self.centre.iter().all(|x| x.abs() <= MAX_ENCODED)
            && self.matrix.iter().all(|x| x.abs() <= MAX_ENTRY);
        if within { Ok(()) } else { Err("the projection is out of range") }
    }
}

fn centred_dot_product(row: &[f32], x: &[f32], centre: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let lanes = (row.chunks_exact(LANES), x.chunks_exact(LANES), centre.chunks_exact(LANES));
    let rest = lanes.0.remainder().iter().zip(lanes.1.remainder()).zip(lanes.2.remainder());
    let rest: f32 = rest.map(|((m, x), c)| m * (x - c)).sum();
    for ((m, x), c) in lanes.0.zip(lanes.1).zip(lanes.2) {
        for lane in 0..LANES {
            sums[lane] += m[lane] * (x[lane] - c[lane]);
        }
    }
    sums.iter().sum::<f32>() + rest
}
