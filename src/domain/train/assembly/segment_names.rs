//! Drafts of segment names: short, and different for each segment of a model.
//!
//! A segment takes the name of the RFM segment that is most over-represented in it: whose share of
//! its customers exceeds its share of all customers most. Customers get their RFM segments by
//! quintiles, as in the RFM baseline of selection, and by its table of names (`Champions`,
//! `At Risk`). Each name is given once, where the excess is largest; a segment without one is named
//! after the features in which it differs most (`High discount share`).

use std::array;
use std::collections::BTreeMap;

use crate::domain::encode::ColumnRole;
use crate::domain::feature::rfm::SEGMENTS;
use crate::domain::feature::{FeatureDefinition, FeatureRow};
use crate::domain::model::StandoutFeature;
use crate::domain::train::assembly::segment_rows::SegmentRows;
use crate::domain::train::selection::baseline::{RfmBaseline, RfmFeatures};

/// Least share of a segment's customers in the RFM segment that names it.
const LEAST_SHARE: f64 = 0.25;
/// Least excess of that share over the share among all customers.
const LEAST_EXCESS: f64 = 0.1;
/// Least part of a segment's largest excess that a second choice must reach.
const LEAST_PART_OF_LARGEST: f64 = 0.5;
/// Most features in a name, if shorter names of two segments are equal.
const NAME_FEATURES_AT_MOST: usize = 4;

/// One RFM segment within one segment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RfmShare {
    /// Share of the segment's customers.
    share: f64,
    /// `share` minus the share among all customers.
    excess: f64,
}

/// Each RFM segment within one segment.
pub(super) type RfmShares = [RfmShare; SEGMENTS.len()];

/// Measures the RFM segments within each segment; `None` without RFM features in the spec, or if
/// one of them is sensitive or has no value.
pub(super) fn rfm_shares(
    rfm: Option<&RfmFeatures>,
    described: SegmentRows<'_>,
) -> Option<Vec<RfmShares>> {
    let SegmentRows { features, rows, segment_of, segments } = described;
    let rows: Vec<&FeatureRow> = rows.iter().collect();
    let baseline = RfmBaseline::fit(rfm?, features, &rows)?;
    if !baseline.rules().inputs().all(|input| described.is_shown(input)) {
        return None;
    }
    let mut of_all = [0.0_f64; SEGMENTS.len()];
    let mut counts = vec![[0.0_f64; SEGMENTS.len()]; segments];
    for (row, segment) in rows.iter().zip(segment_of) {
        let rfm = baseline.rules().score_row(row).index;
        of_all[rfm] += 1.0 / rows.len() as f64;
        if let Some(segment) = *segment {
            counts[segment][rfm] += 1.0;
        }
    }
    let shares = counts.iter().map(|counts| {
        let size = counts.iter().sum::<f64>().max(1.0);
        array::from_fn(|rfm| {
            let share = counts[rfm] / size;
            RfmShare { share, excess: share - of_all[rfm] }
        })
    });
    Some(shares.collect())
}

/// Unique names of all segments, from their RFM segments and their standout features.
pub(super) fn name_segments(
    features: &[FeatureDefinition],
    standouts: &[Vec<StandoutFeature>],
    rfm: Option<&[RfmShares]>,
) -> Vec<Box<str>> {
    let by_rfm = rfm.map_or_else(|| vec![None; standouts.len()], rfm_names);
    let draft_name = |segment: usize, length: usize| match by_rfm[segment] {
        Some(name) => name.into(),
        None => feature_name(features, &standouts[segment], length),
    };
    let mut names: Vec<String> =
        (0..standouts.len()).map(|segment| draft_name(segment, 1)).collect();
    // Equal names get more features one at a time, so that they stay as short as possible.
    for length in 2..=NAME_FEATURES_AT_MOST {
        for segment in duplicates(&names) {
            names[segment] = draft_name(segment, length);
        }
    }
    // Positions are unique, so the last names become unique too.
    for segment in duplicates(&names) {
        names[segment] = format!("{} ({})", names[segment], segment + 1);
    }
    names.into_iter().map(String::into_boxed_str).collect()
}

/// The RFM name of each segment that has one.
fn rfm_names(shares: &[RfmShares]) -> Vec<Option<&'static str>> {
    let mut choices = Vec::new();
    for (segment, of_segment) in shares.iter().enumerate() {
        let largest = of_segment.iter().map(|rfm| rfm.excess).fold(0.0, f64::max);
        let least = LEAST_EXCESS.max(LEAST_PART_OF_LARGEST * largest);
        for (rfm, RfmShare { share, excess }) in of_segment.iter().enumerate() {
            if *share >= LEAST_SHARE && *excess >= least {
                choices.push((*excess, segment, rfm));
            }
        }
    }
    // A stable sort: of equal excesses the first segment and the first name.
    choices.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut names = vec![None; shares.len()];
    let mut is_given = [false; SEGMENTS.len()];
    for (_, segment, rfm) in choices {
        if names[segment].is_none() && !is_given[rfm] {
            names[segment] = Some(SEGMENTS[rfm].1);
            is_given[rfm] = true;
        }
    }
    names
}

/// A name of the first `length` standout features.
fn feature_name(
    features: &[FeatureDefinition],
    standouts: &[StandoutFeature],
    length: usize,
) -> String {
    let mut subjects: Vec<String> = Vec::new();
    let mut parts: Vec<String> = Vec::new();
    for standout in standouts {
        let subject = title_in_sentence(&features[standout.feature].title);
        if parts.len() == length || subjects.contains(&subject) {
            continue;
        }
        parts.push(match &standout.aspect {
            ColumnRole::Value if standout.contrast > 0.0 => format!("high {subject}"),
            ColumnRole::Value => format!("low {subject}"),
            ColumnRole::Missing => format!("unknown {subject}"),
            ColumnRole::Category(category) => format!("{subject} {category}"),
            ColumnRole::Other => format!("other {subject}"),
        });
        subjects.push(subject);
    }
    if parts.is_empty() { "Average".into() } else { capitalised(&parts.join(", ")) }
}

/// The text with its first letter in upper case.
fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().into_iter().flat_map(char::to_uppercase).chain(chars).collect()
}

/// A feature title for use within a sentence: without the qualifier after a comma, and in
/// lower case unless it is an acronym. `Spend, 365 days` → `spend`, but `RFM score` stays.
fn title_in_sentence(title: &str) -> String {
    let title = title.split(',').next().unwrap_or(title).trim_end();
    let mut chars = title.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain([second]).chain(chars).collect()
        }
        _ => title.into(),
    }
}

/// Indices of the duplicate names.
fn duplicates(names: &[String]) -> Vec<usize> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    (0..names.len()).filter(|i| counts[names[*i].as_str()] > 1).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{RfmShare, RfmShares, SEGMENTS, rfm_names};

    /// Shares with these excesses over a tenth.
    fn shares(excesses: &[(usize, f64)]) -> RfmShares {
        let mut all = RfmShares::default();
        for (rfm, excess) in excesses {
            all[*rfm] = RfmShare { share: excess + 0.1, excess: *excess };
        }
        all
    }

    #[test]
    fn a_name_goes_to_the_segment_that_it_describes_best() {
        let champions_thrice = [
            shares(&[(0, 0.5), (1, 0.3)]),
            shares(&[(0, 0.6), (1, 0.1)]),
            shares(&[(0, 0.4), (1, 0.1)]),
            shares(&[(9, 0.14)]),
        ];
        let names = rfm_names(&champions_thrice);
        // The third has no second choice that is half as typical of it. Less than a quarter of the
        // fourth are in one RFM segment.
        assert_eq!(names, [Some("Loyal Customers"), Some("Champions"), None, None]);
    }

    proptest! {
        #[test]
        fn no_two_segments_have_one_rfm_name(
            found in prop::collection::vec(prop::array::uniform10(-1.0..1.0_f64), 0..30),
        ) {
            let found: Vec<RfmShares> = found
                .iter()
                .map(|excesses| {
                    let excesses: Vec<_> = excesses.iter().copied().enumerate().collect();
                    shares(&excesses)
                })
                .collect();
            let mut given: Vec<&str> = rfm_names(&found).into_iter().flatten().collect();
            let count = given.len();
            given.sort_unstable();
            given.dedup();
            prop_assert_eq!(given.len(), count);
            prop_assert!(count <= SEGMENTS.len());
        }
    }
}
