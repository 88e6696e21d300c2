//! Expected orders of an active customer under BG/NBD and MBG/NBD.

/// Relative size at which the remaining terms of a series are dropped.
const NEGLIGIBLE: f64 = 1e-13;
const MAX_TERMS: usize = 100_000;
/// Below this excess of the first parameter of the series, its terms alternate and cancel.
const LEAST_EXCESS: f64 = -4.0;
/// Above this logarithm of (1 − z)^(1−a), its terms and that power cancel more than four digits.
const MOST_LN_CANCELLED: f64 = 10.0;

/// Rate of orders and probability to leave of an active customer, as distributions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FutureOrders {
    /// Shape of the gamma distribution of the rate of orders.
    pub(super) shape: f64,
    /// Rate of that distribution, in days.
    pub(super) rate: f64,
    /// Parameters of the beta distribution of the probability to leave after an order.
    pub(super) a: f64,
    pub(super) b: f64,
}

impl FutureOrders {
    /// Expected orders within each number of days, while the customer is active.
    ///
    /// The closed form with the hypergeometric function 2F1 (Fader, Hardie and Lee 2005, equation 10)
    /// divides by a − 1. After Euler's transformation of 2F1 the factor cancels term by term: with
    /// c = a + b − 1, z = t / (rate + t), L = ((1 − z)^(a−1) − 1) / (a − 1) and
    /// H = Σ (c − shape)ₙ (a)ₙ₋₁ zⁿ / ((c + 1)ₙ₋₁ n!), n ≥ 1, the value is −(c L + H + (a − 1) L H).
    pub(super) fn expected<const N: usize>(&self, days: [f64; N]) -> [f64; N] {
        let Self { shape, rate, a, b } = *self;
        let c = a + b - 1.0;
        let z = days.map(|days| days / (rate + days));
        let longest = z.iter().fold(0.0, |longest: f64, z| longest.max(*z));
        let ln_cancelled = (1.0 - a) * (-longest).ln_1p();
        if c - shape < LEAST_EXCESS || ln_cancelled > MOST_LN_CANCELLED {
            return days.map(|days| self.expected_by_count(days));
        }
        let (mut power, mut sum) = (z, [0.0; N]);
        let mut coefficient = c - shape;
        for n in 1..MAX_TERMS {
            let mut is_negligible = true;
            for i in 0..N {
                let term = coefficient * power[i];
                sum[i] += term;
                power[i] *= z[i];
                is_negligible &= term.abs() <= NEGLIGIBLE * sum[i].abs();
            }
            if is_negligible {
                break;
            }
            let k = n as f64;
            coefficient *= (c - shape + k) * (a + k - 1.0) / ((c + k) * (k + 1.0));
        }
        let mut expected = [0.0; N];
        for i in 0..N {
            let ln_rest = (-z[i]).ln_1p();
            let less = expm1_ratio((a - 1.0) * ln_rest) * ln_rest;
            expected[i] = -(c * less + sum[i] + (a - 1.0) * less * sum[i]);
        }
        expected
    }

    /// [`Self::expected`] as Σ P(N = n) S(n) with positive terms only: N is the number of orders that
    /// the customer would place without leaving (negative binomial), and S(n) the expected number of
    /// these before the customer leaves. It takes as many terms as N is likely to be.
    fn expected_by_count(&self, days: f64) -> f64 {
        let Self { shape, rate, a, b } = *self;
        let z = days / (rate + days);
        let mean = shape * days / rate;
        let mut ln_probability = shape * (-z).ln_1p();
        let (mut sum, mut placed, mut stays) = (0.0, 0.0, 1.0);
        for n in 0..MAX_TERMS {
            let n = n as f64;
            let term = ln_probability.exp() * placed;
            sum += term;
            if n > mean && term <= NEGLIGIBLE * sum {
                break;
            }
            placed += stays;
            stays *= (b + n) / (a + b + n);
            ln_probability += ((shape + n) / (n + 1.0) * z).ln();
        }
        sum
    }
}

/// (eˣ − 1) / x, which is 1 at 0.
pub(super) fn expm1_ratio(x: f64) -> f64 {
    if x.abs() < f64::MIN_POSITIVE { 1.0 } else { x.exp_m1() / x }
}
