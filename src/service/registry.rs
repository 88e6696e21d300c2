//! Which model is live: promotion and rollback.

use std::sync::Arc;

use crate::domain::id::ModelId;
use crate::domain::model::Model;
use crate::service::ServiceError;
use crate::service::clock::Clock;
use crate::service::live::Live;
use crate::store::models::LineupRow;
use crate::store::{Db, Tx, models};

/// Who changes the lineup, and why: kept with each generation.
#[derive(Debug, Clone)]
pub struct Change {
    pub by: String,
    pub reason: String,
}

#[derive(Debug)]
pub struct Registry {
    pub db: Db,
    pub live: Arc<Live>,
    pub clock: Clock,
}

impl Registry {
    /// Makes a stored model the live one, after its self-test. Promoting the
    /// live model changes nothing. On return this replica has published it.
    pub async fn promote(
        &self,
        model: &ModelId,
        change: Change,
    ) -> Result<LineupRow, ServiceError> {
        let next = promote(&self.db, &self.clock, model, change).await?;
        self.live.refresh().await?;
        Ok(next)
    }

    /// Puts the previous model back: a promotion in the other direction.
    pub async fn roll_back(&self, change: Change) -> Result<LineupRow, ServiceError> {
        let next = roll_back(&self.db, &self.clock, change).await?;
        self.live.refresh().await?;
        Ok(next)
    }
}

async fn promote(
    db: &Db,
    clock: &Clock,
    model: &ModelId,
    change: Change,
) -> Result<LineupRow, ServiceError> {
    let bytes = models::artifact(db.read(), model)
        .await?
        .ok_or_else(|| ServiceError::NotFound(format!("model `{model}`")))?;
    let opened = tokio::task::spawn_blocking(move || Model::open(&bytes))
        .await
        .map_err(ServiceError::internal)?;
    if let Err(error) = opened {
        return Err(ServiceError::Conflict(format!("the model fails its self-test: {error}")));
    }
    // Commits together: the next generation, both stages, the announcement.
    let mut tx = db.begin().await?;
    let current = models::lock_lineup(&mut tx).await?;
    if current.active.as_ref() == Some(model) {
        return Ok(current);
    }
    let previous = current.active.clone();
    publish(tx, clock, &current, Some(model.clone()), previous, change).await
}

async fn roll_back(db: &Db, clock: &Clock, change: Change) -> Result<LineupRow, ServiceError> {
    // Commits together: the next generation, both stages, the announcement.
    let mut tx = db.begin().await?;
    let current = models::lock_lineup(&mut tx).await?;
    let Some(previous) = current.previous.clone() else {
        return Err(ServiceError::Conflict("there is no previous model to roll back to".into()));
    };
    let replaced = current.active.clone();
    publish(tx, clock, &current, Some(previous), replaced, change).await
}

async fn publish(
    mut tx: Tx,
    clock: &Clock,
    current: &LineupRow,
    active: Option<ModelId>,
    previous: Option<ModelId>,
    change: Change,
) -> Result<LineupRow, ServiceError> {
    let next = LineupRow {
        generation: current.generation + 1,
        active,
        previous,
        changed_at: clock.now(),
        changed_by: change.by,
        reason: change.reason,
    };
    models::change_lineup(&mut tx, &next).await?;
    tx.commit().await?;
    Ok(next)
}
