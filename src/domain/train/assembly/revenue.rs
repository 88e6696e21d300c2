//! Each segment's share of the revenue in the training rows.

use crate::domain::feature::{FeatureDefinition, FeatureRow, FeatureValue, Sensitivity};
use crate::domain::model::SegmentRevenue;
use crate::domain::stats::GroupTotal;
use crate::domain::train::selection::baseline::RfmFeatures;

/// The revenue of each segment by the monetary feature; `segment_of`: the segment of each row, if
/// any.
pub(super) fn segment_revenues(
    features: Option<&RfmFeatures>,
    defs: &[FeatureDefinition],
    rows: &[FeatureRow],
    segment_of: &[Option<usize>],
    segments: usize,
) -> Vec<Option<SegmentRevenue>> {
    let is_shown = |def: &FeatureDefinition| def.sensitivity != Sensitivity::Sensitive;
    let monetary = features
        .and_then(|rfm| defs.iter().position(|def| def.name == rfm.monetary && is_shown(def)));
    let Some(feature) = monetary else { return vec![None; segments] };
    let mut amounts = Vec::with_capacity(rows.len());
    for row in rows {
        amounts.push(match row.0.get(feature) {
            Some(FeatureValue::Number(amount)) => *amount,
            _ => 0.0,
        });
    }
    (0..segments)
        .map(|segment| {
            let total = GroupTotal::measure(&amounts, |row| segment_of[row] == Some(segment))?;
            let GroupTotal { share, mean, top_fifth_share } = total;
            Some(SegmentRevenue { feature, share, mean, top_fifth_share })
        })
        .collect()
}
