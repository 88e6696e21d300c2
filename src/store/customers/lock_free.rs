//! Intake without locks: customers are known with their versions, and what became
//! of them is written in one statement, all of it or, if anybody else has written
//! one of them or one of the events meanwhile, none.
//!
//! The statement is a transaction of its own, so two round trips do what takes
//! four with locks, or one where nobody has to be read. Optimistic concurrency
//! control: Kung and Robinson (1981), *On optimistic methods for concurrency
//! control*.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use crate::domain::event::Properties;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::customers::assignments::{Held, NewChange};
use crate::store::customers::events::Arrived;
use crate::store::customers::{self, NewRow, assignments, customer_key, events};
use crate::store::{DedicatedDb, StoreError, from_sql, to_sql};

/// The rule that takes back a statement that could not write all its rows.
const ALL_OR_NONE: &str = "written_by_nobody_else";

/// A customer's row as it was read or written.
#[derive(Debug)]
pub struct Seen {
    pub version: Version,
    pub state: Vec<u8>,
    pub held: Option<Held>,
    /// When it was to be looked at again.
    pub recheck_at: Option<Timestamp>,
    /// The row is a marker (`store::identity`): the customer is kept elsewhere.
    pub is_merged: bool,
}

/// Which writing of a row it is. Postgres uses the numbers of transactions again:
/// after four thousand million of them, and those that a crash or a failover has
/// lost. So the server is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The transaction that wrote the row (`xmin`). Postgres compares such a
    /// number with an integer of the same 32 bits.
    transaction: i32,
    /// When the server was started that knows of it.
    server: DateTime<Utc>,
}

impl Version {
    fn of(transaction: i64, server: DateTime<Utc>) -> Result<Self, StoreError> {
        let transaction = u32::try_from(transaction).map_err(|why| StoreError::Corrupt {
            what: "transaction number",
            why: why.to_string(),
        })?;
        Ok(Self { transaction: transaction.cast_signed(), server })
    }
}

/// The rows of those customers that have one.
pub async fn read(
    db: &DedicatedDb,
    customers: &[&CustomerKey],
) -> Result<HashMap<CustomerKey, Seen>, StoreError> {
    let ids: Vec<&str> = customers.iter().map(|customer| customer.as_str()).collect();
    let read = sqlx::query!(
        r#"select customer_id, state, generation, fallback, segment, moved_at, recheck_at,
                  merged_into is not null as "is_merged!", xmin::text::bigint as "version!",
                  pg_postmaster_start_time() as "server!"
           from customer where customer_id = any($1)"#,
        &ids as &[&str],
    );
    let rows = db.carry_out(async |connection| read.fetch_all(connection).await).await?;
    rows.into_iter()
        .map(|row| {
            let seen = Seen {
                version: Version::of(row.version, row.server)?,
                state: row.state,
                held: Held::of(row.generation, row.fallback, row.segment, row.moved_at),
                recheck_at: row.recheck_at.map(from_sql),
                is_merged: row.is_merged,
            };
            Ok((customer_key(row.customer_id)?, seen))
        })
        .collect()
}

/// Which all of them know from; `None` where no row is known.
fn the_server(versions: &[Option<Version>]) -> Result<Option<DateTime<Utc>>, StoreError> {
    let mut servers = versions.iter().flatten().map(|version| version.server);
    let first = servers.next();
    if servers.any(|server| Some(server) != first) {
        return Err(StoreError::Lost("rows are known from different servers".into()));
    }
    Ok(first)
}

fn transactions(versions: &[Option<Version>]) -> Vec<Option<i32>> {
    versions.iter().map(|version| version.map(|version| version.transaction)).collect()
}

/// What to make of an error: that not all rows could be written is a lost race.
fn lost_race(error: sqlx::Error) -> StoreError {
    match error.into() {
        StoreError::Conflict { constraint } if constraint == ALL_OR_NONE => {
            StoreError::Lost("a customer was written by another transaction".into())
        }
        error => error,
    }
}

/// What became of the customers of some events.
#[derive(Debug)]
pub struct Written<'a> {
    /// Sorted by id; none of them is there yet.
    pub events: &'a [&'a Arrived],
    /// Sorted by customer.
    pub rows: Vec<NewRow<'a>>,
    /// Of each row as it is known; `None`: there is none.
    pub versions: Vec<Option<Version>>,
    /// Of some of the customers.
    pub changes: Vec<NewChange<'a>>,
}

/// Commits together: the new events, the states they change, where their
/// customers stand, and the history of who moved. Returns the version of every row.
/// With nothing done: in conflict when an event was there before (to look first would
/// cost every event a search), lost when a row is not what it was known to be.
pub async fn write(
    db: &DedicatedDb,
    written: &Written<'_>,
    now: Timestamp,
) -> Result<Version, StoreError> {
    let events = events::Columns::of(written.events);
    let rows = customers::Columns::of(&written.rows);
    let versions = transactions(&written.versions);
    let changes = assignments::Columns::of(&written.changes);
    // The events are in before the first customer is waited for: one order for
    // everyone, so that two of these do not wait in a circle.
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
        the_server(&written.versions)?,
        &events.senders as &[&str],
        &rows.introductions as &[Option<&str>],
    );
    let by = db.carry_out(async |connection| write.fetch_one(connection).await.map_err(lost_race));
    let by = by.await?;
    Version::of(by.transaction, by.server)
}
