//! Assignment equals that of the `GrowthBook` SDKs, by their public cases.

use segmentd::domain::experiment::bucketing::{bucket_ranges, choose_variation, equal_weights};
use segmentd::domain::experiment::{
    Allocation, BucketRange, ExperimentDefinition, HashVersion, Namespace, VariationAssigner,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Fields of experiments that decide about the assignment.
const ASSIGNMENT_FIELDS: [&str; 9] = [
    "key",
    "variations",
    "weights",
    "coverage",
    "ranges",
    "namespace",
    "hashVersion",
    "seed",
    "hashAttribute",
];
/// Cases with other fields: forced variations, conditions and prerequisites on attributes, URLs, drafts
/// and pauses, quality assurance, and filters.
const LEFT_OUT: [&str; 20] = [
    "negative forced variation",
    "high forced variation",
    "evaluates conditions - pass",
    "evaluates conditions - fail",
    "globally disabled",
    "querystring force",
    "run active experiments",
    "skip inactive experiments",
    "querystring force with inactive",
    "coverage take precendence over forced",
    "Force variation from context",
    "Skips experiments in QA mode",
    "Works in QA mode if forced in context",
    "Works in QA mode if forced in experiment",
    "Filtered, included",
    "Filtered, excluded",
    "Filtered, ignore namespace",
    "Prerequisite condition passes",
    "Prerequisite condition fails",
    "SavedGroups correctly pulled from context for experiment",
];

fn cases<T: DeserializeOwned>(section: &str) -> Vec<T> {
    let text = std::fs::read("tests/data/growthbook/cases.json").unwrap();
    let mut sections: Map<String, Value> = serde_json::from_slice(&text).unwrap();
    serde_json::from_value(sections.remove(section).unwrap()).unwrap()
}

fn ranges(bounds: &[[f64; 2]]) -> Vec<BucketRange> {
    bounds.iter().map(|[start, end]| BucketRange { start: *start, end: *end }).collect()
}

#[test]
fn hashes_equal_those_of_growthbook() {
    let cases: Vec<(String, String, u32, Option<f64>)> = cases("hash");
    assert_eq!(cases.len(), 15);
    for (seed, value, version, expected) in cases {
        let found = HashVersion::from_number(version).map(|version| version.hash(&seed, &value));
        assert_eq!(found, expected, "{seed} {value} {version}");
    }
}

#[test]
fn bucket_ranges_equal_those_of_growthbook() {
    type Arguments = (usize, f64, Option<Vec<f64>>);
    let cases: Vec<(String, Arguments, Vec<[f64; 2]>)> = cases("getBucketRange");
    assert_eq!(cases.len(), 13);
    for (name, (variations, coverage, weights), expected) in cases {
        let found = bucket_ranges(variations, coverage, weights.as_deref());
        assert_eq!(found.len(), expected.len(), "{name}");
        for (range, expected) in found.iter().zip(expected) {
            // The SDK's own test rounds the ranges.
            let error = (range.start - expected[0]).abs().max((range.end - expected[1]).abs());
            assert!(error < 1e-15, "{name}: {range:?} is not {expected:?}");
        }
    }
}

#[test]
fn the_chosen_variations_equal_those_of_growthbook() {
    let cases: Vec<(String, f64, Vec<[f64; 2]>, i64)> = cases("chooseVariation");
    assert_eq!(cases.len(), 13);
    for (name, hash, bounds, expected) in cases {
        let found = choose_variation(hash, &ranges(&bounds));
        assert_eq!(found, usize::try_from(expected).ok(), "{name}");
    }
}

#[test]
fn namespaces_equal_those_of_growthbook() {
    type Case = (String, String, (String, f64, f64), bool);
    let cases: Vec<Case> = cases("inNamespace");
    assert_eq!(cases.len(), 16);
    for (name, customer_id, (namespace, start, end), expected) in cases {
        let namespace = Namespace { name: namespace.into(), range: BucketRange { start, end } };
        assert_eq!(namespace.contains(&customer_id), expected, "{name}");
    }
}

#[test]
fn equal_weights_equal_those_of_growthbook() {
    let cases: Vec<(i64, Vec<f64>)> = cases("getEqualWeights");
    assert_eq!(cases.len(), 6);
    for (variations, expected) in cases {
        let found = equal_weights(usize::try_from(variations).unwrap_or_default());
        assert_eq!(found.len(), expected.len());
        for (weight, expected) in found.iter().zip(expected) {
            // The cases have eight digits.
            assert!((weight - expected).abs() < 5e-9, "{weight} is not {expected}");
        }
    }
}

/// Experiment of a case, as far as it decides about the assignment.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseExperiment {
    key: Box<str>,
    variations: Vec<Value>,
    weights: Option<Vec<f64>>,
    coverage: Option<f64>,
    ranges: Option<Vec<[f64; 2]>>,
    namespace: Option<(Box<str>, f64, f64)>,
    hash_version: Option<u32>,
    seed: Option<Box<str>>,
    hash_attribute: Option<String>,
}

impl CaseExperiment {
    fn definition(&self) -> ExperimentDefinition {
        let count = self.variations.len();
        let allocation = match &self.ranges {
            Some(bounds) => Allocation::Ranges(ranges(bounds)),
            None => Allocation::Weights {
                weights: self.weights.clone().unwrap_or_else(|| equal_weights(count)),
                coverage: self.coverage.unwrap_or(1.0),
            },
        };
        let namespace = self
            .namespace
            .clone()
            .map(|(name, start, end)| Namespace { name, range: BucketRange { start, end } });
        ExperimentDefinition {
            key: self.key.clone(),
            hash_seed: self.seed.clone(),
            hash_version: HashVersion::from_number(self.hash_version.unwrap_or(1)).unwrap(),
            allocation,
            namespace,
            holdout: None,
        }
    }
}

#[test]
fn assignments_equal_those_of_growthbook() {
    /// Name, context, experiment, value, whether in the experiment, whether the hash was used.
    type Case = (String, Map<String, Value>, Value, Value, bool, bool);
    let cases: Vec<Case> = cases("run");
    assert_eq!(cases.len(), 73);
    let mut left_out = Vec::new();
    for (name, context, experiment, value, is_in_experiment, is_hash_used) in cases {
        let fields = experiment.as_object().unwrap();
        let is_supported = context.keys().all(|field| field == "attributes")
            && fields.keys().all(|field| ASSIGNMENT_FIELDS.contains(&field.as_str()));
        if !is_supported {
            left_out.push(name);
            continue;
        }
        assert_eq!(is_in_experiment, is_hash_used, "{name}");
        let experiment: CaseExperiment = serde_json::from_value(experiment).unwrap();
        let attribute = experiment.hash_attribute.as_deref().unwrap_or("id");
        let attributes = context.get("attributes");
        let customer_id = attributes.and_then(|all| all.get(attribute)).and_then(Value::as_str);
        let assigner = VariationAssigner::new(&experiment.definition());
        let found = assigner.ok().and_then(|one| one.assign(customer_id.unwrap_or_default()).ok());
        assert_eq!(found.is_some(), is_in_experiment, "{name}");
        // Excluded customers see the first variation.
        assert_eq!(experiment.variations[found.unwrap_or_default()], value, "{name}");
    }
    assert_eq!(left_out, LEFT_OUT);
}
