//! Experiments: definitions by version, exposures, and outcomes from stored events.

pub mod exposures;
pub mod outcomes;

use sqlx::types::Json;

use crate::domain::experiment::spec::{ExperimentSpec, ExperimentStatus};
use crate::domain::time::Timestamp;
use crate::domain::workspace::WorkspaceId;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// One version of an experiment.
#[derive(Debug, Clone)]
pub(crate) struct ExperimentVersion {
    /// Number of the change among those of all experiments.
    pub version: i64,
    pub experiment_id: i32,
    pub key: String,
    pub status: ExperimentStatus,
    pub description: Option<String>,
    pub owner: Option<String>,
    pub spec: ExperimentSpec,
    /// Why the results are shown although the sample ratio is mismatched.
    pub mismatch_override: Option<String>,
    pub started_at: Option<Timestamp>,
    pub stopped_at: Option<Timestamp>,
    pub changed_at: Timestamp,
    pub changed_by: String,
    pub reason: String,
}

/// A new version of an experiment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewExperimentVersion<'a> {
    pub key: &'a str,
    pub status: ExperimentStatus,
    pub description: Option<&'a str>,
    pub owner: Option<&'a str>,
    pub spec: &'a ExperimentSpec,
    pub mismatch_override: Option<&'a str>,
    pub started_at: Option<Timestamp>,
    pub stopped_at: Option<Timestamp>,
    pub changed_at: Timestamp,
    pub changed_by: &'a str,
    pub reason: &'a str,
}

/// Number of the latest change of any experiment; 0 before the first.
pub(crate) async fn newest_version(db: &ReadOnlyDatabase) -> Result<i64, StoreError> {
    let newest = sqlx::query_scalar!(
        r#"select coalesce(max(version), 0) as "version!" from experiment where workspace_id = $1"#,
        db.workspace_id(),
    );
    Ok(newest.fetch_one(&db.pool).await?)
}

/// The newest version of each experiment, by key.
pub(crate) async fn list_in_force(
    db: &ReadOnlyDatabase,
) -> Result<Vec<ExperimentVersion>, StoreError> {
    select_in_force(&db.pool, db.workspace).await
}

/// Like [`list_in_force`], locked against other changes until this transaction ends.
pub(crate) async fn lock_in_force(
    tx: &mut DatabaseTransaction,
) -> Result<Vec<ExperimentVersion>, StoreError> {
    sqlx::query!("lock table experiment in share row exclusive mode")
        .execute(&mut *tx.inner)
        .await?;
    select_in_force(&mut *tx.inner, tx.workspace).await
}

async fn select_in_force(
    executor: impl sqlx::PgExecutor<'_>,
    workspace: WorkspaceId,
) -> Result<Vec<ExperimentVersion>, StoreError> {
    let rows = sqlx::query_as!(
        StoredVersion,
        r#"select version as "version!", experiment_id as "experiment_id!", key as "key!",
                  status as "status!", description, owner,
                  spec as "spec!: Json<ExperimentSpec>", mismatch_override, started_at, stopped_at,
                  changed_at as "changed_at!", changed_by as "changed_by!", reason as "reason!"
           from latest_experiment where workspace_id = $1 order by key"#,
        workspace.number(),
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Versions of one experiment before the version `before`, newest first.
pub(crate) async fn list_versions(
    db: &ReadOnlyDatabase,
    key: &str,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<ExperimentVersion>, StoreError> {
    let rows = sqlx::query_as!(
        StoredVersion,
        r#"select version, experiment_id, key, status, description, owner,
                  spec as "spec: Json<ExperimentSpec>", mismatch_override, started_at, stopped_at,
                  changed_at, changed_by, reason
           from experiment
           where workspace_id = $1 and key = $2 and ($3::bigint is null or version < $3)
           order by version desc limit $4"#,
        db.workspace_id(),
        key,
        before,
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Inserts a version. A key that no experiment has had gets the next free id.
pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    new: NewExperimentVersion<'_>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into experiment
             (workspace_id, experiment_id, key, status, description, owner, spec,
              mismatch_override, started_at, stopped_at, changed_at, changed_by, reason)
         values ($1, coalesce((select experiment_id from experiment
                               where workspace_id = $1 and key = $2 limit 1),
                              (select coalesce(max(experiment_id), 0) + 1 from experiment
                               where workspace_id = $1)),
                 $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        tx.workspace_id(),
        new.key,
        new.status.as_str(),
        new.description,
        new.owner,
        Json(new.spec) as _,
        new.mismatch_override,
        new.started_at.map(to_sql),
        new.stopped_at.map(to_sql),
        to_sql(new.changed_at),
        new.changed_by,
        new.reason,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

struct StoredVersion {
    version: i64,
    experiment_id: i32,
    key: String,
    status: String,
    description: Option<String>,
    owner: Option<String>,
    spec: Json<ExperimentSpec>,
    mismatch_override: Option<String>,
    started_at: Option<chrono::DateTime<chrono::Utc>>,
    stopped_at: Option<chrono::DateTime<chrono::Utc>>,
    changed_at: chrono::DateTime<chrono::Utc>,
    changed_by: String,
    reason: String,
}

impl TryFrom<StoredVersion> for ExperimentVersion {
    type Error = StoreError;

    fn try_from(row: StoredVersion) -> Result<Self, StoreError> {
        let status = ExperimentStatus::parse(&row.status).ok_or_else(|| StoreError::Corrupt {
            what: "status of an experiment",
            why: row.status.clone(),
        })?;
        Ok(Self {
            version: row.version,
            experiment_id: row.experiment_id,
            key: row.key,
            status,
            description: row.description,
            owner: row.owner,
            spec: row.spec.0,
            mismatch_override: row.mismatch_override,
            started_at: row.started_at.map(from_sql),
            stopped_at: row.stopped_at.map(from_sql),
            changed_at: from_sql(row.changed_at),
            changed_by: row.changed_by,
            reason: row.reason,
        })
    }
}
