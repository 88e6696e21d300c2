//! Intervals of single columns, the sides of a box, with the rounding they allow for.

/// Relative widening of encoded intervals. It exceeds both the rounding to `f32` and the
/// error of a logarithm that is off by its last bit.
pub(crate) const ENCODED_ROUNDING: f64 = 1.0 / (1 << 22) as f64;
/// Unit roundoff of `f32`, 2⁻²⁴: relative error of one operation.
pub(crate) const UNIT_ROUNDING: f64 = f32::EPSILON as f64 / 2.0;

/// Interval of one encoded column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnSpan {
    pub(crate) column: usize,
    /// Both ends, in either order.
    pub(crate) ends: (f32, f32),
}

/// Interval of one column, widened for rounding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnInterval {
    pub(crate) column: usize,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl ColumnInterval {
    /// The interval of a column that does not vary.
    pub(crate) fn point(column: usize, x: f32) -> Self {
        let x = f64::from(x);
        Self { column, low: x, high: x }
    }

    /// Widens a span by [`ENCODED_ROUNDING`]. `None` if the span is the single point `at`:
    /// a clipped value does not vary any more, and widening it would only loosen the bound.
    pub(crate) fn widened(span: ColumnSpan, at: f32) -> Option<Self> {
        let ColumnSpan { column, ends } = span;
        let (low, high) = (f64::from(ends.0.min(ends.1)), f64::from(ends.0.max(ends.1)));
        let at = f64::from(at);
        if low.to_bits() == at.to_bits() && high.to_bits() == at.to_bits() {
            return None;
        }
        Some(Self {
            column,
            low: low - ENCODED_ROUNDING * low.abs(),
            high: high + ENCODED_ROUNDING * high.abs(),
        })
    }
}
