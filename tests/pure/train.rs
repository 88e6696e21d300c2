//! Training: the same bytes on any number of threads, and clear refusals.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use segmentd::domain::feature::{FeatureRow, FeatureSet, Scale, Transform, Value};
use segmentd::domain::model::Model;
use segmentd::domain::train::{self, FitError, Progress, TrainSpec};

use crate::feature_support::RETAIL;
use crate::kmeans::retail_rows;
use crate::model_support::{
    AS_OF, Quiet, def, feature_set, number, shop_features, shop_model, shoppers, spec, train,
};

fn numbers(values: impl IntoIterator<Item = f64>) -> Vec<FeatureRow> {
    values.into_iter().map(|x| FeatureRow(vec![Value::Number(x)])).collect()
}

fn plain() -> Vec<segmentd::domain::feature::FeatureDef> {
    vec![def("x", "X", Some(number(Transform::None, Scale::Standard)))]
}

#[test]
fn threads_do_not_change_a_byte() {
    // Several pieces of rows, so that the order of additions matters.
    let rows = shoppers(6000, 4);
    let with = |threads: usize, spec: TrainSpec| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| train(spec, &shop_features(), &rows).unwrap().bytes)
    };
    let one = with(1, spec(5));
    assert_eq!(with(2, spec(5)), one);
    assert_eq!(with(4, spec(5)), one);
    // The seed counts, and so does every row.
    assert_ne!(with(2, TrainSpec { seed: 8, ..spec(5) }), one);
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
    assert_eq!(report.inertia_by_start.len(), 4);
    // Prototypes are rounded to f32 after the clustering: all but equal.
    let clustered = report.inertia_by_start[report.start];
    assert!((report.inertia / clustered - 1.0).abs() < 1e-5);

    let provenance = trained.model.provenance();
    assert_eq!((provenance.rows, provenance.seed, provenance.as_of), (2000, 7, AS_OF));
    assert_eq!(provenance.spec["segments"], 4);
    assert_eq!(trained.model.feature_set(), &feature_set());
    assert_eq!(trained.model.features(), shop_features());
}

/// What the demo shows: its features, its households.
#[test]
fn the_demo_trains_into_segments_with_plain_labels() {
    let set = FeatureSet::parse(RETAIL).unwrap();
    let spec = spec(5).check().unwrap();
    let rows = retail_rows(&set);
    let trained = train::train(&spec, set.id(), set.features(), &rows, AS_OF, &Quiet).unwrap();
    let segments = trained.model.segments();
    let labels: Vec<&str> = segments.iter().map(|s| &*s.label).collect();
    assert_eq!(labels, DEMO_LABELS);
    assert!(segments.iter().all(|s| s.share > 0.03), "{:?}", trained.report.sizes);
    assert!(trained.report.silhouette.unwrap() > 0.2);
}

const DEMO_LABELS: [&str; 5] = [
    "high orders, low mean days between orders",
    "high mean product lines per order, high mean order value",
    "high orders of the last 28 days as a share of 112 days', low largest order",
    "low spend, high days since the last order",
    "high campaign coupons redeemed, high share of orders with a coupon",
];

#[test]
fn one_segment_holds_everybody() {
    let model = train(spec(1), &shop_features(), &shoppers(400, 1)).unwrap().model;
    let score = model.score(&shoppers(1, 2)[0], &mut model.scratch());
    assert_eq!((score.segment, score.runner_up), (0, None));
    assert_eq!((score.runner_up_distance, score.confidence()), (f32::INFINITY, 1.0));
    assert_eq!(model.provenance().silhouette, None);
    assert_eq!(&*model.segments()[0].label, "average");
}

#[test]
fn duplicate_and_constant_rows_train() {
    let two_values = numbers((0..300).map(|i| f64::from(i % 2)));
    let trained = train(spec(2), &plain(), &two_values).unwrap();
    assert_eq!(trained.report.sizes, [150, 150]);
    let score = trained.model.score(&two_values[0], &mut trained.model.scratch());
    assert_eq!((score.distance, score.p_value), (0.0, 1.0));

    let constant = numbers((0..300).map(|_| 3.5));
    let model = train(spec(1), &plain(), &constant).unwrap().model;
    assert_eq!(model.score(&constant[0], &mut model.scratch()).distance, 0.0);
    let refused = train(spec(2), &plain(), &constant).unwrap_err();
    assert!(matches!(refused, FitError::TooFewDistinct { distinct: 1, segments: 2 }));
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let few = train(spec(4), &shop_features(), &shoppers(150, 1)).unwrap_err();
    assert!(matches!(few, FitError::TooFewRows { rows: 150, minimum: 200 }));
    assert!(few.to_string().contains("200"));

    let mut rows = shoppers(300, 1);
    rows[17].0.pop();
    let short = train(spec(4), &shop_features(), &rows).unwrap_err();
    assert!(matches!(short, FitError::RowLength { row: 17, found: 5, expected: 6 }));

    let log = vec![def("x", "X", Some(number(Transform::Log1p, Scale::None)))];
    let below = train(spec(2), &log, &numbers((0..300).map(|i| f64::from(i) - 5.0))).unwrap_err();
    assert!(matches!(below, FitError::Encoder(_)), "{below}");
}

/// Stops at the nth question; remembers what was reported.
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

impl Progress for StopAt {
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
    let run = |progress: &StopAt| {
        train::train(&checked, &feature_set(), &shop_features(), &rows, AS_OF, progress)
    };
    for question in [0, 3] {
        assert!(matches!(run(&StopAt::new(question)), Err(FitError::Stopped)));
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
    // Being watched changes nothing.
    let unwatched =
        train::train(&checked, &feature_set(), &shop_features(), &rows, AS_OF, &Quiet).unwrap();
    assert_eq!(trained.bytes, unwatched.bytes);
}

#[test]
fn every_bad_setting_is_reported_at_once() {
    assert!(TrainSpec::default().check().is_ok());
    let bad = TrainSpec {
        segments: 0,
        starts: 0,
        max_iterations: 0,
        tolerance: f64::NAN,
        seed: 0,
        holdout_share: 0.9,
        minimum_rows: 3,
    };
    let faults = bad.check().unwrap_err();
    let paths: Vec<&str> = faults.0.iter().map(|fault| &*fault.path).collect();
    let expected =
        ["segments", "starts", "max_iterations", "tolerance", "holdout_share", "minimum_rows"];
    assert_eq!(paths, expected);
    // What is left out has a default, what is unknown is refused.
    let read: TrainSpec = serde_json::from_str(r#"{"segments": 3}"#).unwrap();
    assert_eq!(read, TrainSpec { segments: 3, ..TrainSpec::default() });
    assert!(serde_json::from_str::<TrainSpec>(r#"{"segment": 3}"#).is_err());
}
