//! The outlier measure: its cost relative to the segment kernel and, with a folder of
//! labelled sets, its ranking relative to the detectors of scikit-learn: `make bench
//! ONLY="outliers FOLDER"`.
#![expect(
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "small counts become floats; flags are 0 or 1"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use segmentd::domain::feature::{
    FeatureDefinition, FeatureEncoding, FeatureRow, FeatureValue, MissingValueRule, NumberScaling,
    NumberTransform, SegmentWords, Sensitivity,
};
use segmentd::domain::id::FeatureSetId;
use segmentd::domain::model::Model;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::time::Timestamp;
use segmentd::domain::train::{self, TrainingProgress, TrainingSpec};

use crate::{Figure, median};

const RUNS: usize = 5;
const SEGMENTS: usize = 8;
const COLUMNS: usize = 16;
const ROWS: usize = 20_000;
const REQUIREMENTS: [&str; 2] = ["numpy==2.4.6", "scikit-learn==1.9.1"];
const PEERS: [(&str, &str, &str); 3] = [
    ("outlier_auc_vs_forest", "isolation_forest", "scikit-learn IsolationForest"),
    ("outlier_auc_vs_lof", "local_outlier_factor", "scikit-learn LocalOutlierFactor"),
    ("outlier_auc_vs_nearest", "nearest_of_8_centres", "nearest of 8 scikit-learn KMeans centres"),
];

pub(crate) const FIGURES: [&str; 4] =
    ["score_outlier_vs_segment", PEERS[0].0, PEERS[1].0, PEERS[2].0];

/// By set and detector, the area under the curve of each seed.
type Areas = BTreeMap<String, BTreeMap<String, Vec<f64>>>;

pub(crate) fn run(ids: &[&str]) -> Vec<Figure> {
    let mut figures = Vec::new();
    if ids.contains(&FIGURES[0]) {
        figures.push(cost());
    }
    let peers: Vec<_> = PEERS.into_iter().filter(|(id, ..)| ids.contains(id)).collect();
    if peers.is_empty() {
        return figures;
    }
    let Some(folder) = std::env::args().skip(1).filter(|one| !one.starts_with("--")).nth(1) else {
        println!("  outliers: no folder of labelled sets given, so no areas under the curve");
        return figures;
    };
    let Some(areas) = areas(Path::new(&folder)) else {
        println!("  outliers: SKIPPED, Python with {REQUIREMENTS:?} cannot be had");
        return figures;
    };
    let value = mean(&areas, "segmentd");
    figures.extend(peers.into_iter().map(|(id, peer, baseline)| {
        let baseline_value = mean(&areas, peer);
        Figure {
            id,
            description: "mean area under the ROC curve over the labelled sets: larger is better",
            value,
            unit: "area",
            baseline,
            baseline_value,
            ratio: value / baseline_value,
            runs: 3,
        }
    }));
    figures
}

/// The time of the outlier measure of an encoded row, relative to the time to find its
/// segment.
fn cost() -> Figure {
    let mut rng = RandomStream::new(1, 0);
    let centres: Vec<f64> = (0..SEGMENTS * COLUMNS).map(|_| 6.0 * rng.uniform_unit()).collect();
    let rows: Vec<Vec<f64>> = (0..ROWS)
        .map(|_| {
            let segment = rng.uniform_below(SEGMENTS);
            let centre = &centres[segment * COLUMNS..][..COLUMNS];
            centre
                .iter()
                .map(|c| c + rng.uniform_unit() + rng.uniform_unit() + rng.uniform_unit())
                .collect()
        })
        .collect();
    let model = model(&rows, SEGMENTS, 1);
    let vectors: Vec<Vec<f32>> = rows.iter().map(|row| encoded(&model, row)).collect();
    let outlier_reference = model.outlier_reference();
    let time = |work: &dyn Fn(&[f32]) -> f32| {
        let started = Instant::now();
        let sum: f32 = vectors.iter().map(|vector| work(vector)).sum();
        std::hint::black_box(sum);
        started.elapsed().as_secs_f64() * 1e9 / ROWS as f64
    };
    let mut times: (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        times.0.push(time(&|vector| outlier_reference.measure(vector)));
        times.1.push(time(&|vector| model.decision_function().two_nearest(vector).power));
    }
    let (value, baseline_value) = (median(times.0), median(times.1));
    Figure {
        id: FIGURES[0],
        description: "how far from everything, 16 columns",
        value,
        unit: "ns",
        baseline: "which of 8 segments",
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS,
    }
}

fn areas(folder: &Path) -> Option<Areas> {
    let out = PathBuf::from("target/bench/outliers");
    std::fs::create_dir_all(&out).unwrap();
    let python = python()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/outliers.py");
    let judged = Command::new(python).arg(script).args([folder, &out]).output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
    let mut areas: Areas = serde_json::from_slice(&judged.stdout).unwrap();
    assert!(!areas.is_empty(), "no .npz files in {}", folder.display());
    let sets = areas.clone().into_iter();
    for (set, peers) in sets {
        let seeds = peers.values().next().map_or(0, Vec::len) as u64;
        let own = (0..seeds).map(|seed| area(&out.join(format!("{set}.{seed}.csv")), seed));
        let own: Vec<f64> = own.collect();
        areas.get_mut(&set).unwrap().insert("segmentd".into(), own);
        let row: Vec<String> = areas[&set]
            .iter()
            .map(|(name, areas)| format!("{name} {:.3}", average(areas)))
            .collect();
        println!("  outliers {set}: {}", row.join(", "));
    }
    Some(areas)
}

/// A Python environment with the peers, created once.
pub(crate) fn python() -> Option<PathBuf> {
    let home = PathBuf::from("target/bench/outliers-venv");
    let python = home.join("bin/python");
    let works = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    let is_there = || works(Command::new(&python).args(["-c", "import sklearn"]));
    let make = || {
        works(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))
            && works(Command::new(home.join("bin/pip")).args(["install", "-q"]).args(REQUIREMENTS))
    };
    ((python.exists() && is_there()) || make()).then_some(python)
}

/// The test rows of a split that the script wrote.
fn area(split: &Path, seed: u64) -> f64 {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(split).unwrap();
    let (mut learned, mut judged) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let numbers: Vec<f64> =
            record.unwrap().iter().map(|field| field.parse().unwrap()).collect();
        match numbers[..2] {
            [0.0, _] => learned.push(numbers[2..].to_vec()),
            _ => judged.push((numbers[1] == 1.0, numbers[2..].to_vec())),
        }
    }
    let model = model(&learned, 6, seed);
    let outlier_reference = model.outlier_reference();
    let measured = judged
        .iter()
        .map(|(is_outlier, row)| (outlier_reference.measure(&encoded(&model, row)), *is_outlier));
    under_curve(measured.collect())
}

/// The area under the ROC curve: the probability that an outlier has a higher measure than
/// another row; ties count half.
fn under_curve(mut measured: Vec<(f32, bool)>) -> f64 {
    measured.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let (mut below, mut area) = (0.0, 0.0);
    for equal in measured.chunk_by(|(a, _), (b, _)| a == b) {
        let outliers = equal.iter().filter(|(_, is_outlier)| *is_outlier).count() as f64;
        let others = equal.len() as f64 - outliers;
        area += outliers * (below + others / 2.0);
        below += others;
    }
    area / (below * (measured.len() as f64 - below))
}

fn model(rows: &[Vec<f64>], segments: usize, seed: u64) -> Model {
    let encoding = FeatureEncoding::Number {
        missing: MissingValueRule::Median,
        missing_flag: false,
        winsorise: None,
        transform: NumberTransform::None,
        scale: NumberScaling::Standard,
        weight: 1.0,
    };
    let features: Vec<FeatureDefinition> = (0..rows[0].len())
        .map(|column| FeatureDefinition {
            name: format!("x{column}").into(),
            title: format!("X{column}").into(),
            segment_words: SegmentWords::default(),
            unit: "1".into(),
            owner: "bench@example.com".into(),
            sensitivity: Sensitivity::Internal,
            encoding: Some(encoding),
        })
        .collect();
    let rows: Vec<FeatureRow> = rows.iter().map(|row| feature_row(row)).collect();
    let spec =
        TrainingSpec { segments: segments.into(), starts: 1, seed, ..TrainingSpec::default() }
            .check()
            .unwrap();
    let set = FeatureSetId::of(b"outliers");
    let as_of = Timestamp::from_millis(0);
    let data = train::TrainingData { feature_set: &set, defs: &features, rows: &rows, as_of };
    train::train_model(&spec, &data, &Quiet).unwrap().model
}

fn feature_row(row: &[f64]) -> FeatureRow {
    FeatureRow(row.iter().map(|x| FeatureValue::Number(*x)).collect())
}

fn encoded(model: &Model, row: &[f64]) -> Vec<f32> {
    let mut vector = vec![0.0; model.encoder().width()];
    model.encoder().encode(&feature_row(row), &mut vector);
    vector
}

struct Quiet;

impl TrainingProgress for Quiet {
    fn report(&self, _: &'static str, _: u64, _: u64) {}

    fn should_stop(&self) -> bool {
        false
    }
}

fn mean(areas: &Areas, detector: &str) -> f64 {
    average(&areas.values().map(|set| average(&set[detector])).collect::<Vec<_>>())
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
