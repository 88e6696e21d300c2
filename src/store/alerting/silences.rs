//! Silences: suppression of notifications for a limited time.

use chrono::{DateTime, Utc};

use crate::domain::alert::{AlertSilence, AlertTopic};
use crate::domain::time::Timestamp;
use crate::domain::workspace::WorkspaceId;
use crate::store::alerting::parse_topic;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

#[derive(Debug, Clone)]
pub(crate) struct SilenceRow {
    pub silence_id: String,
    pub silence: AlertSilence,
    pub created_at: Timestamp,
    pub created_by: String,
    pub reason: String,
}

pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    row: &SilenceRow,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into silence
             (workspace_id, silence_id, topic, owner, key_prefix, until, created_at, created_by,
              reason)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        tx.workspace_id(),
        row.silence_id,
        row.silence.topic.map(AlertTopic::as_str),
        row.silence.owner,
        row.silence.key_prefix,
        to_sql(row.silence.until),
        to_sql(row.created_at),
        row.created_by,
        row.reason,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Ends a silence; false if it does not exist or has ended.
pub async fn end(
    tx: &mut DatabaseTransaction,
    silence_id: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let ended = sqlx::query!(
        "update silence set until = $3
         where workspace_id = $1 and silence_id = $2 and until > $3",
        tx.workspace_id(),
        silence_id,
        to_sql(now),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// A page of the list of silences.
#[derive(Debug)]
pub(crate) struct SilencePage {
    /// Creation and id of the last silence of the previous page.
    pub after: Option<(Timestamp, String)>,
    pub limit: i64,
}

/// The silences of a page that are in force now, newest first.
pub(crate) async fn list_page(
    db: &ReadOnlyDatabase,
    now: Timestamp,
    page: &SilencePage,
) -> Result<Vec<SilenceRow>, StoreError> {
    let (created_at, silence_id) = page.after.as_ref().map(|(at, id)| (to_sql(*at), &**id)).unzip();
    let rows = sqlx::query_as!(
        StoredSilence,
        "select silence_id, topic, owner, key_prefix, until, created_at, created_by, reason
         from silence
         where workspace_id = $1 and until > $2
             and ($3::timestamptz is null or (created_at, silence_id) < ($3, $4))
         order by created_at desc, silence_id desc limit $5",
        db.workspace_id(),
        to_sql(now),
        created_at,
        silence_id,
        page.limit,
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// All silences in force now, newest first.
pub(crate) async fn list_active(
    db: &ReadOnlyDatabase,
    now: Timestamp,
) -> Result<Vec<SilenceRow>, StoreError> {
    select_active(&db.pool, db.workspace, now).await
}

/// Like [`list_active`], within a transaction.
pub(crate) async fn list_active_in_transaction(
    tx: &mut DatabaseTransaction,
    now: Timestamp,
) -> Result<Vec<SilenceRow>, StoreError> {
    select_active(&mut *tx.inner, tx.workspace, now).await
}

async fn select_active(
    executor: impl sqlx::PgExecutor<'_>,
    workspace: WorkspaceId,
    now: Timestamp,
) -> Result<Vec<SilenceRow>, StoreError> {
    let rows = sqlx::query_as!(
        StoredSilence,
        "select silence_id, topic, owner, key_prefix, until, created_at, created_by, reason
         from silence where workspace_id = $1 and until > $2
         order by created_at desc, silence_id desc",
        workspace.number(),
        to_sql(now),
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// A row as Postgres has it.
struct StoredSilence {
    silence_id: String,
    topic: Option<String>,
    owner: Option<String>,
    key_prefix: Option<String>,
    until: DateTime<Utc>,
    created_at: DateTime<Utc>,
    created_by: String,
    reason: String,
}

impl TryFrom<StoredSilence> for SilenceRow {
    type Error = StoreError;

    fn try_from(row: StoredSilence) -> Result<Self, StoreError> {
        let silence = AlertSilence {
            topic: row.topic.as_deref().map(parse_topic).transpose()?,
            owner: row.owner,
            key_prefix: row.key_prefix,
            until: from_sql(row.until),
        };
        Ok(Self {
            silence_id: row.silence_id,
            silence,
            created_at: from_sql(row.created_at),
            created_by: row.created_by,
            reason: row.reason,
        })
    }
}

/// Deletes silences that ended before `before`.
pub(crate) async fn delete_before(
    tx: &mut DatabaseTransaction,
    before: Timestamp,
) -> Result<u64, StoreError> {
    let dropped = sqlx::query!(
        "delete from silence where workspace_id = $1 and until < $2",
        tx.workspace_id(),
        to_sql(before),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(dropped.rows_affected())
}
