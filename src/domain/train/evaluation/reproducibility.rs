//! Reproducibility: whether two halves of the rows, clustered separately, agree.
//!
//! In the manner of prediction strength (Tibshirani and Walther 2005, *Cluster validation by
//! prediction strength*) and of the stability of Lange et al. (2004, *Stability-based validation
//! of clustering solutions*). The segments of one half are carried over to the other half, by the
//! nearest row, and compared with those that the other half has found itself. What is compared
//! are labels, so that partitions of every shape, with any number of segments, are judged alike.

use rayon::prelude::*;

use crate::domain::stats::RandomStream;
use crate::domain::train::evaluation::external_indices::{SegmentLabel, adjusted_rand};
use crate::domain::train::evaluation::internal_indices::SampleEstimate;
use crate::domain::train::evaluation::row_distances::RowDistances;
use crate::domain::train::{EncodedDataset, PrototypeClusters, TrainingError};

/// Random divisions of the same rows into halves.
#[derive(Debug, Clone)]
pub struct RowHalves {
    divisions: Vec<RowDivision>,
}

/// One division into halves.
#[derive(Debug, Clone)]
struct RowDivision {
    first: Vec<usize>,
    second: Vec<usize>,
    /// For each row of the second half, the place in `first` of its nearest row.
    nearest: Vec<usize>,
}

impl RowHalves {
    /// Draws `divisions` divisions.
    pub fn draw(distances: &RowDistances, divisions: usize, rng: &mut RandomStream) -> Self {
        let mut drawn = Vec::with_capacity(divisions);
        for _ in 0..divisions {
            let mut order: Vec<usize> = (0..distances.rows()).collect();
            rng.shuffle(&mut order);
            let mut second = order.split_off(distances.rows() / 2);
            let mut first = order;
            // In row order, the order in which algorithms expect them.
            first.sort_unstable();
            second.sort_unstable();
            let nearest: Vec<usize> = second
                .par_iter()
                .filter_map(|row| distances.nearest(*row, &first))
                .filter_map(|row| first.binary_search(&row).ok())
                .collect();
            drawn.push(RowDivision { first, second, nearest });
        }
        Self { divisions: drawn }
    }

    /// Mean adjusted Rand index over the divisions, with its standard error. A half without two
    /// segments, or that `fit` cannot cluster, agrees with nothing: 0.
    pub fn reproducibility(
        &self,
        data: &EncodedDataset,
        fit: impl Fn(&EncodedDataset) -> Result<PrototypeClusters, TrainingError> + Sync,
    ) -> Result<SampleEstimate, TrainingError> {
        let agreements: Vec<f64> = self
            .divisions
            .par_iter()
            .map(|division| {
                let first = fit_half(data, &division.first, &fit)?;
                let second = fit_half(data, &division.second, &fit)?;
                Ok(match (first, second) {
                    (Some(first), Some(second)) => {
                        let carried: Vec<SegmentLabel> =
                            division.nearest.iter().map(|place| first[*place]).collect();
                        adjusted_rand(&carried, &second)
                    }
                    _ => 0.0,
                })
            })
            .collect::<Result<_, TrainingError>>()?;
        let count = agreements.len().max(1) as f64;
        let value = agreements.iter().sum::<f64>() / count;
        let squares: f64 = agreements.iter().map(|x| (x - value) * (x - value)).sum();
        let variance = squares / (count - 1.0).max(1.0);
        Ok(SampleEstimate { value, error: (variance / count).sqrt(), rows: data.rows() })
    }
}

/// Labels of a half clustered alone; `None` without two segments.
fn fit_half(
    data: &EncodedDataset,
    rows: &[usize],
    fit: &(impl Fn(&EncodedDataset) -> Result<PrototypeClusters, TrainingError> + Sync),
) -> Result<Option<Vec<SegmentLabel>>, TrainingError> {
    match fit(&data.select(rows)) {
        Ok(clusters) => {
            let found = clusters.labels.iter().flatten().max().map_or(0, |last| last + 1);
            Ok((found > 1).then_some(clusters.labels))
        }
        Err(error) if error.concerns_one_candidate() => Ok(None),
        Err(error) => Err(error),
    }
}
