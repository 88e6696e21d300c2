//! Personas of segments, by version.

use crate::domain::persona::{NamedStandout, Persona};
use crate::domain::time::Timestamp;
use crate::domain::workspace::WorkspaceId;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// One version of the persona of a segment.
#[derive(Debug, Clone)]
pub(crate) struct PersonaVersion {
    /// Number of the change among those of all segments.
    pub version: i64,
    pub segment_id: String,
    pub persona: Persona,
    /// The standout features of the segment at this change.
    pub standouts: Vec<NamedStandout>,
    pub changed_at: Timestamp,
    pub changed_by: String,
    pub reason: String,
}

/// A new version of a persona.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewPersonaVersion<'a> {
    pub segment_id: &'a str,
    pub persona: &'a Persona,
    pub standouts: &'a [NamedStandout],
    pub changed_at: Timestamp,
    pub changed_by: &'a str,
    pub reason: &'a str,
}

/// Number of the latest change of any persona; 0 before the first.
pub(crate) async fn newest_version(db: &ReadOnlyDatabase) -> Result<i64, StoreError> {
    let newest = sqlx::query_scalar!(
        r#"select coalesce(max(version), 0) as "version!" from persona where workspace_id = $1"#,
        db.workspace_id(),
    );
    Ok(newest.fetch_one(&db.pool).await?)
}

/// The newest version for each segment with a persona.
pub(crate) async fn list_in_force(
    db: &ReadOnlyDatabase,
) -> Result<Vec<PersonaVersion>, StoreError> {
    select_in_force(&db.pool, db.workspace).await
}

/// Like [`list_in_force`], locked against other changes until this transaction ends.
pub(crate) async fn lock_in_force(
    tx: &mut DatabaseTransaction,
) -> Result<Vec<PersonaVersion>, StoreError> {
    sqlx::query!("lock table persona in share row exclusive mode").execute(&mut *tx.inner).await?;
    select_in_force(&mut *tx.inner, tx.workspace).await
}

async fn select_in_force(
    executor: impl sqlx::PgExecutor<'_>,
    workspace: WorkspaceId,
) -> Result<Vec<PersonaVersion>, StoreError> {
    let rows = sqlx::query_as!(
        StoredVersion,
        r#"select version as "version!", segment_id as "segment_id!", document as "document!",
                  standouts as "standouts!", changed_at as "changed_at!",
                  changed_by as "changed_by!", reason as "reason!"
           from current_persona where workspace_id = $1 order by segment_id"#,
        workspace.number(),
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Versions of one segment before the version `before`, newest first.
pub(crate) async fn list_versions(
    db: &ReadOnlyDatabase,
    segment_id: &str,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<PersonaVersion>, StoreError> {
    let rows = sqlx::query_as!(
        StoredVersion,
        "select version, segment_id, document, standouts, changed_at, changed_by, reason
         from persona
         where workspace_id = $1 and segment_id = $2 and ($3::bigint is null or version < $3)
         order by version desc limit $4",
        db.workspace_id(),
        segment_id,
        before,
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    new: NewPersonaVersion<'_>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into persona
             (workspace_id, segment_id, name, document, standouts, changed_at, changed_by, reason)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        tx.workspace_id(),
        new.segment_id,
        new.persona.name,
        sqlx::types::Json(new.persona) as _,
        sqlx::types::Json(new.standouts) as _,
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
    segment_id: String,
    document: serde_json::Value,
    standouts: serde_json::Value,
    changed_at: chrono::DateTime<chrono::Utc>,
    changed_by: String,
    reason: String,
}

impl TryFrom<StoredVersion> for PersonaVersion {
    type Error = StoreError;

    fn try_from(row: StoredVersion) -> Result<Self, StoreError> {
        Ok(Self {
            version: row.version,
            segment_id: row.segment_id,
            persona: parse("persona", row.document)?,
            standouts: parse("standouts of a segment", row.standouts)?,
            changed_at: from_sql(row.changed_at),
            changed_by: row.changed_by,
            reason: row.reason,
        })
    }
}

fn parse<T: serde::de::DeserializeOwned>(
    what: &'static str,
    document: serde_json::Value,
) -> Result<T, StoreError> {
    serde_json::from_value(document)
        .map_err(|why| StoreError::Corrupt { what, why: why.to_string() })
}
