//! What a promotion would do, before it is done: every stored customer scored by
//! what is live and by another model, and counted. Nothing is written.

use std::pin::pin;
use std::sync::Arc;

use futures_util::TryStreamExt;

use crate::domain::feature::CustomerState;
use crate::domain::feature::rfm::SEGMENTS;
use crate::domain::id::{CustomerKey, ModelId};
use crate::domain::model::{Counts, Migration, Model, Place, Scratch};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::live::Lineup;
use crate::service::rebuild;
use crate::service::registry::{self, Registry};
use crate::store::customers::{self, StoredState};
use crate::store::rebuild::Snapshot;

/// Customers read before they are scored, some milliseconds' work.
const CHUNK: usize = 512;
const RETRY_AFTER_SECONDS: u64 = 10;

/// Who would move.
#[derive(Debug)]
pub struct Preview {
    /// `None`: the rule-based fallback is live.
    pub from: Option<ModelId>,
    pub to: ModelId,
    pub as_of: Timestamp,
    pub migration: Migration,
}

/// What scores on both sides, and at which instant.
#[derive(Debug)]
struct Sides {
    lineup: Arc<Lineup>,
    model: Model,
    now: Timestamp,
}

impl Registry {
    /// One at a time: each reads every customer.
    pub async fn preview(&self, model: &ModelId) -> Result<Preview, ServiceError> {
        let _slot = self
            .previews
            .try_acquire()
            .map_err(|_| ServiceError::Busy { retry_after_seconds: RETRY_AFTER_SECONDS })?;
        let model = registry::open(self.db.read(), model).await?;
        let lineup = self.live.snapshot();
        if model.feature_set() != lineup.features.id() {
            return Err(ServiceError::Conflict(format!(
                "model `{}` was trained on other features than those that are declared now",
                model.id()
            )));
        }
        let sides = Arc::new(Sides { lineup, model, now: self.clock.now() });
        let mut counts = sides.counts();
        let mut stream = pin!(customers::stream(self.db.read()).try_chunks(CHUNK));
        while let Some(chunk) = stream.try_next().await.map_err(|error| error.1)? {
            let scoring = Arc::clone(&sides);
            let work = move || scoring.count(counts, &chunk);
            let unreadable;
            (counts, unreadable) =
                tokio::task::spawn_blocking(work).await.map_err(ServiceError::internal)?;
            for customer in unreadable {
                let mut snapshot = Snapshot::open(self.db.read()).await?;
                let features = &sides.lineup.features;
                let state = rebuild::state(&mut snapshot, features, &customer).await?;
                sides.add(&mut counts, &state, &mut (Scratch::default(), Scratch::default()));
            }
        }
        Ok(Preview {
            from: sides.lineup.active.as_ref().map(|model| model.id().clone()),
            to: sides.model.id().clone(),
            as_of: sides.now,
            migration: counts.told(),
        })
    }
}

impl Sides {
    fn counts(&self) -> Counts {
        let from = match &self.lineup.active {
            Some(model) => Place::of_model(model),
            None => SEGMENTS.iter().map(|(key, _)| Place::of_rules(key)).collect(),
        };
        Counts::new(from, Place::of_model(&self.model))
    }

    /// Counts those whose states this feature set can read; gives back the others.
    fn count(&self, mut counts: Counts, stored: &[StoredState]) -> (Counts, Vec<CustomerKey>) {
        let mut scratch = (Scratch::default(), Scratch::default());
        let mut unreadable = Vec::new();
        for one in stored {
            match CustomerState::from_bytes(&self.lineup.features, &one.state) {
                Ok(state) => self.add(&mut counts, &state, &mut scratch),
                Err(_) => unreadable.push(one.customer.clone()),
            }
        }
        (counts, unreadable)
    }

    fn add(&self, counts: &mut Counts, state: &CustomerState, scratch: &mut (Scratch, Scratch)) {
        let row = state.row(&self.lineup.features, self.now);
        let from = self.lineup.score(&row, &mut scratch.0).index;
        counts.add(from, self.model.score(&row, &mut scratch.1).segment());
    }
}
