//! Each segment's share of the revenue in the training rows.

use crate::domain::feature::FeatureValue;
use crate::domain::model::SegmentRevenue;
use crate::domain::stats::GroupTotal;
use crate::domain::train::assembly::segment_rows::SegmentRows;
use crate::domain::train::selection::baseline::RfmFeatures;

/// The revenue of each segment by the monetary feature of `rfm`.
pub(super) fn segment_revenues(
    rfm: Option<&RfmFeatures>,
    described: SegmentRows<'_>,
) -> Vec<Option<SegmentRevenue>> {
    let SegmentRows { features, rows, segment_of, segments } = described;
    let monetary = rfm.and_then(|rfm| features.iter().position(|def| def.name == rfm.monetary));
    let Some(feature) = monetary.filter(|feature| described.is_shown(*feature)) else {
        return vec![None; segments];
    };
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
