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
use crate::store::customers::assignments::{
    ChangeColumns, NewAssignmentChange, PreviousAssignment,
};
use crate::store::customers::events::{EventColumns, ReceivedEvent};
use crate::store::customers::{CustomerColumns, NewCustomerRow, customer_key};
use crate::store::{DedicatedDatabase, StoreError, from_sql, to_sql};

/// Constraint that aborts a statement which could not write all its rows.
const ALL_OR_NONE: &str = "written_by_nobody_else";

/// A customer's row as last read or written.
#[derive(Debug)]
pub struct CustomerSnapshot {
    pub version: RowVersion,
    pub state: Vec<u8>,
    pub previous: Option<PreviousAssignment>,
    /// Scheduled time of the next rescoring.
    pub rescore_at: Option<Timestamp>,
    /// The row is a marker (`store::identity`): the customer has another canonical id.
    pub is_merged: bool,
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
    let read = sqlx::query!(
        r#"select customer_id, state, generation, fallback, segment, moved_at, recheck_at,
                  merged_into is not null as "is_merged!", xmin::text::bigint as "version!",
                  pg_postmaster_start_time() as "server!"
           from customer where customer_id = any($1)"#,
        &ids as &[&str],
    );
    let rows = db.run_statement(async |connection| read.fetch_all(connection).await).await?;
    rows.into_iter()
        .map(|row| {
            let seen = CustomerSnapshot {
                version: RowVersion::new(row.version, row.server)?,
                state: row.state,
                previous: PreviousAssignment::from_columns(
                    row.generation,
                    row.fallback,
                    row.segment,
                    row.moved_at,
                ),
                rescore_at: row.recheck_at.map(from_sql),
                is_merged: row.is_merged,
            };
            Ok((customer_key(row.customer_id)?, seen))
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
pub struct CommitWrite<'a> {
    /// Sorted by id; none is stored yet.
    pub events: &'a [&'a ReceivedEvent],
    /// Sorted by customer.
    pub rows: Vec<NewCustomerRow<'a>>,
    /// The known version of each row; `None` for a new customer.
    pub versions: Vec<Option<RowVersion>>,
    /// History entries of the changed customers.
    pub changes: Vec<NewAssignmentChange<'a>>,
}

/// Commits together: the new events, the states they change, the customers' assignments,
/// and the history of changes. Returns the version of every row. On failure nothing is
/// written: `Conflict` if an event is a duplicate (a prior check would cost every event an
/// index search), `Lost` if a row has another version.
pub async fn commit_batch(
    db: &DedicatedDatabase,
    written: &CommitWrite<'_>,
    now: Timestamp,
) -> Result<RowVersion, StoreError> {
    let events = EventColumns::from_events(written.events);
    let rows = CustomerColumns::from_rows(&written.rows);
    let versions = transactions(&written.versions);
    let changes = ChangeColumns::from_changes(&written.changes);
    // The events are inserted before the first customer row is locked: one lock order, so
    // no deadlock.
    let write = sqlx::query!(
        r#"with inserted as (
               insert into event (message_id, customer_id, kind, name, occurred_at, received_at,
                                  properties, sender)
               select unnest($1::text[]), unnest($2::text[]), unnest($3::text[]),
                      unnest($4::text[]), unnest($5::timestamptz[]), unnest($6::timestamptz[]),
                      unnest($7::jsonb[]), unnest($35::text[]) returning 1
           ), new as (
               select unnest($8::text[]) as customer_id, unnest($9::bytea[]) as state,
                      unnest($10::timestamptz[]) as last_event_at,
                      unnest($11::bigint[]) as generation, unnest($12::boolean[]) as fallback,
                      unnest($13::text[]) as segment, unnest($14::real[]) as distance,
                      unnest($15::double precision[]) as p_value,
                      unnest($16::real[]) as confidence, unnest($17::boolean[]) as outlier,
                      unnest($18::boolean[]) as held, unnest($19::timestamptz[]) as assigned_at,
                      unnest($20::timestamptz[]) as moved_at,
                      unnest($21::timestamptz[]) as recheck_at, unnest($22::integer[]) as version,
                      unnest($36::text[]) as introduction
               where (select count(*) from inserted) = cardinality($1)
           ), updated as (
               update customer set
                   state = new.state, last_event_at = new.last_event_at,
                   generation = new.generation, fallback = new.fallback, segment = new.segment,
                   distance = new.distance, p_value = new.p_value, confidence = new.confidence,
                   outlier = new.outlier, held = new.held, assigned_at = new.assigned_at,
                   moved_at = new.moved_at, recheck_at = new.recheck_at, updated_at = $23,
                   introduced_by = case when new.introduction = '' then null else introduced_by end
               from new where customer.customer_id = new.customer_id and customer.xmin = new.version
               returning 1
           ), added as (
               insert into customer (customer_id, state, last_event_at, generation, fallback,
                                     segment, distance, p_value, confidence, outlier, held,
                                     assigned_at, moved_at, recheck_at, updated_at, introduced_by)
               select customer_id, state, last_event_at, generation, fallback, segment, distance,
                      p_value, confidence, outlier, held, assigned_at, moved_at, recheck_at, $23,
                      nullif(introduction, '')
               from new where version is null
               on conflict (customer_id) do nothing
               returning 1
           ), told as (
               insert into assignment_history
                   (customer_id, assigned_at, generation, fallback, segment, distance, outlier,
                    previous_generation, previous_fallback, previous_segment)
               select unnest($24::text[]), unnest($25::timestamptz[]), unnest($26::bigint[]),
                      unnest($27::boolean[]), unnest($28::text[]), unnest($29::real[]),
                      unnest($30::boolean[]), unnest($31::bigint[]), unnest($32::boolean[]),
                      unnest($33::text[])
           )
           select (
               (select count(*) from updated) + (select count(*) from added) = cardinality($8)
               and coalesce(pg_postmaster_start_time() = $34, true)
           )::all_or_none::boolean as "done!",
           pg_current_xact_id()::xid::text::bigint as "transaction!",
           pg_postmaster_start_time() as "server!""#,
        &events.ids as &[&str],
        &events.customers as &[&str],
        &events.kinds as &[&str],
        &events.names as &[&str],
        &events.times,
        &events.received,
        &events.properties as &[Json<&Properties>],
        &rows.customers as &[&str],
        &rows.states as &[Option<&[u8]>],
        &rows.last_event_at as &[Option<DateTime<Utc>>],
        &rows.generations,
        &rows.fallbacks,
        &rows.segments as &[&str],
        &rows.distances as &[Option<f32>],
        &rows.p_values as &[Option<f64>],
        &rows.confidences as &[Option<f32>],
        &rows.outliers,
        &rows.held,
        &rows.assigned_at,
        &rows.moved_at as &[Option<DateTime<Utc>>],
        &rows.recheck_at as &[Option<DateTime<Utc>>],
        &versions as &[Option<i32>],
        to_sql(now),
        &changes.customers as &[&str],
        &changes.times,
        &changes.generations,
        &changes.fallbacks,
        &changes.segments as &[&str],
        &changes.distances as &[Option<f32>],
        &changes.outliers,
        &changes.old_generations as &[Option<i64>],
        &changes.old_fallbacks as &[Option<bool>],
        &changes.old_segments as &[Option<&str>],
        common_server(&written.versions)?,
        &events.senders as &[&str],
        &rows.introductions as &[Option<&str>],
    );
    let row = db.run_statement(async |c| write.fetch_one(c).await.map_err(lost_race)).await?;
    RowVersion::new(row.transaction, row.server)
}
