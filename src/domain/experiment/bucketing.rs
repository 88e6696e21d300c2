//! Deterministic bucketing, bit-equal with the `GrowthBook` SDKs: FNV-1a hash, bucket ranges,
//! namespaces.
//!
//! A customer's bucket depends only on a seed and the customer's id, so that every replica and every
//! SDK gives the same answer without stored state.

use serde::{Deserialize, Serialize};

/// Offset basis and prime of the 32-bit FNV-1a hash (Fowler, Noll and Vo; RFC 9923).
const FNV_OFFSET_BASIS: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;
/// Most decimal digits of a `u32`.
const MOST_DIGITS: usize = 10;
/// Weights with a sum outside of these bounds are replaced by equal weights.
pub(super) const WEIGHT_SUM_BOUNDS: [f64; 2] = [0.99, 1.01];
/// Prefix of the hash seed of a namespace.
const NAMESPACE_PREFIX: &str = "__";

/// Version of the hash that maps a customer to a bucket. Stored as its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum HashVersion {
    /// 1,000 buckets. Buckets of experiments with similar seeds are correlated: use only to continue
    /// experiments that have begun with it.
    V1,
    /// 10,000 buckets, hashed twice.
    V2,
}

impl From<HashVersion> for u32 {
    fn from(version: HashVersion) -> Self {
        match version {
            HashVersion::V1 => 1,
            HashVersion::V2 => 2,
        }
    }
}

impl TryFrom<u32> for HashVersion {
    type Error = UnknownHashVersion;

    fn try_from(number: u32) -> Result<Self, UnknownHashVersion> {
        Self::from_number(number).ok_or(UnknownHashVersion(number))
    }
}

/// Error for a number that is no version of the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 or 2; it is {0}")]
pub struct UnknownHashVersion(pub u32);

impl HashVersion {
    /// The version with this number; `None` for an unknown version.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }

    /// Number of buckets.
    pub const fn bucket_count(self) -> u32 {
        match self {
            Self::V1 => 1_000,
            Self::V2 => 10_000,
        }
    }

    /// Hash of a customer: the bucket as a fraction in [0, 1).
    pub fn hash(self, seed: &str, customer_id: &str) -> f64 {
        let hash = match self {
            Self::V1 => Fnv1a::new().add_text(customer_id).add_text(seed).0,
            Self::V2 => {
                let inner = Fnv1a::new().add_text(seed).add_text(customer_id).0;
                Fnv1a::new().add_decimal(inner).0
            }
        };
        self.bucket_start(hash % self.bucket_count())
    }

    /// A bucket as a fraction in [0, 1).
    pub(super) fn bucket_start(self, bucket: u32) -> f64 {
        f64::from(bucket) / f64::from(self.bucket_count())
    }
}

/// Incremental 32-bit FNV-1a hash.
///
/// Hashes UTF-16 code units, as the JavaScript SDK does. SDKs that hash UTF-8 bytes give other
/// buckets for ids with characters beyond ASCII.
struct Fnv1a(u32);

impl Fnv1a {
    const fn new() -> Self {
        Self(FNV_OFFSET_BASIS)
    }

    const fn add_unit(self, unit: u16) -> Self {
        Self((self.0 ^ unit as u32).wrapping_mul(FNV_PRIME))
    }

    fn add_text(self, text: &str) -> Self {
        text.encode_utf16().fold(self, Self::add_unit)
    }

    /// Adds the decimal digits of a number.
    fn add_decimal(self, number: u32) -> Self {
        let mut digits = [0_u16; MOST_DIGITS];
        let mut first = MOST_DIGITS;
        let mut rest = number;
        loop {
            first -= 1;
            digits[first] = u16::from(b'0') + (rest % 10) as u16;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        digits[first..].iter().copied().fold(self, Self::add_unit)
    }
}

/// Half-open range of hashes: from `start` to below `end`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BucketRange {
    pub start: f64,
    pub end: f64,
}

impl BucketRange {
    /// Checks if the hash is in the range.
    pub fn contains(&self, hash: f64) -> bool {
        self.start <= hash && hash < self.end
    }
}

/// Namespace: makes experiments mutually exclusive, each with a range of its own in the namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    pub name: Box<str>,
    /// Hashes in the namespace that belong to the experiment.
    pub range: BucketRange,
}

impl Namespace {
    /// Checks if the customer's hash in the namespace lies in the range.
    pub fn contains(&self, customer_id: &str) -> bool {
        // Hash version 1, with the seed in two parts.
        let hash = Fnv1a::new().add_text(customer_id).add_text(NAMESPACE_PREFIX);
        let bucket = hash.add_text(&self.name).0 % HashVersion::V1.bucket_count();
        self.range.contains(HashVersion::V1.bucket_start(bucket))
    }
}

/// Equal weights that add up to 1.
pub fn equal_weights(variations: usize) -> Vec<f64> {
    vec![1.0 / variations as f64; variations]
}

/// Bucket ranges of the variations: each covers the share `coverage` of its weight.
///
/// As lenient as the SDKs: coverage is clamped to [0, 1]; weights that are missing, of the wrong
/// number, or do not add up to 1 within 0.01 are replaced by equal weights. The start of a range does
/// not depend on coverage, so more coverage never moves a customer to another variation.
pub fn bucket_ranges(
    variations: usize,
    coverage: f64,
    weights: Option<&[f64]>,
) -> Vec<BucketRange> {
    let coverage = coverage.clamp(0.0, 1.0);
    let [least, most] = WEIGHT_SUM_BOUNDS;
    let sum: f64 = weights.unwrap_or_default().iter().sum();
    let is_unit_sum = (least..=most).contains(&sum);
    let usable = weights.filter(|weights| is_unit_sum && weights.len() == variations);
    let weights = usable.map_or_else(|| equal_weights(variations), <[f64]>::to_vec);
    let mut ranges = Vec::with_capacity(variations);
    let mut start = 0.0;
    for weight in weights {
        ranges.push(BucketRange { start, end: start + coverage * weight });
        start += weight;
    }
    ranges
}

/// Index of the first range that contains the hash.
pub fn choose_variation(hash: f64, ranges: &[BucketRange]) -> Option<usize> {
    ranges.iter().position(|range| range.contains(hash))
}
