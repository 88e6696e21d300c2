//! Reproducible pseudo-random numbers: the same on every machine and in every version.
//!
//! The generator is `ChaCha` with 12 rounds (Bernstein 2008), which has a fixed specification.
//! The few sampling functions are written here, so a library upgrade cannot change the
//! meaning of a seed.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// A reproducible random stream.
#[derive(Debug, Clone)]
pub struct RandomStream(ChaCha12Rng);

impl RandomStream {
    /// Stream number `stream` of `seed`. Streams of one seed never overlap: each purpose takes
    /// its own stream.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut bits = ChaCha12Rng::from_seed(key);
        bits.set_stream(stream);
        Self(bits)
    }

    /// Uniform number in [0, 1), in steps of 2⁻⁵³.
    pub fn uniform_unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal number, by the transform of Box and Muller (1958).
    pub fn standard_normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform_unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform_unit()).cos()
    }

    /// Uniform integer in 0..`bound`; 0 when `bound` is 0. Multiply-and-shift (Lemire 2019)
    /// without rejection: the bias is below `bound` / 2⁶⁴.
    pub fn uniform_below(&mut self, bound: usize) -> usize {
        ((u128::from(self.0.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Index drawn in proportion to `weights`, which are not negative and add up to `total`.
    /// With all weights zero, any index is equally likely.
    pub fn weighted_index(&mut self, weights: &[f64], total: f64) -> usize {
        if total <= 0.0 {
            return self.uniform_below(weights.len());
        }
        let target = self.uniform_unit() * total;
        let mut reached = 0.0;
        let found = weights.iter().position(|weight| {
            reached += weight;
            reached > target
        });
        // `total` may come from another order of addition, so the running sum can end just
        // below `target`: take the last index that has a weight.
        found.or_else(|| weights.iter().rposition(|weight| *weight > 0.0)).unwrap_or_default()
    }

    /// Fisher–Yates shuffle: every order is equally likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.uniform_below(last + 1));
        }
    }
}
