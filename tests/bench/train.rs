//! Training relative to scikit-learn and faiss: k-means on the same rows, assignment to the
//! same centres, and mini-batches of a stream by memory and time.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "counts become floats"
)]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use ndarray::Array2;
use segmentd::domain::model::{NearestBatch, Prototypes};
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::clustering::kmeans;
use segmentd::domain::train::clustering::kmeans::minibatch::MovingCentres;
use segmentd::domain::train::clustering::kmeans::{KmeansSettings, init};
use segmentd::domain::train::{EncodedDataset, TrainingProgress};

use crate::peers::Peers;
use crate::{Figure, median};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;
const THREADS: usize = 2;
const ASSIGNED_ROWS: usize = 1_000_000;
const ASSIGN_RUNS: usize = 7;
/// The OpenMP threads of the peers spin for this time before they sleep, and would take a
/// core from the next measurement.
const PEERS_SPIN: Duration = Duration::from_millis(50);
const STREAM_MILLIONS: usize = 20;
const STREAM_BATCH: usize = 20_000;
const STREAM_COLUMNS: usize = 16;
const STREAM_CLUSTERS: usize = 32;
const MEBIBYTE: f64 = 1_048_576.0;

/// The argument with which this program is the child process that reads the stream.
pub(crate) const STREAM_ARGUMENT: &str = "--take-the-stream";

/// Width, prototypes, and the ids by threads (1, 2) and peer (scikit-learn, faiss).
type Shape = (usize, usize, [[&'static str; 2]; 2]);

macro_rules! shapes {
    ($($d:literal $k:literal),*) => {
        [$(($d, $k, [
            [
                concat!("assign_f32_d", $d, "_k", $k, "_t1_vs_sklearn"),
                concat!("assign_f32_d", $d, "_k", $k, "_t1_vs_faiss"),
            ],
            [
                concat!("assign_f32_d", $d, "_k", $k, "_t2_vs_sklearn"),
                concat!("assign_f32_d", $d, "_k", $k, "_t2_vs_faiss"),
            ],
        ])),*]
    };
}

const SHAPES: [Shape; 12] =
    shapes!(8 8, 8 32, 8 256, 16 8, 16 32, 16 256, 32 8, 32 32, 32 256, 64 8, 64 32, 64 256);

const KMEANS: [(usize, usize, usize, [&str; 2]); 2] = [
    (1_000_000, 16, 32, ["kmeans_1m_vs_sklearn", "kmeans_1m_vs_faiss"]),
    (200_000, 32, 64, ["kmeans_200k_vs_sklearn", "kmeans_200k_vs_faiss"]),
];

const STREAM: [&str; 2] = ["minibatch_20m", "minibatch_20m_flat"];

pub(crate) const FIGURES: [&str; 54] = {
    let mut ids = [""; 54];
    let mut at = 0;
    while at < 48 {
        ids[at] = SHAPES[at / 4].2[at / 2 % 2][at % 2];
        at += 1;
    }
    while at < 52 {
        ids[at] = KMEANS[(at - 48) / 2].3[at % 2];
        at += 1;
    }
    ids[52] = STREAM[0];
    ids[53] = STREAM[1];
    ids
};

pub(crate) fn run(ids: &[&str]) -> Vec<Figure> {
    let wanted = |id: &&str| ids.contains(id);
    std::fs::create_dir_all("target/bench").unwrap();
    let mut figures = Vec::new();
    let peers = ids.iter().any(|id| !STREAM.contains(id)).then(Peers::start).flatten();
    if let Some(mut peers) = peers {
        for (rows, columns, k, ids) in KMEANS.into_iter().filter(|data| data.3.iter().any(wanted)) {
            figures.extend(kmeans_beside(&mut peers, rows, columns, k, ids));
        }
        let shapes = SHAPES.into_iter().filter(|shape| shape.2.iter().flatten().any(wanted));
        let shapes: Vec<Shape> = shapes.collect();
        let sgemm: Vec<f64> = if shapes.is_empty() {
            vec![]
        } else {
            (1..=THREADS).map(|threads| peers.ask(&format!("sgemm {threads}"))[0]).collect()
        };
        for shape in shapes {
            figures.extend(assign_beside(&mut peers, shape, &sgemm));
        }
        peers.stop();
    }
    if STREAM.iter().any(wanted) {
        figures.extend(stream());
    }
    figures.retain(|figure| ids.contains(&figure.id));
    figures
}

struct Quiet;

impl TrainingProgress for Quiet {
    fn report(&self, _: &'static str, _: u64, _: u64) {}

    fn should_stop(&self) -> bool {
        false
    }
}

/// Rows around `k` centres: overlapping groups of uneven size and width.
struct Blobs {
    rng: RandomStream,
    centres: Vec<(Vec<f64>, f64)>,
    /// Cumulative shares of the groups.
    shares: Vec<f64>,
    second: Option<f64>,
}

impl Blobs {
    fn new(columns: usize, k: usize, seed: u64) -> Self {
        let mut rng = RandomStream::new(seed, 0);
        let weights: Vec<f64> = (0..k).map(|_| 0.1 - (1.0 - rng.uniform_unit()).ln()).collect();
        let total: f64 = weights.iter().sum();
        let shares = weights.iter().scan(0.0, |sum, weight| {
            *sum += weight / total;
            Some(*sum)
        });
        let shares = shares.collect();
        let mut centre = || (0..columns).map(|_| 20.0 * rng.uniform_unit() - 10.0).collect();
        let places: Vec<Vec<f64>> = (0..k).map(|_| centre()).collect();
        let centres =
            places.into_iter().map(|place| (place, 1.5 + 3.0 * rng.uniform_unit())).collect();
        Self { rng, centres, shares, second: None }
    }

    fn rows(&mut self, rows: usize) -> Vec<f32> {
        let columns = self.centres[0].0.len();
        let mut values = Vec::with_capacity(rows * columns);
        for _ in 0..rows {
            let drawn = self.rng.uniform_unit();
            let group = self.shares.partition_point(|share| *share <= drawn);
            let group = group.min(self.centres.len() - 1);
            for column in 0..columns {
                let normal = self.normal();
                let (place, width) = &self.centres[group];
                values.push((place[column] + width * normal) as f32);
            }
        }
        values
    }

    /// The Box–Muller transform, two at a time.
    fn normal(&mut self) -> f64 {
        if let Some(normal) = self.second.take() {
            return normal;
        }
        let radius = (-2.0 * (1.0 - self.rng.uniform_unit()).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * self.rng.uniform_unit()).sin_cos();
        self.second = Some(radius * sine);
        radius * cosine
    }
}

/// Writes raw numbers to a file for the peers.
fn write(name: &str, values: &[f32]) -> PathBuf {
    let path = PathBuf::from(format!("target/bench/{name}.f32"));
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(&path, bytes).unwrap();
    path
}

fn kmeans_beside(
    peers: &mut Peers,
    rows: usize,
    columns: usize,
    k: usize,
    ids: [&'static str; 2],
) -> Vec<Figure> {
    let values = Blobs::new(columns, k, 42).rows(rows);
    let path = write(&format!("blobs_{rows}_{columns}"), &values);
    peers.ask(&format!("rows {} {columns}", path.display()));
    let data = EncodedDataset::new(Array2::from_shape_vec((rows, columns), values).unwrap());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build().unwrap();
    let ours = |seed| {
        let started = Instant::now();
        let once = KmeansSettings { starts: Some(1), ..KmeansSettings::default() };
        let best = pool.install(|| kmeans::fit_best_start(&data, k, &once, seed, &Quiet)).unwrap();
        vec![started.elapsed().as_secs_f64(), best.partition.inertia]
    };
    // In turn, so that noise affects all equally.
    let mut runs: [Vec<Vec<f64>>; 4] = Default::default();
    for seed in SEEDS {
        runs[0].push(ours(seed));
        for (runs, method) in runs[1..].iter_mut().zip(["lloyd", "elkan", "faiss"]) {
            runs.push(peers.ask(&format!("{method} {k} {seed} {THREADS}")));
        }
    }
    let seconds = |runs: &[Vec<f64>]| median(runs.iter().map(|run| run[0]).collect());
    let inertia =
        |runs: &[Vec<f64>]| runs.iter().map(|run| run[1]).sum::<f64>() / runs.len() as f64;
    for (name, runs) in ["segmentd", "lloyd", "elkan", "faiss"].iter().zip(&runs) {
        println!(
            "  {rows} x {columns}, k = {k}, {name}: median {:.3} s, mean inertia {:.5e}",
            seconds(runs),
            inertia(runs)
        );
    }
    let sklearn = if seconds(&runs[1]) < seconds(&runs[2]) { &runs[1] } else { &runs[2] };
    let baselines = ["scikit-learn KMeans float32, the faster of lloyd and elkan", "faiss Kmeans"];
    let mut figures = Vec::new();
    for (at, theirs) in [sklearn, &runs[3]].into_iter().enumerate() {
        assert!(inertia(&runs[0]) <= inertia(theirs), "{}: worse inertia", ids[at]);
        figures.push(Figure {
            id: ids[at],
            description: "k-means, five seeds, mean inertia no worse",
            value: 1e3 * seconds(&runs[0]),
            unit: "ms",
            baseline: baselines[at],
            baseline_value: 1e3 * seconds(theirs),
            ratio: seconds(&runs[0]) / seconds(theirs),
            runs: runs[0].len(),
        });
    }
    figures
}

fn assign_beside(peers: &mut Peers, (d, k, ids): Shape, sgemm: &[f64]) -> Vec<Figure> {
    let mut blobs = Blobs::new(d, k, 7);
    let values = blobs.rows(ASSIGNED_ROWS);
    let centres: Vec<f32> =
        blobs.centres.iter().flat_map(|(place, _)| place.iter().map(|x| *x as f32)).collect();
    let path = write("assign_rows", &values);
    peers.ask(&format!("rows {} {d}", path.display()));
    peers.ask(&format!("centres {}", write("assign_centres", &centres).display()));
    let prototypes = Prototypes::new(d, centres).unwrap();
    let mut figures = Vec::new();
    for threads in 1..=THREADS {
        let mut runs: [Vec<f64>; 3] = Default::default();
        let mut places = vec![NearestBatch::default(); threads];
        // The first of each is a warm-up.
        for run in 0..=ASSIGN_RUNS {
            let mut rested = |question: &str| {
                std::thread::sleep(PEERS_SPIN);
                peers.ask(question)[0]
            };
            let theirs =
                [rested(&format!("predict {threads}")), rested(&format!("search {threads}"))];
            std::thread::sleep(PEERS_SPIN);
            let seconds = [assign(&prototypes, &values, &mut places), theirs[0], theirs[1]];
            if run > 0 {
                runs.iter_mut().zip(seconds).for_each(|(runs, seconds)| runs.push(seconds));
            }
        }
        let [ours, sklearn, faiss] = runs.map(|runs| ASSIGNED_ROWS as f64 / median(runs) / 1e6);
        println!(
            "  d {d}, k {k}, {threads} threads: {:.1} % of sgemm's rate",
            100.0 * 2.0 * (d * k) as f64 * ours / 1e3 / sgemm[threads - 1]
        );
        let peers = [("scikit-learn KMeans.predict, label only", sklearn), ("faiss", faiss)];
        for (id, (baseline, theirs)) in ids[threads - 1].into_iter().zip(peers) {
            figures.push(Figure {
                id,
                description: "rows with label, distance and runner-up",
                value: ours,
                unit: "M/s",
                baseline,
                baseline_value: theirs,
                ratio: ours / theirs,
                runs: ASSIGN_RUNS,
            });
        }
    }
    figures
}

/// Seconds to find label, squared distance and runner-up of every row; one of `places` for
/// each thread.
fn assign(prototypes: &Prototypes, values: &[f32], places: &mut [NearestBatch]) -> f64 {
    let started = Instant::now();
    let width = prototypes.width();
    let prepared = prototypes.prepare();
    let share = (values.len() / width).div_ceil(places.len());
    std::thread::scope(|scope| {
        for (values, places) in values.chunks(share * width).zip(places) {
            let prepared = &prepared;
            scope.spawn(move || prepared.find_nearest(values, places));
        }
    });
    started.elapsed().as_secs_f64()
}

/// A child process, so that its memory is that of the stream only.
fn stream() -> Vec<Figure> {
    let output = Command::new(std::env::current_exe().unwrap()).arg(STREAM_ARGUMENT).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let (resident, seconds) = (numbers[0], &numbers[1..]);
    println!("  seconds for each million rows: {seconds:.3?}");
    let half = seconds.len() / 2;
    // The least disturbed measurements: growth would show in them too.
    let least = |seconds: &[f64]| seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let (early, late) = (least(&seconds[..half]), least(&seconds[half..]));
    let figure = |at: usize, description, value: f64, unit, baseline, baseline_value: f64| Figure {
        id: STREAM[at],
        description,
        value,
        unit,
        baseline,
        baseline_value,
        ratio: value / baseline_value,
        runs: 1,
    };
    vec![
        figure(0, "resident at most, 20 million rows x 16", resident, "MiB", "the limit", 300.0),
        figure(
            1,
            "a million rows late in the stream",
            1e3 * late,
            "ms",
            "early in it",
            1e3 * early,
        ),
    ]
}

/// Prints the peak resident memory in MiB, and the seconds for each million rows, without
/// generating them.
pub(crate) fn take_the_stream() {
    let mut blobs = Blobs::new(STREAM_COLUMNS, STREAM_CLUSTERS, 11);
    // The rows of the first batches are repeated: generating 20 million would take most of
    // the time.
    let kept: Vec<Vec<f32>> = (0..50).map(|_| blobs.rows(STREAM_BATCH)).collect();
    let batches = STREAM_MILLIONS * 1_000_000 / STREAM_BATCH;
    let a_million = 1_000_000 / STREAM_BATCH;
    let mut seconds = [0.0; STREAM_MILLIONS];
    let mut handed_over: Option<Instant> = None;
    let mut made = (0..=batches).map_while(|batch| {
        if let Some(since) = handed_over.take() {
            seconds[(batch - 1) / a_million] += since.elapsed().as_secs_f64();
        }
        let values = kept.get(batch % kept.len()).filter(|_| batch < batches)?.clone();
        let rows = Array2::from_shape_vec((STREAM_BATCH, STREAM_COLUMNS), values).unwrap();
        handed_over = Some(Instant::now());
        Some(EncodedDataset::new(rows))
    });
    let first = made.next().unwrap();
    let initial = init::kmeans_plus_plus(&first, STREAM_CLUSTERS, &mut RandomStream::new(1, 0));
    let mut centres = MovingCentres::new(initial);
    centres.update(&first);
    for batch in made {
        centres.update(&batch);
    }
    assert_eq!(centres.counts.iter().sum::<u64>(), (STREAM_MILLIONS * 1_000_000) as u64);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kibibytes: f64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{}", kibibytes * 1024.0 / MEBIBYTE);
    for seconds in seconds {
        println!("{seconds}");
    }
}
