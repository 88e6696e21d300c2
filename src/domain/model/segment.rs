//! Segment description for people: name, size, typical values and standout features.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::encode::{ColumnRole, EncodedColumn};
use crate::domain::feature::{FeatureDefinition, rfm};
use crate::domain::id::encode_hex;
use crate::domain::model::score::UNASSIGNED;

/// Least contrast that appears in a name: a quarter of a standard deviation from the mean
/// of all customers.
const LEAST_CONTRAST: f64 = 0.25;
/// Features in a name.
const NAME_FEATURES: usize = 2;
/// Most features in a name, if shorter names of two segments are equal.
const NAME_FEATURES_AT_MOST: usize = 4;
/// Longest part of an id after `seg_`, in bytes.
const LONGEST_ID: usize = 32;

/// One learned segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSegment {
    /// Stable identifier over all trainings, of the form `seg_[a-z0-9_]{1,32}`.
    pub id: Box<str>,
    /// Unique within the model: `high spend, low recency`.
    pub name: Box<str>,
    /// Training rows (fitted and held out) that score into the segment.
    pub size: u64,
    /// `size` / all training rows.
    pub share: f64,
    /// One entry per feature that is not sensitive, in the order of the features.
    pub profile: Vec<FeatureProfile>,
    /// Differences from the mean of all customers, strongest first.
    pub standouts: Vec<StandoutFeature>,
}

/// Typical values of one feature in one segment, in the feature's unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureProfile {
    /// Index into `Model::features`.
    pub feature: usize,
    pub here: TypicalValue,
    /// Typical value over all training rows.
    pub everybody: TypicalValue,
}

/// Location statistics of one feature over a group of customers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypicalValue {
    /// Mean and median over the customers with a known value.
    Number { mean: f64, median: f64, missing_share: f64 },
    /// The most frequent category, and the share of all customers in it.
    Category { most_frequent: Box<str>, share: f64, missing_share: f64 },
    /// No customer has a value.
    Unknown,
}

/// One feature in which a segment differs from all customers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandoutFeature {
    /// Index into `Model::features`.
    pub feature: usize,
    /// The compared quantity: the value, the missing share, or one category's share.
    pub aspect: ColumnRole,
    /// Standardised mean difference in the encoded column: (mean here - mean of all
    /// customers) / their standard deviation. Positive: higher or more frequent here.
    pub contrast: f64,
}

/// A segment by its id, with its name in one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedSegment {
    /// `seg_…` for a learned segment, the id of a segment of the rule-based fallback, or
    /// [`UNASSIGNED`].
    pub id: Box<str>,
    pub name: Box<str>,
}

impl NamedSegment {
    /// A segment of the rule-based fallback, or the place of customers in no segment.
    pub(crate) fn of_rules(id: &str) -> Self {
        Self { id: id.into(), name: rfm::segment_name(id).unwrap_or(id).into() }
    }

    /// The place of customers in no segment.
    pub(crate) fn unassigned() -> Self {
        Self::of_rules(UNASSIGNED)
    }
}

impl From<&ModelSegment> for NamedSegment {
    fn from(segment: &ModelSegment) -> Self {
        Self { id: segment.id.clone(), name: segment.name.clone() }
    }
}

/// The id of a new segment: the first 64 bits of the SHA-256 of its origin and its position in
/// the model, from 1. Deterministic, and practically unique.
pub(in crate::domain) fn new_segment_id(origin: &str, position: usize) -> Box<str> {
    let digest = Sha256::digest(format!("{origin}/{position}"));
    format!("seg_{}", &encode_hex(&digest)[..16]).into()
}

/// Validates the ids and names of a model's segments: syntax and uniqueness.
pub(super) fn check_names(segments: &[ModelSegment]) -> Result<(), &'static str> {
    let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
    for ModelSegment { id, name, .. } in segments {
        if !id.strip_prefix("seg_").is_some_and(is_plain_id) || !ids.insert(&**id) {
            return Err("segment ids must be unique and match seg_[a-z0-9_]{1,32}");
        }
        if name.is_empty() || !names.insert(&**name) {
            return Err("segment names must be unique and not empty");
        }
    }
    Ok(())
}

/// Whether a text matches `[a-z0-9_]{1,32}`.
fn is_plain_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// The columns in which customers with the mean `here` differ most, strongest first: at most
/// one per feature, and none with a contrast below a quarter of a standard deviation.
///
/// `mean` and `deviation` describe each column over all training rows.
pub(in crate::domain) fn find_standouts(
    columns: &[EncodedColumn],
    here: &[f64],
    mean: &[f64],
    deviation: &[f64],
) -> Vec<StandoutFeature> {
    let mut strongest: BTreeMap<usize, StandoutFeature> = BTreeMap::new();
    for (index, column) in columns.iter().enumerate() {
        if deviation[index] <= 0.0 {
            continue;
        }
        let contrast = (here[index] - mean[index]) / deviation[index];
        // A category counts only if it is overrepresented: "rarely web" says less than the
        // categories chosen instead.
        let is_informative = column.role == ColumnRole::Value || contrast > 0.0;
        let known = strongest.get(&column.feature).map_or(LEAST_CONTRAST, |s| s.contrast.abs());
        if is_informative && contrast.abs() > known {
            let standout =
                StandoutFeature { feature: column.feature, aspect: column.role.clone(), contrast };
            strongest.insert(column.feature, standout);
        }
    }
    let mut ordered: Vec<StandoutFeature> = strongest.into_values().collect();
    ordered.sort_by(|a, b| b.contrast.abs().total_cmp(&a.contrast.abs()));
    ordered
}

/// Unique names of all segments.
pub(in crate::domain) fn name_segments(
    features: &[FeatureDefinition],
    standouts: &[Vec<StandoutFeature>],
) -> Vec<Box<str>> {
    let mut names: Vec<String> =
        standouts.iter().map(|all| name(features, all, NAME_FEATURES)).collect();
    // Equal names get more features one at a time, so that they stay as short as possible.
    for length in NAME_FEATURES + 1..=NAME_FEATURES_AT_MOST {
        for segment in duplicates(&names) {
            names[segment] = name(features, &standouts[segment], length);
        }
    }
    // Positions are unique, so the last names become unique too.
    for segment in duplicates(&names) {
        names[segment] = format!("{} ({})", names[segment], segment + 1);
    }
    names.into_iter().map(String::into_boxed_str).collect()
}

fn name(features: &[FeatureDefinition], standouts: &[StandoutFeature], length: usize) -> String {
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
    if parts.is_empty() { "average".into() } else { parts.join(", ") }
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
