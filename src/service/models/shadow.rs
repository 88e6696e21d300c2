//! Shadow scoring: models in shadow score customers after the active model has answered. Their
//! scores are compared with the answers and never returned.
//!
//! Committed customers are offered without blocking: a bounded queue takes a sample, and the
//! overflow is dropped and counted. The worker reads the customers' rows back. State and
//! assignment are written together, so a shadow scores exactly the row that was answered.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::domain::deployment::lifecycle::{ModelStage, SegmentCorrespondence, SystematicSampler};
use crate::domain::feature::CustomerState;
use crate::domain::hysteresis::{PreviousSegment, ScoredRow};
use crate::domain::id::{CustomerKey, ModelId};
use crate::domain::model::{Model, ScoringScratch, UNASSIGNED};
use crate::service::ServiceError;
use crate::service::error::ErrorChain;
use crate::service::scoring::deployment::Deployment;
use crate::service::scoring::serving::ServingState;
use crate::store::models::shadow;
use crate::store::models::shadow::{AnswerPair, AnsweredCustomer, PairCount};
use crate::store::{DatabaseHandle, models};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::ShadowOutcome;
use crate::telemetry::repeated_failures::count_failure;

/// Most models in shadow: each one scores every sampled customer.
pub(crate) const MAX_SHADOWS: usize = 4;
/// Capacity of the queue, in customers.
const QUEUE_CAPACITY: usize = 4096;
/// Customers read back in one query.
const BATCH_SIZE: usize = 256;
/// Interval between writes of the counts.
const FLUSH_INTERVAL: Duration = Duration::from_secs(2);

/// The shadow models of this process and their queue.
#[derive(Debug)]
pub struct ShadowModels {
    serving: Arc<ServingState>,
    models: ArcSwap<Vec<Arc<Model>>>,
    picker: SystematicSampler,
    offered_count: AtomicU64,
    queue: mpsc::Sender<CustomerKey>,
    db: DatabaseHandle,
    metrics: Arc<ServiceMetrics>,
}

/// Background worker that scores the queued customers.
#[derive(Debug)]
pub struct ShadowWorker {
    shadows: Arc<ShadowModels>,
    queue: mpsc::Receiver<CustomerKey>,
}

type PairCounts = HashMap<AnswerPair, PairCount>;

impl ShadowModels {
    pub fn new(
        db: DatabaseHandle,
        serving: Arc<ServingState>,
        share: f64,
        metrics: Arc<ServiceMetrics>,
    ) -> (Arc<Self>, ShadowWorker) {
        let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
        let shadows = Arc::new(Self {
            serving,
            models: ArcSwap::default(),
            picker: SystematicSampler::new(share),
            offered_count: AtomicU64::new(0),
            queue: sender,
            db,
            metrics,
        });
        let worker = ShadowWorker { shadows: Arc::clone(&shadows), queue: receiver };
        (shadows, worker)
    }

    /// The models in shadow.
    pub(crate) fn ids(&self) -> Vec<ModelId> {
        self.models.load().iter().map(|model| model.id().clone()).collect()
    }

    /// Enqueues a share of the customers just answered; never blocks.
    pub(crate) fn offer_customers<'k>(&self, customers: impl Iterator<Item = &'k CustomerKey>) {
        if self.models.load().is_empty() {
            return;
        }
        for customer in customers {
            let offered_count = self.offered_count.fetch_add(1, Ordering::Relaxed);
            if self.picker.picks(offered_count) && self.queue.try_send(customer.clone()).is_err() {
                self.metrics.shadow.customers.add(ShadowOutcome::Dropped, 1);
            }
        }
    }

    /// Loads the models now in shadow. Skips a model that cannot be opened or has another
    /// feature set.
    pub(crate) async fn refresh(&self) -> Result<(), ServiceError> {
        let ids = models::list_at_stage(self.db.read(), ModelStage::Shadow).await?;
        let known = self.models.load_full();
        if ids.iter().eq(known.iter().map(|model| model.id())) {
            return Ok(());
        }
        let mut opened = Vec::with_capacity(ids.len());
        for id in ids {
            match known.iter().find(|model| *model.id() == id) {
                Some(model) => opened.push(Arc::clone(model)),
                None => opened.extend(self.serving.load_model(&id).await?),
            }
        }
        self.models.store(Arc::new(opened));
        Ok(())
    }

    fn count(
        &self,
        deployment: &Deployment,
        answered: &[AnsweredCustomer],
        counts: &mut PairCounts,
    ) {
        let shadows = self.models.load();
        let mut scratch = ScoringScratch::default();
        for shadow in shadows.iter() {
            for one in answered {
                let Some((pair, count)) = compare_scores(deployment, shadow, one, &mut scratch)
                else {
                    continue;
                };
                let outcome = match pair.is_same {
                    Some(true) => ShadowOutcome::Agree,
                    Some(false) => ShadowOutcome::Disagree,
                    None => ShadowOutcome::Unmatched,
                };
                self.metrics.shadow.customers.add(outcome, 1);
                let sum = counts.entry(pair).or_default();
                sum.customers += count.customers;
                sum.live_outliers += count.live_outliers;
                sum.shadow_outliers += count.shadow_outliers;
            }
        }
    }
}

/// Compares one answered customer with its shadow score. `None`: the deployment that answered
/// is no longer loaded, or its feature set differs.
fn compare_scores(
    deployment: &Deployment,
    shadow: &Model,
    answered: &AnsweredCustomer,
    scratch: &mut ScoringScratch,
) -> Option<(AnswerPair, PairCount)> {
    let assignment = &answered.previous;
    let by = deployment.for_generation(assignment.generation)?;
    let live = if assignment.is_fallback { None } else { Some(by.active.as_deref()?) };
    let state = CustomerState::from_bytes(&deployment.features, &answered.state).ok()?;
    let row = state.feature_row(&deployment.features, answered.assigned_at);
    let score = shadow.score(&row, scratch);
    let beside = live.map(|live| SegmentCorrespondence::new(live, shadow));
    // Hysteresis as if the shadow were active: it starts from the customer's present segment.
    let before = live.and_then(|_| shadow.segment_index(&assignment.segment_id));
    let before = before.map(|segment| PreviousSegment { segment, moved_at: assignment.moved_at });
    let (policy, now) = (deployment.rules.hysteresis, answered.assigned_at);
    let scored = ScoredRow { model: shadow, row: &row, score: &score };
    let segment = policy.assign_segment(scored, before, now, scratch).segment;
    let is_same = beside.and_then(|beside| beside.is_same_segment(&assignment.segment_id, segment));
    let shadow_segment = segment.map_or(UNASSIGNED, |index| &shadow.segments()[index].id);
    let pair = AnswerPair {
        shadow: shadow.id().clone(),
        live: live.map(|model| model.id().clone()),
        live_segment_id: assignment.segment_id.as_str().into(),
        shadow_segment_id: shadow_segment.into(),
        is_same,
    };
    let count = PairCount {
        customers: 1,
        live_outliers: answered.outlier.into(),
        shadow_outliers: score.is_outlier(deployment.rules.outlier_alpha).into(),
    };
    Some((pair, count))
}

impl ShadowWorker {
    /// Scores until `stopped`, then stores the remaining counts. May run again after a panic,
    /// which loses the counts since the last flush.
    pub async fn run(&mut self, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        let mut counts = PairCounts::new();
        let mut offered = Vec::with_capacity(BATCH_SIZE);
        let mut flush = tokio::time::interval(FLUSH_INTERVAL);
        let mut is_stopped = false;
        while !is_stopped {
            let done = tokio::select! {
                _ = self.queue.recv_many(&mut offered, BATCH_SIZE) => {
                    self.score(&mut offered, &mut counts).await
                }
                _ = flush.tick() => self.flush(&mut counts).await,
                () = &mut stopped => {
                    is_stopped = true;
                    self.flush(&mut counts).await
                }
            };
            if let Err(error) = done {
                let error = ErrorChain(&error).to_string();
                if let Some(repeated) = count_failure("shadow models", &error) {
                    tracing::warn!(error, "comparing shadow models failed{repeated}");
                }
            }
        }
    }

    async fn score(
        &self,
        offered: &mut Vec<CustomerKey>,
        counts: &mut PairCounts,
    ) -> Result<(), ServiceError> {
        let customers: BTreeSet<CustomerKey> = offered.drain(..).collect();
        let customers: Vec<CustomerKey> = customers.into_iter().collect();
        let answered = shadow::list_answered(self.shadows.db.read(), &customers).await?;
        let deployment = self.shadows.serving.snapshot();
        // Several milliseconds for a full batch, so other tasks leave this worker thread.
        tokio::task::block_in_place(|| self.shadows.count(&deployment, &answered, counts));
        Ok(())
    }

    /// Stores the counts; a failed write is repeated with the next one.
    async fn flush(&self, counts: &mut PairCounts) -> Result<(), ServiceError> {
        if counts.is_empty() {
            return Ok(());
        }
        let all: Vec<(AnswerPair, PairCount)> =
            counts.iter().map(|(pair, n)| (pair.clone(), *n)).collect();
        // Commits together: all counts since the last flush, exactly once.
        let mut tx = self.shadows.db.begin().await?;
        shadow::add_counts(&mut tx, &all).await?;
        tx.commit().await?;
        counts.clear();
        Ok(())
    }
}
