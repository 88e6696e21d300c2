//! Promotion preview: scores every stored customer with the active and with another model, and
//! counts the migration between their segments. Writes nothing.
//!
//! Both scorers apply hysteresis (`domain::hysteresis`) from the customer's previous assignment.
//! A customer that hysteresis retains in its segment counts as unmoved.

use std::pin::pin;
use std::sync::Arc;

use futures_util::TryStreamExt;

use crate::domain::feature::CustomerState;
use crate::domain::feature::rfm::SEGMENTS;
use crate::domain::hysteresis::{PreviousSegment, ScoredRow};
use crate::domain::id::ModelId;
use crate::domain::model::{
    MigrationMatrix, MigrationSummary, Model, NamedSegment, ScoringScratch,
};
use crate::domain::time::Timestamp;
use crate::service::models::registry;
use crate::service::models::registry::ModelRegistry;
use crate::service::scoring::deployment::Deployment;
use crate::service::{ServiceError, rebuild};
use crate::store::customers::assignments::PreviousAssignment;
use crate::store::customers::rebuild::StateSnapshot;
use crate::store::customers::{self, StoredCustomer};

/// Customers read before they are scored: some milliseconds of work.
const CHUNK_SIZE: usize = 512;
const RETRY_AFTER_SECONDS: u64 = 10;

/// Result of a preview: the migration between segments.
#[derive(Debug)]
pub(crate) struct PromotionPreview {
    /// `None`: the rule-based fallback is active.
    pub from: Option<ModelId>,
    pub to: ModelId,
    pub as_of: Timestamp,
    pub migration: MigrationSummary,
}

/// The two scorers and the common instant of scoring.
#[derive(Debug)]
struct PreviewScorers {
    deployment: Arc<Deployment>,
    model: Model,
    now: Timestamp,
}

/// Scratch buffers of the two scorers.
#[derive(Default)]
struct ScratchPair {
    from: ScoringScratch,
    to: ScoringScratch,
}

impl ModelRegistry {
    /// Previews a promotion. One preview runs at a time, as each reads every customer.
    pub(crate) async fn preview_promotion(
        &self,
        model: &ModelId,
    ) -> Result<PromotionPreview, ServiceError> {
        let _slot = self
            .preview_slot
            .try_acquire()
            .map_err(|_| ServiceError::Busy { retry_after_seconds: RETRY_AFTER_SECONDS })?;
        let model = registry::open_model(self.db.read(), model).await?;
        let deployment = self.serving.snapshot();
        if model.feature_set() != deployment.features.id() {
            return Err(ServiceError::Conflict(format!(
                "the feature set of model `{}` differs from the declared feature set",
                model.id()
            )));
        }
        let model = deployment.personas.name_segments(model);
        let scorers = Arc::new(PreviewScorers { deployment, model, now: self.clock.now() });
        let mut counts = scorers.counts();
        // Two connections: the stream occupies one while states are rebuilt on the other.
        let db = self.db.read().dedicated_pool(2);
        let mut stream = pin!(customers::stream_rows(&db).try_chunks(CHUNK_SIZE));
        while let Some(chunk) = stream.try_next().await.map_err(|error| error.1)? {
            let scoring = Arc::clone(&scorers);
            let counted = tokio::task::spawn_blocking(move || scoring.count(counts, chunk)).await;
            let unreadable;
            (counts, unreadable) = counted.map_err(ServiceError::internal)?;
            for StoredCustomer { customer, row } in unreadable {
                let mut snapshot = StateSnapshot::open(&db).await?;
                let features = &scorers.deployment.features;
                let state = rebuild::rebuild_state(&mut snapshot, features, &customer).await?;
                scorers.add(
                    &mut counts,
                    &state,
                    row.previous.as_ref(),
                    &mut ScratchPair::default(),
                );
            }
        }
        Ok(PromotionPreview {
            from: scorers.deployment.active.as_ref().map(|model| model.id().clone()),
            to: scorers.model.id().clone(),
            as_of: scorers.now,
            migration: counts.summarize(),
        })
    }
}

impl PreviewScorers {
    fn counts(&self) -> MigrationMatrix {
        let from = match &self.deployment.active {
            Some(model) => model.named_segments(),
            None => SEGMENTS.iter().map(|(id, _)| NamedSegment::of_rules(id)).collect(),
        };
        MigrationMatrix::new(from, self.model.named_segments())
    }

    /// Counts the customers with readable states; returns the others.
    fn count(
        &self,
        mut counts: MigrationMatrix,
        stored: Vec<StoredCustomer>,
    ) -> (MigrationMatrix, Vec<StoredCustomer>) {
        let mut scratch = ScratchPair::default();
        let mut unreadable = Vec::new();
        for stored in stored {
            match CustomerState::from_bytes(&self.deployment.features, &stored.row.state) {
                Ok(state) => {
                    self.add(&mut counts, &state, stored.row.previous.as_ref(), &mut scratch);
                }
                Err(_) => unreadable.push(stored),
            }
        }
        (counts, unreadable)
    }

    /// Counts one customer with the previous assignment `previous`.
    fn add(
        &self,
        counts: &mut MigrationMatrix,
        state: &CustomerState,
        previous: Option<&PreviousAssignment>,
        scratch: &mut ScratchPair,
    ) {
        let Self { deployment, model, now } = self;
        let row = state.feature_row(&deployment.features, *now);
        let score = deployment.score_row(&row, &mut scratch.from);
        let assignment =
            deployment.apply_hysteresis(&row, &score, previous, *now, &mut scratch.from);
        let from = assignment.map_or(score.segment_index, |assignment| assignment.segment);
        // The new model's hysteresis starts from the segment that continues `from`. A customer that
        // moves under the active model counts as moved now.
        let before = deployment.active.as_deref().zip(from).and_then(|(live, from)| {
            let segment = model.segment_index(&live.segments()[from].id)?;
            let moved =
                previous.filter(|previous| *previous.segment_id == *live.segments()[from].id);
            Some(PreviousSegment {
                segment,
                moved_at: moved.map_or(Some(*now), |previous| previous.moved_at),
            })
        });
        let score = model.score(&row, &mut scratch.to);
        let scored = ScoredRow { model, row: &row, score: &score };
        let to = deployment.rules.hysteresis.assign_segment(scored, before, *now, &mut scratch.to);
        counts.add(from, to.segment);
    }
}
