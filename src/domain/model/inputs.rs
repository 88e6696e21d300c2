//! Inputs of a model: the features that it reads, and the values that replace missing ones.

use crate::domain::feature::FeatureValue;
use crate::domain::model::Model;

impl Model {
    /// Indices of the features that the model reads.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = usize> {
        self.encoder().feature_indices()
    }

    /// The imputed value of a missing input, in the unit of the feature. Missing for a category:
    /// its absence is a value of its own.
    pub(crate) fn default_value(&self, feature: usize) -> FeatureValue {
        self.encoder().imputed_number(feature).map_or(FeatureValue::Missing, FeatureValue::number)
    }
}
