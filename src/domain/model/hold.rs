//! How far a customer may move until the model can say something else.
//!
//! d²(x, other) − d²(x, own) is linear in x. So within a box its least value is
//! that at one corner, found column by column, and while it is above zero for
//! every other prototype the segment holds everywhere in the box.

use crate::domain::feature::FeatureRow;
use crate::domain::model::{Model, Prototypes, Scratch};

/// Encoded numbers are widened by this, relatively: more than what rounding to
/// `f32`, or a logarithm that falls by its last bit, can make of a bound.
const ENCODED_ROUNDING: f64 = 1.0 / (1 << 22) as f64;
/// Relative rounding of one `f32` operation.
const UNIT_ROUNDING: f64 = f32::EPSILON as f64 / 2.0;

/// The range of one column.
#[derive(Debug, Clone, Copy)]
pub(in crate::domain) struct Span {
    pub(in crate::domain) column: usize,
    /// In either order.
    pub(in crate::domain) ends: (f32, f32),
}

/// One row's segment and outlier flag, ready to be asked how far they hold.
#[derive(Debug)]
pub(in crate::domain) struct Hold<'a> {
    prototypes: &'a Prototypes,
    own: &'a [f32],
    index: usize,
    vector: &'a [f32],
    /// d²(other) − d²(own), by prototype.
    gaps: &'a [f64],
    /// What a box takes off each gap.
    shifts: &'a mut [f64],
    squared: f64,
    /// Relative rounding of a squared distance as the kernel computes it.
    rounding: f64,
    outlier: bool,
    limit: f64,
}

impl Model {
    /// Never allocates once `scratch` is warm.
    pub(in crate::domain) fn hold<'a>(
        &'a self,
        row: &FeatureRow,
        outlier_alpha: f64,
        scratch: &'a mut Scratch,
    ) -> Hold<'a> {
        let score = self.score(row, scratch);
        let (prototypes, width) = (self.prototypes(), self.encoder().width());
        let own = prototypes.row(score.segment);
        let Scratch { vector, gaps, shifts } = scratch;
        let vector = &vector[..width];
        gaps.clear();
        gaps.extend(prototypes.rows().map(|other| gap(vector, own, other)));
        shifts.resize(gaps.len(), 0.0);
        let squared = vector.iter().zip(own).map(|(x, p)| square(f64::from(*x) - f64::from(*p)));
        Hold {
            prototypes,
            own,
            index: score.segment,
            vector,
            gaps,
            shifts: &mut shifts[..],
            squared: squared.sum(),
            // A subtraction, a square, and sums of eight lanes side by side.
            rounding: (width as f64 / 8.0 + 16.0) * UNIT_ROUNDING,
            outlier: score.is_outlier(outlier_alpha),
            limit: f64::from(self.limit(score.segment, outlier_alpha)),
        }
    }
}

impl Hold<'_> {
    /// Whether segment and outlier flag are the same wherever each of `spans`
    /// ends up; columns without one stay where they are.
    pub(in crate::domain) fn holds_within(&mut self, spans: impl Iterator<Item = Span>) -> bool {
        self.shifts.fill(0.0);
        let (mut least, mut most) = (self.squared, self.squared);
        let mut moves = false;
        for Span { column, ends } in spans {
            let at = f64::from(self.vector[column]);
            let (low, high) = (f64::from(ends.0.min(ends.1)), f64::from(ends.0.max(ends.1)));
            // Beyond a clip nothing moves any more.
            if low.to_bits() == at.to_bits() && high.to_bits() == at.to_bits() {
                continue;
            }
            moves = true;
            let (low, high) =
                (low - ENCODED_ROUNDING * low.abs(), high + ENCODED_ROUNDING * high.abs());
            let own = f64::from(self.own[column]);
            let here = square(at - own);
            least += square(own.clamp(low, high) - own) - here;
            most += square(low - own).max(square(high - own)) - here;
            for (shift, other) in self.shifts.iter_mut().zip(self.prototypes.rows()) {
                let slope = 2.0 * (own - f64::from(other[column]));
                *shift += (slope * (low - at)).min(slope * (high - at));
            }
        }
        !moves || (self.is_nearest(most) && self.is_on_its_side(least, most))
    }

    /// Whether no rounding in either distance can bring another prototype nearer.
    fn is_nearest(&self, most: f64) -> bool {
        let bar = 3.0 * self.rounding * most + f64::from(f32::MIN_POSITIVE);
        let mut least = self.gaps.iter().zip(&*self.shifts).map(|(gap, shift)| gap + shift);
        least.by_ref().take(self.index).all(|gap| gap > bar) && least.skip(1).all(|gap| gap > bar)
    }

    fn is_on_its_side(&self, least: f64, most: f64) -> bool {
        // A root, a division by the segment's scale, and its product in the limit.
        let rounding = self.rounding + 8.0 * UNIT_ROUNDING;
        let limit = square(self.limit);
        if self.outlier {
            least > limit * (1.0 + rounding)
        } else {
            most < limit * (1.0 - rounding)
        }
    }
}

/// d²(x, other) − d²(x, own), in a form that keeps its digits near the border.
fn gap(x: &[f32], own: &[f32], other: &[f32]) -> f64 {
    let columns = x.iter().zip(own).zip(other);
    columns
        .map(|((x, own), other)| {
            let (x, own, other) = (f64::from(*x), f64::from(*own), f64::from(*other));
            (own - other) * (2.0 * x - own - other)
        })
        .sum()
}

fn square(x: f64) -> f64 {
    x * x
}
