//! Maximisation of a smooth function of a few variables, by a damped Newton method.

use ndarray::Array2;

use crate::domain::stats::symmetric;

/// Step of the central differences. Their error, about the square of the step, is far below the
/// standard errors of a fit.
const DIFFERENCE: f64 = 1e-3;
const MAX_ITERATIONS: usize = 200;
/// Longest step of one variable in one iteration.
const LONGEST_STEP: f64 = 2.0;
/// The search ends at a step that promises less than this gain.
const LEAST_GAIN: f64 = 1e-12;
/// Damping begins here, grows by tens, and ends the search where no step helps.
const LEAST_DAMPING: f64 = 1e-6;
const MOST_DAMPING: f64 = 1e12;

/// A local maximum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Maximum<const N: usize> {
    pub at: [f64; N],
    pub value: f64,
    /// Second derivatives at the maximum.
    pub hessian: [[f64; N]; N],
    /// Whether each variable is at a bound beyond which `f` increases.
    pub is_bound: [bool; N],
}

/// Maximises `f` from `start`, with every variable between `low` and `high`.
///
/// Newton steps with derivatives by central differences; a step that does not increase `f` is
/// repeated with a damped Hessian (Levenberg 1944, Marquardt 1963). `f` should be of the order of 1 to
/// 100, such as a mean log-likelihood, and its variables of the order of 1, such as logarithms of
/// parameters. A variable at a bound beyond which `f` increases is not moved. Deterministic. Where `f` is
/// not finite, a step is not taken.
pub fn maximise<const N: usize>(
    f: impl Fn(&[f64; N]) -> f64,
    start: [f64; N],
    [low, high]: [f64; 2],
) -> Maximum<N> {
    let mut at = start.map(|x| x.clamp(low, high));
    let mut value = f(&at);
    let mut damping = 0.0;
    let mut derivatives = Derivatives::of(&f, &at, value);
    let mut is_bound = derivatives.bound(&at, [low, high]);
    'search: for _ in 0..MAX_ITERATIONS {
        loop {
            if let Some(step) = derivatives.step(damping, &is_bound) {
                let gain: f64 = step.iter().zip(&derivatives.gradient).map(|(s, g)| s * g).sum();
                if gain.abs() < LEAST_GAIN {
                    break 'search;
                }
                let mut next = at;
                for (x, step) in next.iter_mut().zip(step) {
                    *x = (*x + step.clamp(-LONGEST_STEP, LONGEST_STEP)).clamp(low, high);
                }
                let reached = f(&next);
                if reached.is_finite() && reached > value {
                    (at, value) = (next, reached);
                    damping = if damping > LEAST_DAMPING { damping / 10.0 } else { 0.0 };
                    break;
                }
            }
            damping = (damping * 10.0).max(LEAST_DAMPING);
            if damping > MOST_DAMPING {
                // Rounding hides the remaining gain.
                break 'search;
            }
        }
        derivatives = Derivatives::of(&f, &at, value);
        is_bound = derivatives.bound(&at, [low, high]);
    }
    Maximum { at, value, hessian: derivatives.hessian, is_bound }
}

struct Derivatives<const N: usize> {
    gradient: [f64; N],
    hessian: [[f64; N]; N],
}

impl<const N: usize> Derivatives<N> {
    fn of(f: impl Fn(&[f64; N]) -> f64, at: &[f64; N], value: f64) -> Self {
        let moved = |steps: &[(usize, f64)]| {
            let mut point = *at;
            for (i, step) in steps {
                point[*i] += step * DIFFERENCE;
            }
            f(&point)
        };
        let (mut gradient, mut hessian) = ([0.0; N], [[0.0; N]; N]);
        let (mut above, mut below) = ([0.0; N], [0.0; N]);
        for i in 0..N {
            (above[i], below[i]) = (moved(&[(i, 1.0)]), moved(&[(i, -1.0)]));
            gradient[i] = (above[i] - below[i]) / (2.0 * DIFFERENCE);
            hessian[i][i] = (above[i] - 2.0 * value + below[i]) / (DIFFERENCE * DIFFERENCE);
        }
        for i in 0..N {
            for j in 0..i {
                let both = moved(&[(i, 1.0), (j, 1.0)]) + moved(&[(i, -1.0), (j, -1.0)]);
                let single = above[i] + below[i] + above[j] + below[j];
                let mixed = (both - single + 2.0 * value) / (2.0 * DIFFERENCE * DIFFERENCE);
                (hessian[i][j], hessian[j][i]) = (mixed, mixed);
            }
        }
        Self { gradient, hessian }
    }

    /// Which variables are at a bound beyond which the function increases.
    fn bound(&self, at: &[f64; N], [low, high]: [f64; 2]) -> [bool; N] {
        let mut is_bound = [false; N];
        for i in 0..N {
            is_bound[i] = (at[i] >= high && self.gradient[i] > 0.0)
                || (at[i] <= low && self.gradient[i] < 0.0);
        }
        is_bound
    }

    /// The solution of (damping I − H) step = gradient for the variables that are not bound; 0 for the
    /// others. `None` unless that matrix is positive definite.
    fn step(&self, damping: f64, is_bound: &[bool; N]) -> Option<[f64; N]> {
        let free: Vec<usize> = (0..N).filter(|i| !is_bound[*i]).collect();
        let damped = |(i, j): (usize, usize)| {
            let added = if i == j { damping } else { 0.0 };
            added - self.hessian[free[i]][free[j]]
        };
        let matrix = Array2::from_shape_fn((free.len(), free.len()), damped);
        let inverse = symmetric::invert_positive_definite(&matrix)?;
        let mut step = [0.0; N];
        for ((i, j), entry) in inverse.indexed_iter() {
            step[free[i]] += entry * self.gradient[free[j]];
        }
        Some(step)
    }
}
