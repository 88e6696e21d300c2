//! Bodies of statistics: comparisons of training with now.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::drift::statistics::chi_square::ChiSquareTest;
use crate::domain::drift::statistics::kolmogorov_smirnov::KolmogorovSmirnov;
use crate::domain::drift::statistics::psi::{StabilityBand, StabilityIndex};
use crate::domain::drift::statistics::wasserstein::{BinnedMedian, WassersteinShift};
use crate::domain::drift::statistics::welch::MeanShift;
use crate::domain::drift::{OutlierRateTest, RateComparison, UnseenShare};

/// Population stability index (PSI): a distance of two distributions over bins.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StabilityIndexBody {
    /// The index.
    #[schema(example = 0.31)]
    value: f64,
    /// Mean of the index if nothing has changed, for these numbers of rows.
    #[schema(example = 0.004)]
    by_chance: f64,
    /// Standard deviation of the index if nothing has changed.
    #[schema(example = 0.002)]
    chance_deviation: f64,
    /// `value` less `by_chance`, at least 0: estimate of the index of the populations.
    #[schema(example = 0.306)]
    excess: f64,
    /// 95 % confidence interval of the index of the populations: lower and upper bound.
    #[schema(example = json!([0.28, 0.34]))]
    interval: [f64; 2],
    /// Probability of an index at least this large if nothing has changed.
    #[schema(example = 0.0001)]
    p_value: f64,
    band: StabilityBandBody,
    /// Number of bins compared, after pooling of sparse ones.
    #[schema(example = 10)]
    bins: usize,
}

/// Customary band of a stability index: `stable` below 0.1, `moderate` below 0.25, else `large`.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StabilityBandBody {
    Stable,
    Moderate,
    Large,
}

impl From<&StabilityIndex> for StabilityIndexBody {
    fn from(index: &StabilityIndex) -> Self {
        Self {
            value: index.value,
            by_chance: index.by_chance,
            chance_deviation: index.chance_deviation,
            excess: index.excess,
            interval: index.interval.into(),
            p_value: index.p_value,
            band: match index.band {
                StabilityBand::Stable => StabilityBandBody::Stable,
                StabilityBand::Moderate => StabilityBandBody::Moderate,
                StabilityBand::Large => StabilityBandBody::Large,
            },
            bins: index.bins,
        }
    }
}

/// Pearson's chi-square test of equal distributions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChiSquareTestBody {
    /// The test statistic.
    #[schema(example = 41.2)]
    statistic: f64,
    /// Degrees of freedom.
    #[schema(example = 4)]
    degrees: f64,
    /// Probability of a statistic at least this large if nothing has changed.
    #[schema(example = 0.0001)]
    p_value: f64,
}

impl From<&ChiSquareTest> for ChiSquareTestBody {
    fn from(test: &ChiSquareTest) -> Self {
        Self { statistic: test.statistic, degrees: test.degrees, p_value: test.p_value }
    }
}

/// Kolmogorov-Smirnov test of equal distributions, on the bins of training.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KolmogorovSmirnovTestBody {
    /// Largest difference of the cumulative shares, from 0 to 1.
    #[schema(example = 0.22)]
    distance: f64,
    /// Upper bound of the p-value.
    #[schema(example = 0.0001)]
    p_value: f64,
}

impl From<&KolmogorovSmirnov> for KolmogorovSmirnovTestBody {
    fn from(test: &KolmogorovSmirnov) -> Self {
        Self { distance: test.distance, p_value: test.p_value }
    }
}

/// How far the values of a number moved, in the unit of the feature.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WassersteinShiftBody {
    /// Wasserstein distance of order 1 (earth mover's distance): the mean move of a value.
    #[schema(example = 42.0)]
    distance: f64,
    /// Change of the mean; positive if values have increased.
    #[schema(example = 42.0)]
    shift: f64,
}

impl From<&WassersteinShift> for WassersteinShiftBody {
    fn from(moved: &WassersteinShift) -> Self {
        Self { distance: moved.distance, shift: moved.shift }
    }
}

/// Median of binned values: an interpolated value, or a bound if it lies in an open-ended bin.
/// Exactly one property is present.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(example = json!({ "near": 118.0 }))]
pub(super) struct BinnedMedianBody {
    /// The interpolated median; left out otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 118.0)]
    near: Option<f64>,
    /// Upper bound of the median, which lies in the first bin; left out otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
    /// Lower bound of the median, which lies in the last bin; left out otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    above: Option<f64>,
}

impl From<&BinnedMedian> for BinnedMedianBody {
    fn from(median: &BinnedMedian) -> Self {
        match median {
            BinnedMedian::Near(value) => Self { near: Some(*value), ..Self::default() },
            BinnedMedian::AtMost(bound) => Self { at_most: Some(*bound), ..Self::default() },
            BinnedMedian::Above(bound) => Self { above: Some(*bound), ..Self::default() },
        }
    }
}

/// A share of rows at training and now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RateComparisonBody {
    /// Share at training, from 0 to 1.
    #[schema(example = 0.01)]
    before: f64,
    /// Share now, from 0 to 1.
    #[schema(example = 0.08)]
    now: f64,
    /// Two-sided p-value of Fisher's exact test.
    #[schema(example = 0.0001)]
    p_value: f64,
}

impl From<&RateComparison> for RateComparisonBody {
    fn from(rate: &RateComparison) -> Self {
        Self { before: rate.before, now: rate.now, p_value: rate.p_value }
    }
}

/// Share of known values that no training row had.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UnseenShareBody {
    /// The share that is expected although nothing has changed, because training saw a sample.
    #[schema(example = 0.001)]
    expected: f64,
    /// Share now, from 0 to 1.
    #[schema(example = 0.04)]
    now: f64,
    /// Probability of at least this number of unseen values by chance.
    #[schema(example = 0.0001)]
    p_value: f64,
}

impl From<&UnseenShare> for UnseenShareBody {
    fn from(share: &UnseenShare) -> Self {
        Self { expected: share.expected, now: share.now, p_value: share.p_value }
    }
}

/// Rate of outliers, compared with the promised rate.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OutlierRateBody {
    /// The promised rate, `scoring.outlier_alpha`.
    #[schema(example = 0.01)]
    promised: f64,
    /// Rate now, from 0 to 1.
    #[schema(example = 0.03)]
    now: f64,
    /// Probability of at least this number of outliers by chance.
    #[schema(example = 0.0001)]
    p_value: f64,
}

impl From<&OutlierRateTest> for OutlierRateBody {
    fn from(test: &OutlierRateTest) -> Self {
        Self { promised: test.promised, now: test.now, p_value: test.p_value }
    }
}

/// Shift of a mean.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MeanShiftBody {
    /// The shift in standard deviations at training; positive for an increase.
    #[schema(example = 0.4)]
    d: f64,
    /// p-value of Welch's test.
    #[schema(example = 0.0001)]
    p_value: f64,
}

impl From<&MeanShift> for MeanShiftBody {
    fn from(shift: &MeanShift) -> Self {
        Self { d: shift.d, p_value: shift.p_value }
    }
}
