//! Lists of models: page by page, and by the beginning of an id.

use crate::domain::id::ModelId;
use crate::domain::time::Timestamp;
use crate::store::models::{ModelRow, RawModel};
use crate::store::{ReadOnlyDatabase, StoreError, model_id, to_sql};

/// A page of a list that is ordered by an instant, newest first, then by id.
#[derive(Debug, Clone)]
pub(crate) struct InstantPage {
    /// Sort key of the last row on the previous page.
    pub(crate) after: Option<(Timestamp, String)>,
    pub(crate) limit: i64,
}

/// Models without their reports (null), newest first.
pub(crate) async fn list_page(
    db: &ReadOnlyDatabase,
    page: &InstantPage,
) -> Result<Vec<ModelRow>, StoreError> {
    let (created_at, after_id) = page.after.as_ref().map(|(at, id)| (to_sql(*at), &**id)).unzip();
    let rows = sqlx::query_as!(
        RawModel,
        r#"select model_id, feature_set_id, stage, run_id, 'null'::jsonb as "report!", created_at
           from model
           where workspace_id = $1
               and ($2::timestamptz is null or (created_at, model_id) < ($2, $3))
           order by created_at desc, model_id desc limit $4"#,
        db.workspace_id(),
        created_at,
        after_id,
        page.limit,
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// The first models with an id that begins with `prefix`.
pub(crate) async fn list_ids_by_prefix(
    db: &ReadOnlyDatabase,
    prefix: &str,
    limit: i64,
) -> Result<Vec<ModelId>, StoreError> {
    let ids = sqlx::query_scalar!(
        "select model_id from model where workspace_id = $1 and starts_with(model_id, $2)
         order by model_id limit $3",
        db.workspace_id(),
        prefix,
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    ids.into_iter().map(model_id).collect()
}
