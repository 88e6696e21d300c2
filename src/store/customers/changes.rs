//! Change feed of assignments and audiences: pages in one stable order.

use crate::domain::id::ModelId;
use crate::domain::model::NamedSegment;
use crate::domain::time::Timestamp;
use crate::store::customers::assignments::named_segment;
use crate::store::{ReadOnlyDatabase, StoreError, from_sql, model_id};

/// A cursor of the feed: just after one change, or just before a transaction. `transaction`
/// includes the offset of its epoch (`store::database::epoch`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedPosition {
    pub transaction: u64,
    pub change: i64,
}

/// One change, and the cursor just after it.
#[derive(Debug, Clone)]
pub struct AssignmentChange {
    pub position: FeedPosition,
    pub customer: String,
    pub now: ChangeSide,
    /// `None` for the customer's first assignment.
    pub before: Option<ChangeSide>,
    pub distance: Option<f32>,
    pub outlier: bool,
    pub generation: i64,
    pub changed_at: Timestamp,
    /// The surviving id, if the customer was merged into another.
    pub merged_into: Option<String>,
    /// Names of the audiences that the customer entered.
    pub audiences_entered: Vec<String>,
    /// Names of the audiences that the customer left.
    pub audiences_left: Vec<String>,
}

/// The assignment before or after a change.
#[derive(Debug, Clone)]
pub struct ChangeSide {
    pub segment: NamedSegment,
    pub model: Option<ModelId>,
    pub fallback: bool,
}

/// Bounds of the feed at one instant.
#[derive(Debug, Clone, Copy)]
pub struct FeedBounds {
    /// The oldest running transaction: every earlier change is visible, and no earlier one
    /// can appear any more.
    pub end: FeedPosition,
    /// The last change that retention deleted.
    pub dropped: Option<FeedPosition>,
}

pub async fn read_bounds(db: &ReadOnlyDatabase) -> Result<FeedBounds, StoreError> {
    let row = sqlx::query!(
        r#"select (pg_snapshot_xmin(pg_current_snapshot())::text::bigint
                   + change_offset())::text as "end!",
                  dropped.transaction::text as "transaction?", dropped.change as "change?"
           from (select) as always left join lateral (
               select transaction, change from history_dropped
               where workspace_id = $1 order by transaction desc, change desc limit 1) as dropped on true"#,
        db.workspace_id(),
    )
    .fetch_one(&db.pool)
    .await?;
    let dropped = match (row.transaction, row.change) {
        (Some(transaction), Some(change)) => {
            Some(FeedPosition { transaction: parse_transaction(&transaction)?, change })
        }
        _ => None,
    };
    Ok(FeedBounds {
        end: FeedPosition { transaction: parse_transaction(&row.end)?, change: 0 },
        dropped,
    })
}

/// Changes after `after` and before `end`, oldest first.
pub async fn read_page(
    db: &ReadOnlyDatabase,
    after: FeedPosition,
    end: FeedPosition,
    limit: i64,
) -> Result<Vec<AssignmentChange>, StoreError> {
    let rows = sqlx::query!(
        r#"select customer_id, assigned_at, history.generation, fallback, history.segment_id,
                  present_segment.name as "name?", distance, outlier, previous_fallback,
                  previous_segment_id, earlier_segment.name as "previous_name?", merged_into,
                  transaction::text as "transaction!", change,
                  case when fallback then null else present.active_model_id end as model_id,
                  case when previous_fallback then null
                       else earlier.active_model_id end as previous_model_id,
                  case when audiences_entered is null then '{}' else array(
                      select audience.name from latest_audience as audience
                      where audience.workspace_id = $5 and audience_id = any(audiences_entered)
                      order by audience.name) end as "audiences_entered!",
                  case when audiences_left is null then '{}' else array(
                      select audience.name from latest_audience as audience
                      where audience.workspace_id = $5 and audience_id = any(audiences_left)
                      order by audience.name) end as "audiences_left!"
           from (select * from assignment_history
                 where workspace_id = $5 and (transaction, change) > ($1::text::xid8, $2)
                   and transaction < $3::text::xid8
                 order by transaction, change limit $4) as history
                left join deployment as present
                     on present.workspace_id = $5 and present.generation = history.generation
                left join deployment as earlier
                     on earlier.workspace_id = $5 and earlier.generation = previous_generation
                left join deployed_segment as present_segment
                     on present_segment.workspace_id = $5
                        and present_segment.generation = history.generation
                        and present_segment.segment_id = history.segment_id
                left join deployed_segment as earlier_segment
                     on earlier_segment.workspace_id = $5
                        and earlier_segment.generation = previous_generation
                        and earlier_segment.segment_id = previous_segment_id
           order by transaction, change"#,
        after.transaction.to_string(),
        after.change,
        end.transaction.to_string(),
        limit,
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let before = match (row.previous_segment_id, row.previous_fallback) {
                (Some(segment_id), Some(fallback)) => {
                    let segment = named_segment(segment_id, row.previous_name);
                    let model = row.previous_model_id.map(model_id).transpose()?;
                    Some(ChangeSide { segment, model, fallback })
                }
                _ => None,
            };
            Ok(AssignmentChange {
                position: FeedPosition {
                    transaction: parse_transaction(&row.transaction)?,
                    change: row.change,
                },
                customer: row.customer_id,
                now: ChangeSide {
                    segment: named_segment(row.segment_id, row.name),
                    model: row.model_id.map(model_id).transpose()?,
                    fallback: row.fallback,
                },
                before,
                distance: row.distance,
                outlier: row.outlier,
                generation: row.generation,
                changed_at: from_sql(row.assigned_at),
                merged_into: row.merged_into,
                audiences_entered: row.audiences_entered,
                audiences_left: row.audiences_left,
            })
        })
        .collect()
}

/// The newest visible change; the start of the feed if there is none.
pub(crate) async fn newest_position(db: &ReadOnlyDatabase) -> Result<FeedPosition, StoreError> {
    let row = sqlx::query!(
        r#"select transaction::text as "transaction!", change from assignment_history
           where workspace_id = $1
             and transaction < (pg_snapshot_xmin(pg_current_snapshot())::text::bigint
                                + change_offset())::text::xid8
           order by transaction desc, change desc limit 1"#,
        db.workspace_id(),
    )
    .fetch_optional(&db.pool)
    .await?;
    row.map_or(Ok(FeedPosition::default()), |row| {
        Ok(FeedPosition { transaction: parse_transaction(&row.transaction)?, change: row.change })
    })
}

pub(in crate::store) fn parse_transaction(text: &str) -> Result<u64, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt {
        what: "transaction number",
        why: format!("`{text}` is not a number"),
    })
}
