//! Interval arithmetic through a projection: a box of encoded vectors maps into a box that
//! contains all their images.
//!
//! The bounding box is larger than the exact image, because a rotation correlates columns
//! and a box ignores correlations. So every bound stays valid but is looser: a customer of
//! a projected model is rescored earlier than necessary, never later.

use crate::domain::encode::{LinearProjection, MAX_ENCODED};
use crate::domain::model::bounds::interval::{ColumnInterval, ENCODED_ROUNDING, UNIT_ROUNDING};

/// Computes the interval of each projected column while the columns of `vector` vary within
/// `intervals`. Returns `false` if there is no useful bound.
pub(crate) fn project_intervals(
    projection: &LinearProjection,
    vector: &[f32],
    intervals: &[ColumnInterval],
    image: &mut Vec<ColumnInterval>,
) -> bool {
    image.clear();
    let mut rows = projection.rows().peekable();
    if rows.peek().is_none() {
        // Without a matrix, only the length is changed.
        let points = vector.iter().enumerate();
        image.extend(points.map(|(column, x)| ColumnInterval::point(column, *x)));
        for interval in intervals {
            image[interval.column] = *interval;
        }
    } else {
        let rounding = (vector.len() as f64 / 8.0 + 16.0) * UNIT_ROUNDING;
        for (column, row) in rows.enumerate() {
            let (mut low, mut size) = (0.0, 0.0);
            for ((x, centre), entry) in vector.iter().zip(projection.centre()).zip(row) {
                let part = f64::from(*entry) * (f64::from(*x) - f64::from(*centre));
                low += part;
                size += part.abs();
            }
            let mut high = low;
            for interval in intervals {
                let entry = f64::from(row[interval.column]);
                let at = f64::from(vector[interval.column]);
                // A negative entry exchanges the ends.
                let ends = (entry * (interval.low - at), entry * (interval.high - at));
                low += ends.0.min(ends.1);
                high += ends.0.max(ends.1);
                size += ends.0.abs().max(ends.1.abs());
            }
            // Widen by the rounding error of the scorer's sum in `f32`, anywhere in the box.
            let error = rounding * size;
            image.push(ColumnInterval { column, low: low - error, high: high + error });
        }
    }
    // The scorer clips at this size, which the intervals do not model.
    let bound = f64::from(MAX_ENCODED);
    if image.iter().any(|y| y.low <= -bound || y.high >= bound) {
        return false;
    }
    !projection.is_unit() || to_unit_length(image)
}

/// Divides each interval by the interval of the vector's length.
fn to_unit_length(image: &mut [ColumnInterval]) -> bool {
    // Shortest and longest vector of the box: per column the value nearest to 0, and the
    // end farthest from it.
    let least = image.iter().map(|y| 0.0_f64.clamp(y.low, y.high).powi(2)).sum::<f64>().sqrt();
    let most = image.iter().map(|y| y.low.powi(2).max(y.high.powi(2))).sum::<f64>().sqrt();
    // If the box contains the origin, directions are unbounded.
    if least <= f64::from(f32::MIN_POSITIVE) {
        return false;
    }
    for y in image {
        // The divisor that moves each end outwards depends on its sign.
        let low = y.low / if y.low < 0.0 { least } else { most };
        let high = y.high / if y.high < 0.0 { most } else { least };
        y.low = (low - ENCODED_ROUNDING * low.abs()).max(-1.0 - ENCODED_ROUNDING);
        y.high = (high + ENCODED_ROUNDING * high.abs()).min(1.0 + ENCODED_ROUNDING);
    }
    true
}
