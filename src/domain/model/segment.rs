//! What a segment looks like to people: its size, its label, its typical values.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::encode::{Column, Role};
use crate::domain::feature::FeatureDef;
use crate::domain::id::hex;
use crate::domain::model::score::UNASSIGNED;

/// Contrasts below this do not make it into a label: the segment is within a
/// quarter of a standard deviation of everybody.
const LEAST_CONTRAST: f64 = 0.25;
const LABEL_FEATURES: usize = 2;
/// Of a key, and of what follows `seg_` in an id.
const LONGEST_NAME: usize = 32;
/// When two segments would share a label, this many features tell them apart.
const LABEL_FEATURES_AT_MOST: usize = 4;

/// One learned segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// What it is through all retrainings: `seg_` and a few letters and digits.
    pub id: Box<str>,
    /// Its short name: of a first model's segments `s1` is the largest, `s2` the
    /// next …
    pub key: Box<str>,
    /// In words: `high spend, low recency`. No two segments of a model share one.
    pub label: Box<str>,
    /// Training rows (fitted and held out) that score into it.
    pub size: u64,
    /// `size` / all training rows.
    pub share: f64,
    /// One entry for every feature that is not sensitive, in their order.
    pub profile: Vec<Profile>,
    /// How this segment differs from everybody, strongest first.
    pub standouts: Vec<Standout>,
}

/// One feature in one segment, in the feature's own unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Index into `Model::features`.
    pub feature: usize,
    pub here: Typical,
    /// The same over all training rows.
    pub everybody: Typical,
}

/// Typical values of one feature over some customers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Typical {
    /// Over the customers whose value is known.
    Number { mean: f64, median: f64, missing_share: f64 },
    /// The most frequent category, and the share of all customers in it.
    Category { most_frequent: Box<str>, share: f64, missing_share: f64 },
    /// Nobody has a value.
    Unknown,
}

/// One way in which a segment differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standout {
    /// Index into `Model::features`.
    pub feature: usize,
    /// What is compared: the value, its being missing, or one category's share.
    pub aspect: Role,
    /// (mean here - mean of all customers) / their standard deviation, in the
    /// encoded column; positive: higher or more often here.
    pub contrast: f64,
}

/// The names of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentName {
    pub id: Box<str>,
    pub key: Box<str>,
}

impl SegmentName {
    /// The id of a new segment, from what it is made of: as unlikely to be met
    /// again as two documents of one address.
    pub(in crate::domain) fn new(origin: &str, key: &str) -> Self {
        let digest = Sha256::digest(format!("{origin}/{key}"));
        Self { id: format!("seg_{}", &hex(&digest)[..16]).into(), key: key.into() }
    }
}

/// What is wrong with the names of a model's segments.
pub(super) fn check_names(segments: &[Segment]) -> Result<(), &'static str> {
    let is_plain = |name: &str, longest: usize| {
        (1..=longest).contains(&name.len())
            && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    let mut ids = BTreeSet::new();
    let mut keys = BTreeSet::from([UNASSIGNED]);
    for Segment { id, key, .. } in segments {
        let rest = id.strip_prefix("seg_");
        if !rest.is_some_and(|rest| is_plain(rest, LONGEST_NAME)) || !ids.insert(&**id) {
            return Err("segments must have ids of their own: seg_ and [a-z0-9_]{1,32}");
        }
        if !is_plain(key, LONGEST_NAME) || !keys.insert(key) {
            return Err(
                "segments must have keys of their own in [a-z0-9_]{1,32}, not `unassigned`",
            );
        }
    }
    Ok(())
}

/// The columns in which customers with the mean `here` differ, strongest first; at
/// most one a feature, none with a contrast below a quarter of a standard deviation.
///
/// `mean` and `deviation` describe each column over all training rows.
pub(in crate::domain) fn standouts(
    columns: &[Column],
    here: &[f64],
    mean: &[f64],
    deviation: &[f64],
) -> Vec<Standout> {
    let mut strongest: BTreeMap<usize, Standout> = BTreeMap::new();
    for (place, column) in columns.iter().enumerate() {
        if deviation[place] <= 0.0 {
            continue;
        }
        let contrast = (here[place] - mean[place]) / deviation[place];
        // "Rarely web" says less than what the customers do instead.
        let telling = column.role == Role::Value || contrast > 0.0;
        let known = strongest.get(&column.feature).map_or(LEAST_CONTRAST, |s| s.contrast.abs());
        if telling && contrast.abs() > known {
            let standout =
                Standout { feature: column.feature, aspect: column.role.clone(), contrast };
            strongest.insert(column.feature, standout);
        }
    }
    let mut ordered: Vec<Standout> = strongest.into_values().collect();
    ordered.sort_by(|a, b| b.contrast.abs().total_cmp(&a.contrast.abs()));
    ordered
}

/// One label a segment, in words and all different.
pub(in crate::domain) fn labels(
    features: &[FeatureDef],
    standouts: &[Vec<Standout>],
    names: &[SegmentName],
) -> Vec<Box<str>> {
    let mut labels: Vec<String> =
        standouts.iter().map(|all| words(features, all, LABEL_FEATURES)).collect();
    for length in LABEL_FEATURES + 1..=LABEL_FEATURES_AT_MOST {
        for segment in shared(&labels) {
            labels[segment] = words(features, &standouts[segment], length);
        }
    }
    for segment in shared(&labels) {
        labels[segment] = format!("{} ({})", labels[segment], names[segment].key);
    }
    labels.into_iter().map(String::into_boxed_str).collect()
}

fn words(features: &[FeatureDef], standouts: &[Standout], length: usize) -> String {
    let mut subjects: Vec<String> = Vec::new();
    let mut parts: Vec<String> = Vec::new();
    for standout in standouts {
        let subject = subject(&features[standout.feature].title);
        if parts.len() == length || subjects.contains(&subject) {
            continue;
        }
        parts.push(match &standout.aspect {
            Role::Value if standout.contrast > 0.0 => format!("high {subject}"),
            Role::Value => format!("low {subject}"),
            Role::Missing => format!("unknown {subject}"),
            Role::Category(category) => format!("{subject} {category}"),
            Role::Other => format!("other {subject}"),
        });
        subjects.push(subject);
    }
    if parts.is_empty() { "average".into() } else { parts.join(", ") }
}

/// A title within a sentence, without what qualifies it after a comma:
/// `Spend, 365 days` → `spend`, but `RFM score` stays.
fn subject(title: &str) -> String {
    let title = title.split(',').next().unwrap_or(title).trim_end();
    let mut chars = title.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain([second]).chain(chars).collect()
        }
        _ => title.into(),
    }
}

/// Indices of the labels that occur more than once.
fn shared(labels: &[String]) -> Vec<usize> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for label in labels {
        *counts.entry(label).or_default() += 1;
    }
    (0..labels.len()).filter(|i| counts[labels[*i].as_str()] > 1).collect()
}
