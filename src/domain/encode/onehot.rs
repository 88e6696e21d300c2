//! One-hot encoding of a categorical feature: one column per category, and one for the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::encode::{ColumnRole, MAX_COLUMNS, MAX_ENCODED};
use crate::domain::feature::FeatureValue;

/// Categories with a column of their own; the others share "other".
const MOST_CATEGORIES: usize = 255;

/// Fitted one-hot encoding; a missing value is all zeros.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OneHotEncoding {
    pub(super) feature: usize,
    /// In ascending order; the index of a category is its column. The last column is "other".
    categories: Vec<Box<str>>,
    weight: f64,
}

impl OneHotEncoding {
    /// Keeps the categories that at least the share `floor` of all rows has, at most the
    /// [`MOST_CATEGORIES`] most common ones.
    pub(super) fn fit<'a>(
        feature: usize,
        floor: f64,
        weight: f64,
        values: impl Iterator<Item = Option<&'a FeatureValue>>,
    ) -> Self {
        let mut rows = 0_u64;
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for value in values {
            rows += 1;
            if let Some(FeatureValue::Category(category)) = value {
                *counts.entry(category).or_default() += 1;
            }
        }
        let fewest = floor * rows as f64;
        let mut common: Vec<(&str, u64)> =
            counts.into_iter().filter(|(_, count)| *count as f64 >= fewest).collect();
        // A stable sort: of equally common categories the first by name.
        common.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        common.truncate(MOST_CATEGORIES);
        let mut categories: Vec<Box<str>> =
            common.into_iter().map(|(category, _)| category.into()).collect();
        categories.sort_unstable();
        Self { feature, categories, weight }
    }

    pub(super) fn width(&self) -> usize {
        self.categories.len() + 1
    }

    pub(super) fn roles(&self) -> Vec<ColumnRole> {
        self.categories
            .iter()
            .cloned()
            .map(ColumnRole::Category)
            .chain([ColumnRole::Other])
            .collect()
    }

    pub(super) fn encode(&self, value: Option<&FeatureValue>, out: &mut [f32]) {
        out.fill(0.0);
        if let Some(FeatureValue::Category(category)) = value {
            let place = self
                .categories
                .binary_search_by(|known| (**known).cmp(category))
                .unwrap_or(self.categories.len());
            if let Some(column) = out.get_mut(place) {
                *column = self.weight() as f32;
            }
        }
    }

    /// Column value of a row's category.
    pub(super) fn weight(&self) -> f64 {
        f64::from(self.weight as f32)
    }

    pub(super) fn is_sound(&self) -> bool {
        self.categories.is_sorted_by(|a, b| a < b)
            && self.categories.len() < MAX_COLUMNS
            && (self.weight as f32).abs() <= MAX_ENCODED
    }
}
