//! Root finding by bisection.

/// Halvings after which an interval of doubles cannot shrink any more.
const MAX_HALVINGS: usize = 200;

/// Solves `f(x) = target` for an increasing `f` by bisection of [`low`, `high`].
///
/// Returns the end of the interval that is nearer to the solution if the solution lies outside.
/// Slower than Newton's method, but needs no derivative and converges to the last bit.
pub fn solve_increasing(f: impl Fn(f64) -> f64, target: f64, low: f64, high: f64) -> f64 {
    let (mut low, mut high) = (low, high);
    for _ in 0..MAX_HALVINGS {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if f(middle) < target {
            low = middle;
        } else {
            high = middle;
        }
    }
    low + (high - low) / 2.0
}
