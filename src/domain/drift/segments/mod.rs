//! Drift within segments: changes of the customers of a segment that the segment sizes do
//! not show.

pub(crate) mod churn;
pub(crate) mod sums;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::drift::dependence::{DesignEffects, WindowDependence};
use crate::domain::drift::output_shift::most_changed;
use crate::domain::drift::segments::sums::{DeviationScale, DeviationUnits, SegmentSums};
use crate::domain::drift::statistics::chi_square::ChiSquareTest;
use crate::domain::drift::statistics::contingency_table::{ContingencyTable, shares};
use crate::domain::drift::statistics::welch::{ColumnSample, MeanShift};
use crate::domain::encode::{ColumnRole, EncodedColumn};
use crate::domain::model::{Model, NamedSegment};

/// Rows that a segment needs for tests, at training and now. With fewer, figures are
/// reported without a p-value.
pub const MINIMUM_SEGMENT_ROWS: u64 = 30;

/// Drift figures of one segment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentDriftFigures {
    pub segment: NamedSegment,
    pub rows_before: u64,
    pub rows_now: u64,
    /// Distance between the mean rows at training and now, in encoded units, divided by
    /// the spread: the root of the sum of the columns' variances at training.
    pub movement: Option<f64>,
    /// Root mean square of `movement` under the null hypothesis.
    pub movement_by_chance: Option<f64>,
    /// Shift of the distance to the segment. It is not corrected for multiple tests,
    /// because the distances over all segments are tested instead.
    pub distance: Option<MeanShift>,
    /// Features that the model reads.
    pub features: Vec<SegmentFeatureShift>,
}

/// One feature in one segment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentFeatureShift {
    /// Name of the feature.
    pub feature: Box<str>,
    /// The encoded column to which `d` refers: the number, or the category with the
    /// largest change of its share.
    pub column: Box<str>,
    /// Effect size. For a number Glass's delta (1976): the shift of the mean in standard
    /// deviations of the segment's training rows. For a category Cohen's h (1988), which
    /// has the same customary bounds.
    pub d: f64,
    #[serde(flatten)]
    pub moved: SegmentFeatureChange,
    /// Welch's test for a number, chi-square over all categories otherwise; `None` with
    /// too few rows.
    pub p_value: Option<f64>,
    /// The p-value after the multiple-testing correction.
    pub adjusted_p_value: Option<f64>,
    /// Index into `Model::features`.
    #[serde(skip)]
    pub(crate) feature_index: usize,
}

/// The change in the unit of the feature.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum SegmentFeatureChange {
    Number {
        /// Shift of the mean in the feature's unit, exact up to clipping; `None` if the
        /// model reads the feature through a nonlinear transformation.
        in_unit: Option<f64>,
    },
    Category {
        /// `None`: all categories too rare at training for a column of their own.
        category: Option<Box<str>>,
        /// Share of the rows with a known value.
        share_before: f64,
        share_now: f64,
    },
}

/// Sums over the columns of one segment, with their training moments.
struct SegmentComparison<'a> {
    model: &'a Model,
    /// Design effects by index into `Model::features`.
    effects_of: &'a BTreeMap<usize, DesignEffects>,
    scales: &'a [DeviationScale],
    trained: f64,
    rows: f64,
    sums: &'a [f64],
    squares: &'a [f64],
}

/// Computes the drift figures of every segment.
pub(crate) fn figures(
    model: &Model,
    by: &DeviationUnits,
    inside: &SegmentSums,
    dependence: &WindowDependence,
) -> Vec<SegmentDriftFigures> {
    let segments = model.segments().iter().enumerate();
    let width = by.width();
    let baseline = model.drift_baseline().features.iter();
    let by_feature: BTreeMap<usize, DesignEffects> = baseline
        .zip(&dependence.features)
        .map(|(feature, dependence)| (feature.feature, dependence.values))
        .collect();
    segments
        .map(|(index, segment)| {
            let columns = index * width..(index + 1) * width;
            let here = SegmentComparison {
                model,
                effects_of: &by_feature,
                scales: by.scales(index),
                trained: segment.size as f64,
                rows: inside.rows[index] as f64,
                sums: &inside.sums[columns.clone()],
                squares: &inside.squares[columns],
            };
            let is_enough = inside.rows[index].min(segment.size) >= MINIMUM_SEGMENT_ROWS;
            let distance =
                here.shift(width - 1, dependence.outputs.distances).filter(|_| is_enough);
            let by_chance = (1.0 / here.trained + 1.0 / here.rows).sqrt();
            let movement = here.movement();
            SegmentDriftFigures {
                segment: segment.into(),
                rows_before: segment.size,
                rows_now: inside.rows[index],
                movement,
                movement_by_chance: movement.map(|_| by_chance),
                distance,
                features: here.features(is_enough),
            }
        })
        .collect()
}

impl SegmentComparison<'_> {
    /// Normalised move of the segment's mean; `None` if a side has no rows, or if all
    /// training rows were equal.
    fn movement(&self) -> Option<f64> {
        let columns = self.scales.len() - 1;
        let scales = &self.scales[..columns];
        let spread: f64 = scales.iter().map(|scale| scale.deviation * scale.deviation).sum();
        if self.rows <= 0.0 || self.trained <= 0.0 || spread <= 0.0 {
            return None;
        }
        let moved = scales.iter().zip(self.sums).map(|(scale, sum)| scale.unit * sum / self.rows);
        Some((moved.map(|moved| moved * moved).sum::<f64>() / spread).sqrt())
    }

    fn shift(&self, column: usize, effects: DesignEffects) -> Option<MeanShift> {
        let (before, weight) = (effects.weight_before(), effects.weight_now());
        let (sum, squares) = (weight * self.sums[column], weight * self.squares[column]);
        let was_spread = self.scales[column].deviation > 0.0;
        let has_unit = self.scales[column].unit > 0.0;
        let now = ColumnSample { rows: weight * self.rows, sum, squares };
        MeanShift::of(before * self.trained, was_spread, now).filter(|_| has_unit)
    }

    fn features(&self, is_enough: bool) -> Vec<SegmentFeatureShift> {
        let columns = self.model.encoder().columns();
        let mut start = 0;
        let features = columns.chunk_by(|one, next| one.feature == next.feature);
        features
            .filter_map(|columns| {
                let first = start;
                start += columns.len();
                let mut found = match columns.first()?.role {
                    ColumnRole::Value => self.number(&columns[0], first),
                    ColumnRole::Category(_) | ColumnRole::Other => self.categories(columns, first),
                    ColumnRole::Missing => None,
                }?;
                found.p_value = found.p_value.filter(|_| is_enough);
                Some(found)
            })
            .collect()
    }

    fn number(&self, column: &EncodedColumn, index: usize) -> Option<SegmentFeatureShift> {
        let MeanShift { d, p_value } = self.shift(index, self.effects(column))?;
        let encoder = self.model.encoder();
        let at = encoder.numeric_columns().find(|number| number.column == index)?;
        let in_unit =
            encoder.number_per_column_unit(at).map(|unit| unit * self.scales[index].unit * d);
        let moved = SegmentFeatureChange::Number { in_unit };
        Some(SegmentFeatureShift { p_value: Some(p_value), ..self.feature(column, d, moved) })
    }

    /// Change of a categorical feature. Missing values are left out; `None` if a side has
    /// no known value.
    fn categories(&self, columns: &[EncodedColumn], first: usize) -> Option<SegmentFeatureShift> {
        let weight = self.model.encoder().category_weight(columns[0].feature)?;
        // An encoded column is the weight for rows of its category and 0 for all others, so
        // counts follow from the sums.
        let (mut before, mut now) = (Vec::new(), Vec::new());
        for index in first..first + columns.len() {
            let DeviationScale { mean, unit, .. } = self.scales[index];
            before.push(row_count(mean * self.trained, weight));
            now.push(row_count(mean * self.rows + unit * self.sums[index], weight));
        }
        let p_value = ContingencyTable::unordered(&before, &now, self.effects(&columns[0]))
            .map(|cells| ChiSquareTest::of(&cells).p_value);
        if before.iter().all(|count| *count == 0) || now.iter().all(|count| *count == 0) {
            return None;
        }
        let (before, now) = (shares(&before), shares(&now));
        // The category with the largest Cohen's h, not with the largest difference of shares.
        let angles_before: Vec<f64> = before.iter().copied().map(angle).collect();
        let angles_now: Vec<f64> = now.iter().copied().map(angle).collect();
        let changed = most_changed(&angles_before, &angles_now)?;
        let column = &columns[changed.index];
        let category = match &column.role {
            ColumnRole::Category(category) => Some(category.clone()),
            _ => None,
        };
        let (share_before, share_now) = (before[changed.index], now[changed.index]);
        let moved = SegmentFeatureChange::Category { category, share_before, share_now };
        let d = changed.now - changed.before;
        Some(SegmentFeatureShift { p_value, ..self.feature(column, d, moved) })
    }

    fn effects(&self, column: &EncodedColumn) -> DesignEffects {
        self.effects_of.get(&column.feature).copied().unwrap_or(DesignEffects::INDEPENDENT)
    }

    fn feature(
        &self,
        column: &EncodedColumn,
        d: f64,
        moved: SegmentFeatureChange,
    ) -> SegmentFeatureShift {
        SegmentFeatureShift {
            feature: self.model.features()[column.feature].name.clone(),
            column: column.name.clone(),
            d,
            moved,
            p_value: None,
            adjusted_p_value: None,
            feature_index: column.feature,
        }
    }
}

/// Number of rows behind the sum of a category's encoded column.
fn row_count(sum: f64, weight: f64) -> u64 {
    (sum / weight).round().max(0.0) as u64
}

/// Arcsine transformation of a share: Cohen's h is a difference of two such angles.
fn angle(share: f64) -> f64 {
    2.0 * share.clamp(0.0, 1.0).sqrt().asin()
}
