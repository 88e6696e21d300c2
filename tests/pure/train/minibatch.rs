//! Mini-batch k-means comes close to k-means on all rows, with one batch in memory.

use ndarray::Array2;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::clustering::kmeans;
use segmentd::domain::train::clustering::kmeans::minibatch::StreamedCentres;
use segmentd::domain::train::clustering::kmeans::{KmeansSettings, minibatch};
use segmentd::domain::train::{EncodedDataset, TrainingError};

use crate::model::support::{Quiet, normal};

const GROUPS: usize = 9;

/// Rows in nine groups of different sizes, three wide apart.
fn rows(count: usize, seed: u64) -> Array2<f32> {
    let mut rng = RandomStream::new(seed, 0);
    let mut values = Vec::with_capacity(3 * count);
    for _ in 0..count {
        let group = rng.uniform_below(GROUPS).min(rng.uniform_below(GROUPS));
        for column in 0..3 {
            let place = [(group % 3) as f64, (group / 3) as f64, (group % 2) as f64][column];
            values.push((8.0 * place + normal(&mut rng)) as f32);
        }
    }
    Array2::from_shape_vec((count, 3), values).unwrap()
}

fn batches(rows: &Array2<f32>, length: usize) -> impl Iterator<Item = EncodedDataset> {
    rows.axis_chunks_iter(ndarray::Axis(0), length)
        .map(|chunk| EncodedDataset::new(chunk.to_owned()))
}

fn mean_squared(rows: &Array2<f32>, centres: &Array2<f64>) -> f64 {
    let nearest = |row: ndarray::ArrayView1<'_, f32>| {
        let squared = |centre: ndarray::ArrayView1<'_, f64>| -> f64 {
            row.iter().zip(centre).map(|(x, c)| (f64::from(*x) - c).powi(2)).sum()
        };
        centres.rows().into_iter().map(squared).fold(f64::INFINITY, f64::min)
    };
    rows.rows().into_iter().map(nearest).sum::<f64>() / rows.nrows() as f64
}

#[test]
fn one_pass_is_within_a_hundredth_of_all_passes() {
    let rows = rows(120_000, 1);
    let streamed = minibatch::fit(batches(&rows, 5000), GROUPS, 7, &Quiet).unwrap();
    let once = KmeansSettings { starts: Some(1), ..KmeansSettings::default() };
    let whole =
        kmeans::fit_best_start(&EncodedDataset::new(rows.clone()), GROUPS, &once, 0, &Quiet)
            .unwrap();
    let (streamed_to, whole) =
        (mean_squared(&rows, &streamed.centres), whole.partition.inertia / 120_000.0);
    assert!(streamed_to <= 1.01 * whole, "{streamed_to} is more than {whole}");
    assert_eq!(streamed.rows, 120_000);
    assert!(
        (streamed.mean_squared_distance / streamed_to - 1.0).abs() < 0.02,
        "{}",
        streamed.mean_squared_distance
    );
}

/// The first rows are in one region, the others in a distant one too: an empty cluster
/// moves to the rows.
#[test]
fn empty_clusters_move_to_the_rows() {
    let mut rng = RandomStream::new(5, 0);
    let rows = Array2::from_shape_fn((400_000, 1), |(row, _)| {
        let place = if row < 40_000 { row % 4 } else { 100 + 10 * (row % 4) };
        (place as f64 + 0.1 * normal(&mut rng)) as f32
    });
    let streamed = minibatch::fit(batches(&rows, 8000), 6, 1, &Quiet).unwrap();
    let late = rows.slice_axis(ndarray::Axis(0), ndarray::Slice::from(40_000..)).to_owned();
    let off = mean_squared(&late, &streamed.centres);
    assert!(off < 30.0, "rows that came later are {off} from their centres, squared");
}

fn with_threads(threads: usize, rows: &Array2<f32>) -> StreamedCentres {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| minibatch::fit(batches(rows, 7001), GROUPS, 3, &Quiet).unwrap())
}

#[test]
fn the_number_of_threads_does_not_change_the_result() {
    let rows = rows(60_000, 2);
    assert_eq!(with_threads(1, &rows), with_threads(3, &rows));
}

#[test]
fn too_few_different_rows_are_refused() {
    let rows = Array2::from_shape_fn((100, 1), |(row, _)| (row % 2) as f32);
    let refused = minibatch::fit(batches(&rows, 10), 3, 0, &Quiet);
    assert!(matches!(refused, Err(TrainingError::TooFewDistinct { distinct: 2, segments: 3 })));
    let nothing = minibatch::fit(std::iter::empty(), 3, 0, &Quiet);
    assert!(matches!(nothing, Err(TrainingError::TooFewDistinct { distinct: 0, segments: 3 })));
}
