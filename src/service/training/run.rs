//! One run: snapshot, fit on threads of its own, seal, register, promote.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use crate::config::Promotion;
use crate::domain::feature::{FeatureRow, FeatureSet};
use crate::domain::id::{ModelId, RunId};
use crate::domain::time::Timestamp;
use crate::domain::train::select::Cost;
use crate::domain::train::{self, CheckedSpec, FitError, Progress, TrainSpec, Trained, lineage};
use crate::service::ServiceError;
use crate::service::error::Chain;
use crate::service::registry::Change;
use crate::service::rollout::TRAINING;
use crate::service::training::predecessor::Before;
use crate::service::training::{Training, snapshot};
use crate::store::models::NewModel;
use crate::store::runs::RunRow;
use crate::store::{self, Db, features, models, runs};
use crate::telemetry::labels::RunOutcome;

/// How often a run writes down how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// The lowest priority: training takes what scoring leaves.
const NICEST: i32 = 19;

impl Training {
    /// False when nothing is queued.
    pub(super) async fn run_next(&self) -> Result<bool, ServiceError> {
        let mut tx = self.db.begin().await?;
        let Some(run) = runs::claim(&mut tx, self.clock.now()).await? else {
            return Ok(false);
        };
        tx.commit().await?;
        let started = Instant::now();
        tracing::info!(run = %run.run_id, trigger = run.trigger, "training");
        let outcome = self.carry_out(&run).await;
        self.metrics.training.seconds.observe(started.elapsed().as_secs_f64());
        match outcome {
            Ok(model) => {
                self.metrics.training.runs.add(RunOutcome::Succeeded, 1);
                tracing::info!(run = %run.run_id, model = model.short(), "trained");
            }
            Err(error) => {
                self.metrics.training.runs.add(RunOutcome::Failed, 1);
                tracing::warn!(run = %run.run_id, error = %Chain(&error), "training failed");
                let mut tx = self.db.begin().await?;
                let why = Chain(&error).to_string();
                runs::fail(&mut tx, &run.run_id, &why, self.clock.now()).await?;
                tx.commit().await?;
            }
        }
        Ok(true)
    }

    async fn carry_out(&self, run: &RunRow) -> Result<ModelId, ServiceError> {
        let spec: TrainSpec =
            serde_json::from_value(run.spec.clone()).map_err(ServiceError::internal)?;
        let spec = spec.check().map_err(ServiceError::Invalid)?;
        let lineup = self.live.snapshot();
        let as_of = self.clock.now();
        let rows = snapshot::take(self.db.read(), &lineup.features, as_of).await?;
        let before = Before::of(self.db.read(), &lineup).await?;
        let given = Given { features: Arc::clone(&lineup.features), rows, as_of, before };
        let trained = self.fit(run, spec, given).await?;
        let model = trained.model.id().clone();
        self.register(run, &lineup.features, &trained).await?;
        if self.settings.promote == Promotion::Automatic {
            let change =
                Change { by: format!("{TRAINING}{}", run.run_id), reason: run.trigger.clone() };
            match self.registry.advance(&model, change).await {
                // Written down with the model: what is live stays so.
                Err(error @ ServiceError::Refused { .. }) => {
                    tracing::warn!(model = model.short(), %error, "the model stays a candidate");
                }
                outcome => outcome?,
            }
        }
        Ok(model)
    }

    /// Fits on threads of its own, at the lowest priority, and notes progress.
    async fn fit(
        &self,
        run: &RunRow,
        spec: CheckedSpec,
        given: Given,
    ) -> Result<Trained, ServiceError> {
        let follow = Arc::new(Follow::default());
        let (answer, mut answered) = oneshot::channel();
        let threads = self.settings.threads;
        let following = Arc::clone(&follow);
        std::thread::Builder::new()
            .name("train".into())
            .spawn(move || {
                be_nice();
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|index| format!("train-{index}"))
                    .start_handler(|_| be_nice())
                    .build();
                let outcome = match pool {
                    Ok(pool) => pool
                        .install(|| given.train(&spec, &*following))
                        // The data and the spec do not go together: no fault of ours.
                        .map_err(|error| ServiceError::Conflict(error.to_string())),
                    Err(error) => Err(ServiceError::internal(error)),
                };
                // Nobody waits any more: the process is stopping.
                let _ = answer.send(outcome);
            })
            .map_err(ServiceError::internal)?;
        let stop_if_dropped = StopOnDrop(Arc::clone(&follow));
        let outcome = loop {
            tokio::select! {
                outcome = &mut answered => break outcome,
                () = tokio::time::sleep(PROGRESS_EVERY) => {
                    note(&self.db, &run.run_id, &follow).await?;
                }
            }
        };
        drop(stop_if_dropped);
        outcome.map_err(|_| ServiceError::internal("the training thread panicked"))?
    }

    async fn register(
        &self,
        run: &RunRow,
        set: &FeatureSet,
        trained: &Trained,
    ) -> Result<(), ServiceError> {
        let report = serde_json::to_value(&trained.report).map_err(ServiceError::internal)?;
        let now = self.clock.now();
        // Commits together: the feature set, the candidate, what
        // became of the segments before, and the run's end.
        let mut tx = self.db.begin().await?;
        features::keep(&mut tx, set.id(), set.normal_form(), now).await?;
        let model = NewModel {
            model_id: trained.model.id(),
            feature_set: set.id(),
            artifact: &trained.bytes,
            run_id: Some(run.run_id.as_str()),
            report: &report,
        };
        models::insert(&mut tx, &model, now).await?;
        if let Some(told) = &trained.report.lineage {
            store::lineage::record(&mut tx, trained.model.id(), told).await?;
        }
        runs::succeed(&mut tx, &run.run_id, trained.model.id(), &report, now).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// What a run is made from.
struct Given {
    features: Arc<FeatureSet>,
    rows: Vec<FeatureRow>,
    as_of: Timestamp,
    before: Option<Before>,
}

impl Given {
    fn train(&self, spec: &CheckedSpec, progress: &dyn Progress) -> Result<Trained, FitError> {
        let (set, defs) = (self.features.id(), self.features.features());
        let trained = train::train(spec, set, defs, &self.rows, self.as_of, progress)?;
        let predecessor = self.before.as_ref().map(Before::as_predecessor);
        lineage::inherit(trained, &self.rows, predecessor)
    }
}

/// What the training thread says, for the async side to write down.
#[derive(Debug)]
struct Follow {
    stage: ArcSwap<&'static str>,
    done: AtomicI64,
    total: AtomicI64,
    stop: std::sync::atomic::AtomicBool,
    /// When the cost was last asked for.
    asked: Mutex<Instant>,
}

impl Default for Follow {
    fn default() -> Self {
        Self {
            stage: ArcSwap::from_pointee("starting"),
            done: AtomicI64::new(0),
            total: AtomicI64::new(0),
            stop: std::sync::atomic::AtomicBool::new(false),
            asked: Mutex::new(Instant::now()),
        }
    }
}

impl Progress for Follow {
    fn report(&self, stage: &'static str, done: u64, total: u64) {
        self.stage.store(Arc::new(stage));
        self.done.store(i64::try_from(done).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.total.store(i64::try_from(total).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn cost(&self) -> Cost {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *asked, Instant::now());
        Cost { seconds: before.elapsed().as_secs_f64(), peak_bytes: take_peak() }
    }
}

/// A run that nobody waits for any more stops soon.
struct StopOnDrop(Arc<Follow>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

async fn note(db: &Db, run: &RunId, follow: &Follow) -> Result<(), ServiceError> {
    let stage = **follow.stage.load();
    let (done, total) = (follow.done.load(Ordering::Relaxed), follow.total.load(Ordering::Relaxed));
    let mut tx = db.begin().await?;
    runs::progress(&mut tx, run, stage, done, total).await?;
    tx.commit().await?;
    Ok(())
}

/// The most memory the process held since this was last asked; only Linux says.
fn take_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    // 5: the peak starts again from what is held now. Where that is refused,
    // the peak is that of the process so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// On Linux a priority belongs to a thread, and 0 names the caller's.
fn be_nice() {
    if let Err(error) = rustix::process::setpriority_process(None, NICEST) {
        tracing::debug!(%error, "training keeps its priority");
    }
}
