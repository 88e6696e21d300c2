//! Exact summation: decimal fixed-point sums that do not depend on the order of their terms.
//!
//! Floating-point addition rounds after every step, so the same events in another order give
//! other bits. Integer addition does not round, and is commutative and associative. The fixed
//! point is decimal, like prices: ten times 0.1 is 1.
//!
//! Terms with at most four decimal places, like most prices and quantities, are added in
//! ten-thousandths; their sums take three or four bytes to store. All other terms are added in
//! units of 10⁻¹⁸, which represents a double of magnitude 1 to its own last place.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

const SHORT_UNITS: f64 = 1e4;
/// Upper bound of terms in short units, so that eight million of the largest can be added
/// without saturation.
const SHORT_LIMIT: f64 = (1_u64 << 40) as f64;
const FINE_UNITS: f64 = 1e18;
const FINE_PER_SHORT: i128 = 100_000_000_000_000;

/// An exact sum of doubles in fixed point.
///
/// Addition saturates. [`FeatureSet::validate_event`] limits terms to 10¹², of which eight million
/// are needed to saturate.
///
/// [`FeatureSet::validate_event`]: crate::domain::feature::FeatureSet::validate_event
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ExactSum {
    /// Sum of the terms with at most four decimal places, in ten-thousandths.
    short: i64,
    /// Sum of all other terms, in units of 10⁻¹⁸.
    fine: i128,
}

impl ExactSum {
    /// Converts one term, which must be finite. The cast drops digits below the last place and
    /// saturates above.
    pub(super) fn from_number(value: f64) -> Self {
        match short_units(value) {
            Some(short) => Self { short, fine: 0 },
            None => Self { short: 0, fine: (value * FINE_UNITS) as i128 },
        }
    }

    /// This sum `count` times.
    pub(super) fn times(self, count: u32) -> Self {
        Self {
            short: self.short.saturating_mul(i64::from(count)),
            fine: self.fine.saturating_mul(i128::from(count)),
        }
    }

    pub(super) fn negated(self) -> Self {
        Self { short: self.short.saturating_neg(), fine: self.fine.saturating_neg() }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.plus(other.negated())
    }

    /// Total order by value.
    pub(super) fn compare(self, other: Self) -> Ordering {
        if self.fine == other.fine {
            return self.short.cmp(&other.short);
        }
        self.in_fine_units().cmp(&other.in_fine_units())
    }

    pub(super) fn is_positive(self) -> bool {
        self.compare(Self::default()).is_gt()
    }

    fn in_fine_units(self) -> i128 {
        (i128::from(self.short) * FINE_PER_SHORT).saturating_add(self.fine)
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            short: self.short.saturating_add(other.short),
            fine: self.fine.saturating_add(other.fine),
        }
    }

    /// The nearest double; for sums with more than 15 digits, possibly its neighbour.
    pub(super) fn nearest(self) -> f64 {
        if self.fine == 0 {
            return self.short as f64 / SHORT_UNITS;
        }
        self.in_fine_units() as f64 / FINE_UNITS
    }
}

/// The number in ten-thousandths, if it has at most four decimal places.
fn short_units(value: f64) -> Option<i64> {
    let short = (value * SHORT_UNITS).round();
    // A decimal literal is parsed to its nearest double, and so is the quotient: equality
    // means at most four decimal places.
    let is_short = short.abs() < SHORT_LIMIT && (short / SHORT_UNITS).total_cmp(&value).is_eq();
    is_short.then_some(short as i64)
}

/// The product, from the exact decimal result if both factors have at most four decimal places:
/// 3 × 0.1 is 0.3. A factor of 1 changes no bit.
pub(super) fn decimal_product(a: f64, b: f64) -> f64 {
    if a.total_cmp(&1.0).is_eq() {
        return b;
    }
    match (short_units(a), short_units(b)) {
        (Some(a), Some(b)) => {
            let exact = i128::from(a) * i128::from(b);
            exact as f64 / (SHORT_UNITS * SHORT_UNITS)
        }
        _ => a * b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_decimals_are_decimal() {
        assert_eq!(decimal_product(3.0, 0.1).to_bits(), 0.3_f64.to_bits());
        assert_eq!(decimal_product(-19.99, 3.0).to_bits(), (-59.97_f64).to_bits());
        assert_eq!(decimal_product(1.0 / 3.0, 3.0).to_bits(), 1.0_f64.to_bits());
    }

    #[test]
    fn terms_cancel_to_the_last_bit_in_any_order() {
        let terms = [1e12, 0.1, -1e12, 0.2, 2f64.powi(-11), -0.1];
        let forward =
            terms.iter().fold(ExactSum::default(), |sum, t| sum.plus(ExactSum::from_number(*t)));
        let backward = terms
            .iter()
            .rev()
            .fold(ExactSum::default(), |sum, t| sum.plus(ExactSum::from_number(*t)));
        assert_eq!(forward, backward);
        assert_eq!(forward.nearest().to_bits(), (0.2 + 2f64.powi(-11)).to_bits());
    }

    #[test]
    fn prices_add_up_to_the_cent() {
        let sum = |terms: &[f64]| {
            terms
                .iter()
                .fold(ExactSum::default(), |sum, t| sum.plus(ExactSum::from_number(*t)))
                .nearest()
        };
        assert_eq!(sum(&[0.1; 10]).to_bits(), 1_f64.to_bits());
        assert_eq!(sum(&[12.34, 5.67, -0.01]).to_bits(), 18_f64.to_bits());
        assert_eq!(sum(&[1.0 / 3.0]).to_bits(), (1.0_f64 / 3.0).to_bits());
    }

    #[test]
    fn saturates_instead_of_wrapping() {
        assert!(ExactSum::from_number(1e30).plus(ExactSum::from_number(1e30)).nearest() > 9e18);
    }
}
