//! Assignment is deterministic, gives the planned shares, and excludes for the stated reasons.

use proptest::prelude::*;
use segmentd::domain::experiment::bucketing::bucket_ranges;
use segmentd::domain::experiment::{
    Allocation, BucketRange, DefinitionFault, Exclusion, ExperimentDefinition, HashVersion,
    Holdout, Namespace, VariationAssigner,
};

use crate::experiment::support::{assert_binomial, definition};

const CUSTOMERS: usize = 20_000;

fn customer(number: usize) -> String {
    format!("customer-{number}")
}

fn count_assigned(assigner: &VariationAssigner) -> Vec<usize> {
    let mut counts = vec![0; assigner.variation_count()];
    for number in 0..CUSTOMERS {
        if let Ok(variation) = assigner.assign(&customer(number)) {
            counts[variation] += 1;
        }
    }
    counts
}

#[test]
fn variations_receive_their_shares() {
    for weights in [vec![0.5, 0.5], vec![0.1, 0.6, 0.3], vec![1.0 / 3.0; 3]] {
        for coverage in [1.0, 0.25] {
            let mut experiment = definition("checkout", &weights);
            experiment.allocation = Allocation::Weights { weights: weights.clone(), coverage };
            let assigner = VariationAssigner::new(&experiment).unwrap();
            for (count, weight) in count_assigned(&assigner).into_iter().zip(&weights) {
                assert_binomial(count, CUSTOMERS, weight * coverage, "share");
            }
        }
    }
}

/// Two experiments with different seeds cross evenly.
#[test]
fn experiments_are_independent() {
    let [first, second] = ["first", "second"]
        .map(|key| VariationAssigner::new(&definition(key, &[0.5, 0.5])).unwrap());
    let both = (0..CUSTOMERS)
        .map(customer)
        .filter(|id| first.assign(id) == Ok(1) && second.assign(id) == Ok(1));
    assert_binomial(both.count(), CUSTOMERS, 0.25, "both treated");
}

#[test]
fn a_holdout_takes_its_share_of_each_variation_out_of_every_experiment() {
    let holdout = Holdout { hash_seed: "2026-q4".into(), share: 0.1 };
    let held: Vec<usize> =
        (0..CUSTOMERS).filter(|number| holdout.contains(&customer(*number))).collect();
    assert_binomial(held.len(), CUSTOMERS, 0.1, "holdout");
    // The share is the first hash outside.
    let share = HashVersion::V2.hash("2026-q4", "customer-0");
    assert!(!Holdout { hash_seed: "2026-q4".into(), share }.contains("customer-0"));
    let mut counts = [0; 2];
    for key in ["first", "second"] {
        let without = VariationAssigner::new(&definition(key, &[0.5, 0.5])).unwrap();
        let with =
            ExperimentDefinition { holdout: Some(holdout.clone()), ..definition(key, &[0.5, 0.5]) };
        let with = VariationAssigner::new(&with).unwrap();
        for number in 0..CUSTOMERS {
            let id = customer(number);
            let expected = if held.binary_search(&number).is_ok() {
                counts[without.assign(&id).unwrap()] += 1;
                Err(Exclusion::Holdout)
            } else {
                without.assign(&id)
            };
            assert_eq!(with.assign(&id), expected);
        }
    }
    assert_binomial(counts[0], counts[0] + counts[1], 0.5, "held out of the control");
}

fn assigner_in_namespace(key: &str, range: BucketRange) -> VariationAssigner {
    let namespace = Some(Namespace { name: "search".into(), range });
    let experiment = ExperimentDefinition { namespace, ..definition(key, &[0.5, 0.5]) };
    VariationAssigner::new(&experiment).unwrap()
}

#[test]
fn namespaces_exclude_each_other() {
    let first = assigner_in_namespace("first", BucketRange { start: 0.0, end: 0.3 });
    let second = assigner_in_namespace("second", BucketRange { start: 0.3, end: 1.0 });
    let mut in_first = 0;
    for id in (0..CUSTOMERS).map(customer) {
        let (first, second) = (first.assign(&id), second.assign(&id));
        assert!(first.is_ok() != second.is_ok());
        assert_eq!(first.and(second), Err(Exclusion::Namespace));
        in_first += usize::from(first.is_ok());
    }
    assert_binomial(in_first, CUSTOMERS, 0.3, "first namespace");
}

#[test]
fn exclusions_have_reasons() {
    let mut experiment = definition("none", &[0.5, 0.5]);
    experiment.allocation = Allocation::Weights { weights: vec![0.5, 0.5], coverage: 0.0 };
    let assigner = VariationAssigner::new(&experiment).unwrap();
    assert_eq!(assigner.assign(""), Err(Exclusion::EmptyCustomerId));
    assert_eq!(assigner.assign("a"), Err(Exclusion::Coverage));
    assert_eq!(assigner.expected_shares(), [0.0, 0.0]);
}

/// As in the SDKs, an empty seed is no seed.
#[test]
fn the_key_is_the_seed_without_another_one() {
    let mut experiment = definition("checkout", &[0.5, 0.5]);
    let by_key = VariationAssigner::new(&experiment).unwrap();
    experiment.hash_seed = Some("".into());
    assert_eq!(VariationAssigner::new(&experiment).unwrap(), by_key);
    experiment.hash_seed = Some("other".into());
    let by_seed = VariationAssigner::new(&experiment).unwrap();
    assert!((0..CUSTOMERS).map(customer).any(|id| by_key.assign(&id) != by_seed.assign(&id)));
}

#[test]
fn expected_shares_count_buckets() {
    let mut experiment = definition("thirds", &[1.0 / 3.0; 3]);
    experiment.hash_version = HashVersion::V1;
    let shares = VariationAssigner::new(&experiment).unwrap().expected_shares();
    assert_eq!(shares, [0.334, 0.333, 0.333]);
}

#[test]
fn every_fault_of_a_definition_is_found_at_once() {
    let range = |start, end| BucketRange { start, end };
    let mut experiment = definition("faulty", &[]);
    experiment.allocation = Allocation::Weights { weights: vec![1.5], coverage: 2.0 };
    experiment.namespace = Some(Namespace { name: "n".into(), range: range(0.5, 0.2) });
    experiment.holdout = Some(Holdout { hash_seed: "faulty".into(), share: -0.1 });
    let faults = VariationAssigner::new(&experiment).unwrap_err();
    assert_eq!(faults.len(), 7, "{faults:?}");
    experiment.allocation = Allocation::Ranges(vec![range(0.0, 0.6), range(0.5, 1.0)]);
    experiment.namespace = None;
    experiment.holdout = None;
    let faults = VariationAssigner::new(&experiment).unwrap_err();
    assert_eq!(faults, [DefinitionFault::OverlappingRanges { first: 0, second: 1 }]);
    experiment.allocation = Allocation::Ranges(vec![range(0.0, f64::NAN), range(0.5, 1.0)]);
    let faults = VariationAssigner::new(&experiment).unwrap_err();
    assert!(faults[0].to_string().starts_with("the range of variation 0 is 0 to NaN"));
}

/// Hashes of ids beyond ASCII: FNV-1a of UTF-16 code units, by a second implementation.
fn plain_hash(text: &str) -> u64 {
    text.encode_utf16()
        .fold(0x811c_9dc5, |hash, unit| ((hash ^ u64::from(unit)) * 16_777_619) % (1 << 32))
}

fn assign_covered(coverage: f64, customer_id: &str) -> Result<usize, Exclusion> {
    let mut experiment = definition("ramp", &[0.2, 0.8]);
    experiment.allocation = Allocation::Weights { weights: vec![0.2, 0.8], coverage };
    VariationAssigner::new(&experiment).unwrap().assign(customer_id)
}

proptest! {
    #[test]
    fn hashing_in_parts_equals_hashing_of_the_joined_text(seed in ".*", id in ".*") {
        let joined = plain_hash(&format!("{id}{seed}")) % 1_000;
        prop_assert_eq!(HashVersion::V1.hash(&seed, &id), joined as f64 / 1_000.0);
        let inner = plain_hash(&format!("{seed}{id}"));
        let twice = plain_hash(&inner.to_string()) % 10_000;
        prop_assert_eq!(HashVersion::V2.hash(&seed, &id), twice as f64 / 10_000.0);
    }

    #[test]
    fn ranges_are_disjoint_and_as_wide_as_planned(
        parts in prop::collection::vec(0.0..1.0_f64, 2..8),
        coverage in 0.0..=1.0_f64,
    ) {
        let total: f64 = parts.iter().sum();
        prop_assume!(total > 0.1);
        let weights: Vec<f64> = parts.iter().map(|part| part / total).collect();
        let ranges = bucket_ranges(weights.len(), coverage, Some(&weights));
        for pair in ranges.windows(2) {
            prop_assert!(pair[0].start <= pair[0].end && pair[0].end <= pair[1].start);
        }
        for (range, weight) in ranges.iter().zip(&weights) {
            prop_assert!((range.end - range.start - coverage * weight).abs() < 1e-12);
        }
    }

    /// More coverage adds customers, and moves none.
    #[test]
    fn more_coverage_moves_no_customer(id in "[a-z0-9]{1,12}", small in 0.0..1.0_f64) {
        let (before, after) = (assign_covered(small, &id), assign_covered(1.0, &id));
        prop_assert!(before == after || before == Err(Exclusion::Coverage));
        prop_assert_eq!(assign_covered(small, &id), before);
    }
}
