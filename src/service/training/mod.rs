//! Training: asked for, or due by the schedule; run by one replica at a time.

mod predecessor;
mod run;
mod snapshot;

use std::sync::Arc;

use crate::config;
use crate::domain::id::RunId;
use crate::domain::time::Timestamp;
use crate::domain::train::baseline::RfmFeatures;
use crate::domain::train::{SegmentRange, Segments, TrainSpec};
use crate::service::clock::Clock;
use crate::service::live::Live;
use crate::service::registry::Registry;
use crate::service::{ServiceError, random};
use crate::store::lease::Lease;
use crate::store::{Db, runs};
use crate::telemetry::Metrics;

#[derive(Debug)]
pub struct Training {
    pub db: Db,
    pub registry: Arc<Registry>,
    pub live: Arc<Live>,
    pub clock: Clock,
    pub settings: config::Training,
    pub metrics: Arc<Metrics>,
}

impl Training {
    /// What a run is trained with unless its request says otherwise.
    pub fn default_spec(&self) -> TrainSpec {
        let s = &self.settings;
        let rfm = self.live.snapshot().features.rfm().clone();
        TrainSpec {
            segments: if s.segments == s.segments_to {
                Segments::Exactly(s.segments)
            } else {
                Segments::Within(SegmentRange { from: s.segments, to: s.segments_to })
            },
            starts: s.starts,
            max_iterations: s.max_iterations,
            tolerance: s.tolerance,
            seed: s.seed,
            holdout_share: s.holdout_share,
            minimum_rows: s.minimum_customers,
            baseline: Some(RfmFeatures {
                recency: rfm.recency.feature,
                frequency: rfm.frequency.feature,
                monetary: rfm.monetary.feature,
            }),
            ..TrainSpec::default()
        }
    }

    /// Queues a run. `None`: the scheduled instant has its run already.
    pub async fn request(
        &self,
        spec: TrainSpec,
        trigger: &str,
        due_at: Option<Timestamp>,
    ) -> Result<Option<RunId>, ServiceError> {
        let spec = spec.check().map_err(ServiceError::Invalid)?;
        let features = Arc::clone(&self.live.snapshot().features);
        spec.spec().check_features(features.features()).map_err(ServiceError::Invalid)?;
        let run: RunId =
            format!("run_{}", random::token::<8>()?).try_into().map_err(ServiceError::internal)?;
        let spec = serde_json::to_value(spec.spec()).map_err(ServiceError::internal)?;
        let mut tx = self.db.begin().await?;
        let queued = runs::enqueue(&mut tx, &run, trigger, due_at, &spec, self.clock.now()).await?;
        tx.commit().await?;
        Ok(queued.then_some(run))
    }

    /// Carries out queued runs until none is left; returns how many. Does
    /// nothing while another replica trains.
    pub async fn run_queued(&self) -> Result<u64, ServiceError> {
        let Some(mut lease) = self.db.try_lease(Lease::Training).await? else {
            return Ok(0);
        };
        let mut done = 0;
        let outcome = loop {
            if let Err(error) = lease.check().await {
                break Err(error.into());
            }
            match self.run_next().await {
                Ok(true) => done += 1,
                Ok(false) => break Ok(done),
                Err(error) => break Err(error),
            }
        };
        lease.release().await;
        outcome
    }

    /// The next instant of the schedule; `None` without one.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.settings.schedule.as_ref()?.next_after(self.clock.now())
    }
}
