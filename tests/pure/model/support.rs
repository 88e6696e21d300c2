//! Shared by the tests of encoder, training and models: generated customers with a known
//! structure, and a way to train on them.

use segmentd::domain::feature::{
    FeatureDefinition, FeatureEncoding, FeatureRow, FeatureValue, MissingValueRule, NumberScaling,
    NumberTransform, SegmentWords, Sensitivity,
};
use segmentd::domain::id::FeatureSetId;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::time::Timestamp;
use segmentd::domain::train::clustering::kmeans::KmeansSettings;
use segmentd::domain::train::evaluation::stability::StabilityTrials;
use segmentd::domain::train::{
    self, ClusteringAlgorithm, TrainedModel, TrainingError, TrainingProgress, TrainingSpec,
};

/// A numeric encoding: median, no flag, no clipping.
pub(crate) fn number(transform: NumberTransform, scale: NumberScaling) -> FeatureEncoding {
    FeatureEncoding::Number {
        missing: MissingValueRule::Median,
        missing_flag: false,
        winsorise: None,
        transform,
        scale,
        weight: 1.0,
    }
}

pub(crate) fn def(name: &str, title: &str, encoding: Option<FeatureEncoding>) -> FeatureDefinition {
    FeatureDefinition {
        name: name.into(),
        title: title.into(),
        segment_words: SegmentWords::default(),
        unit: "units".into(),
        owner: "crm@example.com".into(),
        sensitivity: Sensitivity::Internal,
        encoding,
    }
}

/// Features of every kind: skewed with missing values, plain, categorical, one excluded
/// from models, and one sensitive.
pub(crate) fn shop_features() -> Vec<FeatureDefinition> {
    let gap = FeatureEncoding::Number {
        missing: MissingValueRule::Mean,
        missing_flag: true,
        winsorise: Some((0.01, 0.99)),
        transform: NumberTransform::YeoJohnson,
        scale: NumberScaling::Robust,
        weight: 0.5,
    };
    let mut income = def("income", "Income", None);
    income.sensitivity = Sensitivity::Sensitive;
    vec![
        def("spend", "Spend", Some(number(NumberTransform::Log1p, NumberScaling::Standard))),
        def("recency", "Recency", Some(number(NumberTransform::None, NumberScaling::Standard))),
        def("gap", "Gap between orders", Some(gap)),
        def("channel", "Channel", Some(FeatureEncoding::OneHot { floor: 0.02, weight: 1.0 })),
        def("tenure", "Tenure", None),
        income,
    ]
}

/// Customers of four kinds: 40 %, 30 %, 20 % and 10 %.
pub(crate) fn shoppers(rows: usize, seed: u64) -> Vec<FeatureRow> {
    let mut rng = RandomStream::new(seed, 0);
    (0..rows).map(|_| shopper(&mut rng)).collect()
}

fn shopper(rng: &mut RandomStream) -> FeatureRow {
    let drawn = rng.uniform_unit();
    let kind = [0.4, 0.7, 0.9].iter().filter(|bound| drawn >= **bound).count();
    let (spend, recency, gap): (f64, f64, f64) =
        [(3.0, 20.0, 15.0), (5.0, 8.0, 6.0), (6.5, 4.0, 3.0), (4.0, 60.0, 30.0)][kind];
    let channel = match (kind, rng.uniform_below(20)) {
        (0 | 3, 0..12) | (1, 0..6) => "store",
        (_, 19) if rng.uniform_below(40) == 0 => "fax",
        (2, 0..14) => "app",
        _ => "web",
    };
    let gap = if rng.uniform_below(12) == 0 {
        FeatureValue::Missing
    } else {
        FeatureValue::Number(gap * (0.4 * normal(rng)).exp())
    };
    FeatureRow(vec![
        FeatureValue::Number((spend + 0.5 * normal(rng)).exp()),
        FeatureValue::Number(recency + recency.sqrt() * normal(rng)),
        gap,
        FeatureValue::Category(channel.into()),
        FeatureValue::Number(rng.uniform_unit() * 400.0),
        FeatureValue::Number(1000.0 * rng.uniform_unit()),
    ])
}

/// A standard normal draw (Box and Muller 1958).
pub(crate) fn normal(rng: &mut RandomStream) -> f64 {
    rng.standard_normal()
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

pub(crate) fn spec(segments: usize) -> TrainingSpec {
    let stability = StabilityTrials { bootstraps: 4, seeds: 1, ..StabilityTrials::default() };
    TrainingSpec {
        segments: segments.into(),
        algorithms: vec![ClusteringAlgorithm::Kmeans(KmeansSettings::default())],
        starts: 4,
        seed: 7,
        stability,
        ..TrainingSpec::default()
    }
}

pub(crate) fn train(
    spec: TrainingSpec,
    defs: &[FeatureDefinition],
    rows: &[FeatureRow],
) -> Result<TrainedModel, TrainingError> {
    let data = train::TrainingData { feature_set: &feature_set(), defs, rows, as_of: AS_OF };
    train::train_model(&spec.check().unwrap(), &data, &Quiet)
}

/// Four segments of 2,000 shoppers.
pub(crate) fn shop_model() -> TrainedModel {
    train(spec(4), &shop_features(), &shoppers(2000, 1)).unwrap()
}
