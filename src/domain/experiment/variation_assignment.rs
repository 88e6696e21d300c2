//! Assignment of customers to the variations of an experiment, without stored state.

use serde::{Deserialize, Serialize};

use crate::domain::experiment::bucketing::{
    BucketRange, HashVersion, Namespace, WEIGHT_SUM_BOUNDS, bucket_ranges, choose_variation,
};

/// Definition of an experiment, as far as it decides about the assignment of customers.
#[derive(Debug, Clone, PartialEq)]
pub struct ExperimentDefinition {
    pub key: Box<str>,
    /// Seed of the hash; the key if `None` or empty, as in the SDKs. Experiments with the same seed
    /// assign the same customers to the same variations.
    pub hash_seed: Option<Box<str>>,
    pub hash_version: HashVersion,
    pub allocation: Allocation,
    pub namespace: Option<Namespace>,
    pub holdout: Option<Holdout>,
}

impl ExperimentDefinition {
    fn effective_seed(&self) -> &str {
        self.hash_seed.as_deref().filter(|seed| !seed.is_empty()).unwrap_or(&self.key)
    }
}

/// Shares of the customers that the variations receive.
#[derive(Debug, Clone, PartialEq)]
pub enum Allocation {
    /// Weights that add up to 1, of which the share `coverage` takes part.
    Weights { weights: Vec<f64>, coverage: f64 },
    /// Explicit ranges of hashes.
    Ranges(Vec<BucketRange>),
}

/// Holdout: a share of customers that is kept out of every experiment that names the holdout.
///
/// Comparing these customers with all others measures the total effect of the experiments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Holdout {
    /// Seed of the holdout's own hash (version 2), different from the seeds of experiments.
    pub hash_seed: Box<str>,
    /// Share of customers from 0 to 1, in steps of 1/10,000.
    pub share: f64,
}

impl Holdout {
    /// Checks if the customer is in the holdout.
    pub fn contains(&self, customer_id: &str) -> bool {
        HashVersion::V2.hash(&self.hash_seed, customer_id) < self.share
    }
}

/// Fault of an experiment definition.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DefinitionFault {
    #[error("the experiment has {found} variations; at least 2 are needed")]
    FewVariations { found: usize },
    #[error("the weight of variation {variation} is {weight}; a weight is a number from 0 to 1")]
    Weight { variation: usize, weight: f64 },
    #[error("the weights add up to {sum}; the sum must be 1")]
    WeightSum { sum: f64 },
    #[error("the coverage is {coverage}; it must be from 0 to 1")]
    Coverage { coverage: f64 },
    #[error(
        "the range of {owner} is {start} to {end}; it must rise within 0 to 1",
        start = range.start, end = range.end
    )]
    Range { owner: RangeOwner, range: BucketRange },
    #[error("the ranges of variations {first} and {second} overlap")]
    OverlappingRanges { first: usize, second: usize },
    #[error("the share of the holdout is {share}; it must be from 0 to 1")]
    HoldoutShare { share: f64 },
    #[error("the holdout has the hash seed of the experiment; it needs a seed of its own")]
    SharedHoldoutSeed,
}

/// Part of a definition that a faulty range belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeOwner {
    Variation(usize),
    Namespace,
}

impl std::fmt::Display for RangeOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Variation(variation) => write!(f, "variation {variation}"),
            Self::Namespace => f.write_str("the namespace"),
        }
    }
}

/// Reason why a customer does not take part in an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exclusion {
    #[error("the customer id is empty")]
    EmptyCustomerId,
    #[error("the customer is in the holdout")]
    Holdout,
    #[error("the customer is outside of the experiment's range in its namespace")]
    Namespace,
    #[error("the experiment does not cover the customer")]
    Coverage,
}

/// Assigns customers to the variations of one experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct VariationAssigner {
    hash_seed: Box<str>,
    hash_version: HashVersion,
    ranges: Box<[BucketRange]>,
    namespace: Option<Namespace>,
    holdout: Option<Holdout>,
}

impl VariationAssigner {
    /// Checks a definition and computes its ranges. Returns every fault at once.
    ///
    /// Stricter than the SDKs, which replace wrong weights by equal ones.
    pub fn new(definition: &ExperimentDefinition) -> Result<Self, Vec<DefinitionFault>> {
        let hash_seed = definition.effective_seed();
        let mut faults = definition.allocation.find_faults();
        if let Some(Namespace { range, .. }) = &definition.namespace
            && !is_valid_range(range)
        {
            faults.push(DefinitionFault::Range { owner: RangeOwner::Namespace, range: *range });
        }
        if let Some(holdout) = &definition.holdout {
            if !(0.0..=1.0).contains(&holdout.share) {
                faults.push(DefinitionFault::HoldoutShare { share: holdout.share });
            }
            // With the seed and the hash version of the experiment, the holdout would take all its
            // customers from the first variation.
            if &*holdout.hash_seed == hash_seed {
                faults.push(DefinitionFault::SharedHoldoutSeed);
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            hash_seed: hash_seed.into(),
            hash_version: definition.hash_version,
            ranges: definition.allocation.ranges().into_boxed_slice(),
            namespace: definition.namespace.clone(),
            holdout: definition.holdout.clone(),
        })
    }

    /// Index of the customer's variation, or the reason for exclusion. Does not allocate.
    pub fn assign(&self, customer_id: &str) -> Result<usize, Exclusion> {
        if customer_id.is_empty() {
            return Err(Exclusion::EmptyCustomerId);
        }
        if self.holdout.as_ref().is_some_and(|holdout| holdout.contains(customer_id)) {
            return Err(Exclusion::Holdout);
        }
        if self.namespace.as_ref().is_some_and(|namespace| !namespace.contains(customer_id)) {
            return Err(Exclusion::Namespace);
        }
        let hash = self.hash_version.hash(&self.hash_seed, customer_id);
        choose_variation(hash, &self.ranges).ok_or(Exclusion::Coverage)
    }

    /// Number of variations.
    pub fn variation_count(&self) -> usize {
        self.ranges.len()
    }

    /// Expected shares of the variations among the assigned customers, for the test of the sample
    /// ratio; all 0 if the ranges contain no bucket.
    ///
    /// Counts buckets instead of using weights: three equal variations of 1,000 buckets receive 334,
    /// 333 and 333 of them, a difference that the test finds among ten million customers.
    pub fn expected_shares(&self) -> Vec<f64> {
        let mut buckets = vec![0_u32; self.ranges.len()];
        for bucket in 0..self.hash_version.bucket_count() {
            let hash = self.hash_version.bucket_start(bucket);
            if let Some(variation) = choose_variation(hash, &self.ranges) {
                buckets[variation] += 1;
            }
        }
        let assigned = f64::from(buckets.iter().sum::<u32>().max(1));
        buckets.into_iter().map(|count| f64::from(count) / assigned).collect()
    }
}

impl Allocation {
    fn ranges(&self) -> Vec<BucketRange> {
        match self {
            Self::Weights { weights, coverage } => {
                bucket_ranges(weights.len(), *coverage, Some(weights))
            }
            Self::Ranges(ranges) => ranges.clone(),
        }
    }

    fn find_faults(&self) -> Vec<DefinitionFault> {
        let mut faults = Vec::new();
        let found = match self {
            Self::Weights { weights, coverage } => {
                find_weight_faults(weights, *coverage, &mut faults);
                weights.len()
            }
            Self::Ranges(ranges) => {
                find_range_faults(ranges, &mut faults);
                ranges.len()
            }
        };
        if found < 2 {
            faults.push(DefinitionFault::FewVariations { found });
        }
        faults
    }
}

fn find_weight_faults(weights: &[f64], coverage: f64, faults: &mut Vec<DefinitionFault>) {
    for (variation, weight) in weights.iter().copied().enumerate() {
        if !(0.0..=1.0).contains(&weight) {
            faults.push(DefinitionFault::Weight { variation, weight });
        }
    }
    let sum: f64 = weights.iter().sum();
    let [least, most] = WEIGHT_SUM_BOUNDS;
    if !(least..=most).contains(&sum) {
        faults.push(DefinitionFault::WeightSum { sum });
    }
    if !(0.0..=1.0).contains(&coverage) {
        faults.push(DefinitionFault::Coverage { coverage });
    }
}

fn find_range_faults(ranges: &[BucketRange], faults: &mut Vec<DefinitionFault>) {
    for (second, range) in ranges.iter().enumerate() {
        if !is_valid_range(range) {
            let owner = RangeOwner::Variation(second);
            faults.push(DefinitionFault::Range { owner, range: *range });
        }
        for (first, earlier) in ranges[..second].iter().enumerate() {
            if earlier.start.max(range.start) < earlier.end.min(range.end) {
                faults.push(DefinitionFault::OverlappingRanges { first, second });
            }
        }
    }
}

fn is_valid_range(range: &BucketRange) -> bool {
    0.0 <= range.start && range.start <= range.end && range.end <= 1.0
}
