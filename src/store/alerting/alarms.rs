//! Alarm state between checks, and the last runs of periodic jobs.

use crate::domain::drift::AlarmRecord;
use crate::domain::time::Timestamp;
use crate::store::alerting::{from_json, to_json};
use crate::store::{
    DatabaseHandle, DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql,
};

/// A periodic job that one replica does for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    Check,
    KeepAlive,
    Retention,
    Sources,
}

impl Job {
    const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::KeepAlive => "heartbeat",
            Self::Retention => "retention",
            Self::Sources => "sources",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct AlarmRow {
    /// The model that its findings are about.
    pub model: String,
    pub record: AlarmRecord,
}

pub(crate) async fn list(db: &ReadOnlyDatabase) -> Result<Vec<AlarmRow>, StoreError> {
    let rows = sqlx::query!(
        "select key, model_id, state, alert_key from alarm where workspace_id = $1 order by key",
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    let rows = rows.into_iter().map(|row| {
        let alarm = from_json("alarm", row.state)?;
        let record = AlarmRecord { key: row.key, alert_key: row.alert_key, alarm };
        Ok(AlarmRow { model: row.model_id, record })
    });
    rows.collect()
}

pub(crate) async fn save(
    tx: &mut DatabaseTransaction,
    row: &AlarmRow,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into alarm (workspace_id, key, model_id, state, alert_key, checked_at)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (workspace_id, key) do update
         set model_id = excluded.model_id, state = excluded.state,
             alert_key = excluded.alert_key, checked_at = excluded.checked_at",
        tx.workspace_id(),
        row.record.key,
        row.model,
        to_json(&row.record.alarm)?,
        row.record.alert_key,
        to_sql(now),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

pub(crate) async fn delete(tx: &mut DatabaseTransaction, key: &str) -> Result<(), StoreError> {
    sqlx::query!("delete from alarm where workspace_id = $1 and key = $2", tx.workspace_id(), key,)
        .execute(&mut *tx.inner)
        .await?;
    Ok(())
}

/// The last run of a job.
pub async fn last_run_at(db: &ReadOnlyDatabase, job: Job) -> Result<Option<Timestamp>, StoreError> {
    let at = sqlx::query_scalar!(
        "select ran_at from alert_job where workspace_id = $1 and job = $2",
        db.workspace_id(),
        job.name(),
    )
    .fetch_optional(&db.pool)
    .await?;
    Ok(at.map(from_sql))
}

/// Records a run of a job that last ran at `before` (compare-and-set); false if another
/// replica has recorded one since.
pub(crate) async fn record_run(
    tx: &mut DatabaseTransaction,
    job: Job,
    before: Option<Timestamp>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let set = sqlx::query!(
        "insert into alert_job (workspace_id, job, ran_at) values ($4, $1, $2)
         on conflict (workspace_id, job) do update set ran_at = excluded.ran_at
         where alert_job.ran_at = $3",
        job.name(),
        to_sql(now),
        before.map(to_sql),
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(set.rows_affected() == 1)
}

/// Claims a job that last ran at `before` or earlier, or in the future by a wrong clock;
/// false if another replica has claimed it.
pub(crate) async fn claim_job(
    db: &DatabaseHandle,
    job: Job,
    before: Timestamp,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let taken = sqlx::query!(
        "insert into alert_job (workspace_id, job, ran_at) values ($4, $1, $3)
         on conflict (workspace_id, job) do update set ran_at = excluded.ran_at
         where alert_job.ran_at <= $2 or alert_job.ran_at > $3",
        job.name(),
        to_sql(before),
        to_sql(now),
        db.workspace_id(),
    )
    .execute(&db.pool)
    .await?;
    Ok(taken.rows_affected() == 1)
}
