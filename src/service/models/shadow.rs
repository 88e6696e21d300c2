//! Models in shadow: they score whom live ones have answered, and answer nobody.
//!
//! What has been committed is offered here and never waits: a bounded queue takes
//! a share of it, and what does not fit is dropped and counted. The worker reads
//! the customers' rows back. State and assignment are written together, so a
//! shadow scores the very row that was answered.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::domain::deployment::lifecycle::{Beside, Picker, Stage};
use crate::domain::feature::CustomerState;
use crate::domain::hysteresis::{Before, ScoredRow};
use crate::domain::id::CustomerKey;
use crate::domain::model::{Model, Scratch, UNASSIGNED};
use crate::service::ServiceError;
use crate::service::error::Chain;
use crate::service::scoring::deployment::{Lineup, Live};
use crate::store::models::shadow;
use crate::store::models::shadow::{Answered, Count, Pair};
use crate::store::{Db, models};
use crate::telemetry::Metrics;
use crate::telemetry::labels::ShadowOutcome;

/// Models in shadow at once: each costs as much as scoring everybody picked.
pub const MAX_SHADOWS: usize = 4;
/// Customers waiting for their shadows.
const QUEUE: usize = 4096;
/// Customers read back at once.
const BATCH: usize = 256;
/// How often counts are written down.
const FLUSH_EVERY: Duration = Duration::from_secs(2);

/// The shadows of this process, and the way to them.
#[derive(Debug)]
pub struct Shadows {
    live: Arc<Live>,
    models: ArcSwap<Vec<Arc<Model>>>,
    picker: Picker,
    turn: AtomicU64,
    queue: mpsc::Sender<CustomerKey>,
    db: Db,
    metrics: Arc<Metrics>,
}

/// Scores what the shadows were offered.
#[derive(Debug)]
pub struct Worker {
    shadows: Arc<Shadows>,
    queue: mpsc::Receiver<CustomerKey>,
}

type Counts = HashMap<Pair, Count>;

impl Shadows {
    pub fn new(db: Db, live: Arc<Live>, share: f64, metrics: Arc<Metrics>) -> (Arc<Self>, Worker) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let shadows = Arc::new(Self {
            live,
            models: ArcSwap::default(),
            picker: Picker::new(share),
            turn: AtomicU64::new(0),
            queue: sender,
            db,
            metrics,
        });
        let worker = Worker { shadows: Arc::clone(&shadows), queue: receiver };
        (shadows, worker)
    }

    /// Takes a share of the customers who have just been answered; never waits.
    pub fn offer<'k>(&self, customers: impl Iterator<Item = &'k CustomerKey>) {
        if self.models.load().is_empty() {
            return;
        }
        for customer in customers {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            if self.picker.picks(turn) && self.queue.try_send(customer.clone()).is_err() {
                self.metrics.shadow.customers.add(ShadowOutcome::Dropped, 1);
            }
        }
    }

    /// Opens the models that stand in shadow now. One that cannot be opened, or is
    /// of other features, is left out.
    pub async fn refresh(&self) -> Result<(), ServiceError> {
        let wanted = models::at_stage(self.db.read(), Stage::Shadow).await?;
        let known = self.models.load_full();
        if wanted.iter().eq(known.iter().map(|model| model.id())) {
            return Ok(());
        }
        let mut opened = Vec::with_capacity(wanted.len());
        for id in wanted {
            match known.iter().find(|model| *model.id() == id) {
                Some(model) => opened.push(Arc::clone(model)),
                None => opened.extend(self.live.load(&id).await?),
            }
        }
        self.models.store(Arc::new(opened));
        Ok(())
    }

    fn count(&self, lineup: &Lineup, answered: &[Answered], counts: &mut Counts) {
        let shadows = self.models.load();
        let mut scratch = Scratch::default();
        for shadow in shadows.iter() {
            for one in answered {
                let Some((pair, count)) = pair(lineup, shadow, one, &mut scratch) else { continue };
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

/// `None`: answered by a lineup that is no more, or of other features.
fn pair(
    lineup: &Lineup,
    shadow: &Model,
    answered: &Answered,
    scratch: &mut Scratch,
) -> Option<(Pair, Count)> {
    let held = &answered.held;
    let by = lineup.of_generation(held.generation)?;
    let live = if held.fallback { None } else { Some(by.active.as_deref()?) };
    let state = CustomerState::from_bytes(&lineup.features, &answered.state).ok()?;
    let row = state.row(&lineup.features, answered.assigned_at);
    let score = shadow.score(&row, scratch);
    let beside = live.map(|live| Beside::new(live, shadow));
    // As it would be, were the shadow live: it would find the customer where it is.
    let before = beside.and_then(|beside| beside.in_other(&held.segment));
    let before = before.map(|segment| Before { segment, moved_at: held.moved_at });
    let (policy, now) = (lineup.rules.policy, answered.assigned_at);
    let segment = policy
        .stand(ScoredRow { model: shadow, row: &row, score: &score }, before, now, scratch)
        .segment;
    let is_same = beside.and_then(|beside| beside.is_same(&held.segment, segment));
    let shadow_segment = segment.map_or(UNASSIGNED, |index| &shadow.segments()[index].key);
    let pair = Pair {
        shadow: shadow.id().clone(),
        live: live.map(|model| model.id().clone()),
        live_segment: held.segment.as_str().into(),
        shadow_segment: shadow_segment.into(),
        is_same,
    };
    let count = Count {
        customers: 1,
        live_outliers: answered.outlier.into(),
        shadow_outliers: score.is_outlier(lineup.rules.outlier_alpha).into(),
    };
    Some((pair, count))
}

impl Worker {
    /// Scores until `stopped`; what has been counted by then is written down still.
    pub async fn run(mut self, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        let mut counts = Counts::new();
        let mut offered = Vec::with_capacity(BATCH);
        let mut flush = tokio::time::interval(FLUSH_EVERY);
        let mut is_stopped = false;
        while !is_stopped {
            let done = tokio::select! {
                _ = self.queue.recv_many(&mut offered, BATCH) => {
                    self.score(&mut offered, &mut counts).await
                }
                _ = flush.tick() => self.flush(&mut counts).await,
                () = &mut stopped => {
                    is_stopped = true;
                    self.flush(&mut counts).await
                }
            };
            if let Err(error) = done {
                tracing::warn!(error = %Chain(&error), "shadows were not compared");
            }
        }
    }

    async fn score(
        &self,
        offered: &mut Vec<CustomerKey>,
        counts: &mut Counts,
    ) -> Result<(), ServiceError> {
        let customers: BTreeSet<CustomerKey> = offered.drain(..).collect();
        let customers: Vec<CustomerKey> = customers.into_iter().collect();
        let answered = shadow::answered(self.shadows.db.read(), &customers).await?;
        let lineup = self.shadows.live.snapshot();
        // Several milliseconds, for a full batch.
        tokio::task::block_in_place(|| self.shadows.count(&lineup, &answered, counts));
        Ok(())
    }

    /// Counts that could not be written stay for the next time.
    async fn flush(&self, counts: &mut Counts) -> Result<(), ServiceError> {
        if counts.is_empty() {
            return Ok(());
        }
        let all: Vec<(Pair, Count)> = counts.iter().map(|(pair, n)| (pair.clone(), *n)).collect();
        // Commits together: all that was counted since the last time, once.
        let mut tx = self.shadows.db.begin().await?;
        shadow::add(&mut tx, &all).await?;
        tx.commit().await?;
        counts.clear();
        Ok(())
    }
}
