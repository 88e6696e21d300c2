//! Customer states, one row each, written under the row's lock.

use futures_util::{Stream, TryStreamExt};

use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::{ReadDb, StoreError, Tx, from_sql, to_sql};

/// A stored state, still as bytes: only the feature set can read it.
#[derive(Debug, Clone)]
pub struct StoredState {
    pub customer: CustomerKey,
    /// Empty for a customer never seen before.
    pub state: Vec<u8>,
}

/// Locks these customers' rows, making those that are missing. `customers` must
/// be sorted and unique: one order for everyone, so no deadlock.
pub async fn lock_states(
    tx: &mut Tx,
    customers: &[&CustomerKey],
    now: Timestamp,
) -> Result<Vec<StoredState>, StoreError> {
    debug_assert!(customers.is_sorted_by(|a, b| a < b));
    let ids: Vec<&str> = customers.iter().map(|c| c.as_str()).collect();
    sqlx::query!(
        "insert into customer (customer_id, state, updated_at)
         select id, ''::bytea, $2 from unnest($1::text[]) as id
         on conflict (customer_id) do nothing",
        &ids as &[&str],
        to_sql(now),
    )
    .execute(&mut *tx.inner)
    .await?;
    // Byte order, as Rust sorts: the database's own collation may differ.
    let rows = sqlx::query!(
        r#"select customer_id, state from customer where customer_id = any($1)
           order by customer_id collate "C" for update"#,
        &ids as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter().map(|row| stored_state(row.customer_id, row.state)).collect()
}

/// One state to write back.
#[derive(Debug)]
pub struct NewState<'a> {
    pub customer: &'a CustomerKey,
    pub state: Vec<u8>,
    pub last_event_at: Option<Timestamp>,
}

pub async fn save_states(
    tx: &mut Tx,
    states: &[NewState<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    let ids: Vec<&str> = states.iter().map(|s| s.customer.as_str()).collect();
    let bytes: Vec<&[u8]> = states.iter().map(|s| s.state.as_slice()).collect();
    let last: Vec<_> = states.iter().map(|s| s.last_event_at.map(to_sql)).collect();
    sqlx::query!(
        "update customer set state = new.state, last_event_at = new.last_event_at, updated_at = $4
         from unnest($1::text[], $2::bytea[], $3::timestamptz[]) as new (id, state, last_event_at)
         where customer_id = new.id",
        &ids as &[&str],
        &bytes as &[&[u8]],
        &last as &[Option<chrono::DateTime<chrono::Utc>>],
        to_sql(now),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

pub async fn state(db: &ReadDb, customer: &CustomerKey) -> Result<Option<Vec<u8>>, StoreError> {
    let state =
        sqlx::query_scalar!("select state from customer where customer_id = $1", customer.as_str())
            .fetch_optional(&db.pool)
            .await?;
    Ok(state)
}

pub async fn count(db: &ReadDb) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(r#"select count(*) as "count!" from customer"#)
        .fetch_one(&db.pool)
        .await?)
}

/// Every state in one snapshot, by customer id in byte order.
pub fn stream(db: &ReadDb) -> impl Stream<Item = Result<StoredState, StoreError>> + '_ {
    sqlx::query!(r#"select customer_id, state from customer order by customer_id collate "C""#)
        .fetch(&db.pool)
        .map_err(StoreError::from)
        .and_then(|row| async move { stored_state(row.customer_id, row.state) })
}

/// Ids of customers last assigned before `generation`, some of them, in byte order.
pub async fn assigned_before(
    db: &ReadDb,
    generation: i64,
    limit: i64,
) -> Result<Vec<CustomerKey>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"select customer_id from (
               select customer_id from assignment where generation < $1 limit $2
           ) as stale order by customer_id collate "C""#,
        generation,
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    ids.into_iter().map(customer_key).collect()
}

pub async fn count_assigned_before(db: &ReadDb, generation: i64) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "count!" from assignment where generation < $1"#,
        generation
    )
    .fetch_one(&db.pool)
    .await?)
}

/// When this customer's newest event happened.
pub async fn last_event_at(
    db: &ReadDb,
    customer: &CustomerKey,
) -> Result<Option<Timestamp>, StoreError> {
    let at = sqlx::query_scalar!(
        "select last_event_at from customer where customer_id = $1",
        customer.as_str()
    )
    .fetch_optional(&db.pool)
    .await?;
    Ok(at.flatten().map(from_sql))
}

fn stored_state(customer_id: String, state: Vec<u8>) -> Result<StoredState, StoreError> {
    Ok(StoredState { customer: customer_key(customer_id)?, state })
}

pub(in crate::store) fn customer_key(id: String) -> Result<CustomerKey, StoreError> {
    CustomerKey::try_from(id)
        .map_err(|why| StoreError::Corrupt { what: "customer id", why: why.to_string() })
}
