//! What a feature is: where it comes from, who owns it, how a model reads it.

use serde::{Deserialize, Serialize};

/// How carefully a value must be handled. A `Sensitive` feature never enters a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensitivity {
    Public,
    Internal,
    Sensitive,
}

/// What a trait, or the last value of a property, holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Number,
    Text,
}

/// One declared trait: something the customer is rather than does. Set by
/// `identify` events; the newest one that names it wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraitDef {
    /// As it stands in the event: `loyalty_tier`, `address.country`.
    pub name: Box<str>,
    pub title: Box<str>,
    /// Who answers for it: an address or a team.
    pub owner: Box<str>,
    pub sensitivity: Sensitivity,
    pub kind: Kind,
}

/// What the encoder puts where a number is missing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    Mean,
    Median,
    Constant(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    None,
    /// ln(1 + x); refused for features that can fall below zero.
    Log1p,
    /// Yeo and Johnson (2000), lambda by maximum likelihood.
    YeoJohnson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    None,
    /// (x - mean) / standard deviation
    Standard,
    /// (x - median) / interquartile range
    Robust,
    /// (x - min) / (max - min)
    MinMax,
}

/// How one feature becomes columns of the encoded vector.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Steps in this order: impute, winsorise, transform, scale; then the weight.
    Number {
        missing: Missing,
        /// One more column: 1 where the value was missing.
        missing_flag: bool,
        /// Lower and upper quantile beyond which values are clipped.
        winsorise: Option<(f64, f64)>,
        transform: Transform,
        scale: Scale,
        /// The scaled column is multiplied by this.
        weight: f64,
    },
    /// One column a category; those rarer than `floor` (a share) and those
    /// never seen in training share the column "other"; missing is all zeros.
    OneHot { floor: f64, weight: f64 },
}

/// One declared feature: the part that encoders, models and people read. Where
/// its value comes from is [`FeatureSet`]'s business.
///
/// [`FeatureSet`]: crate::domain::feature::FeatureSet
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureDef {
    /// Snake case; the name in the API.
    pub name: Box<str>,
    pub title: Box<str>,
    /// `days`, `baskets`, `EUR`, `share` …
    pub unit: Box<str>,
    /// Who answers for it: an address or a team.
    pub owner: Box<str>,
    pub sensitivity: Sensitivity,
    /// `None`: kept and shown, but no model reads it.
    pub encoding: Option<Encoding>,
}
