//! Where a box of encoded vectors goes through a projection: a box again, which
//! holds every image but is larger than the figure they make.
//!
//! A rotation ties columns together, and the box forgets the ties; what is told
//! of it holds for the figure inside. So a customer behind a projection is looked
//! at sooner than need be, never later.

use crate::domain::encode::{MAX_ENCODED, Projection};
use crate::domain::model::bounds::{ENCODED_ROUNDING, Moved, UNIT_ROUNDING};

/// The range of each column of the image while the columns of `vector` move as
/// `spans` say. `false`: it cannot be told.
pub(crate) fn image(
    projection: &Projection,
    vector: &[f32],
    spans: &[Moved],
    image: &mut Vec<Moved>,
) -> bool {
    image.clear();
    let mut rows = projection.rows().peekable();
    if rows.peek().is_none() {
        image.extend(vector.iter().enumerate().map(|(column, x)| Moved::still(column, *x)));
        for span in spans {
            image[span.column] = *span;
        }
    } else {
        let rounding = (vector.len() as f64 / 8.0 + 16.0) * UNIT_ROUNDING;
        let centred = || vector.iter().zip(projection.centre());
        for (column, row) in rows.enumerate() {
            let (mut low, mut size) = (0.0, 0.0);
            for ((x, centre), entry) in centred().zip(row) {
                let part = f64::from(*entry) * (f64::from(*x) - f64::from(*centre));
                low += part;
                size += part.abs();
            }
            let mut high = low;
            for span in spans {
                let (entry, at) = (f64::from(row[span.column]), f64::from(vector[span.column]));
                let ends = (entry * (span.low - at), entry * (span.high - at));
                low += ends.0.min(ends.1);
                high += ends.0.max(ends.1);
                size += ends.0.abs().max(ends.1.abs());
            }
            // What the sum in `f32` may lose, wherever in the box.
            image.push(Moved { column, low: low - rounding * size, high: high + rounding * size });
        }
    }
    let bound = f64::from(MAX_ENCODED);
    if image.iter().any(|y| y.low <= -bound || y.high >= bound) {
        return false;
    }
    !projection.is_unit() || to_unit_length(image)
}

/// Divides each range by the range of the length.
fn to_unit_length(image: &mut [Moved]) -> bool {
    let least = image.iter().map(|y| 0.0_f64.clamp(y.low, y.high).powi(2)).sum::<f64>().sqrt();
    let most = image.iter().map(|y| y.low.powi(2).max(y.high.powi(2))).sum::<f64>().sqrt();
    if least <= f64::from(f32::MIN_POSITIVE) {
        return false;
    }
    for y in image {
        let low = y.low / if y.low < 0.0 { least } else { most };
        let high = y.high / if y.high < 0.0 { most } else { least };
        let widened = |x: f64| ENCODED_ROUNDING * x.abs();
        y.low = (low - widened(low)).max(-1.0 - ENCODED_ROUNDING);
        y.high = (high + widened(high)).min(1.0 + ENCODED_ROUNDING);
    }
    true
}
