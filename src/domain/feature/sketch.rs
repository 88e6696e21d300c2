//! Distinct counting in bounded space: k-minimum-values (KMV) sketch.
//!
//! Method: Bar-Yossef et al. (2002); estimator and error of Beyer et al. (2007), "On synopses
//! for distinct-value estimation under multiset operations". Up to k distinct values the count
//! is exact; beyond, its relative standard error is at most 1/√(k − 2): 6.3 % for k = 256. The
//! union of two sketches is the sketch of the union, so the order of events has no effect.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::event::PropertyValue;

/// The k + 1 smallest hashes, ascending. One more than k distinguishes k distinct values from
/// more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct DistinctSketch(Vec<u64>);

impl DistinctSketch {
    pub(super) fn add(&mut self, hash: u64, k: usize) {
        if self.0.len() > k && self.0.last().is_some_and(|greatest| hash >= *greatest) {
            return;
        }
        if let Err(at) = self.0.binary_search(&hash) {
            self.0.insert(at, hash);
            self.0.truncate(k + 1);
        }
    }

    /// The number of distinct values: exact up to k, estimated beyond.
    pub(super) fn count(&self, k: usize) -> f64 {
        match self.0.last() {
            Some(greatest) if self.0.len() > k => {
                // k + 1 minima: k over the (k + 1)-th smallest, as a share of all hashes.
                let share = (*greatest as f64 + 1.0) / (u64::MAX as f64);
                k as f64 / share
            }
            _ => self.0.len() as f64,
        }
    }

    /// Whether `add` with this `k` can have produced this sketch.
    pub(super) fn is_sound(&self, k: usize) -> bool {
        self.0.len() <= k + 1 && self.0.is_sorted_by(|a, b| a < b)
    }

    /// Adds the other sketch: the union, cut to `k + 1` minima.
    pub(super) fn unite(&mut self, other: &Self, k: usize) {
        for hash in &other.0 {
            self.add(*hash, k);
        }
    }
}

/// Hashes a value: the first eight bytes, big-endian, of the SHA-256 of the value as text.
/// Numbers are written in their shortest decimal form, so that 330 and "330" from different
/// senders count as one value.
pub(super) fn hash(value: &PropertyValue) -> u64 {
    let mut sink = Sha256Writer(Sha256::new());
    // Writing into a hash cannot fail.
    let _ = match value {
        PropertyValue::Bool(b) => write!(sink, "{b}"),
        PropertyValue::Number(n) => write!(sink, "{}", n + 0.0),
        PropertyValue::Integer(n) => write!(sink, "{n}"),
        PropertyValue::Null => Ok(()),
        PropertyValue::Text(t) => sink.write_str(t),
    };
    let digest = sink.0.finalize();
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

struct Sha256Writer(Sha256);

impl fmt::Write for Sha256Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_hash_as_their_text() {
        assert_eq!(hash(&PropertyValue::Number(330.0)), hash(&PropertyValue::Text("330".into())));
        assert_eq!(hash(&PropertyValue::Number(-0.0)), hash(&PropertyValue::Text("0".into())));
        // The first digits of `printf 330 | sha256sum`.
        assert_eq!(hash(&PropertyValue::Number(330.0)), 0x5426_d2ca_50f2_44fb);
    }

    #[test]
    fn exact_to_k_and_within_the_stated_error_beyond() {
        let k = 256;
        for (distinct, exact) in [(1_u32, true), (256, true), (10_000, false)] {
            let mut sketch = DistinctSketch::default();
            for i in (0..distinct).chain(0..distinct) {
                sketch.add(hash(&PropertyValue::Number(f64::from(i))), k);
            }
            let error = sketch.count(k) / f64::from(distinct) - 1.0;
            let bound = if exact { 0.0 } else { 3.0 / (k as f64 - 2.0).sqrt() };
            assert!(error.abs() <= bound, "{distinct}: {error}");
        }
    }
}
