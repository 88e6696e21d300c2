//! Automatic model selection on labelled sets, relative to peers that are given the number
//! of groups.
//!
//! Takes folders of `NAME.data.gz` (numbers, blank-separated) with
//! `NAME.labels0.gz` (one label a row), searched to any depth:
//! `make bench ONLY="select FOLDER …"`; with `algorithms=kmeans,ward` behind it, these
//! compete. The labels are for judging only. The
//! peers, scikit-learn's `KMeans` with the true number of groups and `HDBSCAN`
//! with its defaults, run in a virtual environment made under `target/`.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small counts and labels; rows are f32"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use ndarray::Array2;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::evaluation::external_indices::{SegmentLabel, adjusted_rand};
use segmentd::domain::train::selection::candidates::{ComparisonData, compare_candidates};
use segmentd::domain::train::selection::criteria::CandidateGates;
use segmentd::domain::train::{
    ClusteringAlgorithm, EncodedDataset, SegmentCount, SegmentCountRange, TrainingProgress,
    TrainingSpec,
};

use crate::Figure;

pub(crate) const FIGURES: [&str; 2] = ["select_ari_vs_kmeans_true_k", "select_ari_vs_hdbscan"];

/// With more rows than this, candidates are fitted to a sample, and label the others.
const ROWS: usize = 10_000;
/// From two segments to this many, at most a tenth of the rows.
const MOST_SEGMENTS: usize = 128;
const PEERS: [&str; 2] = ["scikit-learn==1.9.1", "numpy==2.4.6"];

struct Set {
    name: String,
    data: PathBuf,
    labels: PathBuf,
}

pub(crate) fn run(ids: &[&str]) -> Vec<Figure> {
    let mut sets = Vec::new();
    let mut algorithms = Vec::new();
    for argument in std::env::args().skip(1).filter(|a| !a.starts_with("--")).skip(1) {
        match argument.strip_prefix("algorithms=") {
            Some(names) => algorithms = serde_json::from_value(names.split(',').collect()).unwrap(),
            None => find(Path::new(&argument), &mut sets),
        }
    }
    if sets.is_empty() {
        println!("select: SKIPPED, no folder with labelled sets given: ONLY=\"select FOLDER\"");
        return vec![];
    }
    sets.sort_by(|a: &Set, b: &Set| a.name.cmp(&b.name));
    let peers = peers(&sets);
    println!(
        "{:16} {:>16} {:>8} {:>6} {:>12} {:>10} {:>10}",
        "set", "algorithm", "chosen", "true", "ARI", "KMeans", "HDBSCAN"
    );
    let mut sums = [0.0; 3];
    for set in &sets {
        let (algorithm, segments, groups, ari) = choose(set, &algorithms);
        let [kmeans, hdbscan] = peers.as_ref().map_or([f64::NAN; 2], |peers| peers[&set.name]);
        println!(
            "{:16} {algorithm:>16} {segments:>8} {groups:>6} {ari:>12.3} {kmeans:>10.3} {hdbscan:>10.3}",
            set.name
        );
        sums.iter_mut().zip([ari, kmeans, hdbscan]).for_each(|(sum, x)| *sum += x);
    }
    let [own, kmeans, hdbscan] = sums.map(|sum| sum / sets.len() as f64);
    println!(
        "{:16} {:>16} {:>8} {:>6} {own:>12.3} {kmeans:>10.3} {hdbscan:>10.3}",
        "mean", "", "", ""
    );
    if peers.is_none() {
        return vec![];
    }
    let baselines = [("KMeans, true k", kmeans), ("HDBSCAN", hdbscan)];
    FIGURES
        .iter()
        .zip(baselines)
        .filter(|(id, _)| ids.contains(id))
        .map(|(id, (baseline, value))| Figure {
            id,
            description: "mean adjusted Rand index of what selection chose; more is better",
            value: own,
            unit: "ARI",
            baseline,
            baseline_value: value,
            ratio: own / value,
            runs: sets.len(),
        })
        .collect()
}

fn find(folder: &Path, sets: &mut Vec<Set>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, sets);
        } else if let Some(name) = path.to_str().and_then(|path| path.strip_suffix(".data.gz")) {
            let labels = PathBuf::from(format!("{name}.labels0.gz"));
            let name = Path::new(name).file_name().unwrap().to_string_lossy().into_owned();
            sets.push(Set { name, data: path, labels });
        }
    }
}

/// The chosen algorithm and number of segments, the true number of groups, the adjusted
/// Rand index.
fn choose(set: &Set, algorithms: &[ClusteringAlgorithm]) -> (&'static str, usize, usize, f64) {
    let rows: Vec<Vec<f64>> = text(&set.data).lines().map(numbers).collect();
    let labels: Vec<SegmentLabel> =
        text(&set.labels).lines().map(|line| Some(numbers(line)[0] as u32)).collect();
    let groups = labels.iter().collect::<BTreeSet<_>>().len();
    let all = dataset(&rows);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    RandomStream::new(1, 0).shuffle(&mut order);
    let sample: Vec<Vec<f64>> = order.iter().take(ROWS).map(|row| rows[*row].clone()).collect();
    let train = dataset(&sample);
    let validation = EncodedDataset::new(Array2::zeros((0, all.columns())));
    let most = MOST_SEGMENTS.min(rows.len() / 10);
    let spec = TrainingSpec {
        segments: SegmentCount::Range(SegmentCountRange { from: 2, to: most }),
        algorithms: algorithms.to_vec(),
        starts: 4,
        gates: CandidateGates { smallest_share: Some(0.002), ..CandidateGates::default() },
        ..TrainingSpec::default()
    };
    let field =
        ComparisonData { train: &train, validation: &validation, slices: &[], baseline: None };
    let chosen = compare_candidates(field, &spec, &Quiet).unwrap();
    // The same rows and seed give the clusters that were chosen.
    let best = chosen.leaderboard.winner().unwrap();
    let algorithm = &chosen.algorithms[best.listed];
    let clusters = algorithm.fit(&train, best.segments, spec.seed, &Quiet).unwrap();
    let ari = adjusted_rand(&labels, &clusters.assign_rows(&all));
    (algorithm.name(), best.segments, groups, ari)
}

/// Centred, and all columns divided by one number, because rows are `f32`.
fn dataset(rows: &[Vec<f64>]) -> EncodedDataset {
    let (columns, count) = (rows[0].len(), rows.len() as f64);
    let mean: Vec<f64> =
        (0..columns).map(|c| rows.iter().map(|row| row[c]).sum::<f64>() / count).collect();
    let squares =
        |row: &Vec<f64>| -> f64 { row.iter().zip(&mean).map(|(x, m)| (x - m) * (x - m)).sum() };
    let scale = (rows.iter().map(squares).sum::<f64>() / count / columns as f64).sqrt();
    let value = |(r, c): (usize, usize)| ((rows[r][c] - mean[c]) / scale) as f32;
    EncodedDataset::new(Array2::from_shape_fn((rows.len(), columns), value))
}

fn text(path: &Path) -> String {
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

fn numbers(line: &str) -> Vec<f64> {
    line.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// `KMeans` and `HDBSCAN` on each set; `None`, with a notice, without Python.
fn peers(sets: &[Set]) -> Option<BTreeMap<String, [f64; 2]>> {
    let succeeded = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    let python = "target/peers/bin/python";
    let ready = Path::new("target/peers/bin/pip").exists()
        || succeeded(Command::new("python3").args(["-m", "venv", "target/peers"]));
    let pip = ["-m", "pip", "install", "--quiet"];
    if !ready || !succeeded(Command::new(python).args(pip).args(PEERS)) {
        println!("select: the peers are SKIPPED: no Python 3 with venv and pip");
        return None;
    }
    let paths = sets.iter().flat_map(|set| [&set.data, &set.labels]);
    let output =
        Command::new(python).arg("tests/bench/select_peers.py").args(paths).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Vec<[f64; 2]> = serde_json::from_slice(&output.stdout).unwrap();
    Some(sets.iter().map(|set| set.name.clone()).zip(found).collect())
}

struct Quiet;

impl TrainingProgress for Quiet {
    fn report(&self, _: &'static str, _: u64, _: u64) {}

    fn should_stop(&self) -> bool {
        false
    }
}
