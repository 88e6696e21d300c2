//! Rows of length 1, between which the Euclidean distance is one of angles:
//! |x − y|² = 2 (1 − cosine).

use ndarray::Array2;

use crate::domain::train::Dataset;

/// Each row divided by its length; a row of zeros stays.
pub fn rows(data: &Dataset) -> Dataset {
    let unit = data.map_chunks(|rows| {
        rows.flat_map(|row| {
            let row = data.row(row);
            let squares = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
            let length = if squares > 0.0 { squares.sqrt() } else { 1.0 };
            row.iter().map(|x| (f64::from(*x) / length) as f32).collect::<Vec<_>>()
        })
        .collect::<Vec<_>>()
    });
    let shape = (data.rows(), data.columns());
    Dataset::new(Array2::from_shape_vec(shape, unit.concat()).unwrap_or_default())
}
