//! Segment profiles: typical raw values in each segment and over all rows.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::domain::feature::{FeatureDefinition, FeatureRow, FeatureValue, Sensitivity};
use crate::domain::model::{FeatureProfile, TypicalValue};
use crate::domain::stats;

/// Profiles of each segment, for every feature that is not sensitive, in feature order.
/// `segment_of` has one entry per row; `None` is a row in no segment.
pub(crate) fn segment_profiles(
    features: &[FeatureDefinition],
    rows: &[FeatureRow],
    segment_of: &[Option<usize>],
    segments: usize,
) -> Vec<Vec<FeatureProfile>> {
    let shown: Vec<usize> = (0..features.len())
        .filter(|feature| features[*feature].sensitivity != Sensitivity::Sensitive)
        .collect();
    let by_feature: Vec<Vec<FeatureProfile>> = shown
        .par_iter()
        .map(|feature| {
            // The last list is for rows in no segment; they count for the totals.
            let mut values = vec![Vec::new(); segments + 1];
            for (row, segment) in rows.iter().zip(segment_of) {
                values[segment.unwrap_or(segments)]
                    .push(row.0.get(*feature).unwrap_or(&FeatureValue::Missing));
            }
            let everybody = typical_value(&values.concat());
            values
                .iter()
                .map(|here| FeatureProfile {
                    feature: *feature,
                    here: typical_value(here),
                    everybody: everybody.clone(),
                })
                .collect()
        })
        .collect();
    (0..segments)
        .map(|segment| by_feature.iter().map(|profiles| profiles[segment].clone()).collect())
        .collect()
}

fn typical_value(values: &[&FeatureValue]) -> TypicalValue {
    let mut numbers = Vec::new();
    let mut categories: BTreeMap<&str, usize> = BTreeMap::new();
    for value in values {
        match value {
            FeatureValue::Number(number) => numbers.push(*number),
            FeatureValue::Category(category) => *categories.entry(category).or_default() += 1,
            FeatureValue::Missing => {}
        }
    }
    let total = values.len().max(1) as f64;
    let known = numbers.len() + categories.values().sum::<usize>();
    let missing_share = 1.0 - known as f64 / total;
    // Of equally frequent categories the first by name.
    let most_frequent = categories.iter().rev().max_by_key(|(_, count)| **count);
    if let Some((category, count)) = most_frequent {
        return TypicalValue::Category {
            most_frequent: (*category).into(),
            share: *count as f64 / total,
            missing_share,
        };
    }
    if numbers.is_empty() {
        return TypicalValue::Unknown;
    }
    let median = stats::quantile(&stats::sorted(&numbers), 0.5);
    TypicalValue::Number { mean: stats::mean(&numbers), median, missing_share }
}
