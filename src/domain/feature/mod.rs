//! Features: declared numbers and categories about one customer.

pub mod define;

pub use define::{Encoding, FeatureDef, Missing, Scale, Sensitivity, Transform};

/// One feature's value at one instant; missing is explicit.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Missing,
    /// Always finite.
    Number(f64),
    Category(Box<str>),
}

/// The raw features of one customer at one instant, in the order of
/// [`FeatureSet::features`].
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow(pub Vec<Value>);
