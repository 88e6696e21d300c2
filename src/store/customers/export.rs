//! Export of all current assignments: pages from one snapshot.

use sqlx::{Postgres, Transaction};

use crate::domain::model::NamedSegment;
use crate::domain::time::Timestamp;
use crate::domain::workspace::WorkspaceId;
use crate::store::customers::assignments::named_segment;
use crate::store::{ReadOnlyDatabase, StoreError, from_sql};

/// The assignment of one customer. Its fields, except the state, become columns of the export.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExportedAssignment {
    pub customer_id: String,
    pub segment: NamedSegment,
    pub model_id: Option<String>,
    pub fallback: bool,
    pub generation: i64,
    pub distance: Option<f32>,
    pub p_value: Option<f64>,
    pub confidence: Option<f32>,
    pub outlier: bool,
    pub assigned_at: Timestamp,
    pub last_event_at: Option<Timestamp>,
    /// Ids of the customer's audiences.
    pub audiences: Vec<i32>,
    /// Only the feature set can decode it.
    pub state: Vec<u8>,
}

/// A repeatable-read snapshot of the first page's instant, read by customer id. It occupies a
/// connection, but no result is pending between pages: an abandoned export leaves no rows to
/// drain.
#[derive(Debug)]
pub(crate) struct AssignmentSnapshot {
    workspace: WorkspaceId,
    tx: Transaction<'static, Postgres>,
    /// The last customer read.
    after: String,
    segment_id: Option<String>,
}

impl AssignmentSnapshot {
    /// All customers, or those in one segment.
    pub(crate) async fn open(
        db: &ReadOnlyDatabase,
        segment_id: Option<String>,
    ) -> Result<Self, StoreError> {
        let tx =
            db.long_reads.begin_with("begin isolation level repeatable read, read only").await?;
        Ok(Self { workspace: db.workspace, tx, after: String::new(), segment_id })
    }

    /// The next page, possibly without a row; `None` at the end.
    pub(crate) async fn next_page(
        &mut self,
    ) -> Result<Option<Vec<ExportedAssignment>>, StoreError> {
        // The limit is a literal, so that the planner chooses the primary key. The segment
        // is filtered here, so that a page costs the same for every segment.
        let rows = sqlx::query!(
            r#"select customer_id, segment_id as "segment_id!", name as "name?", fallback as "fallback!",
                      generation as "generation!", distance, p_value, confidence,
                      outlier as "outlier!", assigned_at as "assigned_at!", last_event_at, state, audiences,
                      case when fallback then null else active_model_id end as model_id
               from (select * from customer
                     where workspace_id = $2 and customer_id > $1 and generation is not null
                     order by customer_id limit 1000) as page
                    left join deployment using (workspace_id, generation)
                    left join deployed_segment using (workspace_id, generation, segment_id)
               order by customer_id"#,
            self.after,
            self.workspace.number(),
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let Some(last) = rows.last() else { return Ok(None) };
        self.after.clone_from(&last.customer_id);
        let mut page = Vec::with_capacity(rows.len());
        for row in rows {
            if self.segment_id.as_ref().is_some_and(|only| *only != row.segment_id) {
                continue;
            }
            page.push(ExportedAssignment {
                customer_id: row.customer_id,
                segment: named_segment(row.segment_id, row.name),
                model_id: row.model_id,
                fallback: row.fallback,
                generation: row.generation,
                distance: row.distance,
                p_value: row.p_value,
                confidence: row.confidence,
                outlier: row.outlier,
                assigned_at: from_sql(row.assigned_at),
                last_event_at: row.last_event_at.map(from_sql),
                audiences: row.audiences.unwrap_or_default(),
                state: row.state,
            });
        }
        Ok(Some(page))
    }
}
