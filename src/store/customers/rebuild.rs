//! Data to rebuild and verify states: pages of a customer's events, and random samples of
//! customers, from one snapshot.

use sqlx::{PgConnection, Postgres, Transaction};

use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::domain::workspace::WorkspaceId;
use crate::store::customers::events::StoredEvent;
use crate::store::customers::{self, StoredState};
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, to_sql};

/// Events per page. Few enough to fold without delaying other tasks, enough for most
/// customers.
const PAGE: u16 = 500;

/// A transaction to read from.
pub trait SnapshotReader: Send {
    fn connection(&mut self) -> &mut PgConnection;

    fn workspace(&self) -> WorkspaceId;
}

/// For states about to be written: their customers' rows are locked.
impl SnapshotReader for DatabaseTransaction {
    fn connection(&mut self) -> &mut PgConnection {
        &mut self.inner
    }

    fn workspace(&self) -> WorkspaceId {
        self.workspace
    }
}

/// A repeatable-read snapshot: a state and its events are both visible or both not,
/// whatever other transactions commit.
#[derive(Debug)]
pub struct StateSnapshot {
    workspace: WorkspaceId,
    tx: Transaction<'static, Postgres>,
}

impl SnapshotReader for StateSnapshot {
    fn connection(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    fn workspace(&self) -> WorkspaceId {
        self.workspace
    }
}

/// Filter of events.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventCutoff {
    /// Events that happened up to this time; `None`: all.
    pub happened_by: Option<Timestamp>,
    /// Events that arrived up to this time; `None`: all.
    pub received_by: Option<Timestamp>,
}

/// Pages of one customer's events, id by id, each in the order of the primary key. States do
/// not depend on the order of events, so no index by time is needed.
#[derive(Debug)]
pub struct EventPages {
    /// Ids with unread events; the last one is being read.
    ids: Vec<CustomerKey>,
    known: EventCutoff,
    /// The last one read: its message id and sender.
    after: Option<EventPosition>,
}

/// Events of one id.
#[derive(Debug)]
pub struct EventPage {
    /// The id as sent, which may have been merged into another one.
    pub customer: CustomerKey,
    /// At least one.
    pub events: Vec<StoredEvent>,
}

/// An event among those of its customer.
#[derive(Debug)]
struct EventPosition {
    message_id: String,
    sender: String,
}

impl EventPages {
    /// Events under all ids of a customer.
    pub async fn open(
        reader: &mut impl SnapshotReader,
        customer: &CustomerKey,
        known: EventCutoff,
    ) -> Result<Self, StoreError> {
        let merged = sqlx::query_scalar!(
            "select customer_id from customer where workspace_id = $1 and merged_into = $2",
            reader.workspace().number(),
            customer.as_str(),
        )
        .fetch_all(reader.connection())
        .await?;
        let mut ids: Vec<CustomerKey> =
            merged.into_iter().map(customers::customer_key).collect::<Result<_, _>>()?;
        ids.push(customer.clone());
        Ok(Self { ids, known, after: None })
    }

    /// The next page; `None` at the end.
    pub async fn next_page(
        &mut self,
        reader: &mut impl SnapshotReader,
    ) -> Result<Option<EventPage>, StoreError> {
        while let Some(id) = self.ids.last().cloned() {
            let events = self.page(reader, &id).await?;
            self.after = events.last().map(|last| EventPosition {
                message_id: last.message_id.clone(),
                sender: last.sender.clone(),
            });
            if events.len() < usize::from(PAGE) {
                self.ids.pop();
                self.after = None;
            }
            if !events.is_empty() {
                return Ok(Some(EventPage { customer: id, events }));
            }
        }
        Ok(None)
    }

    async fn page(
        &self,
        reader: &mut impl SnapshotReader,
        id: &CustomerKey,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        // The order is that of the primary key: a page of a long history costs the same as any
        // other. No message id is empty.
        let (message_id, sender) = match &self.after {
            Some(after) => (after.message_id.as_str(), after.sender.as_str()),
            None => ("", ""),
        };
        Ok(sqlx::query_as!(
            StoredEvent,
            r#"select message_id, sender, kind, name, occurred_at, received_at,
                      properties::text as "properties!"
               from event
               where workspace_id = $1 and customer_id = $2 and (message_id, sender) > ($3, $4)
                 and occurred_at <= coalesce($5, 'infinity'::timestamptz)
                 and received_at <= coalesce($6, 'infinity'::timestamptz)
               order by message_id, sender limit $7"#,
            reader.workspace().number(),
            id.as_str(),
            message_id,
            sender,
            self.known.happened_by.map(to_sql),
            self.known.received_by.map(to_sql),
            i64::from(PAGE),
        )
        .fetch_all(reader.connection())
        .await?)
    }
}

impl StateSnapshot {
    pub async fn open(db: &ReadOnlyDatabase) -> Result<Self, StoreError> {
        let tx =
            db.long_reads.begin_with("begin isolation level repeatable read, read only").await?;
        Ok(Self { workspace: db.workspace, tx })
    }

    /// Up to `count` random customers. Reads about `count` blocks, whatever the size of the
    /// table.
    pub(crate) async fn sample_states(
        &mut self,
        count: i64,
    ) -> Result<Vec<StoredState>, StoreError> {
        let Some(share) = self.share_of("customer", count).await? else { return Ok(Vec::new()) };
        let rows = sqlx::query!(
            "select customer_id, state from customer tablesample system ($1)
             where workspace_id = $3 and merged_into is null order by random() limit $2",
            share,
            count,
            self.workspace.number(),
        )
        .fetch_all(&mut *self.tx)
        .await?;
        rows.into_iter().map(|row| customers::stored_state(row.customer_id, row.state)).collect()
    }

    /// The number of customers in a sample of at most `count` events, and those among them
    /// without a state.
    pub(crate) async fn sample_stateless(
        &mut self,
        count: i64,
    ) -> Result<(u64, Vec<CustomerKey>), StoreError> {
        let Some(share) = self.share_of("event", count).await? else { return Ok((0, Vec::new())) };
        let rows = sqlx::query!(
            r#"select sample.customer_id as "customer_id!", customer.customer_id is not null as "has_state!"
               from (select distinct customer_id
                     from (select customer_id from event tablesample system ($1)
                           where workspace_id = $3 order by random() limit $2) as picked) as sample
                    left join customer
                         on customer.workspace_id = $3 and customer.customer_id = sample.customer_id"#,
            share,
            count,
            self.workspace.number(),
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let found = rows.len() as u64;
        let stateless = rows.into_iter().filter(|row| !row.has_state);
        let stateless = stateless.map(|row| customers::customer_key(row.customer_id));
        Ok((found, stateless.collect::<Result<_, _>>()?))
    }

    /// The percentage of a table's blocks that equals about `blocks`; `None` for an empty
    /// table.
    async fn share_of(&mut self, table: &str, blocks: i64) -> Result<Option<f32>, StoreError> {
        Ok(sqlx::query_scalar!(
            "select least(100, 100 * $2::bigint::float8
                               / nullif(pg_relation_size($1::text::regclass)
                                        / current_setting('block_size')::bigint, 0))::real",
            table,
            blocks,
        )
        .fetch_one(&mut *self.tx)
        .await?)
    }
}
