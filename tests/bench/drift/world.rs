//! Simulated customers with known distributions: twenty features of mixed kinds, three
//! kinds of customers, and drift on request.

use segmentd::domain::feature::{
    FeatureDefinition, FeatureEncoding, FeatureRow, FeatureValue, MissingValueRule, NumberScaling,
    NumberTransform,
};
use segmentd::domain::model::Model;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::TrainingSpec;
use segmentd::domain::train::evaluation::stability::StabilityTrials;

use crate::model_support::{def, normal, number, spec, train};

pub(super) const FEATURES: usize = 20;
/// The index of the feature that moves: a normal one that does not separate kinds.
pub(super) const MOVED: usize = 7;
pub(super) const MOVED_NAME: &str = "f7";
pub(super) const TRAINING_ROWS: usize = 10_000;
/// The indexes of the categorical features, for peers that need them.
pub(super) const CATEGORIES: [usize; 2] = [17, 18];

/// The weight of the features that separate kinds, so that the segments are the kinds.
const KIND_WEIGHT: f64 = 3.0;

/// The kinds of customers, and the categories of two features for each.
const KINDS: [f64; 3] = [0.5, 0.3, 0.2];
const CHANNELS: [f64; 4] = [0.55, 0.25, 0.15, 0.05];
const REGIONS: [f64; 8] = [0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.03, 0.02];

/// The change after training.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Change {
    /// The shift of the moved feature, in standard deviations.
    pub(super) shift: f64,
    /// The share of all customers that moves from the first kind to the second.
    pub(super) mix: f64,
}

pub(super) fn features() -> Vec<FeatureDefinition> {
    let plain = number(NumberTransform::None, NumberScaling::Standard);
    let logged = number(NumberTransform::Log1p, NumberScaling::Standard);
    let encoding = |place: usize| match place {
        0..=3 => plain_of(KIND_WEIGHT, false),
        10..=12 | 15..=16 => logged,
        17..=18 => FeatureEncoding::OneHot { floor: 0.02, weight: 1.0 },
        19 => plain_of(1.0, true),
        _ => plain,
    };
    (0..FEATURES).map(|i| def(&format!("f{i}"), &name(i), Some(encoding(i)))).collect()
}

fn name(place: usize) -> String {
    let kind = match place {
        10..=12 => "lognormal",
        13..=14 => "a count",
        15..=16 => "mostly zero",
        17..=18 => "a category",
        19 => "often missing",
        _ => "normal",
    };
    format!("Feature {place}, {kind}")
}

fn plain_of(weight: f64, missing_flag: bool) -> FeatureEncoding {
    FeatureEncoding::Number {
        missing: MissingValueRule::Median,
        missing_flag,
        winsorise: None,
        transform: NumberTransform::None,
        scale: NumberScaling::Standard,
        weight,
    }
}

pub(super) fn customer(rng: &mut RandomStream, change: Change) -> FeatureRow {
    let weights = [KINDS[0] - change.mix, KINDS[1] + change.mix, KINDS[2]];
    let kind = rng.weighted_index(&weights, 1.0) as f64;
    let value = |place: usize| match place {
        0..=3 => FeatureValue::Number(2.0 * kind + normal(rng)),
        MOVED => FeatureValue::Number(change.shift + normal(rng)),
        10..=12 => FeatureValue::Number((3.0 + 0.8 * normal(rng)).exp()),
        13 => FeatureValue::Number(poisson(rng, 3.0)),
        14 => FeatureValue::Number(poisson(rng, 0.5)),
        15..=16 if rng.uniform_below(10) < 6 => FeatureValue::Number(0.0),
        15..=16 => FeatureValue::Number((2.0 + normal(rng)).exp()),
        17 => category(rng, &CHANNELS),
        18 => category(rng, &REGIONS),
        19 if rng.uniform_below(10) == 0 => FeatureValue::Missing,
        _ => FeatureValue::Number(normal(rng)),
    };
    FeatureRow((0..FEATURES).map(value).collect())
}

pub(super) fn customers(rng: &mut RandomStream, rows: usize, change: Change) -> Vec<FeatureRow> {
    (0..rows).map(|_| customer(rng, change)).collect()
}

/// The training rows of the model with this seed.
pub(super) fn training_rows(seed: u64) -> Vec<FeatureRow> {
    customers(&mut RandomStream::new(seed, 0), TRAINING_ROWS, Change::default())
}

pub(super) fn model(rows: &[FeatureRow]) -> Model {
    train(quick(3), &features(), rows).unwrap().model
}

/// One start and no stability trials, because only the data matters here.
pub(super) fn quick(segments: usize) -> TrainingSpec {
    let stability = StabilityTrials { bootstraps: 0, seeds: 0, ..StabilityTrials::default() };
    TrainingSpec { starts: 1, stability, ..spec(segments) }
}

/// As [`quick`], and a small segment is no reason to refuse the model.
pub(super) fn ungated(segments: usize) -> TrainingSpec {
    let mut spec = quick(segments);
    spec.gates.smallest_share = None;
    spec
}

/// By Knuth's algorithm, because the means are small.
fn poisson(rng: &mut RandomStream, mean: f64) -> f64 {
    let (bound, mut product, mut count) = ((-mean).exp(), rng.uniform_unit(), 0.0);
    while product > bound {
        product *= rng.uniform_unit();
        count += 1.0;
    }
    count
}

fn category(rng: &mut RandomStream, weights: &[f64]) -> FeatureValue {
    FeatureValue::Category(format!("c{}", rng.weighted_index(weights, 1.0)).into())
}
