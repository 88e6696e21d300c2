//! The changes of assignment and audiences of one customer, by page.

use crate::domain::id::{CustomerKey, ModelId};
use crate::domain::model::NamedSegment;
use crate::domain::time::Timestamp;
use crate::store::customers::assignments::named_segment;
use crate::store::{ReadOnlyDatabase, StoreError, from_sql, model_id, to_sql};

/// One history entry of a customer.
#[derive(Debug, Clone)]
pub struct HistoryEntry {
    /// Number of the change, unique in the workspace.
    pub change: i64,
    pub model: Option<ModelId>,
    pub segment: NamedSegment,
    pub distance: Option<f32>,
    pub outlier: bool,
    pub generation: i64,
    pub assigned_at: Timestamp,
    /// Names of the audiences that the customer entered.
    pub audiences_entered: Vec<String>,
    /// Names of the audiences that the customer left.
    pub audiences_left: Vec<String>,
}

/// Sort key of a history: the instant and the number of a change.
pub type HistoryKey = (Timestamp, i64);

/// A page of the history of a customer.
#[derive(Debug)]
pub struct HistoryPage {
    /// The last change of the previous page.
    pub after: Option<HistoryKey>,
    pub limit: i64,
}

/// The changes of one customer on a page, newest first.
pub async fn list_history(
    db: &ReadOnlyDatabase,
    customer: &CustomerKey,
    page: &HistoryPage,
) -> Result<Vec<HistoryEntry>, StoreError> {
    let (assigned_at, change) = page.after.map(|(at, change)| (to_sql(at), change)).unzip();
    let rows = sqlx::query!(
        r#"select case when fallback then null else active_model_id end as model_id,
                  segment_id, name as "name?", distance, outlier, generation, assigned_at, change,
                  case when audiences_entered is null then '{}' else array(
                      select audience.name from latest_audience as audience
                      where audience.workspace_id = $1 and audience_id = any(audiences_entered)
                      order by audience.name) end as "audiences_entered!",
                  case when audiences_left is null then '{}' else array(
                      select audience.name from latest_audience as audience
                      where audience.workspace_id = $1 and audience_id = any(audiences_left)
                      order by audience.name) end as "audiences_left!"
           from assignment_history left join deployment using (workspace_id, generation)
                left join deployed_segment using (workspace_id, generation, segment_id)
           where workspace_id = $1 and customer_id = $2
                 and ($3::timestamptz is null or (assigned_at, change) < ($3, $4))
           order by assigned_at desc, change desc limit $5"#,
        db.workspace_id(),
        customer.as_str(),
        assigned_at,
        change,
        page.limit,
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(HistoryEntry {
                change: row.change,
                model: row.model_id.map(model_id).transpose()?,
                segment: named_segment(row.segment_id, row.name),
                distance: row.distance,
                outlier: row.outlier,
                generation: row.generation,
                assigned_at: from_sql(row.assigned_at),
                audiences_entered: row.audiences_entered,
                audiences_left: row.audiences_left,
            })
        })
        .collect()
}
