//! Coreset: a few weighted points that represent many rows, for algorithms that scale badly.

use ndarray::Array2;

use crate::domain::stats::RandomStream;
use crate::domain::train::clustering::{kmeans, sample};
use crate::domain::train::{EncodedDataset, TrainingError, TrainingProgress};

/// Random stream of the starts.
const STREAM: u64 = 3 << 32;
/// Sample rows per cell.
const ROWS_PER_CELL: usize = 16;
const ITERATIONS: usize = 10;

/// Cells of similar rows, each represented by its mean.
pub(crate) struct CoresetCells {
    /// (`cells`, `n_columns`): the means of their rows.
    pub(crate) centres: Array2<f64>,
    /// Number of rows in each cell, at least one.
    pub(crate) sizes: Vec<f64>,
    /// Cell of each row.
    pub(crate) of_row: Vec<u32>,
}

impl CoresetCells {
    /// One cell per row.
    pub(crate) fn from_rows(data: &EncodedDataset) -> Self {
        let shape = (data.rows(), data.columns());
        Self {
            centres: Array2::from_shape_fn(shape, |(row, column)| f64::from(data.row(row)[column])),
            sizes: vec![1.0; data.rows()],
            of_row: (0..data.rows() as u32).collect(),
        }
    }

    /// At most `count` k-means cells. The start is a uniform sample, so cells are dense where rows
    /// are dense.
    pub(crate) fn from_kmeans(
        data: &EncodedDataset,
        count: usize,
        seed: u64,
        progress: &dyn TrainingProgress,
    ) -> Result<Self, TrainingError> {
        let mut rng = RandomStream::new(seed, STREAM);
        let mut order = sample::draw(data.rows(), count * ROWS_PER_CELL, &mut rng);
        rng.shuffle(&mut order);
        let sample = data.select(&order);
        let starts = count.min(sample.rows());
        let centres = Array2::from_shape_fn((starts, data.columns()), |(row, column)| {
            f64::from(sample.row(row)[column])
        });
        // A few iterations on the sample, then one on all rows.
        let centres = kmeans::run_lloyd(&sample, centres, ITERATIONS, 0.0, progress)?.centres;
        let found = kmeans::run_lloyd(data, centres, 1, 0.0, progress)?;
        // The labels are newer than the centres' last move: each cell needs the mean of the rows
        // that have its label. Cells without rows are dropped.
        let mut sums = Array2::<f64>::zeros(found.centres.dim());
        let mut sizes = vec![0.0; starts];
        for (row, cell) in found.labels.iter().enumerate() {
            sizes[*cell as usize] += 1.0;
            let mut sum = sums.row_mut(*cell as usize);
            sum.iter_mut().zip(data.row(row)).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        let used: Vec<usize> = (0..starts).filter(|cell| sizes[*cell] > 0.0).collect();
        let mut number = vec![0; starts];
        for (new, old) in used.iter().enumerate() {
            number[*old] = new as u32;
        }
        Ok(Self {
            centres: Array2::from_shape_fn((used.len(), data.columns()), |(cell, column)| {
                sums[[used[cell], column]] / sizes[used[cell]]
            }),
            of_row: found.labels.iter().map(|cell| number[*cell as usize]).collect(),
            sizes: used.iter().map(|cell| sizes[*cell]).collect(),
        })
    }
}
