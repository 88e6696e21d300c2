//! Audit log of changes to alerts and channels, with actor and reason.

use crate::domain::time::Timestamp;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// One step, with its actor and reason.
#[derive(Debug, Clone)]
pub(crate) struct AlertDecision {
    pub step: String,
    pub decided_at: Timestamp,
    pub actor: String,
    pub reason: String,
}

/// Records a decision. `subject_kind` is `channel`, `silence`, `alert` or `delivery`, and `id` the
/// id of that object.
pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    subject_kind: &str,
    id: &str,
    decision: &AlertDecision,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into alert_decision
             (workspace_id, subject_kind, subject_id, step, decided_at, decided_by, reason)
         values ($1, $2, $3, $4, $5, $6, $7)",
        tx.workspace_id(),
        subject_kind,
        id,
        decision.step,
        to_sql(decision.decided_at),
        decision.actor,
        decision.reason,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// The latest decisions about one object, newest first.
pub(crate) async fn list_about(
    db: &ReadOnlyDatabase,
    subject_kind: &str,
    id: &str,
    limit: i64,
) -> Result<Vec<AlertDecision>, StoreError> {
    let rows = sqlx::query!(
        "select step, decided_at, decided_by, reason from alert_decision
         where workspace_id = $1 and subject_kind = $2 and subject_id = $3
         order by decision desc limit $4",
        db.workspace_id(),
        subject_kind,
        id,
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    let decisions = rows.into_iter().map(|row| AlertDecision {
        step: row.step,
        decided_at: from_sql(row.decided_at),
        actor: row.decided_by,
        reason: row.reason,
    });
    Ok(decisions.collect())
}
