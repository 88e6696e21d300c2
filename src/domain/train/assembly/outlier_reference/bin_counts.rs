//! Histograms of the encoded columns: the surprise of each bin, and groups of bins.

use crate::domain::model::OutlierReference;
use crate::domain::model::outlier::bins::BINS;
use crate::domain::model::outlier::dependence_tree::GROUPS;
use crate::domain::train::EncodedDataset;

/// Fitted rows in each bin, column by column.
pub(super) struct BinCounts {
    rows: f64,
    columns: usize,
    counts: Vec<f64>,
}

impl BinCounts {
    /// Counts the rows in the bins of `reference`.
    pub(super) fn of(fitted: &EncodedDataset, reference: &OutlierReference) -> Self {
        let columns = fitted.columns();
        let chunks = fitted.map_chunks(|rows| {
            let mut counts = vec![0_u32; columns * BINS];
            for row in rows {
                for (column, x) in fitted.row_values(row).iter().enumerate() {
                    counts[column * BINS + reference.bin_of(column, *x)] += 1;
                }
            }
            counts
        });
        let mut counts = vec![0.0_f64; columns * BINS];
        for chunk in chunks {
            for (count, more) in counts.iter_mut().zip(chunk) {
                *count += f64::from(more);
            }
        }
        Self { rows: fitted.rows() as f64, columns, counts }
    }

    /// Surprise of each bin.
    pub(super) fn surprise(&self) -> Vec<f32> {
        let bins = (0..self.columns).flat_map(|column| (0..BINS).map(move |bin| (column, bin)));
        bins.map(|(column, bin)| self.surprise_of(column, bin, 0.0)).collect()
    }

    /// Surprise −ln p of a bin, smoothed over its neighbours and never infinite, divided by the
    /// number of columns: the mean over the columns is the sum of these. `without` rows are left
    /// out of the bin.
    pub(super) fn surprise_of(&self, column: usize, bin: usize, without: f64) -> f32 {
        let bins = &self.counts[column * BINS..][..BINS];
        let own = |other: usize| if other == bin { bins[other] - without } else { bins[other] };
        let (before, after) = (own(bin.saturating_sub(1)), own((bin + 1).min(BINS - 1)));
        // Laplace smoothing: one row is added to each bin.
        let all = self.rows - without + BINS as f64;
        let share = (0.25 * before + 0.5 * own(bin) + 0.25 * after + 1.0) / all;
        (-share.ln() / self.columns as f64) as f32
    }

    /// Group of each bin: at most [`GROUPS`] groups a column, of about equal share.
    pub(super) fn groups(&self) -> Vec<u8> {
        self.counts.chunks_exact(BINS).flat_map(|counts| group_bins(counts, self.rows)).collect()
    }
}

/// Divides the bins of one column into groups. A group ends with the bin that completes an equal
/// share of the rows that are left, so that a frequent bin does not starve the groups after it.
fn group_bins(counts: &[f64], rows: f64) -> Vec<u8> {
    let mut groups = Vec::with_capacity(counts.len());
    let (mut group, mut rows_in_group, mut rows_left) = (0_u8, 0.0, rows);
    for count in counts {
        groups.push(group);
        rows_in_group += count;
        let groups_left = GROUPS - usize::from(group);
        let is_full = rows_in_group > 0.0 && rows_in_group * groups_left as f64 >= rows_left;
        if is_full && groups_left > 1 {
            rows_left -= rows_in_group;
            rows_in_group = 0.0;
            group += 1;
        }
    }
    groups
}
