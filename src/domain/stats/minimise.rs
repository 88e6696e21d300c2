//! One-dimensional minimisation by Brent's method.

/// 2 minus the golden ratio: where golden-section search divides the larger part.
const GOLDEN: f64 = 0.381_966_011_250_105_1;
const MAX_EVALUATIONS: usize = 500;

/// Minimiser of `f` on [`low`, `high`], to about `tolerance`.
///
/// Brent (1973), *Algorithms for Minimization without Derivatives*, chapter 5. A step goes to
/// the vertex of the parabola through the three best points where that is safe, otherwise it
/// is a golden-section step. `f` should have one minimum in the interval; with several, the
/// search returns any one.
pub fn minimise_bounded(f: impl Fn(f64) -> f64, low: f64, high: f64, tolerance: f64) -> f64 {
    let (mut low, mut high) = (low, high);
    let mut best = EvaluatedPoint::at(&f, low + GOLDEN * (high - low));
    let (mut second, mut third) = (best, best);
    let (mut step, mut step_before) = (0.0_f64, 0.0_f64);

    for _ in 1..MAX_EVALUATIONS {
        let middle = f64::midpoint(low, high);
        let near = f64::EPSILON.sqrt() * best.x.abs() + tolerance / 3.0;
        if (best.x - middle).abs() <= 2.0 * near - (high - low) / 2.0 {
            break;
        }
        let parabola =
            if step_before.abs() > near { parabola_step(best, second, third) } else { None };
        let usable = parabola.filter(|p| {
            p.abs() < (step_before / 2.0).abs() && best.x + p > low && best.x + p < high
        });
        if let Some(p) = usable {
            step_before = step;
            let x = best.x + p;
            let at_edge = x - low < 2.0 * near || high - x < 2.0 * near;
            step = if at_edge { near.copysign(middle - best.x) } else { p };
        } else {
            step_before = if best.x >= middle { low - best.x } else { high - best.x };
            step = GOLDEN * step_before;
        }
        let moved = if step.abs() >= near { step } else { near.copysign(step) };
        let new = EvaluatedPoint::at(&f, best.x + moved);

        if new.y <= best.y {
            if new.x >= best.x {
                low = best.x;
            } else {
                high = best.x;
            }
            (third, second, best) = (second, best, new);
        } else {
            if new.x < best.x {
                low = new.x;
            } else {
                high = new.x;
            }
            if new.y <= second.y || second.has_same_x(best) {
                (third, second) = (second, new);
            } else if new.y <= third.y || third.has_same_x(best) || third.has_same_x(second) {
                third = new;
            }
        }
    }
    best.x
}

#[derive(Clone, Copy)]
struct EvaluatedPoint {
    x: f64,
    y: f64,
}

impl EvaluatedPoint {
    fn at(f: impl Fn(f64) -> f64, x: f64) -> Self {
        Self { x, y: f(x) }
    }

    /// Whether both points have the same `x`, bit for bit.
    fn has_same_x(self, other: Self) -> bool {
        self.x.total_cmp(&other.x).is_eq()
    }
}

/// Step from `best` to the vertex of the parabola through the three points; `None` when they
/// lie on one line.
fn parabola_step(
    best: EvaluatedPoint,
    second: EvaluatedPoint,
    third: EvaluatedPoint,
) -> Option<f64> {
    let r = (best.x - second.x) * (best.y - third.y);
    let q = (best.x - third.x) * (best.y - second.y);
    let numerator = (best.x - third.x) * q - (best.x - second.x) * r;
    let denominator = 2.0 * (q - r);
    let step = -numerator / denominator;
    step.is_finite().then_some(step)
}
