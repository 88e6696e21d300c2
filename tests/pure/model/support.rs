//! Shared by the tests of encoder, training and models: generated customers with a known
//! structure, and a way to train on them.

use segmentd::domain::feature::{
    Encoding, FeatureDef, FeatureRow, Missing, Scale, Sensitivity, Transform, Value,
};
use segmentd::domain::id::FeatureSetId;
use segmentd::domain::stats::Rng;
use segmentd::domain::time::Timestamp;
use segmentd::domain::train::evaluation::stability::Trials;
use segmentd::domain::train::{self, TrainSpec, Trained, TrainingError, TrainingProgress};

/// A numeric encoding: median, no flag, no clipping.
pub(crate) fn number(transform: Transform, scale: Scale) -> Encoding {
    Encoding::Number {
        missing: Missing::Median,
        missing_flag: false,
        winsorise: None,
        transform,
        scale,
        weight: 1.0,
    }
}

pub(crate) fn def(name: &str, title: &str, encoding: Option<Encoding>) -> FeatureDef {
    FeatureDef {
        name: name.into(),
        title: title.into(),
        unit: "units".into(),
        owner: "crm@example.com".into(),
        sensitivity: Sensitivity::Internal,
        encoding,
    }
}

/// Features of every kind: skewed with missing values, plain, categorical, one excluded
/// from models, and one sensitive.
pub(crate) fn shop_features() -> Vec<FeatureDef> {
    let gap = Encoding::Number {
        missing: Missing::Mean,
        missing_flag: true,
        winsorise: Some((0.01, 0.99)),
        transform: Transform::YeoJohnson,
        scale: Scale::Robust,
        weight: 0.5,
    };
    let mut income = def("income", "Income", None);
    income.sensitivity = Sensitivity::Sensitive;
    vec![
        def("spend", "Spend", Some(number(Transform::Log1p, Scale::Standard))),
        def("recency", "Recency", Some(number(Transform::None, Scale::Standard))),
        def("gap", "Gap between orders", Some(gap)),
        def("channel", "Channel", Some(Encoding::OneHot { floor: 0.02, weight: 1.0 })),
        def("tenure", "Tenure", None),
        income,
    ]
}

/// Customers of four kinds: 40 %, 30 %, 20 % and 10 %.
pub(crate) fn shoppers(rows: usize, seed: u64) -> Vec<FeatureRow> {
    let mut rng = Rng::new(seed, 0);
    (0..rows).map(|_| shopper(&mut rng)).collect()
}

fn shopper(rng: &mut Rng) -> FeatureRow {
    let drawn = rng.unit();
    let kind = [0.4, 0.7, 0.9].iter().filter(|bound| drawn >= **bound).count();
    let (spend, recency, gap): (f64, f64, f64) =
        [(3.0, 20.0, 15.0), (5.0, 8.0, 6.0), (6.5, 4.0, 3.0), (4.0, 60.0, 30.0)][kind];
    let channel = match (kind, rng.below(20)) {
        (0 | 3, 0..12) | (1, 0..6) => "store",
        (_, 19) if rng.below(40) == 0 => "fax",
        (2, 0..14) => "app",
        _ => "web",
    };
    let gap = if rng.below(12) == 0 {
        Value::Missing
    } else {
        Value::Number(gap * (0.4 * normal(rng)).exp())
    };
    FeatureRow(vec![
        Value::Number((spend + 0.5 * normal(rng)).exp()),
        Value::Number(recency + recency.sqrt() * normal(rng)),
        gap,
        Value::Category(channel.into()),
        Value::Number(rng.unit() * 400.0),
        Value::Number(1000.0 * rng.unit()),
    ])
}

/// A standard normal draw (Box and Muller 1958).
pub(crate) fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.unit()).cos()
}

/// Reports nothing, and never stops.
pub(crate) struct Quiet;

impl TrainingProgress for Quiet {
    fn report(&self, _: &'static str, _: u64, _: u64) {}

    fn should_stop(&self) -> bool {
        false
    }
}

pub(crate) const AS_OF: Timestamp = Timestamp::from_millis(1_514_851_200_000);

pub(crate) fn feature_set() -> FeatureSetId {
    FeatureSetId::of(b"the shop's features")
}

pub(crate) fn spec(segments: usize) -> TrainSpec {
    let stability = Trials { bootstraps: 4, seeds: 1, ..Trials::default() };
    TrainSpec { segments: segments.into(), starts: 4, seed: 7, stability, ..TrainSpec::default() }
}

pub(crate) fn train(
    spec: TrainSpec,
    defs: &[FeatureDef],
    rows: &[FeatureRow],
) -> Result<Trained, TrainingError> {
    let data = train::TrainingData { feature_set: &feature_set(), defs, rows, as_of: AS_OF };
    train::train(&spec.check().unwrap(), &data, &Quiet)
}

/// Four segments of 2,000 shoppers.
pub(crate) fn shop_model() -> Trained {
    train(spec(4), &shop_features(), &shoppers(2000, 1)).unwrap()
}
