//! Segment profiles: typical raw values in each segment and over all rows.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::domain::feature::FeatureValue;
use crate::domain::model::{FeatureProfile, NearestSegments, TypicalValue};
use crate::domain::stats;
use crate::domain::train::assembly::segment_rows::SegmentRows;

/// Rows that make a typical customer.
const TYPICAL_ROWS: usize = 10;
/// Least number of these rows with a known number, or with the most frequent category, for a value of
/// the typical customer. So the value of a single customer is never published.
const TYPICAL_VALUES: usize = 5;

/// The ten rows nearest to the prototype of each segment: of several, to the one with most rows.
/// Empty for a segment in which no prototype has ten rows.
pub(super) fn central_rows(placed: &[NearestSegments], segments: usize) -> Vec<Vec<usize>> {
    let mut by_prototype: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (row, near) in placed.iter().enumerate().filter(|(_, near)| near.is_within_radius) {
        by_prototype.entry((near.segment, near.prototype)).or_default().push(row);
    }
    let mut largest = vec![Vec::new(); segments];
    for ((segment, _), rows) in by_prototype {
        if rows.len() >= TYPICAL_ROWS && rows.len() > largest[segment].len() {
            largest[segment] = rows;
        }
    }
    for rows in &mut largest {
        // A stable sort: of equally near rows the first.
        rows.sort_by(|a, b| placed[*a].power.total_cmp(&placed[*b].power));
        rows.truncate(TYPICAL_ROWS);
    }
    largest
}

/// Profiles of each segment, for every feature that is not sensitive, in feature order. `central`:
/// the rows of [`central_rows`].
pub(super) fn segment_profiles(
    described: SegmentRows<'_>,
    central: &[Vec<usize>],
) -> Vec<Vec<FeatureProfile>> {
    let SegmentRows { features, rows, segment_of, segments } = described;
    let shown: Vec<usize> =
        (0..features.len()).filter(|feature| described.is_shown(*feature)).collect();
    let by_feature: Vec<Vec<FeatureProfile>> = shown
        .par_iter()
        .map(|feature| {
            let value_of = |row: usize| rows[row].0.get(*feature).unwrap_or(&FeatureValue::Missing);
            // The last list is for rows in no segment; they count for the totals.
            let mut values = vec![Vec::new(); segments + 1];
            for (row, segment) in segment_of.iter().enumerate() {
                values[segment.unwrap_or(segments)].push(value_of(row));
            }
            let everybody = typical_value(&values.concat());
            values
                .iter()
                .zip(central)
                .map(|(here, central)| FeatureProfile {
                    feature: *feature,
                    here: typical_value(here),
                    everybody: everybody.clone(),
                    typical_customer: (!central.is_empty()).then(|| {
                        let values: Vec<&FeatureValue> =
                            central.iter().map(|row| value_of(*row)).collect();
                        common_value(&values)
                    }),
                })
                .collect()
        })
        .collect();
    (0..segments)
        .map(|segment| by_feature.iter().map(|profiles| profiles[segment].clone()).collect())
        .collect()
}

/// The mean or the most frequent category of a few rows; unknown where fewer than
/// [`TYPICAL_VALUES`] of them have it.
fn common_value(values: &[&FeatureValue]) -> TypicalValue {
    let typical = typical_value(values);
    let holders = match &typical {
        TypicalValue::Number { missing_share, .. } => 1.0 - missing_share,
        TypicalValue::Category { share, .. } => *share,
        TypicalValue::Unknown => 0.0,
    } * values.len() as f64;
    if holders.round() >= TYPICAL_VALUES as f64 { typical } else { TypicalValue::Unknown }
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
