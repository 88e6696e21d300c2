//! RFM baseline: segments from quantiles, with which every candidate is compared.
//!
//! Customers are scored 1 to 5 by recency, frequency and monetary value, and named by the same
//! table as the rule-based fallback. *Ties:* equal values share their mid-rank, and the fifth that
//! contains it is their score. Equal customers are thus never separated, and a feature that is 1
//! for most customers gives fewer than five scores instead of arbitrary ones.

use serde::{Deserialize, Serialize};

use crate::domain::feature::rfm::{RfmInput, RfmRules, SEGMENTS};
use crate::domain::feature::{FeatureDefinition, FeatureRow, FeatureValue};
use crate::domain::stats;
use crate::domain::train::evaluation::external_indices::SegmentLabel;

/// Features for recency, frequency and monetary value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RfmFeatures {
    pub recency: Box<str>,
    pub frequency: Box<str>,
    pub monetary: Box<str>,
}

/// A segment of the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BaselineSegment {
    /// Key of the segment.
    pub segment: &'static str,
    pub rows: u64,
}

/// RFM rules fitted to rows.
#[derive(Debug, Clone, PartialEq)]
pub struct RfmBaseline {
    rules: RfmRules,
}

impl RfmBaseline {
    /// Sets the cuts at the quintiles of `rows`. `None` if a feature is not in `defs` or has no
    /// value.
    pub fn fit(
        features: &RfmFeatures,
        defs: &[FeatureDefinition],
        rows: &[&FeatureRow],
    ) -> Option<Self> {
        let recency = fit_feature(&features.recency, defs, rows)?;
        let frequency = fit_feature(&features.frequency, defs, rows)?;
        let monetary = fit_feature(&features.monetary, defs, rows)?;
        Some(Self { rules: RfmRules { recency, frequency, monetary } })
    }

    pub fn rules(&self) -> &RfmRules {
        &self.rules
    }

    /// Label of each row: the segment's position in `SEGMENTS`.
    pub fn labels(&self, rows: &[&FeatureRow]) -> Vec<SegmentLabel> {
        rows.iter().map(|row| u32::try_from(self.rules.score_row(row).index).ok()).collect()
    }

    /// Each segment with rows, best first.
    pub fn sizes(labels: &[SegmentLabel]) -> Vec<BaselineSegment> {
        let mut sizes = [0_u64; SEGMENTS.len()];
        for label in labels.iter().flatten() {
            if let Some(size) = sizes.get_mut(*label as usize) {
                *size += 1;
            }
        }
        let keys = SEGMENTS.iter().map(|(key, _)| *key);
        let segments = keys.zip(sizes).map(|(segment, rows)| BaselineSegment { segment, rows });
        segments.filter(|segment| segment.rows > 0).collect()
    }
}

/// Score of one feature, with cuts at the quintiles of its values.
fn fit_feature(name: &str, defs: &[FeatureDefinition], rows: &[&FeatureRow]) -> Option<RfmInput> {
    let index = defs.iter().position(|def| &*def.name == name)?;
    let mut numbers = Vec::new();
    for row in rows {
        if let Some(FeatureValue::Number(number)) = row.0.get(index) {
            numbers.push(*number);
        }
    }
    let cuts = cuts(&stats::sorted(&numbers))?;
    Some(RfmInput { feature: name.into(), index, cuts })
}

/// Quintile cuts: for 0.2, 0.4, 0.6 and 0.8, the largest value whose mid-rank, as a share of
/// the rows, is at most that; below all values if there is none. A value equal to a cut is in
/// the lower class. `None` without values.
fn cuts(ascending: &[f64]) -> Option<[f64; 4]> {
    // A cut below every value, for fifths without any mid-rank.
    let below_all = ascending.first()?.next_down();
    let mut cuts = [below_all; 4];
    let mut rank = 0;
    for equal in ascending.chunk_by(|a, b| a.total_cmp(b).is_eq()) {
        let middle = (rank as f64 + equal.len() as f64 / 2.0) / ascending.len() as f64;
        rank += equal.len();
        for (cut, fifth) in cuts.iter_mut().zip([0.2, 0.4, 0.6, 0.8]) {
            if middle <= fifth {
                *cut = equal[0];
            }
        }
    }
    Some(cuts)
}
