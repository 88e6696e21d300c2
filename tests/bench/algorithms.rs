//! Gaussian mixtures, HDBSCAN, Ward and cluster indices relative to scikit-learn on the
//! same rows.
#![expect(clippy::cast_possible_truncation, reason = "rows are `f32`")]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use ndarray::Array2;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::clustering::gaussian_mixture::{
    CovarianceType, GaussianMixtureSettings,
};
use segmentd::domain::train::clustering::ward::WardSettings;
use segmentd::domain::train::clustering::{density, gaussian_mixture, ward};
use segmentd::domain::train::evaluation::external_indices::SegmentLabel;
use segmentd::domain::train::evaluation::internal_indices::{SegmentDispersion, silhouette};
use segmentd::domain::train::{EncodedDataset, TrainingProgress};

use crate::{Figure, median, outliers};

const RUNS: u64 = 3;
const THREADS: &str = "2";
const GROUPS: usize = 16;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/algorithms.py");

pub(crate) const FIGURES: [&str; 6] = [
    "gmm_diag_vs_sklearn",
    "gmm_full_vs_sklearn",
    "hdbscan_vs_sklearn",
    "ward_vs_sklearn",
    "silhouette_vs_sklearn",
    "davies_bouldin_vs_sklearn",
];

pub(crate) fn run(ids: &[&str]) -> Vec<Figure> {
    let Some(python) = outliers::python() else {
        println!("  SKIPPED: needs python3 with venv and scikit-learn");
        return Vec::new();
    };
    let wanted = FIGURES.into_iter().filter(|id| ids.contains(id));
    wanted.map(|id| beside(id, &python)).collect()
}

struct Quiet;

impl TrainingProgress for Quiet {
    fn report(&self, _: &'static str, _: u64, _: u64) {}

    fn should_stop(&self) -> bool {
        false
    }
}

fn beside(id: &'static str, python: &Path) -> Figure {
    let (rows, columns, width, description) = match id {
        "gmm_diag_vs_sklearn" => (200_000, 16, 3.0, "diagonal mixture, 200k x 16, 16 components"),
        "gmm_full_vs_sklearn" => (200_000, 16, 3.0, "full mixture, 200k x 16, 16 components"),
        "hdbscan_vs_sklearn" => (20_000, 8, 1.5, "HDBSCAN, 20k x 8, at least 50 a segment"),
        "silhouette_vs_sklearn" => (20_000, 8, 1.5, "silhouette of all of 20k x 8, 16 groups"),
        "davies_bouldin_vs_sklearn" => (1_000_000, 16, 3.0, "Davies-Bouldin, 1M x 16, 16 groups"),
        _ => (10_000, 8, 1.5, "Ward's hierarchy, 10k x 8"),
    };
    let (values, group_of) = groups(rows, columns, width);
    let path = format!("target/bench/groups_{rows}_{columns}.f32");
    let groups_path = format!("target/bench/groups_{rows}_{columns}.u32");
    std::fs::create_dir_all("target/bench").unwrap();
    std::fs::write(&path, values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    let group_bytes: Vec<u8> = group_of.iter().flat_map(|group| group.to_le_bytes()).collect();
    std::fs::write(&groups_path, group_bytes).unwrap();
    let labels: Vec<SegmentLabel> = group_of.into_iter().map(Some).collect();
    let data = EncodedDataset::new(Array2::from_shape_vec((rows, columns), values).unwrap());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS.parse().unwrap()).build();
    let pool = pool.unwrap();
    let method = id.trim_end_matches("_vs_sklearn");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // In turn, so that noise affects both equally.
    for seed in 0..RUNS {
        let started = Instant::now();
        pool.install(|| work(method, &data, &labels, seed));
        ours.push(1e3 * started.elapsed().as_secs_f64());
        let threads = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"].map(|name| (name, THREADS));
        let output = Command::new(python)
            .args([SCRIPT, method, &path, &groups_path, &columns.to_string()])
            .envs(threads)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let seconds: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        theirs.push(1e3 * seconds);
    }
    let (value, baseline_value) = (median(ours), median(theirs));
    Figure {
        id,
        description,
        value,
        unit: "ms",
        baseline: "scikit-learn, 2 threads",
        baseline_value,
        ratio: value / baseline_value,
        runs: RUNS as usize,
    }
}

fn work(method: &str, data: &EncodedDataset, labels: &[SegmentLabel], seed: u64) {
    let mixture = |covariance| {
        let settings = GaussianMixtureSettings { covariance, ..GaussianMixtureSettings::default() };
        gaussian_mixture::fit(data, GROUPS, &settings, seed, &Quiet).unwrap();
    };
    match method {
        "gmm_diag" => mixture(CovarianceType::Diagonal),
        "gmm_full" => mixture(CovarianceType::Full),
        "hdbscan" => {
            density::hdbscan(data, &density::HdbscanSettings::default(), seed, &Quiet).unwrap();
        }
        "silhouette" => {
            silhouette(data, labels, data.rows(), &mut RandomStream::new(seed, 0)).unwrap();
        }
        "davies_bouldin" => {
            SegmentDispersion::measure(data, labels, GROUPS).davies_bouldin().unwrap();
        }
        _ => {
            ward::fit(data, GROUPS, &WardSettings::default(), seed, &Quiet).unwrap();
        }
    }
}

/// Rows around [`GROUPS`] centres, of uneven numbers and widths, and the group of each.
fn groups(rows: usize, columns: usize, width: f64) -> (Vec<f32>, Vec<u32>) {
    let mut rng = RandomStream::new(44, 0);
    let shares: Vec<f64> = (0..GROUPS).map(|_| 0.1 - (1.0 - rng.uniform_unit()).ln()).collect();
    let total = shares.iter().sum();
    let mut centre = || (0..columns).map(|_| 20.0 * rng.uniform_unit() - 10.0).collect::<Vec<_>>();
    let centres: Vec<Vec<f64>> = (0..GROUPS).map(|_| centre()).collect();
    let widths: Vec<f64> = (0..GROUPS).map(|_| width * (0.5 + rng.uniform_unit())).collect();
    let mut values = Vec::with_capacity(rows * columns);
    let mut group_of = Vec::with_capacity(rows);
    for _ in 0..rows {
        let group = rng.weighted_index(&shares, total);
        group_of.push(group as u32);
        for place in &centres[group] {
            values.push((place + widths[group] * rng.standard_normal()) as f32);
        }
    }
    (values, group_of)
}
