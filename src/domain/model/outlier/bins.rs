//! Bins of an encoded column, for its histogram.

use crate::domain::encode::MAX_ENCODED;

/// Bins per column, of equal width; the outer two are open-ended.
pub(in crate::domain) const BINS: usize = 32;

/// Index of the bin of a value. Monotone in `x`, also after rounding.
pub(in crate::domain) fn bin(x: f32, low: f32, per_unit: f32) -> usize {
    // The cast saturates: values below the first bin go to bin 0.
    (((x - low) * per_unit) as usize).min(BINS - 1)
}

/// Whether a number may place or scale bins: finite, and in range with a margin for the
/// outer bins.
pub(super) fn is_bin_number(x: f32) -> bool {
    x.is_finite() && x.abs() <= 2.0 * MAX_ENCODED
}
