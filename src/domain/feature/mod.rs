//! Features: declared numbers and categories about one customer.
//!
//! A [`FeatureSet`] is declared in TOML; `config/features.retail.toml` is the manual of the
//! format. A [`CustomerState`] takes in events in any order of arrival, and computes a
//! [`FeatureRow`] for any instant. Training, scoring, backfill and drift all read features
//! through these two types and nothing else.
//!
//! The modules are listed in import order. Folds without events: count, sum, distinct and
//! sessions are 0; mean, min, max, first, last, recency, tenure, share, ratio and mean gap are
//! missing.

mod canonical_json;
pub mod define;
mod exact;
mod fold;
mod history;
mod orders;
mod parse;
mod reading;
pub mod rfm;
mod sessions;
mod set;
mod sketch;
mod slot;
mod source;
mod state;
mod time_change;
mod validation;
mod window;
mod zone;

pub use define::{
    FeatureDefinition, FeatureEncoding, MissingValueRule, NumberScaling, NumberTransform,
    SegmentWords, Sensitivity, TraitDefinition, ValueType,
};
pub use history::properties::StoredProperty;
pub use orders::period::{DayPeriod, PeriodOrders};
pub use orders::purchases::{KnownOrders, PurchaseHistory, PurchaseSplit};
pub use reading::rates::RateTable;
pub use set::{FeatureSet, STORED_RATE, StoredNumber};
pub use state::{CustomerState, StateError};
pub(in crate::domain) use time_change::{QuietPeriod, TimeBounds};
pub use validation::convert::{MAX_NUMBER, MAX_SHOWN_NUMBER, MAX_TEXT_BYTES};
pub use validation::value_bounds::ValueBounds;
pub use validation::{UnusedWarning, ValidatedEvent};

/// The value of one feature at one instant; missing is explicit.
#[derive(Debug, Clone, PartialEq)]
pub enum FeatureValue {
    Missing,
    /// Always finite.
    Number(f64),
    Category(Box<str>),
}

impl FeatureValue {
    /// Converts a number: -0 becomes 0, and a number that is not finite becomes missing.
    pub fn number(value: f64) -> Self {
        if value.is_finite() { Self::Number(value + 0.0) } else { Self::Missing }
    }
}

/// Feature row: the raw features of one customer at one instant, in the order of
/// [`FeatureSet::features`].
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow(pub Vec<FeatureValue>);
