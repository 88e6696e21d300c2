//! Model fitting on dedicated threads of idle priority: scoring shares the machine and must not
//! slow down.
//!
//! On Linux the threads run under `SCHED_IDLE`; a high nice value is not enough. A nice thread
//! keeps the processor for milliseconds against one that wakes up. The threads also sleep
//! briefly every millisecond: a processor busy with idle work does not pull runnable work from
//! another processor's queue; one that becomes idle does.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thread_priority::ThreadPriority;
#[cfg(target_os = "linux")]
use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy};
use tokio::sync::oneshot;

use crate::domain::feature::FeatureSet;
use crate::domain::model::Model;
use crate::domain::time::Timestamp;
use crate::domain::train::selection::leaderboard::ResourceCost;
use crate::domain::train::{
    self, CheckedTrainingSpec, SampledCustomers, TrainedModel, TrainingData, TrainingError,
    TrainingProgress, lineage,
};
use crate::domain::value::ShopOrders;
use crate::service::ServiceError;

/// All inputs of one model; nothing else affects its bytes.
#[derive(Debug)]
pub(crate) struct Job {
    pub spec: CheckedTrainingSpec,
    pub features: Arc<FeatureSet>,
    /// In canonical order.
    pub sample: SampledCustomers,
    /// The orders of all customers, for the value model; `None` for rows from tables.
    pub orders: Option<ShopOrders>,
    /// The instant that the rows describe.
    pub as_of: Timestamp,
    /// The model from which segments inherit their ids.
    pub predecessor: Option<Model>,
}

/// Work between two rests of a thread.
const WORK_INTERVAL: Duration = Duration::from_millis(1);
/// The shortest sleep: in practice about 60 µs.
const PAUSE: Duration = Duration::from_micros(1);

/// Fits a model. A dropped future leaves the thread running until `progress` requests a stop.
pub(crate) async fn fit_model(
    job: Job,
    threads: usize,
    progress: Arc<impl TrainingProgress + Send + 'static>,
) -> Result<TrainedModel, ServiceError> {
    let (answer, answered) = oneshot::channel();
    std::thread::Builder::new()
        .name("train".into())
        .spawn(move || {
            use_idle_priority();
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(|index| format!("train-{index}"))
                .start_handler(|_| use_idle_priority())
                .build();
            let outcome = match pool {
                Ok(pool) => pool
                    .install(|| job.train(&*progress))
                    // The data and the spec are incompatible: an error of the request, not of
                    // the server.
                    .map_err(|error| ServiceError::Conflict(error.to_string())),
                Err(error) => Err(ServiceError::internal(error)),
            };
            // The receiver is gone only if the process is stopping.
            let _ = answer.send(outcome);
        })
        .map_err(ServiceError::internal)?;
    answered.await.map_err(|_| ServiceError::internal("the training thread panicked"))?
}

impl Job {
    fn train(&self, progress: &dyn TrainingProgress) -> Result<TrainedModel, TrainingError> {
        let Self { spec, features, sample, orders, as_of, predecessor: before } = self;
        let data = TrainingData {
            feature_set: features.id(),
            defs: features.features(),
            rows: &sample.rows,
            as_of: *as_of,
        };
        let trained = train::train_model(spec, &data, progress)?;
        let trained = match orders {
            Some(orders) => train::add_value(trained, spec, sample, orders, progress)?,
            None => trained,
        };
        lineage::inherit_segment_ids(trained, &sample.rows, before.as_ref())
    }
}

/// Cooperative pause, to be called often by a training thread.
pub(super) fn pause_briefly() {
    thread_local!(static WORKING_SINCE: Cell<Instant> = Cell::new(Instant::now()));
    WORKING_SINCE.with(|since| {
        if since.get().elapsed() >= WORK_INTERVAL {
            std::thread::sleep(PAUSE);
            since.set(Instant::now());
        }
    });
}

/// Time and peak memory since the last reading.
#[derive(Debug)]
pub(crate) struct CostMeter(Mutex<Instant>);

impl Default for CostMeter {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl CostMeter {
    pub(crate) fn read(&self) -> ResourceCost {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *since, Instant::now());
        ResourceCost { seconds: before.elapsed().as_secs_f64(), peak_bytes: take_peak_memory() }
    }
}

/// Peak resident memory of the process since the last call; Linux only.
fn take_peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    // Writing 5 to `clear_refs` resets the peak (proc(5)). Where that is refused, the peak is
    // that of the process's whole life.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Lowers the priority of the calling thread.
fn use_idle_priority() {
    #[cfg(target_os = "linux")]
    let done = thread_priority::set_thread_priority_and_policy(
        thread_priority::thread_native_id(),
        ThreadPriority::Min,
        ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle),
    );
    #[cfg(not(target_os = "linux"))]
    let done = thread_priority::set_current_thread_priority(ThreadPriority::Min);
    if let Err(error) = done {
        tracing::debug!(%error, "lowering the priority of a training thread failed");
    }
}
