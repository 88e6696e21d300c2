//! Histogram of scored rows, on the bins fixed at training.
//!
//! A window is one flat array of counts per model. Windows of any replicas and hours can
//! be added, and a check costs the same after a million scores as after a thousand. The
//! [`WindowLayout`] defines the meaning of each count.

use std::ops::Range;

use crate::domain::drift::customer_bucket::{CUSTOMER_BUCKETS, CustomerBucket};
use crate::domain::feature::{FeatureRow, FeatureValue};
use crate::domain::model::{
    DriftBaseline, FeatureBaseline, FeatureBins, Model, P_VALUE_BINS, SegmentScore, p_value_bin,
};

/// Equal bins of confidence, from 0 to 1; a value on a bound belongs to the bin above it.
pub(crate) const CONFIDENCE_BINS: usize = 20;

/// Counts of a feature before its bins: missing and unseen values.
const UNBINNED: usize = 2;

/// Position of each count in a window.
///
/// In order: for each feature of the drift baseline the missing values, the unseen values,
/// then its bins (named categories, then all others); the segments; the unassigned; the bins of
/// distances; the outliers; the bins of p-values; the bins of confidence; the rows of known
/// customers by bucket; all scored rows.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowLayout {
    baseline_window: DriftBaseline,
    /// Held-out rows in each bin of p-values.
    calibration: Vec<u64>,
    /// By feature of the baseline: position of its count of missing values.
    starts: Vec<usize>,
    /// Position of the first segment's count.
    segments: usize,
}

/// A scored row to count. `row` and `score` must belong to the layout's model.
#[derive(Debug, Clone, Copy)]
pub struct CountedRow<'a> {
    pub row: &'a FeatureRow,
    pub score: &'a SegmentScore,
    pub is_outlier: bool,
    /// `None`: the customer is unknown.
    pub customer: Option<CustomerBucket>,
}

/// Counts in the order of a [`WindowLayout`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftWindow {
    pub counts: Vec<u64>,
}

/// Error: counts of another layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are {found} counts; the model's layout has {expected}")]
pub struct WindowLengthError {
    pub expected: usize,
    pub found: usize,
}

/// A window with named access to its counts.
#[derive(Debug, Clone, Copy)]
pub struct WindowView<'a> {
    layout: &'a WindowLayout,
    counts: &'a [u64],
}

/// The counts of one feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureCounts<'a> {
    pub missing: u64,
    /// Known values that no training row had; they are counted in their bins too.
    pub unseen: u64,
    /// In the order of the baseline's bins; for categories the last counts all others.
    pub bins: &'a [u64],
}

impl WindowLayout {
    pub fn of(model: &Model) -> Self {
        let baseline_window = model.drift_baseline().clone();
        let mut next = 0;
        let starts = baseline_window
            .features
            .iter()
            .map(|feature| {
                let start = next;
                next += UNBINNED + bins(&feature.bins);
                start
            })
            .collect();
        let calibration = model.drift_baseline().p_values.clone();
        Self { baseline_window, calibration, starts, segments: next }
    }

    /// Number of counts in a window.
    pub fn width(&self) -> usize {
        self.scored() + 1
    }

    /// A window without scores.
    pub fn empty(&self) -> DriftWindow {
        DriftWindow { counts: vec![0; self.width()] }
    }

    /// Calls `each` with every position that one row increments. Never allocates.
    pub(crate) fn for_each_position(&self, counted: &CountedRow<'_>, mut each: impl FnMut(usize)) {
        let CountedRow { row, score, is_outlier, customer } = *counted;
        for (feature, start) in self.baseline_window.features.iter().zip(&self.starts) {
            let Some(value) = row.0.get(feature.feature) else {
                each(*start);
                continue;
            };
            let Some(BinnedValue { bin, is_unseen }) = BinnedValue::of(feature, value) else {
                each(*start);
                continue;
            };
            if is_unseen {
                each(start + 1);
            }
            each(start + UNBINNED + bin);
        }
        each(score.segment().map_or(self.unassigned(), |segment| self.segments + segment));
        each(
            self.distances().start + self.baseline_window.distances.bin(f64::from(score.distance)),
        );
        if is_outlier {
            each(self.outliers());
        }
        each(self.p_values().start + p_value_bin(score.p_value, P_VALUE_BINS));
        let confidence = (score.confidence() * CONFIDENCE_BINS as f32) as usize;
        each(self.confidences().start + confidence.min(CONFIDENCE_BINS - 1));
        if let Some(bucket) = customer {
            each(self.customers().start + bucket.index());
        }
        each(self.scored());
    }

    /// Adds one row to a window.
    pub fn count_row(&self, window: &mut DriftWindow, counted: &CountedRow<'_>) {
        self.for_each_position(counted, |position| window.counts[position] += 1);
    }

    /// Named access to the counts of `window`.
    pub fn view<'a>(
        &'a self,
        window: &'a DriftWindow,
    ) -> Result<WindowView<'a>, WindowLengthError> {
        let (expected, found) = (self.width(), window.counts.len());
        if expected != found {
            return Err(WindowLengthError { expected, found });
        }
        Ok(WindowView { layout: self, counts: &window.counts })
    }

    /// The training rows as a window; distances and p-values are of the held-out rows.
    /// Outliers are 0, because the expected rate is alpha and not a count. Confidences and
    /// customers are 0, because training does not count them.
    pub fn reference(&self) -> DriftWindow {
        let mut counts = Vec::with_capacity(self.width());
        for feature in &self.baseline_window.features {
            counts.extend([feature.missing, 0]);
            match &feature.bins {
                FeatureBins::Numbers(bins) => counts.extend(&bins.counts),
                FeatureBins::Categories(categories) => {
                    counts.extend(categories.counts.iter().map(|(_, count)| count));
                    counts.push(categories.other);
                }
            }
        }
        counts.extend(&self.baseline_window.segments);
        counts.push(self.baseline_window.unassigned);
        counts.extend(&self.baseline_window.distances.counts);
        counts.push(0);
        counts.extend(&self.calibration);
        counts.extend([0; CONFIDENCE_BINS]);
        counts.extend([0; CUSTOMER_BUCKETS]);
        counts.push(self.baseline_window.rows);
        DriftWindow { counts }
    }

    fn feature(&self, index: usize) -> (usize, Range<usize>) {
        let missing = self.starts[index];
        let end = self.starts.get(index + 1).copied().unwrap_or(self.segments);
        (missing, missing + UNBINNED..end)
    }

    fn segments(&self) -> Range<usize> {
        self.segments..self.unassigned()
    }

    fn unassigned(&self) -> usize {
        self.segments + self.baseline_window.segments.len()
    }

    fn distances(&self) -> Range<usize> {
        let start = self.unassigned() + 1;
        start..start + self.baseline_window.distances.counts.len()
    }

    fn outliers(&self) -> usize {
        self.distances().end
    }

    /// Positions of the bins of p-values.
    pub(crate) fn p_values(&self) -> Range<usize> {
        let start = self.outliers() + 1;
        start..start + P_VALUE_BINS
    }

    fn confidences(&self) -> Range<usize> {
        let start = self.p_values().end;
        start..start + CONFIDENCE_BINS
    }

    fn customers(&self) -> Range<usize> {
        let start = self.confidences().end;
        start..start + CUSTOMER_BUCKETS
    }

    fn scored(&self) -> usize {
        self.customers().end
    }

    /// Number of features of the baseline.
    pub(crate) fn feature_count(&self) -> usize {
        self.starts.len()
    }
}

impl DriftWindow {
    /// Adds the counts of another replica or hour.
    pub fn merge(&mut self, other: &Self) -> Result<(), WindowLengthError> {
        let (expected, found) = (self.counts.len(), other.counts.len());
        if expected != found {
            return Err(WindowLengthError { expected, found });
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        Ok(())
    }
}

impl<'a> CountedRow<'a> {
    /// A row of an unknown customer.
    pub fn new(row: &'a FeatureRow, score: &'a SegmentScore, is_outlier: bool) -> Self {
        Self { row, score, is_outlier, customer: None }
    }
}

impl FeatureCounts<'_> {
    /// Rows with a known value.
    pub(crate) fn known(&self) -> u64 {
        self.bins.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }
}

impl<'a> WindowView<'a> {
    /// The counts of a feature, by its index in the baseline's features.
    pub fn feature(&self, index: usize) -> FeatureCounts<'a> {
        let (missing, bins) = self.layout.feature(index);
        FeatureCounts {
            missing: self.counts[missing],
            unseen: self.counts[missing + 1],
            bins: &self.counts[bins],
        }
    }

    pub fn segments(&self) -> &'a [u64] {
        &self.counts[self.layout.segments()]
    }

    pub fn unassigned(&self) -> u64 {
        self.counts[self.layout.unassigned()]
    }

    pub fn distances(&self) -> &'a [u64] {
        &self.counts[self.layout.distances()]
    }

    pub(crate) fn outliers(&self) -> u64 {
        self.counts[self.layout.outliers()]
    }

    pub fn p_values(&self) -> &'a [u64] {
        &self.counts[self.layout.p_values()]
    }

    pub(crate) fn confidences(&self) -> &'a [u64] {
        &self.counts[self.layout.confidences()]
    }

    /// Rows of known customers, by bucket.
    pub(crate) fn customers(&self) -> &'a [u64] {
        &self.counts[self.layout.customers()]
    }

    /// Number of scored rows.
    pub fn scored(&self) -> u64 {
        self.counts[self.layout.scored()]
    }
}

/// The bin of a known value.
struct BinnedValue {
    bin: usize,
    /// No training row had the value.
    is_unseen: bool,
}

impl BinnedValue {
    /// `None` for a missing value.
    fn of(feature: &FeatureBaseline, value: &FeatureValue) -> Option<Self> {
        let seen = feature.seen.as_ref();
        Some(match (value, &feature.bins) {
            (FeatureValue::Missing, _) => return None,
            (FeatureValue::Number(number), FeatureBins::Numbers(bins)) => Self {
                bin: bins.bin(*number),
                is_unseen: seen.is_some_and(|seen| seen.is_new_number(*number)),
            },
            (FeatureValue::Category(category), FeatureBins::Categories(categories)) => {
                match categories.index_of(category) {
                    Some(bin) => Self { bin, is_unseen: false },
                    None => Self {
                        bin: categories.counts.len(),
                        is_unseen: seen.is_some_and(|seen| seen.is_new_category(category)),
                    },
                }
            }
            // A category meets numeric bins only if training had no value at all of the
            // feature: then there is a single bin.
            (FeatureValue::Category(_), FeatureBins::Numbers(_)) => {
                Self { bin: 0, is_unseen: seen.is_some() }
            }
            (FeatureValue::Number(_), FeatureBins::Categories(categories)) => {
                Self { bin: categories.counts.len(), is_unseen: seen.is_some() }
            }
        })
    }
}

fn bins(bins: &FeatureBins) -> usize {
    match bins {
        FeatureBins::Numbers(bins) => bins.counts.len(),
        FeatureBins::Categories(categories) => categories.counts.len() + 1,
    }
}
