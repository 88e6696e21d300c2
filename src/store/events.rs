//! Accepted events: each once, by its message id.

use futures_util::TryStreamExt;
use sqlx::PgExecutor;
use sqlx::types::Json;

use crate::domain::event::{Event, EventKind, Properties};
use crate::domain::id::{CustomerKey, MessageId};
use crate::domain::time::Timestamp;
use crate::store::assignments::Held;
use crate::store::customers::customer_key;
use crate::store::{ReadDb, StoreError, Tx, from_sql, to_sql};

/// An event, and when it came.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub event: Event,
    pub received_at: Timestamp,
}

/// A customer with new events.
#[derive(Debug, Clone)]
pub struct Addressed {
    pub customer: CustomerKey,
    /// Ids of its new events.
    pub message_ids: Vec<String>,
    /// Of its row, now locked; `None`: a customer never seen before.
    pub state: Option<Vec<u8>>,
    /// `None` until first assigned.
    pub held: Option<Held>,
    /// When it was to be looked at again.
    pub recheck_at: Option<Timestamp>,
}

/// Inserts events not there yet, then locks their customers, in one round trip.
/// Ids are taken in order first, then customers in order, so that two
/// transactions never wait for each other: `events` must be sorted by message
/// id; what comes back is sorted by customer.
pub async fn insert_and_lock(
    tx: &mut Tx,
    arrived: &[&Arrived],
) -> Result<Vec<Addressed>, StoreError> {
    let events = arrived.iter().map(|arrived| &arrived.event);
    debug_assert!(events.clone().is_sorted_by(|a, b| a.message_id < b.message_id));
    let ids: Vec<&str> = events.clone().map(|e| e.message_id.as_str()).collect();
    let customers: Vec<&str> = events.clone().map(|e| e.customer.as_str()).collect();
    let kinds: Vec<&str> = events.clone().map(|e| e.kind.as_str()).collect();
    let names: Vec<&str> = events.clone().map(|e| &*e.name).collect();
    let times: Vec<_> = events.clone().map(|e| to_sql(e.timestamp)).collect();
    let properties: Vec<_> = events.map(|e| Json(&e.properties)).collect();
    let received: Vec<_> = arrived.iter().map(|arrived| to_sql(arrived.received_at)).collect();
    // Byte order, as Rust sorts: the database's own collation may differ.
    let rows = sqlx::query!(
        r#"with inserted as (
               insert into event (message_id, customer_id, kind, name, occurred_at, received_at,
                                  properties)
               select * from unnest($1::text[], $2::text[], $3::text[], $4::text[],
                                    $5::timestamptz[], $6::timestamptz[], $7::jsonb[])
               on conflict (message_id) do nothing
               returning customer_id, message_id
           ), fresh as (
               select customer_id, array_agg(message_id) as message_ids
               from inserted group by customer_id
           ), locked as (
               select customer_id, state, generation, fallback, segment, recheck_at
               from customer
               where customer_id = any(array(select customer_id from fresh))
               order by customer_id collate "C" for update
           )
           select fresh.customer_id as "customer_id!", fresh.message_ids as "message_ids!",
                  locked.state as "state?", locked.generation as "generation?",
                  locked.fallback as "fallback?", locked.segment as "segment?",
                  locked.recheck_at as "recheck_at?"
           from fresh left join locked on locked.customer_id = fresh.customer_id
           order by fresh.customer_id collate "C""#,
        &ids as &[&str],
        &customers as &[&str],
        &kinds as &[&str],
        &names as &[&str],
        &times,
        &received,
        &properties as &[Json<&Properties>],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Addressed {
                customer: customer_key(row.customer_id)?,
                message_ids: row.message_ids,
                state: row.state,
                held: Held::of(row.generation, row.fallback, row.segment),
                recheck_at: row.recheck_at.map(from_sql),
            })
        })
        .collect()
}

/// Every event of one customer, to rebuild a state from; sees this
/// transaction's own.
pub async fn of_customer(tx: &mut Tx, customer: &CustomerKey) -> Result<Vec<Event>, StoreError> {
    replay(&mut *tx.inner, customer).await
}

/// Every event of one customer, to rebuild a state from.
pub async fn read_of_customer(
    db: &ReadDb,
    customer: &CustomerKey,
) -> Result<Vec<Event>, StoreError> {
    replay(&db.pool, customer).await
}

async fn replay<'c>(
    connection: impl PgExecutor<'c>,
    customer: &CustomerKey,
) -> Result<Vec<Event>, StoreError> {
    let mut rows = sqlx::query!(
        r#"select message_id, kind, name, occurred_at, properties as "properties: Json<serde_json::Map<String, serde_json::Value>>"
           from event where customer_id = $1 order by occurred_at, message_id"#,
        customer.as_str(),
    )
    .fetch(connection);
    let mut events = Vec::new();
    while let Some(row) = rows.try_next().await? {
        events.push(Event {
            message_id: stored(row.message_id.parse::<MessageId>())?,
            customer: customer.clone(),
            kind: stored(EventKind::parse(&row.kind).ok_or("unknown kind"))?,
            name: row.name.into_boxed_str(),
            timestamp: from_sql(row.occurred_at),
            properties: stored(Properties::from_json(&row.properties, usize::MAX))?,
        });
    }
    Ok(events)
}

pub(in crate::store) fn stored<T, E: std::fmt::Display>(
    value: Result<T, E>,
) -> Result<T, StoreError> {
    value.map_err(|why| StoreError::Corrupt { what: "event", why: why.to_string() })
}
