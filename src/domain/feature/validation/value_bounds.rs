//! Bounds of feature values: the least and the greatest value that a declaration allows.

use crate::domain::feature::define::ValueType;
use crate::domain::feature::source::{
    DerivationRule, DerivedFeature, EventFeatureSource, FeatureFold, FeatureSource,
};

/// Closed bounds of a number; `None` where it is unbounded.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ValueBounds {
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
}

impl ValueBounds {
    /// The problem of a number outside the bounds, in words.
    pub(crate) fn problem(&self, number: f64) -> Option<String> {
        let is_below = self.minimum.is_some_and(|minimum| number < minimum);
        let is_above = self.maximum.is_some_and(|maximum| number > maximum);
        if !is_below && !is_above {
            return None;
        }
        let right = match (self.minimum, self.maximum) {
            (Some(minimum), Some(maximum)) => format!("from {minimum} to {maximum}"),
            (Some(minimum), None) => format!("at least {minimum}"),
            (None, Some(maximum)) => format!("at most {maximum}"),
            (None, None) => return None,
        };
        let size = number.abs();
        // Without an exponent, such a number can have hundreds of digits.
        Some(if size >= 1e15 || size > 0.0 && size < 1e-6 {
            format!("must be {right}; it is {number:e}")
        } else {
            format!("must be {right}; it is {number}")
        })
    }

    /// Bounds of values that are replaced by the floor if they are lower.
    fn with_floor(self, floor: Option<f64>) -> Self {
        let Some(floor) = floor else { return self };
        Self {
            minimum: Some(self.minimum.map_or(floor, |minimum| minimum.max(floor))),
            maximum: self.maximum.map(|maximum| maximum.max(floor)),
        }
    }
}

/// The bounds of each feature. `derived` is in order of dependency.
pub(in crate::domain::feature) fn value_bounds(
    sources: &[FeatureSource],
    event_sources: &[EventFeatureSource],
    derived: &[DerivedFeature],
) -> Vec<ValueBounds> {
    let mut bounds = vec![ValueBounds::default(); sources.len()];
    for (source, bounds) in sources.iter().zip(&mut bounds) {
        if let FeatureSource::Events(index) = source {
            *bounds = event_bounds(&event_sources[*index]);
        }
    }
    for feature in derived {
        bounds[feature.feature] = derived_bounds(feature, &bounds);
    }
    bounds
}

/// Counts, times and sums of terms that are never negative are at least 0. Shares are at most 1.
fn event_bounds(source: &EventFeatureSource) -> ValueBounds {
    if source.kind() == ValueType::Text {
        return ValueBounds::default();
    }
    let is_share = matches!(source.fold, FeatureFold::Share { .. });
    let bounds = if source.has_negative_terms() {
        ValueBounds::default()
    } else {
        ValueBounds { minimum: Some(0.0), maximum: is_share.then_some(1.0) }
    };
    bounds.with_floor(source.floor)
}

/// A difference may have any sign. A ratio has none of its own if neither part may be negative.
fn derived_bounds(feature: &DerivedFeature, bounds: &[ValueBounds]) -> ValueBounds {
    let is_positive = [feature.left, feature.right]
        .into_iter()
        .all(|part| bounds[part].minimum.is_some_and(|minimum| minimum >= 0.0));
    let minimum = (feature.rule == DerivationRule::Ratio && is_positive).then_some(0.0);
    ValueBounds { minimum, maximum: None }.with_floor(feature.floor)
}
