//! Proportions with confidence intervals.

use crate::domain::stats::NORMAL_975;

/// A proportion with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proportion {
    pub share: f64,
    /// Lower and upper bound.
    pub interval: [f64; 2],
}

impl Proportion {
    /// The proportion in a population, from a simple random sample: the score interval of Wilson
    /// (1927). `None` for an empty sample.
    pub fn from_sample(successes: u64, sampled: u64) -> Option<Self> {
        if sampled == 0 {
            return None;
        }
        let (n, share) = (sampled as f64, successes as f64 / sampled as f64);
        let z2 = NORMAL_975 * NORMAL_975;
        let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let variance = share * (1.0 - share) / n + z2 / (4.0 * n * n);
        let half = NORMAL_975 / (1.0 + z2 / n) * variance.sqrt();
        Some(Self { share, interval: [(centre - half).max(0.0), (centre + half).min(1.0)] })
    }

    /// The proportion in a population that was counted completely. `None` for an empty one.
    pub fn from_population(successes: u64, population: u64) -> Option<Self> {
        let share = successes as f64 / population as f64;
        (population > 0).then_some(Self { share, interval: [share; 2] })
    }
}
