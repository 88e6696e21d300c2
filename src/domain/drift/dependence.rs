//! Dependence of scored rows: design effects, by which a number of rows is divided before a test.
//!
//! The tests assume independent rows, but rows of one customer, hour or day are correlated. The
//! *design effect* of a window is the variance of a share in it relative to that of as many
//! independent rows; the number of rows divided by it is the *effective sample size* (Kish 1965,
//! *Survey Sampling*). Two causes are estimated from the counts:
//!
//! - *Customers.* Rows are counted in buckets by a hash of their customer. If each customer had
//!   one row, the counts would vary as a Poisson variable; their index of dispersion estimates
//!   the rows of a customer, weighted by rows. Rows of one customer are taken to be equal.
//! - *Time.* The counts of consecutive blocks of hours differ by more than sampling explains. The
//!   differences of successive blocks are used (von Neumann 1941; Wolter 2007, *Introduction to
//!   Variance Estimation*, section 8.2): unlike deviations from the mean they barely grow when the
//!   level changes once, so a drift does not hide itself. Longer blocks find longer memory
//!   (Flyvbjerg and Petersen 1989, *Error estimates on averages of correlated data*); the largest
//!   estimate counts.
//!
//! Dependence rarely affects all bins alike: a warm hour moves the mean, and hardly the tails. So
//! the tests have fewer degrees of freedom, by the second-order correction of Rao and Scott (1981,
//! *The analysis of categorical data from complex sample surveys*). The test statistic has an F
//! instead of a chi-square distribution (Thomas and Rao 1987, *Small-sample comparisons of level
//! and power for simple goodness-of-fit statistics under cluster sampling*), because the design
//! effect is itself an estimate.

use crate::domain::drift::statistics::dispersion::{
    Dispersion, DispersionDegrees, index_of_dispersion, successive_dispersion,
};
use crate::domain::drift::window::{DriftWindow, WindowLayout, WindowLengthError, WindowView};
use crate::domain::stats::special;

/// Lengths of the blocks in hours. None is a part of a day longer than four hours: blocks of
/// night and day differ without any dependence.
const BLOCK_HOURS: [i64; 7] = [1, 2, 4, 24, 48, 96, 192];

/// Hours before the end of a window from which its dependence over time is estimated: with four
/// weeks, days can be compared with days.
pub const DEPENDENCE_HOURS: u32 = 28 * 24;

/// Least number of blocks for an estimate.
const MINIMUM_BLOCKS: usize = 12;

/// The design effects of one quantity, by which the tests divide the numbers of rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DesignEffects {
    /// Of the window; at least 1.
    pub now: f64,
    /// Of the training rows, in which each customer has one row; at least 1.
    pub before: f64,
    /// `None`: the design effect does not come from time, and is the same for all bins.
    pub(crate) over_time: Option<DispersionDegrees>,
}

/// The design effects of every quantity of a window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WindowDependence {
    /// In the order of the baseline's features.
    pub(crate) features: Vec<FeatureDependence>,
    pub(crate) outputs: OutputDependence,
}

/// The design effects of one feature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeatureDependence {
    pub values: DesignEffects,
    pub missing: DesignEffects,
    pub unseen: DesignEffects,
}

/// The design effects of the model's output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutputDependence {
    pub segments: DesignEffects,
    pub unassigned: DesignEffects,
    pub distances: DesignEffects,
    pub outliers: DesignEffects,
    pub p_values: DesignEffects,
}

/// A window to check.
#[derive(Debug, Clone, Copy)]
pub struct ObservedWindow<'a> {
    pub counts: &'a DriftWindow,
    /// `None`: the dependence over time is unknown.
    pub over_time: Option<OverTime<'a>>,
}

/// The dependence over time of the rows of a window.
#[derive(Debug, Clone, Copy)]
pub struct OverTime<'a> {
    pub dependence: &'a TimeDependence,
    /// Length of the window. Longer blocks do not affect it.
    pub window_hours: u32,
}

/// The dispersion of every quantity over time, estimated once for all windows of a model.
#[derive(Debug, Clone, Default)]
pub struct TimeDependence(Vec<BlockDispersions>);

/// The dispersions between blocks of one length.
#[derive(Debug, Clone)]
struct BlockDispersions {
    hours: i64,
    /// In the order of [`Quantity::all`].
    dispersions: Vec<Option<Dispersion>>,
}

/// The counts of one hour.
#[derive(Debug, Clone, Copy)]
pub struct HourCounts<'a> {
    /// Hours since 1970.
    pub hour: i64,
    pub window: &'a DriftWindow,
}

/// A quantity whose rows may depend on one another; features by their index in the baseline.
#[derive(Clone, Copy)]
enum Quantity {
    Values(usize),
    Missing(usize),
    Unseen(usize),
    Segments,
    Unassigned,
    Distances,
    Outliers,
    PValues,
}

impl<'a> From<&'a DriftWindow> for ObservedWindow<'a> {
    fn from(counts: &'a DriftWindow) -> Self {
        Self { counts, over_time: None }
    }
}

impl DesignEffects {
    /// Every row counts in full.
    pub const INDEPENDENT: Self = Self { now: 1.0, before: 1.0, over_time: None };

    fn new(by_customer: f64, over_time: Option<Dispersion>) -> Self {
        let by_customer = by_customer.max(1.0);
        match over_time {
            // Both estimates contain the correlation of rows of one customer in one hour, so the
            // larger of them applies, not their product.
            Some(Dispersion { factor, degrees }) if factor > by_customer => Self {
                now: factor,
                // The training rows vary over time too, but have one row per customer.
                before: factor / by_customer,
                over_time: Some(degrees),
            },
            _ => Self { now: by_customer, ..Self::INDEPENDENT },
        }
    }

    /// The weight of a row of the window in a test.
    pub(crate) fn weight_now(&self) -> f64 {
        1.0 / self.now
    }

    /// The weight of a training row in a test.
    pub(crate) fn weight_before(&self) -> f64 {
        1.0 / self.before
    }

    /// Effective sample size of `rows` of the window.
    pub fn effective_sample_size(&self, rows: u64) -> f64 {
        rows as f64 * self.weight_now()
    }

    /// Probability of a statistic of at least `x` that has a chi-square distribution with
    /// `degrees` if the design effect is known.
    pub(crate) fn chi_square_upper_tail(&self, x: f64, degrees: f64) -> f64 {
        match self.over_time {
            None => special::chi_square_upper_tail(x, degrees),
            Some(time) => {
                let degrees = self.effective_degrees(degrees);
                special::f_upper_tail(x / degrees, degrees, degrees * time.of_estimate)
            }
        }
    }

    /// The degrees of freedom of a test that has `degrees` with independent rows.
    pub(crate) fn effective_degrees(&self, degrees: f64) -> f64 {
        self.over_time.map_or(degrees, |time| (degrees * time.share).max(1.0))
    }
}

impl FeatureDependence {
    pub(crate) const INDEPENDENT: Self = Self {
        values: DesignEffects::INDEPENDENT,
        missing: DesignEffects::INDEPENDENT,
        unseen: DesignEffects::INDEPENDENT,
    };
}

impl Quantity {
    fn all(features: usize) -> impl Iterator<Item = Self> {
        let of_features =
            (0..features).flat_map(|at| [Self::Values(at), Self::Missing(at), Self::Unseen(at)]);
        let outputs =
            [Self::Segments, Self::Unassigned, Self::Distances, Self::Outliers, Self::PValues];
        of_features.chain(outputs)
    }

    /// The place in [`Self::all`].
    fn index(self, features: usize) -> usize {
        match self {
            Self::Values(feature) => 3 * feature,
            Self::Missing(feature) => 3 * feature + 1,
            Self::Unseen(feature) => 3 * feature + 2,
            Self::Segments => 3 * features,
            Self::Unassigned => 3 * features + 1,
            Self::Distances => 3 * features + 2,
            Self::Outliers => 3 * features + 3,
            Self::PValues => 3 * features + 4,
        }
    }

    /// Counts of the cells over which the rows are distributed.
    fn cells(self, view: WindowView<'_>) -> Vec<u64> {
        let part_of = |part: u64, all: u64| vec![part, all.saturating_sub(part)];
        match self {
            Self::Values(feature) => view.feature(feature).bins.to_vec(),
            Self::Missing(feature) => {
                let counts = view.feature(feature);
                vec![counts.missing, counts.known()]
            }
            Self::Unseen(feature) => {
                let counts = view.feature(feature);
                part_of(counts.unseen, counts.known())
            }
            Self::Segments => view.segments().to_vec(),
            Self::Unassigned => vec![view.unassigned(), sum(view.segments())],
            Self::Distances => view.distances().to_vec(),
            Self::Outliers => part_of(view.outliers(), view.scored()),
            Self::PValues => view.p_values().to_vec(),
        }
    }
}

impl TimeDependence {
    /// Estimates the dependence from `hours`, in ascending order; several may be of one hour.
    /// Fails if one has another layout.
    pub fn of(layout: &WindowLayout, hours: &[HourCounts<'_>]) -> Result<Self, WindowLengthError> {
        let mut lengths = Vec::new();
        for length in BLOCK_HOURS {
            let blocks = blocks(layout, hours, length)?;
            // Longer blocks are fewer.
            if blocks.len() < MINIMUM_BLOCKS {
                break;
            }
            let mut dispersions = Vec::new();
            for quantity in Quantity::all(layout.feature_count()) {
                let mut counts = Vec::with_capacity(blocks.len());
                for block in &blocks {
                    counts.push(quantity.cells(layout.view(block)?));
                }
                dispersions.push(successive_dispersion(&counts));
            }
            lengths.push(BlockDispersions { hours: length, dispersions });
        }
        Ok(Self(lengths))
    }

    /// The largest dispersion between blocks that are no longer than `hours`.
    fn largest(&self, index: usize, hours: u32) -> Option<Dispersion> {
        let lengths = self.0.iter().filter(|blocks| blocks.hours <= i64::from(hours));
        let dispersions = lengths.filter_map(|blocks| *blocks.dispersions.get(index)?);
        dispersions.max_by(|one, other| one.factor.total_cmp(&other.factor))
    }
}

impl WindowDependence {
    /// The dependence of the rows of a window.
    pub(crate) fn of(
        layout: &WindowLayout,
        window: WindowView<'_>,
        over_time: Option<OverTime<'_>>,
    ) -> Self {
        let by_customer = rows_per_customer(window.customers(), window.scored());
        let features = layout.feature_count();
        let effects = |quantity: Quantity| {
            let over_time = over_time.and_then(|OverTime { dependence, window_hours }| {
                dependence.largest(quantity.index(features), window_hours)
            });
            DesignEffects::new(by_customer, over_time)
        };
        let of_feature = |feature| FeatureDependence {
            values: effects(Quantity::Values(feature)),
            missing: effects(Quantity::Missing(feature)),
            unseen: effects(Quantity::Unseen(feature)),
        };
        Self {
            features: (0..features).map(of_feature).collect(),
            outputs: OutputDependence {
                segments: effects(Quantity::Segments),
                unassigned: effects(Quantity::Unassigned),
                distances: effects(Quantity::Distances),
                outliers: effects(Quantity::Outliers),
                p_values: effects(Quantity::PValues),
            },
        }
    }
}

/// Sums of the hours by block.
fn blocks(
    layout: &WindowLayout,
    hours: &[HourCounts<'_>],
    length: i64,
) -> Result<Vec<DriftWindow>, WindowLengthError> {
    let block_of = |hour: &HourCounts<'_>| hour.hour.div_euclid(length);
    let mut blocks = Vec::new();
    for block in hours.chunk_by(|one, next| block_of(one) == block_of(next)) {
        let mut sum = layout.empty();
        for hour in block {
            sum.merge(hour.window)?;
        }
        blocks.push(sum);
    }
    Ok(blocks)
}

/// Mean rows of a customer, weighted by rows, from the rows in each bucket of customers. Rows of
/// unknown customers count once.
fn rows_per_customer(buckets: &[u64], scored: u64) -> f64 {
    let Some(rows_of_one) = index_of_dispersion(buckets) else { return 1.0 };
    let known = sum(buckets) as f64;
    let unknown = (scored as f64 - known).max(0.0);
    (rows_of_one * known + unknown) / (known + unknown)
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
}
