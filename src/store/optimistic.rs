//! Intake without locks: customers are read with their versions, and what became
//! of them is written in one statement, all of it or, if anybody else has written
//! one of them or one of the events meanwhile, none.
//!
//! The statement is a transaction of its own, so two round trips do what takes
//! four with locks. Optimistic concurrency control: Kung and Robinson (1981), *On
//! optimistic methods for concurrency control*.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use crate::domain::event::Properties;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::assignments::{self, Held, NewChange};
use crate::store::customers::{self, NewRow, customer_key};
use crate::store::events::{self, Arrived};
use crate::store::{Db, ReadDb, StoreError, from_sql, to_sql};

/// A customer's row as it was read.
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

/// Which writing of a row was read: the transaction that wrote it (`xmin`).
/// Postgres compares such a number with an integer of the same 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(i32);

/// The rows of those customers that have one.
pub async fn read(
    db: &ReadDb,
    customers: &[&CustomerKey],
) -> Result<HashMap<CustomerKey, Seen>, StoreError> {
    let ids: Vec<&str> = customers.iter().map(|customer| customer.as_str()).collect();
    let rows = sqlx::query!(
        r#"select customer_id, state, generation, fallback, segment, moved_at, recheck_at,
                  merged_into is not null as "is_merged!", xmin::text::bigint as "version!"
           from customer where customer_id = any($1)"#,
        &ids as &[&str],
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let version = u32::try_from(row.version).map_err(|why| StoreError::Corrupt {
                what: "transaction number",
                why: why.to_string(),
            })?;
            let seen = Seen {
                version: Version(version.cast_signed()),
                state: row.state,
                held: Held::of(row.generation, row.fallback, row.segment, row.moved_at),
                recheck_at: row.recheck_at.map(from_sql),
                is_merged: row.is_merged,
            };
            Ok((customer_key(row.customer_id)?, seen))
        })
        .collect()
}

/// What became of the customers of some events.
#[derive(Debug)]
pub struct Written<'a> {
    /// Sorted by message id; none of them is there yet.
    pub events: &'a [&'a Arrived],
    /// Sorted by customer.
    pub rows: Vec<NewRow<'a>>,
    /// Of each row as it was read; `None`: there was none.
    pub versions: Vec<Option<Version>>,
    /// Of some of the customers.
    pub changes: Vec<NewChange<'a>>,
}

/// Commits together: the new events, the states they change, where their
/// customers stand, and the history of who moved. It may not be on disk yet when
/// this returns ([`Db::flush`]). Lost, with nothing done, when an event was there
/// before or a row is not what was read.
pub async fn write(db: &Db, written: &Written<'_>, now: Timestamp) -> Result<(), StoreError> {
    let events = events::Columns::of(written.events);
    let rows = customers::Columns::of(&written.rows);
    let versions: Vec<Option<i32>> = written.versions.iter().map(|v| v.map(|v| v.0)).collect();
    let changes = assignments::Columns::of(&written.changes);
    // The events are in before the first customer is waited for: one order for
    // everyone, so that two of these do not wait in a circle.
    sqlx::query_scalar!(
        r#"with inserted as (
               insert into event (message_id, customer_id, kind, name, occurred_at, received_at,
                                  properties)
               select * from unnest($1::text[], $2::text[], $3::text[], $4::text[],
                                    $5::timestamptz[], $6::timestamptz[], $7::jsonb[])
               returning 1
           ), new as (
               select * from unnest($8::text[], $9::bytea[], $10::timestamptz[], $11::bigint[],
                   $12::boolean[], $13::text[], $14::real[], $15::double precision[],
                   $16::real[], $17::boolean[], $18::boolean[], $19::timestamptz[],
                   $20::timestamptz[], $21::timestamptz[], $22::integer[])
               as new (customer_id, state, last_event_at, generation, fallback, segment, distance,
                       p_value, confidence, outlier, held, assigned_at, moved_at, recheck_at,
                       version)
               where (select count(*) from inserted) = cardinality($1)
           ), updated as (
               update customer set
                   state = new.state, last_event_at = new.last_event_at,
                   generation = new.generation, fallback = new.fallback, segment = new.segment,
                   distance = new.distance, p_value = new.p_value, confidence = new.confidence,
                   outlier = new.outlier, held = new.held, assigned_at = new.assigned_at,
                   moved_at = new.moved_at, recheck_at = new.recheck_at, updated_at = $23
               from new
               where customer.customer_id = new.customer_id and customer.xmin = new.version
               returning 1
           ), added as (
               insert into customer (customer_id, state, last_event_at, generation, fallback,
                                     segment, distance, p_value, confidence, outlier, held,
                                     assigned_at, moved_at, recheck_at, updated_at)
               select customer_id, state, last_event_at, generation, fallback, segment, distance,
                      p_value, confidence, outlier, held, assigned_at, moved_at, recheck_at, $23
               from new where version is null
               on conflict (customer_id) do nothing
               returning 1
           ), told as (
               insert into assignment_history
                   (customer_id, assigned_at, generation, fallback, segment, distance, outlier,
                    previous_generation, previous_fallback, previous_segment)
               select * from unnest($24::text[], $25::timestamptz[], $26::bigint[],
                   $27::boolean[], $28::text[], $29::real[], $30::boolean[], $31::bigint[],
                   $32::boolean[], $33::text[])
           )
           select all_or_none(
               (select count(*) from updated) + (select count(*) from added) = cardinality($8)
           ) as "done!""#,
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
    )
    .fetch_one(&db.deferred)
    .await
    .map_err(|error| match error.into() {
        // Looking first whether a key is there would cost every event a search.
        StoreError::Conflict { constraint } => StoreError::Lost(format!("{constraint} is there")),
        other => other,
    })?;
    Ok(())
}
