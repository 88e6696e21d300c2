//! Random choices that are the same on every machine, for ever.
//!
//! `ChaCha` with 12 rounds has a fixed specification, and the few sampling
//! functions needed are written out here, so no library upgrade can change
//! what a seed means.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// A reproducible stream of random choices.
#[derive(Debug, Clone)]
pub struct Rng(ChaCha12Rng);

impl Rng {
    /// The stream numbered `stream` of `seed`. Streams of one seed never
    /// overlap, so each use of randomness takes its own.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut bits = ChaCha12Rng::from_seed(key);
        bits.set_stream(stream);
        Self(bits)
    }

    /// Uniform in [0, 1), in steps of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in 0..`bound`; 0 when `bound` is 0. Multiply-and-shift: the bias
    /// is below `bound` / 2⁶⁴.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.0.next_u64()) * bound as u128) >> 64) as usize
    }

    /// An index of `weights` (not negative, adding up to `total`), drawn in
    /// proportion to its weight; any index when all weights are zero.
    pub fn weighted(&mut self, weights: &[f64], total: f64) -> usize {
        if total <= 0.0 {
            return self.below(weights.len());
        }
        let target = self.unit() * total;
        let mut reached = 0.0;
        let found = weights.iter().position(|weight| {
            reached += weight;
            reached > target
        });
        // Added up in another order than `total`, the sum may fall just short.
        found.or_else(|| weights.iter().rposition(|weight| *weight > 0.0)).unwrap_or_default()
    }

    /// Fisher–Yates: every order equally likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
