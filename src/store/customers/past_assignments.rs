//! All customers with their present assignments, and the changes of assignments since an
//! instant: from both follows the assignment of each customer at that instant.

use futures_util::{Stream, TryStreamExt};
use sqlx::{Postgres, Transaction};

use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::domain::train::backtest::{AssignedSegment, AssignmentChange, PastDeployments};
use crate::domain::workspace::WorkspaceId;
use crate::store::customers::{StoredState, customer_key, stored_state};
use crate::store::{ReadOnlyDatabase, StoreError, from_sql, model_id, to_sql};

/// A stored state, with the assignment if that is by a model.
#[derive(Debug)]
pub(crate) struct AssignedState {
    pub stored: StoredState,
    pub assigned: Option<AssignedSegment>,
}

/// Every state in one snapshot with its assignment, by customer id in byte order.
pub(crate) fn stream_assigned_states(
    db: &ReadOnlyDatabase,
) -> impl Stream<Item = Result<AssignedState, StoreError>> + '_ {
    sqlx::query!(
        "select customer_id, state, case when not fallback then generation end as generation,
                segment_id
         from customer where workspace_id = $1 and merged_into is null
         order by customer_id",
        db.workspace_id(),
    )
    .fetch(&db.long_reads)
    .map_err(StoreError::from)
    .and_then(|row| async move {
        Ok(AssignedState {
            stored: stored_state(row.customer_id, row.state)?,
            assigned: assigned_segment(row.generation, row.segment_id),
        })
    })
}

/// A change of the assignment of a customer.
#[derive(Debug)]
pub(crate) struct CustomerChange {
    pub customer: CustomerKey,
    pub change: AssignmentChange,
}

/// The changes of all customers after `since`, by customer id in byte order, then in the order
/// in which they happened. One pass over the months since then in the order of the index by
/// customer: about 12 s for a million customers with three changes each. Meanwhile retention
/// cannot drop a month, and tries again later.
pub(crate) fn stream_changes(
    db: &ReadOnlyDatabase,
    since: Timestamp,
) -> impl Stream<Item = Result<CustomerChange, StoreError>> + '_ {
    sqlx::query!(
        "select customer_id, assigned_at,
                case when not previous_fallback then previous_generation end as generation,
                previous_segment_id
         from assignment_history
         where workspace_id = $1 and assigned_at > $2 and not audiences_only
         order by customer_id, assigned_at, transaction, change",
        db.workspace_id(),
        to_sql(since),
    )
    .fetch(&db.long_reads)
    .map_err(StoreError::from)
    .and_then(|row| async move {
        let before = assigned_segment(row.generation, row.previous_segment_id);
        Ok(CustomerChange {
            customer: customer_key(row.customer_id)?,
            change: AssignmentChange { changed_at: from_sql(row.assigned_at), before },
        })
    })
}

/// A stored state with its assignment, and the changes of that since an instant.
#[derive(Debug)]
pub(crate) struct StateWithChanges {
    pub state: AssignedState,
    /// In order of time.
    pub changes: Vec<AssignmentChange>,
}

/// All customers in one repeatable-read snapshot, in pages by customer id. It occupies a connection, but
/// no result is pending between pages, so the reader may pause.
#[derive(Debug)]
pub(crate) struct StatePages {
    workspace: WorkspaceId,
    tx: Transaction<'static, Postgres>,
    since: Timestamp,
    /// The last customer read.
    after: String,
}

impl StatePages {
    /// `since`: the instant after which changes of assignments are read.
    pub(crate) async fn open(db: &ReadOnlyDatabase, since: Timestamp) -> Result<Self, StoreError> {
        let tx =
            db.long_reads.begin_with("begin isolation level repeatable read, read only").await?;
        Ok(Self { workspace: db.workspace, tx, since, after: String::new() })
    }

    /// The next page; `None` at the end.
    pub(crate) async fn next_page(&mut self) -> Result<Option<Vec<StateWithChanges>>, StoreError> {
        // The limit is a literal, so that the planner chooses the primary key. Merged rows are
        // filtered here, so that each page reads a bounded number of rows.
        let rows = sqlx::query!(
            r#"select customer_id, state, merged_into is not null as "is_merged!",
                      case when not fallback then generation end as generation, segment_id
               from customer where workspace_id = $1 and customer_id > $2
               order by customer_id limit 1000"#,
            self.workspace.number(),
            self.after,
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let last = last.customer_id.clone();
        let mut changes = self.changes_until(&last).await?.into_iter().peekable();
        let mut page = Vec::with_capacity(rows.len());
        for row in rows {
            let mut own = Vec::new();
            let is_own = |change: &CustomerChange| change.customer.as_str() <= &*row.customer_id;
            while let Some(change) = changes.next_if(is_own) {
                // Changes of a customer without a row are skipped.
                if change.customer.as_str() == row.customer_id {
                    own.push(change.change);
                }
            }
            if row.is_merged {
                continue;
            }
            let state = AssignedState {
                stored: stored_state(row.customer_id, row.state)?,
                assigned: assigned_segment(row.generation, row.segment_id),
            };
            page.push(StateWithChanges { state, changes: own });
        }
        self.after = last;
        Ok(Some(page))
    }

    /// The changes of the customers behind the last page, up to the id `last`.
    async fn changes_until(&mut self, last: &str) -> Result<Vec<CustomerChange>, StoreError> {
        let rows = sqlx::query!(
            "select customer_id, assigned_at,
                    case when not previous_fallback then previous_generation end as generation,
                    previous_segment_id
             from assignment_history
             where workspace_id = $1 and customer_id > $2 and customer_id <= $3 and assigned_at > $4
                   and not audiences_only
             order by customer_id, assigned_at, transaction, change",
            self.workspace.number(),
            self.after,
            last,
            to_sql(self.since),
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let mut changes = Vec::with_capacity(rows.len());
        for row in rows {
            let before = assigned_segment(row.generation, row.previous_segment_id);
            changes.push(CustomerChange {
                customer: customer_key(row.customer_id)?,
                change: AssignmentChange { changed_at: from_sql(row.assigned_at), before },
            });
        }
        Ok(changes)
    }
}

fn assigned_segment(
    generation: Option<i64>,
    segment_id: Option<String>,
) -> Option<AssignedSegment> {
    Some(AssignedSegment { generation: generation?, segment_id: segment_id?.into() })
}

/// The models of past deployments and the names of their segments, and the end of the last month
/// that retention has dropped.
pub(crate) async fn read_past_deployments(
    db: &ReadOnlyDatabase,
    generations: &[i64],
) -> Result<PastDeployments, StoreError> {
    let mut deployed = PastDeployments::default();
    let models = sqlx::query!(
        r#"select generation, active_model_id as "model_id!" from deployment
           where workspace_id = $1 and generation = any($2) and active_model_id is not null"#,
        db.workspace_id(),
        generations,
    );
    for row in models.fetch_all(&db.long_reads).await? {
        deployed.models.insert(row.generation, model_id(row.model_id)?);
    }
    let segments = sqlx::query!(
        r#"select generation as "generation!", segment_id as "segment_id!", name as "name!"
           from deployed_segment where workspace_id = $1 and generation = any($2)"#,
        db.workspace_id(),
        generations,
    );
    for row in segments.fetch_all(&db.long_reads).await? {
        deployed.names.insert((row.generation, row.segment_id.into()), row.name.into());
    }
    let deleted = sqlx::query_scalar!(
        r#"select max(to_date(month, 'YYYY_MM') + interval '1 month') at time zone 'UTC'
           from history_dropped where workspace_id = $1"#,
        db.workspace_id(),
    );
    deployed.changes_deleted_before = deleted.fetch_one(&db.long_reads).await?.map(from_sql);
    Ok(deployed)
}
