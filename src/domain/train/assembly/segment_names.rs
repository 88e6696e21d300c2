//! Drafts of segment names: short, and different for each segment of a model.
//!
//! A segment takes the name of the RFM segment that is most over-represented in it: whose share of
//! its customers exceeds its share of all customers most. Customers get their RFM segments by
//! quintiles, as in the RFM baseline of selection, and by its table of names (`Champions`,
//! `At Risk`). Each name is given once, where the excess is largest, and `Champions` where customers
//! spend most; a segment without one is named after the features in which it differs most (`High
//! discount share`, or in the words of the feature set, `Bargain hunters`).
//!
//! Fifths are relative: in a shop whose customers all stay, one in five is still in the lowest. So
//! with forecasts, a name that implies leaving is only given if the churn probability is
//! consistent with it (`named_by_churn`).

use std::array;
use std::collections::BTreeMap;

use crate::domain::encode::ColumnRole;
use crate::domain::feature::rfm::{self, SEGMENTS};
use crate::domain::feature::{FeatureDefinition, FeatureRow, FeatureValue};
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

/// What decides on the RFM name of one segment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RfmEvidence {
    shares: [RfmShare; SEGMENTS.len()],
    /// Mean of the monetary feature.
    spend: f64,
    /// Mean churn probability; `None` without forecasts.
    churn: Option<f64>,
}

/// Measures the RFM segments within each segment; `None` without RFM features in the spec, or if
/// one of them is sensitive or has no value. `churn`: the mean churn probability of each segment;
/// empty without forecasts.
pub(super) fn rfm_evidence(
    rfm: Option<&RfmFeatures>,
    described: SegmentRows<'_>,
    churn: &[Option<f64>],
) -> Option<Vec<RfmEvidence>> {
    let SegmentRows { features, rows, segment_of, segments } = described;
    let rows: Vec<&FeatureRow> = rows.iter().collect();
    let baseline = RfmBaseline::fit(rfm?, features, &rows)?;
    if !baseline.rules().inputs().all(|input| described.is_shown(input)) {
        return None;
    }
    let mut of_all = [0.0_f64; SEGMENTS.len()];
    let mut counts = vec![[0.0_f64; SEGMENTS.len()]; segments];
    let mut spend = vec![0.0_f64; segments];
    let monetary = baseline.rules().monetary.index;
    for (row, segment) in rows.iter().zip(segment_of) {
        let rfm = baseline.rules().score_row(row).index;
        of_all[rfm] += 1.0 / rows.len() as f64;
        if let Some(segment) = *segment {
            counts[segment][rfm] += 1.0;
            if let FeatureValue::Number(amount) = &row.0[monetary] {
                spend[segment] += amount;
            }
        }
    }
    let evidence = counts.iter().enumerate().map(|(segment, counts)| {
        let size = counts.iter().sum::<f64>().max(1.0);
        let shares = array::from_fn(|rfm| {
            let share = counts[rfm] / size;
            RfmShare { share, excess: share - of_all[rfm] }
        });
        // A segment without forecasts, beside others with forecasts, must not get a name that implies
        // leaving: its churn probability counts as 0.
        let churn = churn.get(segment).map(|churn| churn.unwrap_or(0.0));
        RfmEvidence { shares, spend: spend[segment] / size, churn }
    });
    Some(evidence.collect())
}

/// Unique names of all segments, from their RFM segments and their standout features. `mean_churn`:
/// the mean churn probability of all customers; 0 without forecasts.
pub(super) fn name_segments(
    features: &[FeatureDefinition],
    standouts: &[&[StandoutFeature]],
    rfm: Option<&[RfmEvidence]>,
    mean_churn: f64,
) -> Vec<Box<str>> {
    let by_rfm = rfm.map_or_else(|| vec![None; standouts.len()], |rfm| rfm_names(rfm, mean_churn));
    let draft_name = |segment: usize, length: usize| match by_rfm[segment] {
        Some(name) => name.into(),
        None => feature_name(features, standouts[segment], length),
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
fn rfm_names(evidence: &[RfmEvidence], mean_churn: f64) -> Vec<Option<&'static str>> {
    let mut choices = Vec::new();
    for (segment, of_segment) in evidence.iter().enumerate() {
        let largest = of_segment.shares.iter().map(|rfm| rfm.excess).fold(0.0, f64::max);
        let least = LEAST_EXCESS.max(LEAST_PART_OF_LARGEST * largest);
        for (rfm, RfmShare { share, excess }) in of_segment.shares.iter().enumerate() {
            let named = match of_segment.churn {
                Some(churn) => rfm::named_by_churn(rfm, churn, mean_churn),
                None => Some(rfm),
            };
            if let Some(rfm) = named.filter(|_| *share >= LEAST_SHARE && *excess >= least) {
                // Champions come first, and of several the one with the highest spend.
                let spend = if rfm == rfm::CHAMPIONS { of_segment.spend } else { f64::MIN };
                choices.push((spend, *excess, segment, rfm));
            }
        }
    }
    // A stable sort: of equal excesses the first segment and the first name.
    choices.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)));
    let mut names = vec![None; evidence.len()];
    let mut is_given = [false; SEGMENTS.len()];
    for (_, _, segment, rfm) in choices {
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
        let FeatureDefinition { title, segment_words, .. } = &features[standout.feature];
        let subject = title_in_sentence(title);
        if parts.len() == length || subjects.contains(&subject) {
            continue;
        }
        let part = match &standout.aspect {
            ColumnRole::Value if standout.contrast > 0.0 => match &segment_words.high {
                Some(words) => words.to_string(),
                None => format!("high {subject}"),
            },
            ColumnRole::Value => match &segment_words.low {
                Some(words) => words.to_string(),
                None => format!("low {subject}"),
            },
            ColumnRole::Missing => format!("unknown {subject}"),
            ColumnRole::Category(category) => format!("{subject} {category}"),
            ColumnRole::Other => format!("other {subject}"),
        };
        // Two features may have the same words.
        if !parts.contains(&part) {
            parts.push(part);
        }
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

    use super::{RfmEvidence, RfmShare, SEGMENTS, rfm_names};

    /// Shares with these excesses over a tenth.
    fn shares(excesses: &[(usize, f64)]) -> RfmEvidence {
        let mut all = RfmEvidence::default();
        for (rfm, excess) in excesses {
            all.shares[*rfm] = RfmShare { share: excess + 0.1, excess: *excess };
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
        let names = rfm_names(&champions_thrice, 0.0);
        // The third has no second choice that is half as typical of it. Less than a quarter of the
        // fourth are in one RFM segment.
        assert_eq!(names, [Some("Loyal Customers"), Some("Champions"), None, None]);
    }

    #[test]
    fn of_two_possible_champions_those_who_spend_more_are_called_so() {
        let many = RfmEvidence { spend: 2_000.0, ..shares(&[(0, 0.6), (1, 0.3)]) };
        let few = RfmEvidence { spend: 5_000.0, ..shares(&[(0, 0.4), (1, 0.3)]) };
        assert_eq!(rfm_names(&[many, few], 0.0), [Some("Loyal Customers"), Some("Champions")]);
    }

    #[test]
    fn no_name_says_that_customers_leave_where_the_forecasts_say_that_they_stay() {
        let fading = shares(&[(9, 0.5), (6, 0.4)]);
        let name = |churn| {
            let mut evidence = fading;
            evidence.churn = Some(churn);
            rfm_names(&[evidence], 0.05)[0]
        };
        assert_eq!(name(0.5), Some("Lost"));
        assert_eq!(name(0.23), Some("At Risk"));
        assert_eq!(name(0.05), Some("At Risk"));
        assert_eq!(name(0.04), None);
        assert_eq!(rfm_names(&[fading], 0.0), [Some("Lost")]);
    }

    proptest! {
        #[test]
        fn no_two_segments_have_one_rfm_name(
            found in prop::collection::vec(prop::array::uniform10(-1.0..1.0_f64), 0..30),
        ) {
            let found: Vec<RfmEvidence> = found
                .iter()
                .map(|excesses| {
                    let excesses: Vec<_> = excesses.iter().copied().enumerate().collect();
                    shares(&excesses)
                })
                .collect();
            let mut given: Vec<&str> = rfm_names(&found, 0.0).into_iter().flatten().collect();
            let count = given.len();
            given.sort_unstable();
            given.dedup();
            prop_assert_eq!(given.len(), count);
            prop_assert!(count <= SEGMENTS.len());
        }
    }
}
