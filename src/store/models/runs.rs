//! Training runs: queued, claimed once, tracked, finished or cancelled.

use crate::domain::access;
use crate::domain::id::{ModelId, RunId};
use crate::domain::time::Timestamp;
use crate::store::database::connect::ChangeTopic;
use crate::store::models::list::InstantPage;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, model_id, to_sql};

#[derive(Debug, Clone)]
pub struct TrainingRunRow {
    pub run_id: RunId,
    pub status: String,
    pub trigger: String,
    /// Never promoted automatically.
    pub is_what_if: bool,
    /// Purpose, as stated by the requester.
    pub reason: Option<String>,
    pub spec: serde_json::Value,
    pub stage: String,
    /// Start of the current stage; `None` before the first progress report.
    pub stage_since: Option<Timestamp>,
    pub done: i64,
    pub total: i64,
    pub model: Option<ModelId>,
    pub report: Option<serde_json::Value>,
    pub error: Option<String>,
    pub requested_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// A training run to queue.
#[derive(Debug)]
pub(crate) struct NewTrainingRun<'a> {
    pub run_id: &'a RunId,
    pub trigger: &'a str,
    /// The scheduled time.
    pub due_at: Option<Timestamp>,
    pub is_what_if: bool,
    pub reason: Option<&'a str>,
    pub spec: &'a serde_json::Value,
}

/// Queues a run; false if one for the same scheduled time exists.
pub(crate) async fn enqueue(
    tx: &mut DatabaseTransaction,
    run: &NewTrainingRun<'_>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let queued = sqlx::query!(
        "insert into training_run
             (workspace_id, run_id, status, trigger, due_at, what_if, reason, spec, requested_at)
         values ($1, $2, 'queued', $3, $4, $5, $6, $7, $8)
         on conflict (workspace_id, due_at) do nothing",
        tx.workspace_id(),
        run.run_id.as_str(),
        run.trigger,
        run.due_at.map(to_sql),
        run.is_what_if,
        run.reason,
        run.spec,
        to_sql(now),
    )
    .execute(&mut *tx.inner)
    .await?
    .rows_affected();
    tx.notify_replicas(ChangeTopic::TrainingRuns).await?;
    Ok(queued == 1)
}

/// Prefix of the trigger of runs requested with an API key.
pub(crate) const KEY_TRIGGER: &str = access::KEY_AUTHOR_PREFIX;

/// Unfinished runs requested with API keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestedRuns {
    pub all: i64,
    /// Those of one key.
    pub own: i64,
}

/// Counts unfinished requested runs. Locks the count until the transaction ends, so that
/// two requests cannot both take the last slot.
pub(crate) async fn count_requested(
    tx: &mut DatabaseTransaction,
    trigger: &str,
) -> Result<RequestedRuns, StoreError> {
    sqlx::query!(
        r#"select pg_advisory_xact_lock(hashtextextended('segmentd training queue', 0)) as "locked!: ()""#
    )
    .execute(&mut *tx.inner)
    .await?;
    let counted = sqlx::query_as!(
        RequestedRuns,
        r#"select count(*) as "all!", count(*) filter (where trigger = $1) as "own!"
           from training_run
           where workspace_id = $3 and status in ('queued', 'running')
                 and starts_with(trigger, $2)"#,
        trigger,
        KEY_TRIGGER,
        tx.workspace_id(),
    )
    .fetch_one(&mut *tx.inner)
    .await?;
    Ok(counted)
}

/// Claims the next run: scheduled and automatic ones before those requested with keys, then
/// the oldest. The caller has the training lease, so a run that is still `running` lost its
/// replica: it restarts before any other.
pub(crate) async fn claim(
    tx: &mut DatabaseTransaction,
    now: Timestamp,
) -> Result<Option<TrainingRunRow>, StoreError> {
    let row = sqlx::query_as!(
        RawRun,
        "update training_run set status = 'running', started_at = $1, stage = 'starting',
                stage_since = null, done = 0, total = 0
         where workspace_id = $3
           and run_id = (select run_id from training_run
                         where workspace_id = $3 and status in ('queued', 'running')
                         order by status = 'queued', starts_with(trigger, $2), requested_at,
                                  run_id
                         limit 1)
         returning run_id, status, trigger, what_if, reason, spec, stage, stage_since, done,
                   total, model_id, report, error, requested_at, started_at, finished_at",
        to_sql(now),
        KEY_TRIGGER,
        tx.workspace_id(),
    )
    .fetch_optional(&mut *tx.inner)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// How far a training run has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunProgress<'a> {
    pub stage: &'a str,
    pub done: i64,
    pub total: i64,
}

/// Records the progress of a run; false if the run was cancelled and must stop.
pub(crate) async fn record_progress(
    tx: &mut DatabaseTransaction,
    run: &RunId,
    progress: RunProgress<'_>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let noted = sqlx::query!(
        "update training_run
         set stage = $2, done = $3, total = $4,
             stage_since = case when stage = $2 then coalesce(stage_since, $5) else $5 end
         where workspace_id = $6 and run_id = $1 and status = 'running'",
        run.as_str(),
        progress.stage,
        progress.done,
        progress.total,
        to_sql(now),
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?
    .rows_affected();
    Ok(noted == 1)
}

/// False if the run was cancelled: then its results must not be stored.
pub(crate) async fn mark_succeeded(
    tx: &mut DatabaseTransaction,
    run: &RunId,
    model: &ModelId,
    report: &serde_json::Value,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let ended = sqlx::query!(
        "update training_run set status = 'succeeded', stage = 'finished', done = total,
                model_id = $2, report = $3, finished_at = $4
         where workspace_id = $5 and run_id = $1 and status <> 'cancelled'",
        run.as_str(),
        model.as_str(),
        report,
        to_sql(now),
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?
    .rows_affected();
    Ok(ended == 1)
}

/// False if the run was cancelled before it failed.
pub(crate) async fn mark_failed(
    tx: &mut DatabaseTransaction,
    run: &RunId,
    error: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let ended = sqlx::query!(
        "update training_run set status = 'failed', error = $2, finished_at = $3
         where workspace_id = $4 and run_id = $1 and status <> 'cancelled'",
        run.as_str(),
        error,
        to_sql(now),
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?
    .rows_affected();
    Ok(ended == 1)
}

/// Cancels a run; false if no unfinished run has this id. A running one learns it with its
/// next progress report.
pub(crate) async fn cancel(
    tx: &mut DatabaseTransaction,
    run: &RunId,
    why: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let cancelled = sqlx::query!(
        "update training_run set status = 'cancelled', error = $2, finished_at = $3
         where workspace_id = $4 and run_id = $1 and status in ('queued', 'running')",
        run.as_str(),
        why,
        to_sql(now),
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?
    .rows_affected();
    Ok(cancelled == 1)
}

pub async fn find(
    db: &ReadOnlyDatabase,
    run: &RunId,
) -> Result<Option<TrainingRunRow>, StoreError> {
    let row = sqlx::query_as!(
        RawRun,
        "select run_id, status, trigger, what_if, reason, spec, stage, stage_since, done,
                total, model_id, report, error, requested_at, started_at, finished_at
         from training_run where workspace_id = $1 and run_id = $2",
        db.workspace_id(),
        run.as_str()
    )
    .fetch_optional(&db.pool)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// The back-test of a training run.
#[derive(Debug)]
pub(crate) struct RunBacktest {
    pub run_id: RunId,
    /// `None`: the run has none.
    pub backtest: Option<serde_json::Value>,
}

/// The back-test of the newest finished run that is no what-if run; `None` without such a run, and
/// if that is `known`.
pub(crate) async fn find_newest_backtest(
    db: &ReadOnlyDatabase,
    known: Option<&RunId>,
) -> Result<Option<RunBacktest>, StoreError> {
    let row = sqlx::query!(
        r#"select run_id, report -> 'backtest' as backtest
           from (select run_id, report from training_run
                 where workspace_id = $1 and status = 'succeeded' and not what_if
                 order by finished_at desc limit 1) as newest
           where run_id is distinct from $2"#,
        db.workspace_id(),
        known.map(RunId::as_str),
    )
    .fetch_optional(&db.pool)
    .await?;
    row.map(|row| Ok(RunBacktest { run_id: run_id(row.run_id)?, backtest: row.backtest }))
        .transpose()
}

/// Runs without their reports (null), newest first.
pub(crate) async fn list_page(
    db: &ReadOnlyDatabase,
    page: &InstantPage,
) -> Result<Vec<TrainingRunRow>, StoreError> {
    let (requested_at, after_id) = page.after.as_ref().map(|(at, id)| (to_sql(*at), &**id)).unzip();
    let rows = sqlx::query_as!(
        RawRun,
        "select run_id, status, trigger, what_if, reason, spec, stage, stage_since, done,
                total, model_id, null::jsonb as report, error, requested_at, started_at,
                finished_at
         from training_run
         where workspace_id = $1
             and ($2::timestamptz is null or (requested_at, run_id) < ($2, $3))
         order by requested_at desc, run_id desc limit $4",
        db.workspace_id(),
        requested_at,
        after_id,
        page.limit,
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// The first runs with an id that begins with `prefix`.
pub(crate) async fn list_ids_by_prefix(
    db: &ReadOnlyDatabase,
    prefix: &str,
    limit: i64,
) -> Result<Vec<RunId>, StoreError> {
    let ids = sqlx::query_scalar!(
        "select run_id from training_run where workspace_id = $1 and starts_with(run_id, $2)
         order by run_id limit $3",
        db.workspace_id(),
        prefix,
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    ids.into_iter().map(run_id).collect()
}

fn run_id(text: String) -> Result<RunId, StoreError> {
    RunId::try_from(text)
        .map_err(|why| StoreError::Corrupt { what: "run id", why: why.to_string() })
}

struct RawRun {
    run_id: String,
    status: String,
    trigger: String,
    what_if: bool,
    reason: Option<String>,
    spec: serde_json::Value,
    stage: String,
    stage_since: Option<chrono::DateTime<chrono::Utc>>,
    done: i64,
    total: i64,
    model_id: Option<String>,
    report: Option<serde_json::Value>,
    error: Option<String>,
    requested_at: chrono::DateTime<chrono::Utc>,
    started_at: Option<chrono::DateTime<chrono::Utc>>,
    finished_at: Option<chrono::DateTime<chrono::Utc>>,
}

impl TryFrom<RawRun> for TrainingRunRow {
    type Error = StoreError;

    fn try_from(raw: RawRun) -> Result<Self, StoreError> {
        Ok(Self {
            run_id: run_id(raw.run_id)?,
            status: raw.status,
            trigger: raw.trigger,
            is_what_if: raw.what_if,
            reason: raw.reason,
            spec: raw.spec,
            stage: raw.stage,
            stage_since: raw.stage_since.map(from_sql),
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
