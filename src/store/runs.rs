//! Training runs: asked for, claimed once, followed, finished.

use crate::domain::id::{ModelId, RunId};
use crate::domain::time::Timestamp;
use crate::store::connect::News;
use crate::store::models::model_id;
use crate::store::{ReadDb, StoreError, Tx, from_sql, to_sql};

#[derive(Debug, Clone)]
pub struct RunRow {
    pub run_id: RunId,
    pub status: String,
    pub trigger: String,
    pub spec: serde_json::Value,
    pub stage: String,
    pub done: i64,
    pub total: i64,
    pub model: Option<ModelId>,
    pub report: Option<serde_json::Value>,
    pub error: Option<String>,
    pub requested_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// Queues a run; false when one for the same scheduled instant is there already.
pub async fn enqueue(
    tx: &mut Tx,
    run: &RunId,
    trigger: &str,
    due_at: Option<Timestamp>,
    spec: &serde_json::Value,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let queued = sqlx::query!(
        "insert into training_run (run_id, status, trigger, due_at, spec, requested_at)
         values ($1, 'queued', $2, $3, $4, $5) on conflict (due_at) do nothing",
        run.as_str(),
        trigger,
        due_at.map(to_sql),
        spec,
        to_sql(now),
    )
    .execute(&mut *tx.inner)
    .await?
    .rows_affected();
    tx.announce(News::Runs).await?;
    Ok(queued == 1)
}

/// Takes the oldest run that nobody finished. The caller holds the training
/// lease, so one that still says `running` lost its replica: it starts anew.
pub async fn claim(tx: &mut Tx, now: Timestamp) -> Result<Option<RunRow>, StoreError> {
    let row = sqlx::query_as!(
        RawRun,
        "update training_run set status = 'running', started_at = $1, stage = 'starting', done = 0, total = 0
         where run_id = (select run_id from training_run where status in ('queued', 'running')
                         order by requested_at, run_id limit 1)
         returning run_id, status, trigger, spec, stage, done, total, model_id, report, error,
                   requested_at, started_at, finished_at",
        to_sql(now),
    )
    .fetch_optional(&mut *tx.inner)
    .await?;
    row.map(TryInto::try_into).transpose()
}

pub async fn progress(
    tx: &mut Tx,
    run: &RunId,
    stage: &str,
    done: i64,
    total: i64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update training_run set stage = $2, done = $3, total = $4 where run_id = $1",
        run.as_str(),
        stage,
        done,
        total
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

pub async fn succeed(
    tx: &mut Tx,
    run: &RunId,
    model: &ModelId,
    report: &serde_json::Value,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update training_run set status = 'succeeded', stage = 'finished', model_id = $2,
                report = $3, finished_at = $4 where run_id = $1",
        run.as_str(),
        model.as_str(),
        report,
        to_sql(now),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

pub async fn fail(tx: &mut Tx, run: &RunId, error: &str, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query!(
        "update training_run set status = 'failed', error = $2, finished_at = $3 where run_id = $1",
        run.as_str(),
        error,
        to_sql(now),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

pub async fn find(db: &ReadDb, run: &RunId) -> Result<Option<RunRow>, StoreError> {
    let row = sqlx::query_as!(
        RawRun,
        "select run_id, status, trigger, spec, stage, done, total, model_id, report, error,
                requested_at, started_at, finished_at
         from training_run where run_id = $1",
        run.as_str()
    )
    .fetch_optional(&db.pool)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// Newest first, asked for before `before`.
pub async fn list(
    db: &ReadDb,
    before: Option<Timestamp>,
    limit: i64,
) -> Result<Vec<RunRow>, StoreError> {
    let rows = sqlx::query_as!(
        RawRun,
        "select run_id, status, trigger, spec, stage, done, total, model_id, report, error,
                requested_at, started_at, finished_at
         from training_run where $1::timestamptz is null or requested_at < $1
         order by requested_at desc, run_id limit $2",
        before.map(to_sql),
        limit
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

struct RawRun {
    run_id: String,
    status: String,
    trigger: String,
    spec: serde_json::Value,
    stage: String,
    done: i64,
    total: i64,
    model_id: Option<String>,
    report: Option<serde_json::Value>,
    error: Option<String>,
    requested_at: chrono::DateTime<chrono::Utc>,
    started_at: Option<chrono::DateTime<chrono::Utc>>,
    finished_at: Option<chrono::DateTime<chrono::Utc>>,
}

impl TryFrom<RawRun> for RunRow {
    type Error = StoreError;

    fn try_from(raw: RawRun) -> Result<Self, StoreError> {
        Ok(Self {
            run_id: RunId::try_from(raw.run_id)
                .map_err(|why| StoreError::Corrupt { what: "run id", why: why.to_string() })?,
            status: raw.status,
            trigger: raw.trigger,
            spec: raw.spec,
            stage: raw.stage,
            done: raw.done,
            total: raw.total,
            model: raw.model_id.map(model_id).transpose()?,
            report: raw.report,
            error: raw.error,
            requested_at: from_sql(raw.requested_at),
            started_at: raw.started_at.map(from_sql),
            finished_at: raw.finished_at.map(from_sql),
        })
    }
}
