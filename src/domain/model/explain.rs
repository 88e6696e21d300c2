//! Explanation of a score: additive feature contributions to the distance from the
//! prototype, in the units of the features, whatever the axes of the model.

use crate::domain::feature::{FeatureRow, FeatureValue};
use crate::domain::model::segment::{ModelSegment, TypicalValue};
use crate::domain::model::{Model, ScoringScratch, SegmentScore};

/// Contribution of one feature to a score.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureContribution {
    /// Index into `Model::features`.
    pub feature: usize,
    /// Share of the squared distance to the prototype (Manhattan: of the distance), from 0
    /// to 1. All shares add up to 1, or to 0 for a customer exactly on the prototype.
    pub share: f64,
    /// The customer's value, in the feature's unit.
    pub value: FeatureValue,
    /// The segment's median, or its most frequent category.
    pub typical_value: FeatureValue,
    pub direction: ValueDirection,
}

/// The customer's value compared with the segment's typical one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueDirection {
    Higher,
    Lower,
    Same,
    /// Another category, or one of the two is missing.
    Different,
}

impl Model {
    /// Contributions of the features to the distance in `score`, the result of this model
    /// for `row`; largest share first. Allocates.
    pub fn explain_score(
        &self,
        row: &FeatureRow,
        score: &SegmentScore,
    ) -> Vec<FeatureContribution> {
        let Some(segment) = self.segments().get(score.nearest) else {
            return Vec::new();
        };
        let parts = match self.projection() {
            None => self.parts(row),
            Some(_) => self.parts_behind_projection(row, segment),
        };
        let total: f64 = parts.iter().flatten().sum();
        let mut reasons: Vec<FeatureContribution> = parts
            .into_iter()
            .enumerate()
            .filter_map(|(feature, part)| {
                let part = part?;
                let value = row.0.get(feature).cloned().unwrap_or(FeatureValue::Missing);
                let typical = typical_value(segment, feature);
                let direction = direction(&value, &typical);
                let share = if total > 0.0 { part / total } else { 0.0 };
                Some(FeatureContribution {
                    feature,
                    share,
                    value,
                    typical_value: typical,
                    direction,
                })
            })
            .collect();
        reasons.sort_by(|a, b| b.share.total_cmp(&a.share));
        reasons
    }

    /// Exact contributions without a projection: the sum over each feature's columns. They
    /// add up to the distance. `None` for a feature that the model does not read.
    fn parts(&self, row: &FeatureRow) -> Vec<Option<f64>> {
        let mut scratch = ScoringScratch::default();
        let (_, vector) = self.document.encode_row(row, &mut scratch);
        let near = self.decision_function().two_nearest(vector);
        let mut parts = vec![None; self.features().len()];
        let columns = self
            .encoder()
            .columns()
            .iter()
            .zip(self.decision_function().distance_terms(vector, near.prototype));
        for (column, part) in columns {
            *parts[column.feature].get_or_insert(0.0) += part;
        }
        parts
    }

    /// Contributions behind a projection, by ablation.
    ///
    /// Projected axes mix features, so the distance is no sum over features. A feature's
    /// contribution is the decrease of the distance when this feature alone takes its
    /// typical value. A feature that brings the customer nearer contributes 0.
    fn parts_behind_projection(
        &self,
        row: &FeatureRow,
        segment: &ModelSegment,
    ) -> Vec<Option<f64>> {
        let mut scratch = ScoringScratch::default();
        let prototype =
            self.decision_function().two_nearest(self.decision_vector(row, &mut scratch)).prototype;
        let here = self.distance_to(prototype, row, &mut scratch);
        // One copy of the row, changed and restored feature by feature.
        let mut changed = row.clone();
        changed.0.resize(self.features().len(), FeatureValue::Missing);
        let mut parts = vec![None; changed.0.len()];
        for feature in self.encoder().feature_indices() {
            let typical = typical_value(segment, feature);
            let own = std::mem::replace(&mut changed.0[feature], typical);
            let without = self.distance_to(prototype, &changed, &mut scratch);
            parts[feature] = Some((here - without).max(0.0));
            changed.0[feature] = own;
        }
        parts
    }

    /// Squared distance (Manhattan: distance) of `row` from a prototype.
    fn distance_to(&self, prototype: usize, row: &FeatureRow, scratch: &mut ScoringScratch) -> f64 {
        self.decision_function().distance_terms(self.decision_vector(row, scratch), prototype).sum()
    }
}

/// A segment's median of a feature, or its most frequent category.
fn typical_value(segment: &ModelSegment, feature: usize) -> FeatureValue {
    let profile = segment.profile.iter().find(|profile| profile.feature == feature);
    match profile.map(|profile| &profile.here) {
        Some(TypicalValue::Number { median, .. }) => FeatureValue::Number(*median),
        Some(TypicalValue::Category { most_frequent, .. }) => {
            FeatureValue::Category(most_frequent.clone())
        }
        Some(TypicalValue::Unknown) | None => FeatureValue::Missing,
    }
}

fn direction(value: &FeatureValue, typical: &FeatureValue) -> ValueDirection {
    match (value, typical) {
        (FeatureValue::Number(here), FeatureValue::Number(there)) if here > there => {
            ValueDirection::Higher
        }
        (FeatureValue::Number(here), FeatureValue::Number(there)) if here < there => {
            ValueDirection::Lower
        }
        (here, there) if here == there => ValueDirection::Same,
        _ => ValueDirection::Different,
    }
}
