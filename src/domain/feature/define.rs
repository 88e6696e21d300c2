//! Feature declarations: title, unit, owner, sensitivity, and encoding for models.

use serde::{Deserialize, Serialize};

/// Sensitivity class of a value. A `Sensitive` feature never enters a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensitivity {
    Public,
    Internal,
    Sensitive,
}

/// Value type of a trait, or of the last value of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    Number,
    Text,
}

/// A declared trait: an attribute of the customer, set by `identify` events. The newest event
/// that contains it wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraitDefinition {
    /// The name in the event: `loyalty_tier`, `address.country`.
    pub name: Box<str>,
    pub title: Box<str>,
    /// The responsible address or team.
    pub owner: Box<str>,
    pub sensitivity: Sensitivity,
    pub kind: ValueType,
}

/// Words for segments with high or low values of a number, in lower case unless they are names:
/// `bargain hunters`. Default: `high` or `low` before the title of the feature.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentWords {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<Box<str>>,
}

impl SegmentWords {
    /// Whether there are no words.
    pub const fn is_empty(&self) -> bool {
        self.high.is_none() && self.low.is_none()
    }
}

/// Imputation rule for missing numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingValueRule {
    Mean,
    Median,
    Constant(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NumberTransform {
    /// Chosen from the data: none, unless some values are extreme; then Yeo-Johnson, and values that
    /// are still extreme are clipped.
    Automatic,
    None,
    /// ln(1 + x); refused for features that can be negative.
    Log1p,
    /// Yeo and Johnson (2000), lambda by maximum likelihood.
    YeoJohnson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NumberScaling {
    None,
    /// (x - mean) / standard deviation
    Standard,
    /// (x - median) / interquartile range
    Robust,
    /// (x - min) / (max - min)
    MinMax,
}

/// Encoding of one feature as columns of the encoded vector.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureEncoding {
    /// Steps in this order: impute, winsorise, transform, scale; then the weight.
    Number {
        missing: MissingValueRule,
        /// Adds a column that is 1 where the value was missing.
        missing_flag: bool,
        /// Lower and upper quantile beyond which values are clipped.
        winsorise: Option<(f64, f64)>,
        transform: NumberTransform,
        scale: NumberScaling,
        /// Factor on the scaled column.
        weight: f64,
    },
    /// One column per category. Categories rarer than `floor` (a share) and categories unseen
    /// in training share the column "other". A missing value is all zeros.
    OneHot { floor: f64, weight: f64 },
}

/// One declared feature: the part that encoders, models and people read. [`FeatureSet`] holds
/// the source of its values.
///
/// [`FeatureSet`]: crate::domain::feature::FeatureSet
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureDefinition {
    /// The name in the API, in snake case.
    pub name: Box<str>,
    pub title: Box<str>,
    /// Words for segments that the feature sets apart.
    #[serde(default, skip_serializing_if = "SegmentWords::is_empty")]
    pub segment_words: SegmentWords,
    /// `days`, `baskets`, `EUR`, `share` …
    pub unit: Box<str>,
    /// The responsible address or team.
    pub owner: Box<str>,
    pub sensitivity: Sensitivity,
    /// `None` for a feature that is computed and shown but not read by models.
    pub encoding: Option<FeatureEncoding>,
}
