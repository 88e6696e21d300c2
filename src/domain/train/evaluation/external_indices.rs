//! External indices: agreement of two labellings of the same rows.
//!
//! All rows without a label (noise) count as one group of their own, as label −1 does in
//! scikit-learn; the values equal those of scikit-learn.

use std::collections::BTreeMap;

/// Segment of a row; `None` is noise.
pub type SegmentLabel = Option<u32>;

/// Contingency table of two labellings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelContingency {
    /// (label of the first, label of the second) → rows.
    pub pairs: BTreeMap<(SegmentLabel, SegmentLabel), u64>,
    pub first: BTreeMap<SegmentLabel, u64>,
    pub second: BTreeMap<SegmentLabel, u64>,
    pub rows: u64,
}

impl LabelContingency {
    /// Counts pairs of labels, row by row; the longer labelling is truncated.
    pub fn new(first: &[SegmentLabel], second: &[SegmentLabel]) -> Self {
        let mut pairs: BTreeMap<(SegmentLabel, SegmentLabel), u64> = BTreeMap::new();
        for pair in first.iter().copied().zip(second.iter().copied()) {
            *pairs.entry(pair).or_default() += 1;
        }
        let mut table = Self { pairs, first: BTreeMap::new(), second: BTreeMap::new(), rows: 0 };
        for ((a, b), rows) in &table.pairs {
            *table.first.entry(*a).or_default() += rows;
            *table.second.entry(*b).or_default() += rows;
            table.rows += rows;
        }
        table
    }

    /// Adjusted Rand index (Hubert and Arabie 1985): 0 by chance, 1 for equal partitions; 1 for
    /// at most one row.
    pub fn adjusted_rand(&self) -> f64 {
        let rows = self.rows as f64;
        let both = sum_of_squares(self.pairs.values());
        let in_first = sum_of_squares(self.first.values());
        let in_second = sum_of_squares(self.second.values());
        // Ordered pairs of rows: together in both labellings, in one only, in neither.
        let together = both - rows;
        let only_first = in_first - both;
        let only_second = in_second - both;
        let apart = rows * rows - in_first - in_second + both;
        if only_first == 0.0 && only_second == 0.0 {
            return 1.0;
        }
        2.0 * (together * apart - only_first * only_second)
            / ((together + only_first) * (only_first + apart)
                + (together + only_second) * (only_second + apart))
    }

    /// Jaccard index |A ∩ B| / |A ∪ B| of a group of the first and a group of the second.
    pub(crate) fn jaccard(&self, first: SegmentLabel, second: SegmentLabel) -> f64 {
        let both = self.pairs.get(&(first, second)).copied().unwrap_or(0);
        let in_first = self.first.get(&first).copied().unwrap_or(0);
        let in_second = self.second.get(&second).copied().unwrap_or(0);
        let either = in_first + in_second - both;
        if either == 0 { 0.0 } else { both as f64 / either as f64 }
    }

    /// Largest Jaccard index of a group of the first with any group of the second, noise
    /// excluded.
    pub(crate) fn best_jaccard(&self, first: u32) -> f64 {
        let others = self.second.keys().filter(|label| label.is_some());
        others.map(|second| self.jaccard(Some(first), *second)).fold(0.0, f64::max)
    }
}

fn sum_of_squares<'a>(counts: impl Iterator<Item = &'a u64>) -> f64 {
    counts.map(|count| *count as f64 * *count as f64).sum()
}

/// [`LabelContingency::adjusted_rand`] of two labellings.
pub fn adjusted_rand(first: &[SegmentLabel], second: &[SegmentLabel]) -> f64 {
    LabelContingency::new(first, second).adjusted_rand()
}
