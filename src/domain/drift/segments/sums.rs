//! Sufficient statistics of the rows within each segment: their number, and per encoded
//! column, and for the distance to the segment, the sums of deviations from the training
//! mean and of their squares.
//!
//! The unit of a deviation is the standard deviation of the segment's training rows. If
//! these are all equal, it is the standard deviation over the rows of all segments. If
//! those are equal too, a number is left out, and the unit of a category is its encoded
//! weight. Sums of several hours can be added.

use crate::domain::drift::window::WindowLengthError;
use crate::domain::encode::ColumnRole;
use crate::domain::model::{Model, ScoringScratch, SegmentMoments, SegmentScore};

/// Deviations are clipped to this size, so that sums stay finite.
const FARTHEST: f64 = 1e6;

/// Units and origins of the deviations: per segment one scale per column, and last one for
/// the distance.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviationUnits {
    width: usize,
    scales: Vec<DeviationScale>,
}

/// Training mean of a column in a segment, and the unit of deviations from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct DeviationScale {
    pub(crate) mean: f64,
    /// The standard deviation of the segment's training rows.
    pub(crate) deviation: f64,
    /// Unit of a deviation; 0: the column is left out.
    pub(crate) unit: f64,
}

/// Sums over the rows of each segment, in the units of a [`DeviationUnits`].
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentSums {
    /// Rows by segment.
    pub rows: Vec<u64>,
    /// Sums by segment and column, in the order of the yardstick.
    pub sums: Vec<f64>,
    pub squares: Vec<f64>,
}

impl DeviationUnits {
    /// `None` for a model trained before segment moments were stored.
    pub fn of(model: &Model) -> Option<Self> {
        let reference = model.drift_baseline();
        let first = reference.within.first()?;
        let width = first.means.len() + 1;
        let everybody = everybody(&reference.within, &reference.segments);
        let weights = model.encoder().columns().iter().map(|column| match column.role {
            ColumnRole::Category(_) | ColumnRole::Other => {
                model.encoder().category_weight(column.feature)
            }
            ColumnRole::Value | ColumnRole::Missing => None,
        });
        let last_resort: Vec<f64> =
            weights.map(|weight| weight.unwrap_or(0.0).abs()).chain([0.0]).collect();
        let scales = reference.within.iter().flat_map(|within| {
            let columns = within.moments().zip(&everybody).zip(&last_resort);
            columns.map(|(((mean, deviation), everybody), last)| {
                let units = [deviation, *everybody, *last];
                let unit = units.into_iter().find(|unit| *unit > 0.0).unwrap_or(0.0);
                DeviationScale { mean, deviation, unit }
            })
        });
        Some(Self { width, scales: scales.collect() })
    }

    /// Number of scales of a segment: its columns, and one for the distance.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn segments(&self) -> usize {
        self.scales.len() / self.width
    }

    /// Sums over no rows.
    pub fn empty(&self) -> SegmentSums {
        let zero = vec![0.0; self.scales.len()];
        SegmentSums { rows: vec![0; self.segments()], sums: zero.clone(), squares: zero }
    }

    /// Adds the row that `model` has just scored with `scratch`; this yardstick must be of
    /// that model. The encoded row is read from `scratch`, so nothing is encoded twice.
    pub fn count_row(
        &self,
        inside: &mut SegmentSums,
        model: &Model,
        score: &SegmentScore,
        scratch: &ScoringScratch,
    ) {
        let Some(segment) = score.segment() else { return };
        let first = segment * self.width;
        let Some(scales) = self.scales.get(first..first + self.width) else { return };
        inside.rows[segment] += 1;
        let row = model.encoded(scratch).iter().copied().chain([score.distance]);
        for (column, (scale, x)) in scales.iter().zip(row).enumerate() {
            if scale.unit > 0.0 {
                let away = (f64::from(x) - scale.mean) / scale.unit;
                let away = away.clamp(-FARTHEST, FARTHEST);
                inside.sums[first + column] += away;
                inside.squares[first + column] += away * away;
            }
        }
    }

    pub(crate) fn scales(&self, segment: usize) -> &[DeviationScale] {
        &self.scales[segment * self.width..(segment + 1) * self.width]
    }

    pub(crate) fn check(&self, inside: &SegmentSums) -> Result<(), WindowLengthError> {
        fits(self.segments(), inside.rows.len())?;
        fits(self.scales.len(), inside.sums.len())?;
        fits(self.scales.len(), inside.squares.len())
    }
}

impl SegmentSums {
    /// Adds the sums of another hour.
    pub fn merge(&mut self, other: &Self) -> Result<(), WindowLengthError> {
        fits(self.rows.len(), other.rows.len())?;
        fits(self.sums.len(), other.sums.len())?;
        fits(self.squares.len(), other.squares.len())?;
        for (mine, theirs) in self.rows.iter_mut().zip(&other.rows) {
            *mine = mine.saturating_add(*theirs);
        }
        let sums = self.sums.iter_mut().chain(&mut self.squares);
        for (mine, theirs) in sums.zip(other.sums.iter().chain(&other.squares)) {
            *mine += theirs;
        }
        Ok(())
    }
}

/// Pooled standard deviation of each column over the rows of all segments: the variance
/// within segments plus the variance between their means.
fn everybody(within: &[SegmentMoments], sizes: &[u64]) -> Vec<f64> {
    let segments = within.iter().zip(sizes);
    let rows: f64 = segments.clone().map(|(_, size)| *size as f64).sum::<f64>().max(1.0);
    let width = within.first().map_or(0, |within| within.means.len() + 1);
    let mut means = vec![0.0; width];
    for (within, size) in segments.clone() {
        for (mean, (here, _)) in means.iter_mut().zip(within.moments()) {
            *mean += here * *size as f64 / rows;
        }
    }
    let mut variances = vec![0.0; width];
    for (within, size) in segments {
        let size = *size as f64;
        let columns = within.moments().zip(&means);
        for (variance, ((here, deviation), mean)) in variances.iter_mut().zip(columns) {
            *variance += (deviation * deviation + (here - mean) * (here - mean)) * size / rows;
        }
    }
    variances.into_iter().map(f64::sqrt).collect()
}

fn fits(expected: usize, found: usize) -> Result<(), WindowLengthError> {
    if expected == found { Ok(()) } else { Err(WindowLengthError { expected, found }) }
}
