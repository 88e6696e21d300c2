//! Training: deterministic for any number of threads, and clear errors.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use segmentd::domain::feature::{
    FeatureRow, FeatureSet, FeatureValue, NumberScaling, NumberTransform,
};
use segmentd::domain::model::Model;
use segmentd::domain::train::selection::baseline::RfmFeatures;
use segmentd::domain::train::selection::criteria::{CandidateGates, CriterionWeights};
use segmentd::domain::train::{
    self, FeatureChoice, RowFilter, SegmentCount, SegmentCountRange, TrainingError,
    TrainingProgress, TrainingSpec,
};

use crate::feature::support::RETAIL;
use crate::model::support::{
    AS_OF, Quiet, def, feature_set, number, shop_features, shop_model, shoppers, spec, train,
};
use crate::train::kmeans::retail_rows;

fn numbers(values: impl IntoIterator<Item = f64>) -> Vec<FeatureRow> {
    values.into_iter().map(|x| FeatureRow(vec![FeatureValue::Number(x)])).collect()
}

fn plain() -> Vec<segmentd::domain::feature::FeatureDefinition> {
    vec![def("x", "X", Some(number(NumberTransform::None, NumberScaling::Standard)))]
}

#[test]
fn the_number_of_threads_does_not_change_the_model() {
    // Several pieces of rows, so that the order of additions matters.
    let rows = shoppers(6000, 4);
    let with = |threads: usize, spec: TrainingSpec| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| train(spec, &shop_features(), &rows).unwrap().bytes)
    };
    let one = with(1, spec(5));
    assert_eq!(with(2, spec(5)), one);
    assert_eq!(with(4, spec(5)), one);
    // The seed counts, and so does every row.
    assert_ne!(with(2, TrainingSpec { seed: 8, ..spec(5) }), one);
    let fewer = train(spec(5), &shop_features(), &rows[1..]).unwrap();
    assert_ne!(
        fewer.model.provenance().rows_digest,
        Model::open(&one).unwrap().provenance().rows_digest
    );
}

#[test]
fn the_report_adds_up() {
    let trained = shop_model();
    let report = &trained.report;
    assert_eq!((report.rows, report.fitted_rows, report.held_out_rows), (2000, 1600, 400));
    assert_eq!(report.columns, trained.model.encoder().width());
    assert_eq!(report.sizes.iter().sum::<u64>(), 2000);
    let search = report.kmeans.as_ref().unwrap();
    assert_eq!(search.inertia_by_start.len(), 4);
    // Prototypes are rounded to f32 after the clustering, so equal up to that.
    let clustered = search.inertia_by_start[search.start];
    assert!((report.inertia / clustered - 1.0).abs() < 1e-5);

    let provenance = trained.model.provenance();
    assert_eq!((provenance.rows, provenance.seed, provenance.as_of), (2000, 7, AS_OF));
    assert_eq!(provenance.spec["segments"], 4);
    assert_eq!(trained.model.feature_set(), &feature_set());
    assert_eq!(trained.model.features(), shop_features());
}

/// The features and households of the demo.
#[test]
fn the_demo_trains_into_segments_with_plain_labels() {
    let set = FeatureSet::parse(RETAIL).unwrap();
    let rfm = set.rfm();
    let baseline = RfmFeatures {
        recency: rfm.recency.feature.clone(),
        frequency: rfm.frequency.feature.clone(),
        monetary: rfm.monetary.feature.clone(),
    };
    let spec = TrainingSpec { baseline: Some(baseline), ..spec(5) }.check().unwrap();
    let rows = retail_rows(&set);
    let (feature_set, defs) = (set.id(), set.features());
    let data = train::TrainingData { feature_set, defs, rows: &rows, as_of: AS_OF };
    let trained = train::train_model(&spec, &data, &Quiet).unwrap();
    let segments = trained.model.segments();
    let names: Vec<&str> = segments.iter().map(|s| &*s.name).collect();
    assert_eq!(names, DEMO_NAMES);
    assert!(segments.iter().all(|s| s.share > 0.03), "{:?}", trained.report.sizes);
    let revenues: Vec<_> = segments.iter().map(|s| s.revenue.as_ref().unwrap()).collect();
    // Champions spend most.
    let mean_of = |name: &str| {
        let index = names.iter().position(|known| *known == name).unwrap();
        revenues[index].mean.value
    };
    let most = revenues.iter().map(|revenue| revenue.mean.value).fold(0.0, f64::max);
    assert!(mean_of("Champions") >= most && mean_of("Loyal Customers") < most, "{revenues:?}");
    let shares = revenues.iter().map(|revenue| revenue.share.value);
    assert!((shares.sum::<f64>() - 1.0).abs() < 1e-9, "{revenues:?}");
    for (revenue, segment) in revenues.iter().zip(segments) {
        assert_eq!(revenue.feature, rfm.monetary.index);
        let [low, high] = revenue.share.interval();
        assert!(low < revenue.share.value && high - low < 0.06, "{revenue:?}");
        assert!(revenue.top_fifth_share.unwrap() > 0.2, "{revenue:?}");
        let typical = segment.profile.iter().find(|p| p.feature == revenue.feature).unwrap();
        assert!((typical.here.mean().unwrap() / revenue.mean.value - 1.0).abs() < 1e-9);
    }
    assert!(trained.report.silhouette.unwrap() > 0.2);
}

const DEMO_NAMES: [&str; 5] =
    ["Loyal Customers", "At Risk", "Potential Loyalist", "Lost", "Champions"];

#[test]
fn one_segment_contains_every_row() {
    let model = train(spec(1), &shop_features(), &shoppers(400, 1)).unwrap().model;
    let score = model.score(&shoppers(1, 2)[0], &mut model.scratch());
    assert_eq!((score.segment(), score.runner_up), (Some(0), None));
    assert_eq!((score.runner_up_distance, score.confidence()), (f32::INFINITY, 1.0));
    assert_eq!(model.provenance().silhouette, None);
    assert_eq!(&*model.segments()[0].name, "Average");
}

#[test]
fn duplicate_and_constant_rows_train() {
    let two_values = numbers((0..300).map(|i| f64::from(i % 2)));
    let trained = train(spec(2), &plain(), &two_values).unwrap();
    assert_eq!(trained.report.sizes, [150, 150]);
    let score = trained.model.score(&two_values[0], &mut trained.model.scratch());
    assert_eq!((score.distance, score.edge_p_value), (0.0, 1.0));
    assert!(score.p_value > 0.4, "{} of two common values", score.p_value);

    let constant = numbers((0..300).map(|_| 3.5));
    let model = train(spec(1), &plain(), &constant).unwrap().model;
    assert_eq!(model.score(&constant[0], &mut model.scratch()).distance, 0.0);
    let refused = train(spec(2), &plain(), &constant).unwrap_err();
    assert!(matches!(refused, TrainingError::TooFewDistinct { distinct: 1, segments: 2 }));
}

#[test]
fn data_that_cannot_be_trained_on_is_refused() {
    let few = train(spec(4), &shop_features(), &shoppers(150, 1)).unwrap_err();
    assert!(matches!(few, TrainingError::TooFewRows { rows: 150, minimum: 200 }));
    assert!(few.to_string().contains("200"));

    let mut rows = shoppers(300, 1);
    rows[17].0.pop();
    let short = train(spec(4), &shop_features(), &rows).unwrap_err();
    assert!(matches!(short, TrainingError::RowLength { row: 17, found: 5, expected: 6 }));

    let log = vec![def("x", "X", Some(number(NumberTransform::Log1p, NumberScaling::None)))];
    let below = train(spec(2), &log, &numbers((0..300).map(|i| f64::from(i) - 5.0))).unwrap_err();
    assert!(matches!(below, TrainingError::Encoder(_)), "{below}");
}

/// Stops at the n-th query, and records the reports.
struct StopAt {
    question: usize,
    asked: AtomicUsize,
    reports: Mutex<Vec<(&'static str, u64, u64)>>,
}

impl StopAt {
    fn new(question: usize) -> Self {
        Self { question, asked: AtomicUsize::new(0), reports: Mutex::default() }
    }
}

impl TrainingProgress for StopAt {
    fn report(&self, stage: &'static str, done: u64, total: u64) {
        self.reports.lock().unwrap().push((stage, done, total));
    }

    fn should_stop(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) >= self.question
    }
}

#[test]
fn a_run_stops_when_asked_and_reports_its_stages() {
    let rows = shoppers(400, 1);
    let checked = spec(4).check().unwrap();
    let (feature_set, defs) = (feature_set(), shop_features());
    let data =
        train::TrainingData { feature_set: &feature_set, defs: &defs, rows: &rows, as_of: AS_OF };
    let run = |progress: &StopAt| train::train_model(&checked, &data, progress);
    for question in [0, 3] {
        assert!(matches!(run(&StopAt::new(question)), Err(TrainingError::Stopped)));
    }
    let never = StopAt::new(usize::MAX);
    let trained = run(&never).unwrap();
    let reports = never.reports.into_inner().unwrap();
    assert_eq!((reports[0], reports[1]), (("encode", 0, 1), ("encode", 1, 1)));
    assert_eq!(
        reports.iter().filter(|(stage, _, total)| (*stage, *total) == ("cluster", 4)).count(),
        4
    );
    assert_eq!(reports[reports.len() - 1], ("finish", 1, 1));
    // Progress reports do not change the result.
    let unwatched = train::train_model(&checked, &data, &Quiet).unwrap();
    assert_eq!(trained.bytes, unwatched.bytes);
}

#[test]
fn every_bad_setting_is_reported_at_once() {
    assert!(TrainingSpec::default().check().is_ok());
    let bad = TrainingSpec {
        segments: 0.into(),
        starts: 0,
        max_iterations: 0,
        tolerance: f64::NAN,
        seed: 0,
        holdout_share: 0.9,
        minimum_rows: 3,
        validation_share: 0.6,
        exclude: vec![FeatureChoice { feature: "x".into(), reason: " ".into() }],
        sample: Some(2),
        gates: CandidateGates { silhouette: Some(2.0), ..CandidateGates::default() },
        weights: CriterionWeights { modularity: -1.0, ..CriterionWeights::default() },
        ..TrainingSpec::default()
    };
    let faults = bad.check().unwrap_err();
    let paths: Vec<&str> = faults.0.iter().map(|fault| &*fault.path).collect();
    let expected = [
        "segments",
        "starts",
        "max_iterations",
        "tolerance",
        "holdout_share",
        "validation_share",
        "minimum_rows",
        "sample",
        "exclude[0].reason",
        "gates.silhouette",
        "weights.modularity",
    ];
    assert_eq!(paths, expected);
    // A missing field has a default, an unknown one is refused.
    let read: TrainingSpec = serde_json::from_str(r#"{"segments": 3}"#).unwrap();
    assert_eq!(read, TrainingSpec { segments: 3.into(), ..TrainingSpec::default() });
    assert!(serde_json::from_str::<TrainingSpec>(r#"{"segment": 3}"#).is_err());
    let range: TrainingSpec =
        serde_json::from_str(r#"{"segments": {"from": 4, "to": 3}}"#).unwrap();
    assert_eq!(range.check().unwrap_err().0[0].path, "segments.to");
    let automatic: TrainingSpec = serde_json::from_str(r#"{"segments": "automatic"}"#).unwrap();
    let range = |rows| automatic.segments.range(rows);
    assert_eq!(range(10), SegmentCountRange { from: 2, to: 2 });
    assert_eq!(range(200), SegmentCountRange { from: 2, to: 10 });
    assert_eq!(range(1_000_000), SegmentCountRange { from: 2, to: 64 });
    let neither = serde_json::from_str::<TrainingSpec>(r#"{"segments": "some"}"#).unwrap_err();
    assert!(neither.to_string().contains("a number of segments, a range"), "{neither}");
}

/// A spec stored by an older version keeps its meaning.
#[test]
fn a_spec_of_an_older_run_is_read() {
    let stored = r#"{"segments": 6, "starts": 10, "max_iterations": 300, "tolerance": 0.0001,
        "seed": 3, "holdout_share": 0.3, "minimum_rows": 100}"#;
    let spec: TrainingSpec = serde_json::from_str(stored).unwrap();
    assert_eq!((spec.segments, spec.seed), (SegmentCount::Exact(6), 3));
    assert_eq!(spec.segments.range(1000), SegmentCountRange { from: 6, to: 6 });
    assert!(spec.check().is_ok());
}

#[test]
fn the_number_of_segments_is_chosen_beside_a_baseline() {
    let defs = shop_features();
    let settings = TrainingSpec {
        segments: SegmentCount::Range(SegmentCountRange { from: 2, to: 6 }),
        slices: vec!["channel".into()],
        baseline: Some(RfmFeatures {
            recency: "recency".into(),
            frequency: "gap".into(),
            monetary: "spend".into(),
        }),
        ..spec(2)
    };
    let rows = shoppers(1200, 3);
    let run = || train(settings.clone(), &defs, &rows).unwrap();
    let trained = run();
    let board = &trained.report.leaderboard;
    let mut tried: Vec<usize> = board.entries.iter().map(|entry| entry.segments).collect();
    let chosen = tried[0];
    tried.sort_unstable();
    assert_eq!(tried, [2, 3, 4, 5, 6]);
    assert_eq!(trained.model.segments().len(), chosen);
    for (place, entry) in board.entries.iter().enumerate() {
        assert_eq!(entry.reason.starts_with("first: "), place == 0, "{}", entry.reason);
        assert!(entry.over_baseline.as_ref().unwrap().silhouette.is_some());
        assert!(entry.criteria.is_some() && entry.score.is_some());
        // The best three are compared on more rows.
        let Some(stability) = entry.figures.stability.as_ref().filter(|_| place < 3) else {
            assert!(place >= 3, "{}", entry.reason);
            continue;
        };
        assert_eq!(stability.segments.len(), entry.segments);
        assert!(stability.kept_under_noise.unwrap() > 0.8);
        assert!(!stability.slices.is_empty() && stability.seeds.is_some());
    }
    let baseline = board.baseline.as_ref().unwrap();
    assert_eq!(baseline.segments.iter().map(|segment| segment.rows).sum::<u64>(), 768);
    assert_eq!(run().report, trained.report);
    let split = &trained.report.split;
    assert_eq!((split.train, split.validation, split.held_out), (768, 192, 240));
    assert!(split.largest_mean_difference.unwrap() < 0.15, "{split:?}");
}

#[test]
fn a_gate_that_no_candidate_passes_fails_the_run_with_figures() {
    let gates = CandidateGates { smallest_share: Some(0.4), ..CandidateGates::default() };
    let refused = train(TrainingSpec { gates, ..spec(4) }, &shop_features(), &shoppers(400, 1));
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("kmeans 4: refused: smallest_share is 0."), "{said}");
    assert!(said.contains("required is 0.4"), "{said}");
}

#[test]
fn features_and_rows_are_chosen_with_a_reason() {
    let rows = shoppers(1000, 1);
    let reason: Box<str> = "only those who buy online".into();
    let filter = RowFilter {
        feature: "channel".into(),
        at_least: None,
        at_most: None,
        one_of: ["app".into(), "web".into()].into(),
        reason: reason.clone(),
    };
    let exclude = vec![FeatureChoice { feature: "channel".into(), reason }];
    let settings = TrainingSpec { exclude, filters: vec![filter], sample: Some(300), ..spec(3) };
    let trained = train(settings, &shop_features(), &rows).unwrap();
    assert_eq!(trained.report.rows, 300);
    assert_eq!(trained.report.columns, 4);
    assert!(trained.report.left_out.is_empty());
    assert_eq!(trained.model.provenance().spec["exclude"][0]["feature"], "channel");

    let unknown = TrainingSpec {
        include: vec![
            FeatureChoice { feature: "spent".into(), reason: "typed in haste".into() },
            FeatureChoice { feature: "tenure".into(), reason: "is only shown".into() },
        ],
        ..spec(3)
    };
    let faults = unknown.check_features(&shop_features()).unwrap_err().to_string();
    assert!(
        faults.contains("include[0].feature: `spent` is not a feature of this set"),
        "{faults}"
    );
    assert!(faults.contains("include[1].feature: `tenure` has no encoding"), "{faults}");
    assert!(matches!(train(unknown, &shop_features(), &rows), Err(TrainingError::Spec(_))));
}
