//! What a verdict becomes when it is stored: one assignment.

use crate::domain::feature::FeatureRow;
use crate::domain::model::Scratch;
use crate::domain::time::Timestamp;
use crate::service::live::Lineup;
use crate::store::assignments::Assignment;

/// Scores one row for storing.
pub fn assign(
    lineup: &Lineup,
    row: &FeatureRow,
    scratch: &mut Scratch,
    now: Timestamp,
) -> Assignment {
    let verdict = lineup.score(row, scratch);
    Assignment {
        model: verdict.model.cloned(),
        segment: verdict.segment.to_owned(),
        distance: verdict.score.map(|score| score.distance),
        p_value: verdict.score.map(|score| score.p_value),
        confidence: verdict.score.map(|score| score.confidence()),
        outlier: verdict.outlier,
        generation: lineup.generation,
        assigned_at: now,
    }
}
