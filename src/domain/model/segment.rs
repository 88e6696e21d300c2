//! Segment description for people: name, size, typical values and standout features.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::encode::{ColumnRole, EncodedColumn};
use crate::domain::feature::rfm;
use crate::domain::id::encode_hex;
use crate::domain::model::score::UNASSIGNED;
use crate::domain::stats::{ColumnMoments, Estimate, group_contrast};

/// Least contrast of a standout feature: a quarter of a standard deviation from the mean
/// of all customers.
const LEAST_CONTRAST: f64 = 0.25;
/// Longest part of an id after `seg_`, in bytes.
const LONGEST_ID: usize = 32;

/// One learned segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSegment {
    /// Stable identifier over all trainings, of the form `seg_[a-z0-9_]{1,32}`.
    pub id: Box<str>,
    /// Unique within the model: `Loyal Customers`, or `High spend`.
    pub name: Box<str>,
    /// Training rows (fitted and held out) that score into the segment.
    pub size: u64,
    /// `size` / all training rows.
    pub share: f64,
    /// One entry per feature that is not sensitive, in the order of the features.
    pub profile: Vec<FeatureProfile>,
    /// Differences from the mean of all customers, strongest first.
    pub standouts: Vec<StandoutFeature>,
    /// `None` without RFM features in the training spec, if the monetary one is sensitive, and where
    /// [`GroupTotal`](crate::domain::stats::GroupTotal) has no share.
    pub revenue: Option<SegmentRevenue>,
    /// `None` without a reliable model of customer value, and for fewer than 30 customers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<SegmentValue>,
}

/// Forecasts for the customers of a segment, at training. The errors are those of the customers' spread,
/// not of the forecasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentValue {
    /// Mean probability that a customer has left for good.
    pub churn_probability: Estimate,
    /// Mean number of days with an order in the next 365 days.
    pub orders: Estimate,
    /// Share of the predicted spend of all customers, in the next 365 days.
    pub spend_share: Estimate,
    /// Mean predicted spend of a customer in the next 365 days, in the unit of the value model.
    pub spend: Estimate,
    /// Share of the segment's predicted spend from its most valuable fifth of customers.
    pub top_fifth_share: Option<f64>,
    /// Mean of predicted spend times churn probability.
    pub value_at_risk: Estimate,
}

impl SegmentValue {
    pub(in crate::domain) fn is_sound(&self) -> bool {
        let estimates =
            [self.churn_probability, self.orders, self.spend_share, self.spend, self.value_at_risk];
        estimates.iter().all(Estimate::is_sound) && self.top_fifth_share.is_none_or(f64::is_finite)
    }
}

/// A segment's share of the revenue: of the total of the monetary feature of the RFM segments over the
/// training rows. A missing value counts as 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentRevenue {
    /// Index of the monetary feature in `Model::features`.
    pub feature: usize,
    pub share: Estimate,
    /// Mean per customer, in the feature's unit.
    pub mean: Estimate,
    /// Share of the segment's revenue from its highest-spending fifth of customers; `None` if the
    /// segment has no revenue, or a customer with a negative one.
    pub top_fifth_share: Option<f64>,
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
    /// Value of an example customer: the mean, or the most frequent category, of the ten training
    /// rows nearest to the segment's centre (of several centres, the one with most rows). Unknown if
    /// fewer than five of them have it; `None` if no centre has ten rows.
    pub typical_customer: Option<TypicalValue>,
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
    /// Standard error of `contrast`, with the standard deviation of all customers as known.
    pub standard_error: f64,
}

impl StandoutFeature {
    /// The 95 % confidence interval of the contrast: lower and upper bound.
    pub fn contrast_interval(&self) -> [f64; 2] {
        Estimate { value: self.contrast, standard_error: self.standard_error }.interval()
    }
}

impl TypicalValue {
    /// Mean of the known numbers; `None` for categories.
    pub fn mean(&self) -> Option<f64> {
        match self {
            Self::Number { mean, .. } => Some(*mean),
            Self::Category { .. } | Self::Unknown => None,
        }
    }
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

/// The columns in which the customers of a segment differ most from all, strongest first: at most
/// one per feature, and none with a contrast below a quarter of a standard deviation.
pub(in crate::domain) fn find_standouts(
    columns: &[EncodedColumn],
    segment: &[ColumnMoments],
    all: &[ColumnMoments],
) -> Vec<StandoutFeature> {
    let mut strongest: BTreeMap<usize, StandoutFeature> = BTreeMap::new();
    for ((column, here), all) in columns.iter().zip(segment).zip(all) {
        if all.deviation <= 0.0 {
            continue;
        }
        let Estimate { value: contrast, standard_error } = group_contrast(*here, *all);
        // A category counts only if it is overrepresented: "rarely web" says less than the
        // categories chosen instead.
        let is_informative = column.role == ColumnRole::Value || contrast > 0.0;
        let known = strongest.get(&column.feature).map_or(LEAST_CONTRAST, |s| s.contrast.abs());
        if is_informative && contrast.abs() > known {
            let aspect = column.role.clone();
            let feature = column.feature;
            strongest
                .insert(feature, StandoutFeature { feature, aspect, contrast, standard_error });
        }
    }
    let mut ordered: Vec<StandoutFeature> = strongest.into_values().collect();
    ordered.sort_by(|a, b| b.contrast.abs().total_cmp(&a.contrast.abs()));
    ordered
}
