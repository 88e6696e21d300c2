//! Features: declared numbers and categories about one customer.
//!
//! A [`FeatureSet`] is declared in TOML (`config/features.retail.toml` is the
//! manual of the format). A [`CustomerState`] takes in events, in any order of
//! arrival, and gives a [`FeatureRow`] at any instant. Training, scoring,
//! back-fill and drift all read features through these two and nothing else.
//!
//! The modules stand in import order. What the folds of nothing are: count, sum, distinct and sessions are 0;
//! mean, min, max, last, recency, tenure, share, ratio and mean gap are missing.

pub mod define;
mod exact;
mod fold;
mod motion;
mod normal;
mod parse;
pub mod rfm;
mod sessions;
mod set;
mod sketch;
mod slot;
mod source;
mod state;
mod window;

pub use define::{Encoding, FeatureDef, Kind, Missing, Scale, Sensitivity, TraitDef, Transform};
pub(in crate::domain) use motion::Drift;
pub use set::{FeatureSet, MAX_NUMBER, MAX_TEXT_BYTES};
pub use state::{CustomerState, StateError};

/// One feature's value at one instant; missing is explicit.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Missing,
    /// Always finite.
    Number(f64),
    Category(Box<str>),
}

impl Value {
    /// A number, -0 as 0; missing where it is not finite.
    pub fn number(value: f64) -> Self {
        if value.is_finite() { Self::Number(value + 0.0) } else { Self::Missing }
    }
}

/// The raw features of one customer at one instant, in the order of
/// [`FeatureSet::features`].
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow(pub Vec<Value>);
