//! Bodies of drift within segments.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::drift::statistics::MeanShiftBody;
use crate::api::named_segment::NamedSegmentBody;
use crate::domain::drift::{SegmentDriftFigures, SegmentFeatureChange, SegmentFeatureShift};

/// Change of the customers of one segment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SegmentDriftBody {
    segment: NamedSegmentBody,
    /// Rows in the segment at training.
    #[schema(example = 400)]
    rows_before: u64,
    /// Rows in the segment now.
    #[schema(example = 380)]
    rows_now: u64,
    /// Distance between the mean rows at training and now, relative to the spread of the segment
    /// at training; null if a side has no rows.
    #[schema(example = 0.12)]
    movement: Option<f64>,
    /// Root mean square of `movement` if nothing has changed.
    #[schema(example = 0.07)]
    movement_by_chance: Option<f64>,
    /// Shift of the distance to the segment, not corrected for multiple tests; null with too few
    /// rows.
    distance: Option<MeanShiftBody>,
    /// The features that the model reads.
    features: Vec<SegmentFeatureShiftBody>,
}

/// Change of one feature in one segment.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentFeatureShiftBody {
    /// Name of the feature.
    #[schema(example = "spend_365d")]
    feature: Box<str>,
    /// The encoded column of `d`: the number, or the category with the largest change.
    #[schema(example = "spend_365d")]
    column: Box<str>,
    /// Effect size. For a number Glass's delta, the shift of the mean in standard deviations of the
    /// segment at training; for a category Cohen's h.
    #[schema(example = 0.4)]
    d: f64,
    /// Shift of the mean of a number in the unit of the feature; null for a category, and if the
    /// model reads the number through a nonlinear transformation.
    #[schema(example = 21.5)]
    in_unit: Option<f64>,
    /// The category; null for a number, and for all categories too rare at training for a column
    /// of their own.
    category: Option<Box<str>>,
    /// Share of the category at training, of the rows with a known value; null for a number.
    share_before: Option<f64>,
    /// Share of the category now, of the rows with a known value; null for a number.
    share_now: Option<f64>,
    /// p-value of Welch's test for a number, of a chi-square test over all categories otherwise;
    /// null with too few rows.
    #[schema(example = 0.001)]
    p_value: Option<f64>,
    /// The p-value after the correction for multiple tests; null with too few rows.
    #[schema(example = 0.004)]
    adjusted_p_value: Option<f64>,
}

impl From<&SegmentDriftFigures> for SegmentDriftBody {
    fn from(figures: &SegmentDriftFigures) -> Self {
        Self {
            segment: figures.segment.clone().into(),
            rows_before: figures.rows_before,
            rows_now: figures.rows_now,
            movement: figures.movement,
            movement_by_chance: figures.movement_by_chance,
            distance: figures.distance.as_ref().map(Into::into),
            features: figures.features.iter().map(Into::into).collect(),
        }
    }
}

impl From<&SegmentFeatureShift> for SegmentFeatureShiftBody {
    fn from(shift: &SegmentFeatureShift) -> Self {
        let mut body = Self {
            feature: shift.feature.clone(),
            column: shift.column.clone(),
            d: shift.d,
            in_unit: None,
            category: None,
            share_before: None,
            share_now: None,
            p_value: shift.p_value,
            adjusted_p_value: shift.adjusted_p_value,
        };
        match &shift.moved {
            SegmentFeatureChange::Number { in_unit } => body.in_unit = *in_unit,
            SegmentFeatureChange::Category { category, share_before, share_now } => {
                body.category.clone_from(category);
                body.share_before = Some(*share_before);
                body.share_now = Some(*share_now);
            }
        }
        body
    }
}
