//! Automatic model selection on labelled sets, relative to peers that are given the number
//! of groups.
//!
//! Takes folders of `NAME.data.gz` (numbers, blank-separated) with
//! `NAME.labels0.gz` (one label a row), searched to any depth:
//! `make bench ONLY="select FOLDER …"`; with `algorithms=kmeans,ward` behind it, these
//! compete. The labels are for judging only. The sets are split once, by the parity of the first
//! byte of the SHA-256 of `folder/NAME`, into those that selection was designed on and those that
//! were not; `split=design` or `split=held_out` (the default: both) chooses. Of the collection that
//! `select_sets.py` writes, no set was looked at. The peers,
//! scikit-learn's `KMeans` and `GaussianMixture` with the true number of groups and `HDBSCAN`
//! with its defaults, run in a virtual environment made under `target/`. The last column is the
//! best of segmentd's own algorithms, chosen by the labels.
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
use std::time::Instant;

use ndarray::Array2;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::clustering::kmeans::KmeansSettings;
use segmentd::domain::train::data::outcomes::OutcomeColumns;
use segmentd::domain::train::evaluation::external_indices::{SegmentLabel, adjusted_rand};
use segmentd::domain::train::evaluation::stability::StabilityTrials;
use segmentd::domain::train::selection::candidates::{ComparisonData, compare_candidates};
use segmentd::domain::train::{
    ClusteringAlgorithm, EncodedDataset, TrainingProgress, TrainingSpec,
};
use sha2::{Digest, Sha256};

use crate::Figure;

pub(crate) const FIGURES: [&str; 3] =
    ["select_ari_vs_kmeans_true_k", "select_ari_vs_hdbscan", "select_time_vs_kmeans_sweep"];

/// Rows of a comparison, as in a training run; the others are labelled by the chosen candidate.
const ROWS: usize = 20_000;
const PEERS: [&str; 2] = ["scikit-learn==1.9.1", "numpy==2.4.6"];
/// Random starts of k-means: the default of the service.
const STARTS: usize = 10;

struct Set {
    name: String,
    data: PathBuf,
    labels: PathBuf,
}

/// What was chosen for a set.
struct Choice {
    algorithm: &'static str,
    segments: usize,
    groups: usize,
    ari: f64,
    /// Best adjusted Rand index of segmentd's own algorithms.
    best_own: f64,
    seconds: f64,
    /// Time of k-means alone with the same numbers of segments.
    sweep_seconds: f64,
}

pub(crate) fn run(ids: &[&str]) -> Vec<Figure> {
    let mut sets = Vec::new();
    let mut algorithms = Vec::new();
    let mut split = None;
    for argument in std::env::args().skip(1).filter(|a| !a.starts_with("--")).skip(1) {
        match argument.split_once('=') {
            Some(("algorithms", names)) => {
                algorithms = serde_json::from_value(names.split(',').collect()).unwrap();
            }
            Some(("split", name)) => split = Some(name == "held_out"),
            _ => find(Path::new(&argument), &mut sets),
        }
    }
    sets.retain(|set| split.is_none_or(|held_out| is_held_out(set) == held_out));
    if sets.is_empty() {
        println!("select: SKIPPED, no folder with labelled sets given: ONLY=\"select FOLDER\"");
        return vec![];
    }
    sets.sort_by(|a: &Set, b: &Set| a.name.cmp(&b.name));
    let peers = peers(&sets);
    println!(
        "{:24} {:>16} {:>6} {:>6} {:>7} {:>7} {:>7} {:>7} {:>9} {:>8}",
        "set",
        "algorithm",
        "chosen",
        "true",
        "ARI",
        "KMeans",
        "mixture",
        "HDBSCAN",
        "best own",
        "seconds"
    );
    let mut sums = [0.0; 7];
    for set in &sets {
        let choice = choose(set, &algorithms);
        let peers = peers.as_ref().map_or([f64::NAN; 3], |peers| peers[&set.name]);
        let [kmeans, mixture, hdbscan] = peers;
        let Choice { algorithm, segments, groups, ari, best_own, seconds, sweep_seconds } = choice;
        println!(
            "{:24} {algorithm:>16} {segments:>6} {groups:>6} {ari:>7.3} {kmeans:>7.3} \
             {mixture:>7.3} {hdbscan:>7.3} {best_own:>9.3} {seconds:>8.2}",
            set.name
        );
        let row = [ari, kmeans, mixture, hdbscan, best_own, seconds, sweep_seconds];
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    let [own, kmeans, mixture, hdbscan, best_own, seconds, sweep] =
        sums.map(|sum| sum / sets.len() as f64);
    println!(
        "{:24} {:>16} {:>6} {:>6} {own:>7.3} {kmeans:>7.3} {mixture:>7.3} {hdbscan:>7.3} \
         {best_own:>9.3} {seconds:>8.2}",
        format!("mean of {}", sets.len()),
        "",
        "",
        ""
    );
    let figure = |id, description, unit, value, baseline, baseline_value: f64| Figure {
        id,
        description,
        value,
        unit,
        baseline,
        baseline_value,
        ratio: value / baseline_value,
        runs: sets.len(),
    };
    let chosen = "mean adjusted Rand index of what selection chose; more is better";
    let mut figures = vec![figure(
        FIGURES[2],
        "seconds to choose among all algorithms and numbers of segments",
        "s",
        seconds,
        "k-means alone, same numbers of segments",
        sweep,
    )];
    if peers.is_some() {
        figures.push(figure(FIGURES[0], chosen, "ARI", own, "KMeans, true k", kmeans));
        figures.push(figure(FIGURES[1], chosen, "ARI", own, "HDBSCAN", hdbscan));
    }
    figures.retain(|figure| ids.contains(&figure.id));
    figures
}

/// Whether selection was designed without looking at the set.
fn is_held_out(set: &Set) -> bool {
    Sha256::digest(&set.name)[0] % 2 == 1
}

fn find(folder: &Path, sets: &mut Vec<Set>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, sets);
        } else if let Some(name) = path.to_str().and_then(|path| path.strip_suffix(".data.gz")) {
            let labels = PathBuf::from(format!("{name}.labels0.gz"));
            let parts: Vec<_> = Path::new(name).iter().rev().take(2).collect();
            let name = parts.iter().rev().map(|part| part.to_string_lossy()).collect::<Vec<_>>();
            let name = name.join("/");
            sets.push(Set { name, data: path, labels });
        }
    }
}

fn choose(set: &Set, algorithms: &[ClusteringAlgorithm]) -> Choice {
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
    let spec = TrainingSpec {
        algorithms: algorithms.to_vec(),
        starts: STARTS,
        stability: StabilityTrials { bootstraps: 0, seeds: 0, ..StabilityTrials::default() },
        ..TrainingSpec::default()
    };
    let field = ComparisonData {
        train: &train,
        validation: &validation,
        slices: &[],
        outcomes: OutcomeColumns::default(),
        baseline: None,
    };
    let started = Instant::now();
    let chosen = compare_candidates(&field, &spec, &Quiet).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    // The same rows and seed give the clusters that were chosen.
    let best = chosen.leaderboard.winner().unwrap();
    let algorithm = &chosen.algorithms[best.listed];
    let ari_of = |algorithm: &ClusteringAlgorithm, segments: usize| {
        let clusters = algorithm.fit(&train, segments, spec.seed, &Quiet).ok()?;
        Some(adjusted_rand(&labels, &clusters.assign_rows(&all)))
    };
    let ari = ari_of(algorithm, best.segments).unwrap();
    let own = chosen.algorithms.iter().cloned().chain(ClusteringAlgorithm::all());
    let best_own = own.filter_map(|own| ari_of(&own, groups)).fold(ari, f64::max);
    let tried: BTreeSet<usize> =
        chosen.leaderboard.entries.iter().map(|entry| entry.segments).collect();
    let started = Instant::now();
    for segments in tried {
        let settings = KmeansSettings { starts: Some(STARTS), ..KmeansSettings::default() };
        // More segments than distinct rows: no time is spent on them either way.
        let _ = ClusteringAlgorithm::Kmeans(settings).fit(&train, segments, spec.seed, &Quiet);
    }
    Choice {
        algorithm: algorithm.name(),
        segments: best.segments,
        groups,
        ari,
        best_own,
        seconds,
        sweep_seconds: started.elapsed().as_secs_f64(),
    }
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

/// `KMeans`, `GaussianMixture` and `HDBSCAN` on each set; `None`, with a notice, without Python.
fn peers(sets: &[Set]) -> Option<BTreeMap<String, [f64; 3]>> {
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
    let found: Vec<[f64; 3]> = serde_json::from_slice(&output.stdout).unwrap();
    Some(sets.iter().map(|set| set.name.clone()).zip(found).collect())
}

struct Quiet;

impl TrainingProgress for Quiet {
    fn report(&self, _: &'static str, _: u64, _: u64) {}

    fn should_stop(&self) -> bool {
        false
    }
}
