//! Sums that do not depend on the order of their terms.
//!
//! Adding floats rounds after every step, so the same events in another order
//! give other bits. Fixed point does not round: an `i128` with 64 fractional
//! bits holds every double of magnitude 2⁻¹¹ to 2⁶² exactly (smaller ones lose
//! what lies below 2⁻⁶⁴), and integer addition commutes and associates.

use serde::{Deserialize, Serialize};

/// 2⁶⁴: one, in units of the last place.
const ONE: f64 = 18_446_744_073_709_551_616.0;

/// A sum of doubles in fixed point, 64 bits before the point and 64 behind.
///
/// Saturates. With terms of at most 10¹², which [`FeatureSet::admit`] sees to,
/// that takes eight million of the largest.
///
/// [`FeatureSet::admit`]: crate::domain::feature::FeatureSet::admit
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exact(i128);

impl Exact {
    /// `value` must be finite. Scaling by a power of two is exact; the cast
    /// drops what lies below the last place and saturates above.
    pub(super) fn of(value: f64) -> Self {
        Self((value * ONE) as i128)
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The nearest double.
    pub(super) fn nearest(self) -> f64 {
        self.0 as f64 / ONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_cancel_to_the_last_bit_in_any_order() {
        let terms = [1e12, 0.1, -1e12, 0.2, 2f64.powi(-11), -0.1];
        let forward = terms.iter().fold(Exact::default(), |sum, t| sum.plus(Exact::of(*t)));
        let backward = terms.iter().rev().fold(Exact::default(), |sum, t| sum.plus(Exact::of(*t)));
        assert_eq!(forward, backward);
        assert_eq!(forward.nearest().to_bits(), (0.2 + 2f64.powi(-11)).to_bits());
    }

    #[test]
    fn saturates_instead_of_wrapping() {
        assert!(Exact::of(1e30).plus(Exact::of(1e30)).nearest() > 9e18);
    }
}
