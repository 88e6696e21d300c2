//! `segmentd train`: requests a training run and waits for it; with `--from`, trains
//! offline without changing stored data or the deployment.

mod backtest;
mod request;
pub(super) mod show;
mod value;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};

use crate::app::{DatabaseUse, ManagedDatabase};
use crate::cli::feature_rows;
use crate::config::AppConfig;
use crate::domain::feature::FeatureSet;
use crate::domain::model::Model;
use crate::domain::time::Timestamp;
use crate::domain::train::selection::leaderboard::ResourceCost;
use crate::domain::train::{RowReservoir, SegmentCount, TrainingProgress, TrainingSpec};
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::training::fit::{CostMeter, Job, fit_model};
use crate::service::training::predecessor;
use crate::service::training::run::StoredReport;
use crate::service::training::snapshot::{
    self, SnapshotInstant, SnapshotRequest, TrainingSnapshot,
};
use crate::service::training::{configured_spec, validate_spec};

/// The value of `--from` for stored customers.
const DATABASE: &str = "database";

#[derive(Debug, Args)]
pub(super) struct TrainCommand {
    /// Train offline, without changing stored data or the deployment: from tables with a
    /// column per feature and optionally `customer_id` (CSV, newline-delimited JSON, Parquet;
    /// also compressed; a file, a pattern, or `-`; may be repeated), or from the stored
    /// customers. By default, request a run of the service and wait for it.
    #[arg(long, value_name = "TABLE|database")]
    from: Vec<String>,
    /// How the tables are stored, where it is not detected: the settings of `[table]` of a
    /// mapping (TOML), such as `delimiter = ";"`.
    #[arg(long, value_name = "FILE", requires = "from")]
    table_settings: Option<PathBuf>,
    /// Output file of the model.
    #[arg(long, value_name = "FILE", requires = "from")]
    out: Option<PathBuf>,
    /// Output file of the whole report as JSON: every candidate with its figures and the reason
    /// for its rank, as in GET /v1/training-runs/{training_run_id}.
    #[arg(long, value_name = "FILE", requires = "from")]
    report: Option<PathBuf>,
    /// Training spec, as in POST /v1/training-runs (.toml or .json); missing fields as
    /// configured.
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Number of segments, a range to choose from, such as 4..8, or `automatic`.
    #[arg(long)]
    segments: Option<SegmentCount>,
    /// Competing algorithms, such as kmeans,ward.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    algorithms: Vec<String>,
    /// euclidean, cosine or mahalanobis.
    #[arg(long)]
    distance: Option<String>,
    /// Number of random starts; the best one wins.
    #[arg(long)]
    starts: Option<usize>,
    /// Seed of the random number generator.
    #[arg(long)]
    seed: Option<u64>,
    /// Maximum number of training rows; larger data is sampled by the seed.
    #[arg(long)]
    sample: Option<usize>,
    /// Reference time of the rows; stored customers are as they were then. [default: now]
    #[arg(long, value_name = "TIMESTAMP", value_parser = timestamp, requires = "from")]
    as_of: Option<Timestamp>,
    /// Predecessor model, from which matching segments inherit their names. By default the
    /// live model with rows from the database; none with a table.
    #[arg(long, value_name = "FILE", requires = "from")]
    after: Option<PathBuf>,
    /// Queue the run for the service and end at once. By default, the command waits for the
    /// run, shows its progress, and ends with an error unless a model was trained.
    #[arg(long, conflicts_with = "from")]
    no_wait: bool,
}

impl TrainCommand {
    pub(super) async fn run(self, config: AppConfig) -> anyhow::Result<()> {
        let changes = self.changes()?;
        if self.from.is_empty() {
            return Box::pin(request::request_run(config, changes, self.no_wait)).await;
        }
        self.train_offline(config, changes).await
    }

    /// The settings of the spec file, overridden by those of the command line.
    fn changes(&self) -> anyhow::Result<Map<String, Value>> {
        let mut changes = self.spec.as_deref().map_or_else(|| Ok(Map::new()), spec_file)?;
        let has_algorithms = !self.algorithms.is_empty();
        let options = [
            ("segments", self.segments.map(serde_json::to_value).transpose()?),
            ("algorithms", has_algorithms.then(|| self.algorithms.clone().into())),
            ("distance", self.distance.clone().map(Value::from)),
            ("starts", self.starts.map(Value::from)),
            ("seed", self.seed.map(Value::from)),
            ("sample", self.sample.map(Value::from)),
        ];
        for (name, value) in options {
            changes.extend(value.map(|value| (name.to_owned(), value)));
        }
        Ok(changes)
    }

    async fn train_offline(
        &self,
        config: AppConfig,
        changes: Map<String, Value>,
    ) -> anyhow::Result<()> {
        let features = Arc::new(crate::app::features(&config)?);
        let settings = &config.training;
        let spec = configured_spec(settings, &features).with_changes(changes)?;
        let spec = validate_spec(spec, settings, &features)?;
        let as_of = self.as_of.unwrap_or_else(|| TimeSource::System.now());
        let progress = Arc::new(TerminalProgress::new()?);
        let (snapshot, live) = if self.from == [DATABASE] {
            let when = self.as_of.map_or(SnapshotInstant::Present(as_of), SnapshotInstant::Past);
            from_database(&config, &features, spec.spec(), when, &progress).await?
        } else {
            let sample = self.read_tables(&features, spec.spec(), &progress)?;
            (TrainingSnapshot::of_rows(sample), None)
        };
        let before = self.after.as_deref().map(predecessor).transpose()?.or(live);
        let TrainingSnapshot { sample, orders, backtest } = snapshot;
        let sample = sample.finish();
        let data = sample.report;
        let job = Job { spec, features, sample, orders, as_of, predecessor: before };
        let trained =
            unwrap_invalid(fit_model(job, settings.threads, Arc::clone(&progress)).await)?;
        progress.bar.finish_and_clear();
        println!("{}", show::training_report(&trained, data));
        if let Some(report) = value::value_report(&trained) {
            println!("{report}");
        }
        if let Some(backtest) = &backtest {
            println!("{}", backtest::backtest_report(backtest));
        }
        if let Some(path) = &self.report {
            let backtest = backtest.as_ref();
            let report = StoredReport { trained: &trained.report, as_of, data, backtest };
            save(path, &serde_json::to_vec_pretty(&report)?)?;
            println!("report {}", path.display());
        }
        if let Some(path) = &self.out {
            save(path, &trained.bytes)?;
            println!("saved to {}", path.display());
        }
        println!("model {}", trained.model.id());
        Ok(())
    }

    fn read_tables(
        &self,
        features: &FeatureSet,
        spec: &TrainingSpec,
        progress: &TerminalProgress,
    ) -> anyhow::Result<RowReservoir> {
        anyhow::ensure!(
            self.from.iter().all(|source| source != DATABASE),
            "--from {DATABASE} cannot be combined with tables"
        );
        progress.report("reading", 0, 1);
        let settings = feature_rows::settings(self.table_settings.as_deref())?;
        let rows = feature_rows::read(&self.from, &settings, features)?;
        let mut gather = RowReservoir::new(spec, features.features());
        for row in rows {
            gather.offer(row.into());
        }
        Ok(gather)
    }
}

async fn from_database(
    config: &AppConfig,
    features: &FeatureSet,
    spec: &TrainingSpec,
    when: SnapshotInstant,
    progress: &TerminalProgress,
) -> anyhow::Result<(TrainingSnapshot, Option<Model>)> {
    let database = ManagedDatabase::open(config, DatabaseUse::CommandOnData).await?;
    let request = SnapshotRequest { when, spec };
    let taken = snapshot::gather_snapshot(database.db.read(), features, request, progress).await;
    let live = predecessor::load_active(database.db.read()).await;
    database.close().await?;
    Ok((unwrap_invalid(taken)?, unwrap_invalid(live)?))
}

fn predecessor(path: &Path) -> anyhow::Result<Model> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the model {shown}"))?;
    let model = Model::open(&bytes).with_context(|| format!("{shown} is not a segmentd model"))?;
    Ok(model)
}

/// Unwraps invalid input, so that its list of problems is printed.
fn unwrap_invalid<T>(outcome: Result<T, ServiceError>) -> anyhow::Result<T> {
    outcome.map_err(|error| match error {
        ServiceError::Invalid(faults) => faults.into(),
        error => error.into(),
    })
}

fn spec_file(path: &Path) -> anyhow::Result<Map<String, Value>> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the spec {shown}"))?;
    let is_toml = path.extension().is_some_and(|extension| extension == "toml");
    let read = if is_toml {
        toml::from_str(&text).map_err(anyhow::Error::from)
    } else {
        serde_json::from_str(&text).map_err(anyhow::Error::from)
    };
    read.with_context(|| {
        format!("the spec {shown} is not {}", if is_toml { "TOML" } else { "JSON" })
    })
}

/// Writes a temporary file and renames it, so that only a complete one appears under `path`.
fn save(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut part = path.to_owned().into_os_string();
    part.push(".part");
    std::fs::write(&part, bytes)
        .and_then(|()| std::fs::rename(&part, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text)
        .ok_or_else(|| "must be an RFC 3339 timestamp such as 2017-01-01T11:53:26Z".to_owned())
}

/// A progress bar, visible on a terminal.
#[derive(Debug)]
struct TerminalProgress {
    bar: ProgressBar,
    meter: CostMeter,
}

impl TerminalProgress {
    fn new() -> anyhow::Result<Self> {
        let bar = ProgressBar::new(0);
        bar.set_style(ProgressStyle::with_template("{msg:12} {wide_bar} {pos}/{len} eta {eta}")?);
        Ok(Self { bar, meter: CostMeter::default() })
    }
}

impl TrainingProgress for TerminalProgress {
    fn report(&self, stage: &'static str, done: u64, total: u64) {
        if self.bar.message() != stage {
            self.bar.set_message(stage);
            self.bar.reset_eta();
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    fn should_stop(&self) -> bool {
        false
    }

    fn take_cost(&self) -> ResourceCost {
        self.meter.read()
    }
}
