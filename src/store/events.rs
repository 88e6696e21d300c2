//! Accepted events: each once, by its message id.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use sqlx::PgExecutor;
use sqlx::types::Json;

use crate::domain::event::{Event, EventKind, Properties};
use crate::domain::id::{CustomerKey, MessageId};
use crate::domain::time::Timestamp;
use crate::store::{ReadDb, StoreError, Tx, from_sql, to_sql};

/// An event, and when it came.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub event: Event,
    pub received_at: Timestamp,
}

/// Inserts those not there yet and returns their ids. `events` must be sorted
/// by message id, or two transactions could wait for each other.
pub async fn insert_new(tx: &mut Tx, arrived: &[&Arrived]) -> Result<HashSet<String>, StoreError> {
    let events = arrived.iter().map(|arrived| &arrived.event);
    debug_assert!(events.clone().is_sorted_by(|a, b| a.message_id < b.message_id));
    let ids: Vec<&str> = events.clone().map(|e| e.message_id.as_str()).collect();
    let customers: Vec<&str> = events.clone().map(|e| e.customer.as_str()).collect();
    let kinds: Vec<&str> = events.clone().map(|e| e.kind.as_str()).collect();
    let names: Vec<&str> = events.clone().map(|e| &*e.name).collect();
    let times: Vec<_> = events.clone().map(|e| to_sql(e.timestamp)).collect();
    let properties: Vec<_> = events.map(|e| e.properties.to_json()).collect();
    let received: Vec<_> = arrived.iter().map(|arrived| to_sql(arrived.received_at)).collect();
    let inserted = sqlx::query_scalar!(
        "insert into event (message_id, customer_id, kind, name, occurred_at, received_at, properties)
         select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[],
                              $6::timestamptz[], $7::jsonb[])
         on conflict (message_id) do nothing
         returning message_id",
        &ids as &[&str],
        &customers as &[&str],
        &kinds as &[&str],
        &names as &[&str],
        &times,
        &received,
        &properties,
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    Ok(inserted.into_iter().collect())
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

fn stored<T, E: std::fmt::Display>(value: Result<T, E>) -> Result<T, StoreError> {
    value.map_err(|why| StoreError::Corrupt { what: "event", why: why.to_string() })
}
