//! Automation policy: its versions, and the log of automatic actions.

use crate::domain::time::Timestamp;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// One version of the policy.
#[derive(Debug, Clone)]
pub(crate) struct PolicyVersionRow {
    pub version: i64,
    pub document: serde_json::Value,
    pub changed_at: Timestamp,
    pub changed_by: String,
    pub reason: String,
}

/// Kind of automatic action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyActionKind {
    /// Training after an alert.
    Retrain,
    /// Training because the model has aged.
    Refresh,
    Fallback,
    Rollback,
}

/// One automatic action.
#[derive(Debug, Clone)]
pub(crate) struct PolicyActionRow {
    pub action: String,
    pub subject: String,
    pub taken_at: Timestamp,
    pub reason: String,
}

impl PolicyActionKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Retrain => "retrain",
            Self::Refresh => "refresh",
            Self::Fallback => "fallback",
            Self::Rollback => "rollback",
        }
    }
}

/// Versions before the version `before`, newest first.
pub(crate) async fn list_versions(
    db: &ReadOnlyDatabase,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<PolicyVersionRow>, StoreError> {
    let rows = sqlx::query!(
        "select version, document, changed_at, changed_by, reason from policy
         where workspace_id = $1 and ($2::bigint is null or version < $2)
         order by version desc limit $3",
        db.workspace_id(),
        before,
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    let versions = rows.into_iter().map(|row| PolicyVersionRow {
        version: row.version,
        document: row.document,
        changed_at: from_sql(row.changed_at),
        changed_by: row.changed_by,
        reason: row.reason,
    });
    Ok(versions.collect())
}

/// The newest version's document, locked against other changes until this transaction ends;
/// `None` before the first.
pub(crate) async fn lock_newest(
    tx: &mut DatabaseTransaction,
) -> Result<Option<serde_json::Value>, StoreError> {
    sqlx::query!("lock table policy in share row exclusive mode").execute(&mut *tx.inner).await?;
    let newest = sqlx::query_scalar!(
        "select document from policy where workspace_id = $1 order by version desc limit 1",
        tx.workspace_id(),
    );
    Ok(newest.fetch_optional(&mut *tx.inner).await?)
}

pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    document: &serde_json::Value,
    by: &str,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into policy (workspace_id, document, changed_at, changed_by, reason)
         values ($1, $2, $3, $4, $5)",
        tx.workspace_id(),
        document,
        to_sql(now),
        by,
        reason,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// An automatic action about to start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewPolicyAction<'a> {
    pub action: PolicyActionKind,
    /// The alert or model that causes it.
    pub subject: &'a str,
    pub reason: &'a str,
}

/// Records the start of an action. False if it was started after `since`: then it must not
/// be repeated. An action later than `now` stems from a wrong clock and counts only if
/// `since` is the beginning of time, which means once for ever. Concurrent callers wait for
/// this transaction.
pub(crate) async fn begin_action(
    tx: &mut DatabaseTransaction,
    action: NewPolicyAction<'_>,
    since: Timestamp,
    now: Timestamp,
) -> Result<bool, StoreError> {
    sqlx::query!("lock table policy_action in share row exclusive mode")
        .execute(&mut *tx.inner)
        .await?;
    let inserted = sqlx::query!(
        "insert into policy_action (workspace_id, action, subject, taken_at, reason)
         select $6::integer, $1::text, $2::text, $3::timestamptz, $4::text where not exists (
             select from policy_action
             where workspace_id = $6 and action = $1 and subject = $2 and taken_at >= $5
                    and (taken_at <= $3 or $5 <= to_timestamp(0)))",
        action.action.name(),
        action.subject,
        to_sql(now),
        action.reason,
        to_sql(since),
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

/// The latest actions, newest first.
pub(crate) async fn list_actions(
    db: &ReadOnlyDatabase,
    limit: i64,
) -> Result<Vec<PolicyActionRow>, StoreError> {
    let rows = sqlx::query!(
        "select action, subject, taken_at, reason from policy_action
         where workspace_id = $1 order by action_id desc limit $2",
        db.workspace_id(),
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    let actions = rows.into_iter().map(|row| PolicyActionRow {
        action: row.action,
        subject: row.subject,
        taken_at: from_sql(row.taken_at),
        reason: row.reason,
    });
    Ok(actions.collect())
}
