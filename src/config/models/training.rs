//! Training settings: schedule, search space and resource limits.

use std::time::Duration;

use crate::config::load::reader::SettingsReader;
use crate::config::models::schedule::CronSchedule;
use crate::domain::train::{ClusteringAlgorithm, DistanceMeasure, SegmentCount, backtest};

/// Training runs.
#[derive(Debug, Clone)]
pub struct TrainingSettings {
    /// `None` disables scheduled runs.
    pub schedule: Option<CronSchedule>,
    /// Numbers of segments to try.
    pub segments: SegmentCount,
    /// Algorithms that compete; empty: the choice of the training spec.
    pub algorithms: Vec<ClusteringAlgorithm>,
    pub distance: DistanceMeasure,
    /// Share of the variance retained by the principal components in which rows are compared;
    /// `None` compares the encoded columns.
    pub components: Option<f64>,
    /// Random starts, of which the best is used.
    pub starts: usize,
    /// Maximum iterations per start.
    pub max_iterations: usize,
    /// Convergence tolerance, relative to the features' mean variance.
    pub tolerance: f64,
    pub seed: u64,
    /// Share of customers in the holdout set, 0 to 1 exclusive.
    pub holdout_share: f64,
    /// Smallest share of customers in a segment: the gate of promotion, which training meets by
    /// dissolving smaller segments.
    pub smallest_share: f64,
    /// Minimum number of customers for a training run.
    pub min_customers: usize,
    /// Maximum number of rows in memory; of more customers, a random sample is drawn.
    pub max_rows: usize,
    /// Duration after which a run is cancelled.
    pub max_run_duration: Duration,
    /// Maximum unfinished requested runs of all keys.
    pub max_queued_runs: u32,
    pub max_queued_runs_per_key: u32,
    /// Maximum fits of one run.
    pub max_fits: usize,
    pub threads: usize,
    /// Features by which segmentations are judged.
    pub outcomes: Vec<Box<str>>,
    /// Periods of the back-test of earlier models; empty: no back-test.
    pub backtest_horizons_days: Vec<u32>,
    pub promote: PromotionMode,
}

/// Promotion of trained models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromotionMode {
    /// Automatic, once the model passes its gates.
    Automatic,
    /// On request.
    Manual,
}

impl TrainingSettings {
    /// Reads the section; `smallest_share` is that of `[gates]`.
    pub(crate) fn read(reader: &mut SettingsReader, smallest_share: f64) -> Self {
        let training = Self {
            schedule: schedule(reader),
            segments: segments(reader),
            algorithms: algorithms(reader),
            distance: reader.choice(
                "training.distance",
                [
                    ("euclidean", DistanceMeasure::Euclidean),
                    ("cosine", DistanceMeasure::Cosine),
                    ("mahalanobis", DistanceMeasure::Mahalanobis),
                ],
            ),
            components: Some(reader.float("training.components", 0.0..=1.0))
                .filter(|share| *share > 0.0),
            starts: reader.integer("training.starts", 1..=1000),
            max_iterations: reader.integer("training.max_iterations", 1..=100_000),
            tolerance: reader.float("training.tolerance", 0.0..=1.0),
            seed: reader.integer("training.seed", 0..=i64::MAX),
            holdout_share: reader.float("training.holdout_share", 0.01..=0.9),
            smallest_share,
            min_customers: reader.integer("training.minimum_customers", 2..=1_000_000_000),
            max_rows: reader.integer("training.max_rows", 100..=1_000_000_000),
            max_run_duration: reader.seconds("training.max_run_seconds", 1..=31_536_000),
            max_queued_runs: reader.integer("training.max_queued_runs", 1..=100_000),
            max_queued_runs_per_key: reader
                .integer("training.max_queued_runs_per_key", 1..=100_000),
            max_fits: reader.integer("training.max_fits", 1..=1_000_000_000),
            threads: reader.integer("training.threads", 1..=1024),
            outcomes: outcomes(reader),
            backtest_horizons_days: backtest_horizons(reader),
            promote: reader.choice(
                "training.promote",
                [("automatic", PromotionMode::Automatic), ("manual", PromotionMode::Manual)],
            ),
        };
        if let Some(most) = training.segments.largest_requested()
            && training.min_customers < most
        {
            let problem = format!("is less than the largest number of training.segments, {most}");
            reader.refuse("training.minimum_customers", &problem);
        }
        if training.max_rows < training.min_customers {
            let least = training.min_customers;
            let problem = format!("is less than training.minimum_customers, which is {least}");
            reader.refuse("training.max_rows", &problem);
        }
        training
    }
}

fn segments(reader: &mut SettingsReader) -> SegmentCount {
    let path = "training.segments";
    let count: Result<SegmentCount, String> = reader.text(path).parse();
    match count.and_then(|count| count.check().map(|()| count)) {
        Ok(count) => count,
        Err(problem) => {
            reader.refuse(path, &problem);
            SegmentCount::AUTOMATIC
        }
    }
}

fn algorithms(reader: &mut SettingsReader) -> Vec<ClusteringAlgorithm> {
    let path = "training.algorithms";
    let names = reader.text(path);
    if names.trim() == "automatic" {
        return vec![];
    }
    let known = ClusteringAlgorithm::all();
    let mut listed = Vec::new();
    for name in names.split(',').map(str::trim) {
        if let Some(algorithm) = known.iter().find(|algorithm| algorithm.name() == name) {
            listed.push(algorithm.clone());
        } else {
            let names = known.each_ref().map(ClusteringAlgorithm::name).join(", ");
            reader.refuse(path, &format!("`{name}` is not `automatic` or one of {names}"));
        }
    }
    listed
}

fn outcomes(reader: &mut SettingsReader) -> Vec<Box<str>> {
    let listed = reader.text("training.outcomes");
    listed.split(',').map(str::trim).filter(|name| !name.is_empty()).map(Into::into).collect()
}

fn backtest_horizons(reader: &mut SettingsReader) -> Vec<u32> {
    let path = "training.backtest_horizons_days";
    let listed = reader.text(path);
    let mut horizons = Vec::new();
    for days in listed.split(',').map(str::trim).filter(|days| !days.is_empty()) {
        match days.parse() {
            Ok(days) => horizons.push(days),
            Err(_) => reader.refuse(path, &format!("`{days}` is not a whole number of days")),
        }
    }
    if let Err(problem) = backtest::check_horizons(&horizons) {
        reader.refuse(path, &problem);
    }
    horizons
}

fn schedule(reader: &mut SettingsReader) -> Option<CronSchedule> {
    let path = "training.schedule";
    let pattern = reader.text(path);
    if pattern.trim().is_empty() {
        return None;
    }
    let schedule = CronSchedule::parse(&pattern);
    schedule.map_err(|problem| reader.refuse(path, &problem)).ok()
}
