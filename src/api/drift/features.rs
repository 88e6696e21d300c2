//! Bodies of the figures of one feature at training and now.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::drift::statistics::{
    BinnedMedianBody, ChiSquareTestBody, KolmogorovSmirnovTestBody, RateComparisonBody,
    StabilityIndexBody, UnseenShareBody, WassersteinShiftBody,
};
use crate::domain::drift::{
    BinChange, CategoryChange, FeatureFigures, KnownMissingCounts, ValueFigures,
};

/// Figures of one feature at training and now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FeatureDriftBody {
    /// Name of the feature.
    #[schema(example = "spend_365d")]
    feature: Box<str>,
    /// Name for people.
    #[schema(example = "Spend in the last year")]
    title: Box<str>,
    /// Unit of the values; empty if they have none.
    #[schema(example = "EUR")]
    unit: Box<str>,
    /// Owner of the feature.
    #[schema(example = "Payments team")]
    owner: Box<str>,
    /// Whether the model reads the feature; if not, no score depends on it.
    is_read: bool,
    /// Rows at training.
    before: KnownMissingCountsBody,
    /// Rows now.
    now: KnownMissingCountsBody,
    /// Effective sample size of the known values now: the number of independent rows that would
    /// estimate their distribution as precisely. Rows of one customer, hour or day are correlated.
    #[schema(example = 480.5)]
    effective_sample_size: f64,
    /// Stability index of the known values; null if a side has no known value, or all are in one
    /// bin.
    psi: Option<StabilityIndexBody>,
    /// Jensen-Shannon distance of the known values, from 0 to 1; null if a side has none.
    #[schema(example = 0.12)]
    jensen_shannon: Option<f64>,
    /// Share of missing values; null if a side has no rows.
    missing: Option<RateComparisonBody>,
    /// Share of the known values that no training row had; null if the model does not list the
    /// values of training, or without known values.
    unseen: Option<UnseenShareBody>,
    /// Share of the known values that were rare at training; null without such values.
    rare: Option<RateComparisonBody>,
    values: ValueDriftBody,
}

/// Numbers of rows with and without a value.
#[derive(Debug, Serialize, ToSchema)]
struct KnownMissingCountsBody {
    /// Rows with a value.
    #[schema(example = 990)]
    known: u64,
    /// Rows without a value.
    #[schema(example = 10)]
    missing: u64,
}

/// Change of the known values. Exactly one property is present.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "category": {
    "chi_square": { "statistic": 41.2, "degrees": 4, "p_value": 0.0001 },
    "most_changed": { "category": "SE", "before": 0.1, "now": 0.3 },
} }))]
struct ValueDriftBody {
    /// Of a number; left out for a category.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<NumberDriftBody>,
    /// Of a category; left out for a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<CategoryDriftBody>,
}

/// Change of the values of a number.
#[derive(Debug, Serialize, ToSchema)]
struct NumberDriftBody {
    /// Kolmogorov-Smirnov test; null if a side has no rows.
    ks: Option<KolmogorovSmirnovTestBody>,
    /// Distance that the values moved; null if it cannot be computed from the bins.
    moved: Option<WassersteinShiftBody>,
    /// Median at training; null without rows.
    median_before: Option<BinnedMedianBody>,
    /// Median now; null without rows.
    median_now: Option<BinnedMedianBody>,
    /// The bin with the largest change of its share; null without rows.
    most_changed: Option<BinChangeBody>,
}

/// Change of the values of a category.
#[derive(Debug, Serialize, ToSchema)]
struct CategoryDriftBody {
    /// Chi-square test over the categories; null if all values are of one category.
    chi_square: Option<ChiSquareTestBody>,
    /// The category with the largest change of its share; null without rows.
    most_changed: Option<CategoryChangeBody>,
}

/// The share of known values above one bound and up to another.
#[derive(Debug, Serialize, ToSchema)]
struct BinChangeBody {
    /// Lower bound, exclusive; null: none.
    #[schema(example = 100.0)]
    above: Option<f64>,
    /// Upper bound, inclusive; null: none.
    #[schema(example = 200.0)]
    up_to: Option<f64>,
    /// Share at training, from 0 to 1.
    #[schema(example = 0.1)]
    before: f64,
    /// Share now, from 0 to 1.
    #[schema(example = 0.3)]
    now: f64,
}

/// The share of known values in one category.
#[derive(Debug, Serialize, ToSchema)]
struct CategoryChangeBody {
    /// The category; null: all categories that training did not count by name.
    #[schema(example = "SE")]
    category: Option<Box<str>>,
    /// Share at training, from 0 to 1.
    #[schema(example = 0.1)]
    before: f64,
    /// Share now, from 0 to 1.
    #[schema(example = 0.3)]
    now: f64,
}

impl From<&FeatureFigures> for FeatureDriftBody {
    fn from(figures: &FeatureFigures) -> Self {
        Self {
            feature: figures.feature.clone(),
            title: figures.title.clone(),
            unit: figures.unit.clone(),
            owner: figures.owner.clone(),
            is_read: figures.is_read,
            before: figures.before.into(),
            now: figures.now.into(),
            effective_sample_size: figures.effective_sample_size,
            psi: figures.psi.as_ref().map(Into::into),
            jensen_shannon: figures.jensen_shannon,
            missing: figures.missing.as_ref().map(Into::into),
            unseen: figures.unseen.as_ref().map(Into::into),
            rare: figures.rare.as_ref().map(Into::into),
            values: (&figures.values).into(),
        }
    }
}

impl From<KnownMissingCounts> for KnownMissingCountsBody {
    fn from(counts: KnownMissingCounts) -> Self {
        Self { known: counts.known, missing: counts.missing }
    }
}

impl From<&ValueFigures> for ValueDriftBody {
    fn from(figures: &ValueFigures) -> Self {
        match figures {
            ValueFigures::Number { ks, moved, median_before, median_now, most_changed } => {
                let number = NumberDriftBody {
                    ks: ks.as_ref().map(Into::into),
                    moved: moved.as_ref().map(Into::into),
                    median_before: median_before.as_ref().map(Into::into),
                    median_now: median_now.as_ref().map(Into::into),
                    most_changed: most_changed.map(Into::into),
                };
                Self { number: Some(number), category: None }
            }
            ValueFigures::Category { chi_square, most_changed } => {
                let category = CategoryDriftBody {
                    chi_square: chi_square.as_ref().map(Into::into),
                    most_changed: most_changed.as_ref().map(Into::into),
                };
                Self { number: None, category: Some(category) }
            }
        }
    }
}

impl From<BinChange> for BinChangeBody {
    fn from(change: BinChange) -> Self {
        let BinChange { above, up_to, before, now } = change;
        Self { above, up_to, before, now }
    }
}

impl From<&CategoryChange> for CategoryChangeBody {
    fn from(change: &CategoryChange) -> Self {
        let CategoryChange { category, before, now } = change;
        Self { category: category.clone(), before: *before, now: *now }
    }
}
