//! Optimistic concurrency control for ingestion: one statement writes a batch if every row
//! still has its known version, else nothing.
//!
//! The statement is a transaction of its own. A commit thus takes two round trips instead
//! of four with locks, or one if every customer is cached. Source: Kung and Robinson
//! (1981), *On optimistic methods for concurrency control*.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use crate::domain::event::Properties;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::customers::assignments::{ChangeColumns, NewAssignmentChange};
use crate::store::customers::columns::{
    CustomerColumns, CustomerRow, customer_query, customer_row, with_customer_columns,
};
use crate::store::customers::events::{EventColumns, ReceivedEvent};
use crate::store::customers::{NewCustomerRow, customer_key};
use crate::store::{DedicatedDatabase, StoreError, to_sql};

/// Constraint that aborts a statement which could not write all its rows.
const ALL_OR_NONE: &str = "written_by_nobody_else";

/// A customer's row as last read or written.
#[derive(Debug)]
pub struct CustomerSnapshot {
    pub version: RowVersion,
    pub row: CustomerRow,
}

/// The version of a row. Postgres reuses transaction numbers after 2^32 transactions, and also
/// numbers lost in a crash or failover. The server start time distinguishes these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowVersion {
    /// The transaction that wrote the row (`xmin`). As `integer`, because Postgres compares
    /// it with an integer of the same 32 bits.
    transaction: i32,
    /// Start time of the server that reported the transaction.
    server: DateTime<Utc>,
}

impl RowVersion {
    fn new(transaction: i64, server: DateTime<Utc>) -> Result<Self, StoreError> {
        let transaction = u32::try_from(transaction).map_err(|why| StoreError::Corrupt {
            what: "transaction number",
            why: why.to_string(),
        })?;
        Ok(Self { transaction: transaction.cast_signed(), server })
    }
}

/// The existing rows of these customers.
pub async fn read(
    db: &DedicatedDatabase,
    customers: &[&CustomerKey],
) -> Result<HashMap<CustomerKey, CustomerSnapshot>, StoreError> {
    let ids: Vec<&str> = customers.iter().map(|customer| customer.as_str()).collect();
    let read = customer_query!(
        r#"select customer_id, xmin::text::bigint as "version!",
                  pg_postmaster_start_time() as "server!", state, "#
            + columns
            + " from customer where workspace_id = $1 and customer_id = any($2)",
        db.workspace_id(),
        &ids as &[&str],
    );
    let rows = db.run_statement(async |connection| read.fetch_all(connection).await).await?;
    rows.into_iter()
        .map(|record| {
            let version = RowVersion::new(record.version, record.server)?;
            let row = customer_row!(record, record.state);
            Ok((customer_key(record.customer_id)?, CustomerSnapshot { version, row }))
        })
        .collect()
}

/// The common server of all versions; `None` if no row is known. Fails if they differ.
fn common_server(versions: &[Option<RowVersion>]) -> Result<Option<DateTime<Utc>>, StoreError> {
    let mut servers = versions.iter().flatten().map(|version| version.server);
    let first = servers.next();
    if servers.any(|server| Some(server) != first) {
        return Err(StoreError::Lost("rows are known from different servers".into()));
    }
    Ok(first)
}

fn transactions(versions: &[Option<RowVersion>]) -> Vec<Option<i32>> {
    versions.iter().map(|version| version.map(|version| version.transaction)).collect()
}

/// Maps the violated constraint to a lost race.
fn lost_race(error: sqlx::Error) -> StoreError {
    match error.into() {
        StoreError::Conflict { constraint } if constraint == ALL_OR_NONE => {
            StoreError::Lost("a customer was written by another transaction".into())
        }
        error => error,
    }
}

/// The writes of one batch: events, and their customers' rows and changes.
#[derive(Debug)]
pub(crate) struct CommitWrite<'a> {
    /// Sorted by id; none is stored yet.
    pub events: &'a [&'a ReceivedEvent],
    /// Sorted by customer.
    pub rows: Vec<NewCustomerRow<'a>>,
    /// The known version of each row; `None` for a new customer.
    pub versions: Vec<Option<RowVersion>>,
    /// History entries of the changed customers.
    pub changes: Vec<NewAssignmentChange<'a>>,
}

/// The statement of `write`. Its parameters are those of the customer columns ($1 to $19), the
/// workspace, then its own: a new column shifts them.
macro_rules! commit_statement {
    ({
        $workspace:ident, $events:ident, $rows:ident, $versions:ident, $changes:ident, $now:ident,
        $server:ident
    }
    $({
        $field:ident: $element:ty = $value:expr, bind($($bind:tt)*), $name:literal, $array:literal,
        insert $insert:literal, update $update:literal, empty $empty:literal
    })+) => {
        // The events are inserted before the first customer row is locked: one lock order, so
        // no deadlock.
        sqlx::query!(
            "with inserted as (
                 insert into event (workspace_id, customer_id, message_id, sender, kind, name,
                                    occurred_at, received_at, content_hash, properties)
                 select $20::integer, unnest($21::text[]), unnest($22::text[]),
                        unnest($23::text[]), unnest($24::text[]), unnest($25::text[]),
                        unnest($26::timestamptz[]), unnest($27::timestamptz[]),
                        unnest($28::bytea[]), unnest($29::jsonb[])
                 returning 1
             ), new as (
                 select unnest($1::text[]) as customer_id"
            $(+ ", unnest(" + $array + ") as " + $name)+
            + ", unnest($30::integer[]) as version
                 where (select count(*) from inserted) = cardinality($21)
             ), updated as (
                 update customer set updated_at = $2" $(+ ", " + $name + " = " + $update)+
            + " from new where customer.workspace_id = $20
                     and customer.customer_id = new.customer_id
                     and customer.xmin = new.version
                 returning 1
             ), added as (
                 insert into customer (workspace_id, customer_id, updated_at" $(+ ", " + $name)+
            + ") select $20, new.customer_id, $2" $(+ ", " + $insert)+
            + r#" from new where version is null
                 on conflict (workspace_id, customer_id) do nothing
                 returning 1
             ), recorded as (
                 insert into assignment_history
                     (workspace_id, customer_id, assigned_at, generation, fallback, segment_id,
                      distance, outlier, previous_generation, previous_fallback,
                      previous_segment_id, audiences_entered, audiences_left, audiences_only)
                 select $20, unnest($31::text[]), unnest($32::timestamptz[]),
                        unnest($33::bigint[]), unnest($34::boolean[]), unnest($35::text[]),
                        unnest($36::real[]), unnest($37::boolean[]), unnest($38::bigint[]),
                        unnest($39::boolean[]), unnest($40::text[]),
                        unnest($42::text[])::integer[], unnest($43::text[])::integer[],
                        unnest($44::boolean[])
             )
             select (
                 (select count(*) from updated) + (select count(*) from added) = cardinality($1)
                 and coalesce(pg_postmaster_start_time() = $41, true)
             )::all_or_none::boolean as "done!",
             pg_current_xact_id()::xid::text::bigint as "transaction!",
             pg_postmaster_start_time() as "server!""#,
            &$rows.customers as &[&str],
            to_sql($now),
            $(&$rows.$field $($bind)*,)+
            $workspace,
            &$events.customers as &[&str],
            &$events.ids as &[&str],
            &$events.senders as &[&str],
            &$events.kinds as &[&str],
            &$events.names as &[&str],
            &$events.times,
            &$events.received,
            &$events.contents as &[&[u8]],
            &$events.properties as &[Json<&Properties>],
            &$versions as &[Option<i32>],
            &$changes.customers as &[&str],
            &$changes.times,
            &$changes.generations,
            &$changes.fallbacks,
            &$changes.segments as &[&str],
            &$changes.distances as &[Option<f32>],
            &$changes.outliers,
            &$changes.old_generations as &[Option<i64>],
            &$changes.old_fallbacks as &[Option<bool>],
            &$changes.old_segments as &[Option<&str>],
            $server,
            &$changes.entered as &[Option<String>],
            &$changes.left as &[Option<String>],
            &$changes.audiences_only,
        )
    };
}

/// Commits together: the new events, the states they change, the customers' assignments,
/// and the history of changes. Returns the version of every row. On failure nothing is
/// written: `Conflict` if an event is a duplicate (a prior check would cost every event an
/// index search), `Lost` if a row has another version.
pub(crate) async fn commit_batch(
    db: &DedicatedDatabase,
    written: &CommitWrite<'_>,
    now: Timestamp,
) -> Result<RowVersion, StoreError> {
    let events = EventColumns::from_events(written.events);
    let rows = CustomerColumns::from_rows(&written.rows);
    let versions = transactions(&written.versions);
    let changes = ChangeColumns::from_changes(&written.changes);
    let server = common_server(&written.versions)?;
    let workspace = db.workspace_id();
    let write = with_customer_columns!(commit_statement! {
        workspace, events, rows, versions, changes, now, server
    });
    let row = db.run_statement(async |c| write.fetch_one(c).await.map_err(lost_race)).await?;
    RowVersion::new(row.transaction, row.server)
}
