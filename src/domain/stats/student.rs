//! Student's t distribution: tail probability and quantile for small and very large degrees of
//! freedom.

use crate::domain::stats::bisection::solve_increasing;
use crate::domain::stats::special::{ln_normal_two_sided_tail, student_two_sided_tail};

/// From these degrees of freedom on, the expansion is more precise than the incomplete beta
/// function, which subtracts large logarithms of gamma functions.
const LEAST_EXPANDED_DEGREES: f64 = 1_000.0;
/// Beyond it, the tail is 0 in double precision.
const LARGEST_T: f64 = 1e100;
/// Doublings of the upper bound of a quantile.
const MAX_DOUBLINGS: usize = 1_000;

/// P(|T| ≥ |`t`|) for Student's t distribution with `degrees` of freedom above 0.
///
/// From 1,000 degrees on, by the normal approximation of Hill (1970), *Algorithm 395: Student's
/// t-distribution*.
pub fn student_tail(t: f64, degrees: f64) -> f64 {
    if degrees < LEAST_EXPANDED_DEGREES {
        return student_two_sided_tail(t, degrees);
    }
    ln_normal_two_sided_tail(equivalent_normal(t, degrees)).exp()
}

/// Quantile of |T|: the `t` above 0 with P(|T| ≥ `t`) = `tail`, for `tail` between 0 and 1.
pub fn student_tail_quantile(tail: f64, degrees: f64) -> f64 {
    let mut high = 1.0;
    for _ in 0..MAX_DOUBLINGS {
        if student_tail(high, degrees) <= tail {
            break;
        }
        high *= 2.0;
    }
    solve_increasing(|t| -student_tail(t, degrees), -tail, 0.0, high)
}

/// The standard normal number with the same two-sided tail as `t`.
fn equivalent_normal(t: f64, degrees: f64) -> f64 {
    let a = degrees - 0.5;
    let b = 48.0 * a * a;
    // The square of a larger number would be infinite.
    let t = t.abs().min(LARGEST_T);
    let y = a * (t * t / degrees).ln_1p();
    let numerator = ((-0.4 * y - 3.3) * y - 24.0) * y - 85.5;
    let correction = (numerator / (0.8 * y * y + 100.0 + b) + y + 3.0) / b;
    (1.0 + correction) * y.sqrt()
}
