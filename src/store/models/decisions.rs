//! Audit log of model life-cycle steps: requested, done or refused.

use crate::domain::id::ModelId;
use crate::domain::time::Timestamp;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// One requested step of a model.
#[derive(Debug, Clone)]
pub(crate) struct ModelDecision {
    pub step: String,
    pub from_stage: String,
    /// `None`: refused.
    pub to_stage: Option<String>,
    /// Despite failed gates.
    pub is_forced: bool,
    pub decided_at: Timestamp,
    pub decided_by: String,
    pub reason: String,
    pub gates: serde_json::Value,
}

pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    model: &ModelId,
    decision: &ModelDecision,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into model_decision
             (workspace_id, model_id, step, from_stage, to_stage, forced, decided_at, decided_by,
              reason, gates)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        tx.workspace_id(),
        model.as_str(),
        decision.step,
        decision.from_stage,
        decision.to_stage,
        decision.is_forced,
        to_sql(decision.decided_at),
        decision.decided_by,
        decision.reason,
        decision.gates,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// The latest decisions about one model, newest first.
pub(crate) async fn list_of_model(
    db: &ReadOnlyDatabase,
    model: &ModelId,
    limit: i64,
) -> Result<Vec<ModelDecision>, StoreError> {
    let rows = sqlx::query!(
        "select step, from_stage, to_stage, forced, decided_at, decided_by, reason, gates
         from model_decision
         where workspace_id = $1 and model_id = $2 order by decision desc limit $3",
        db.workspace_id(),
        model.as_str(),
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    let decisions = rows.into_iter().map(|row| ModelDecision {
        step: row.step,
        from_stage: row.from_stage,
        to_stage: row.to_stage,
        is_forced: row.forced,
        decided_at: from_sql(row.decided_at),
        decided_by: row.decided_by,
        reason: row.reason,
        gates: row.gates,
    });
    Ok(decisions.collect())
}
