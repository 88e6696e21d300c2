//! Customers: one row with state and current assignment each, written under its lock.

pub mod assignments;
pub mod backfill;
pub mod changes;
mod columns;
pub mod events;
pub mod export;
pub mod history;
pub mod identity;
pub mod link_sources;
pub mod links;
pub mod lock_free;
pub(crate) mod past_assignments;
pub mod rebuild;
pub mod sampling;

use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::customers::columns::{CustomerColumns, customer_query, customer_row};
use crate::store::{
    DatabaseTransaction, DedicatedDatabase, ReadOnlyDatabase, StoreError, from_sql, to_sql,
};
use futures_util::{Stream, TryStreamExt};

pub use columns::{CustomerRow, IdIntroduction, NewCustomerRow, StoredCustomer};

/// A stored state as bytes; only the feature set can decode it.
#[derive(Debug, Clone)]
pub struct StoredState {
    pub customer: CustomerKey,
    pub state: Vec<u8>,
}

/// Locks the existing rows of these canonical ids. `customers` must be sorted and unique:
/// one lock order, so no deadlock.
pub(crate) async fn lock_rows(
    tx: &mut DatabaseTransaction,
    customers: &[&CustomerKey],
) -> Result<Vec<StoredCustomer>, StoreError> {
    debug_assert!(customers.is_sorted_by(|a, b| a < b));
    let ids: Vec<&str> = customers.iter().map(|c| c.as_str()).collect();
    let rows = customer_query!(
        "select customer_id, state, "
            + columns
            + " from customer
                where workspace_id = $1 and customer_id = any($2) and merged_into is null
                order by customer_id for update",
        tx.workspace_id(),
        &ids as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter()
        .map(|record| {
            let row = customer_row!(record, record.state);
            Ok(StoredCustomer { customer: customer_key(record.customer_id)?, row })
        })
        .collect()
}

/// Those ids for which another session has locked the id's row or its canonical row. Never
/// waits for a lock.
pub(crate) async fn locked_elsewhere(
    db: &DedicatedDatabase,
    ids: &[&CustomerKey],
) -> Result<Vec<CustomerKey>, StoreError> {
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    let locked = sqlx::query_scalar!(
        r#"with asked as materialized (
               select customer_id, coalesce(merged_into, customer_id) as kept
               from customer where workspace_id = $1 and customer_id = any($2)
           ), free as materialized (
               select customer_id from customer
               where workspace_id = $1
                 and customer_id = any(array(select customer_id from asked
                                             union select kept from asked))
               for update skip locked
           )
           select customer_id as "customer_id!" from asked
           where not exists (select from free where free.customer_id = asked.customer_id)
              or not exists (select from free where free.customer_id = asked.kept)"#,
        db.workspace_id(),
        &ids as &[&str],
    );
    let locked = db.run_statement(async |connection| {
        locked.fetch_all(connection).await.map_err(StoreError::from)
    });
    locked.await?.into_iter().map(customer_key).collect()
}

/// Locks the existing rows of these canonical ids that are not locked by another session;
/// returns them by customer, in byte order. Never waits for a lock, so the lock order is
/// free.
pub(crate) async fn lock_available(
    tx: &mut DatabaseTransaction,
    customers: &[&CustomerKey],
) -> Result<Vec<StoredCustomer>, StoreError> {
    let ids: Vec<&str> = customers.iter().map(|c| c.as_str()).collect();
    let rows = customer_query!(
        "select customer_id, state, "
            + columns
            + " from customer
                where workspace_id = $1 and customer_id = any($2) and merged_into is null
                for update skip locked",
        tx.workspace_id(),
        &ids as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    let mut locked = Vec::with_capacity(rows.len());
    for record in rows {
        let row = customer_row!(record, record.state);
        locked.push(StoredCustomer { customer: customer_key(record.customer_id)?, row });
    }
    locked.sort_unstable_by(|a, b| a.customer.cmp(&b.customer));
    Ok(locked)
}

/// Locks customers due for scheduled rescoring at `now`, the longest overdue first, and
/// returns the due time of the first. Skips rows locked by another transaction, which
/// rescores them itself. Never waits for a lock, so the lock order is free.
pub(crate) async fn lock_due(
    tx: &mut DatabaseTransaction,
    now: Timestamp,
    limit: i64,
) -> Result<(Vec<StoredCustomer>, Option<Timestamp>), StoreError> {
    let rows = customer_query!(
        "select customer_id, state, "
            + columns
            + " from customer where workspace_id = $1 and next_rescore_at <= $2
                order by next_rescore_at limit $3 for update skip locked",
        tx.workspace_id(),
        to_sql(now),
        limit,
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    let since = rows.iter().filter_map(|row| row.next_rescore_at).min().map(from_sql);
    let locked = rows.into_iter().map(|record| {
        let row = customer_row!(record, record.state);
        Ok(StoredCustomer { customer: customer_key(record.customer_id)?, row })
    });
    Ok((locked.collect::<Result<_, StoreError>>()?, since))
}

/// Writes new customers and customers locked by this transaction. `added` must be sorted.
/// Fails with `Lost` if a concurrent transaction has added one.
pub async fn write(
    tx: &mut DatabaseTransaction,
    added: &[NewCustomerRow<'_>],
    known: &[NewCustomerRow<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    if !added.is_empty()
        && CustomerColumns::from_rows(added).insert(tx, now).await? < added.len() as u64
    {
        return Err(StoreError::Lost("a customer was added by another transaction".into()));
    }
    if !known.is_empty() {
        update(tx, known, now).await?;
    }
    Ok(())
}

/// Writes customers that this transaction has locked.
pub(crate) async fn update(
    tx: &mut DatabaseTransaction,
    rows: &[NewCustomerRow<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    CustomerColumns::from_rows(rows).update(tx, now).await
}

/// Records that customers locked by this transaction are evaluated with this version of the
/// audiences, and that nothing else changes. Touches no index, so the new version of a row stays
/// on its page (heap-only tuple).
pub(crate) async fn set_audience_version(
    tx: &mut DatabaseTransaction,
    customers: &[&CustomerKey],
    version: i64,
) -> Result<(), StoreError> {
    let ids: Vec<&str> = customers.iter().map(|customer| customer.as_str()).collect();
    sqlx::query!(
        "update customer set audience_version = $3
         where workspace_id = $1 and customer_id = any($2)",
        tx.workspace_id(),
        &ids as &[&str],
        version,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

pub(crate) async fn find_state(
    db: &ReadOnlyDatabase,
    customer: &CustomerKey,
) -> Result<Option<Vec<u8>>, StoreError> {
    let state = sqlx::query_scalar!(
        "select state from customer where workspace_id = $1 and customer_id = $2",
        db.workspace_id(),
        customer.as_str(),
    )
    .fetch_optional(&db.pool)
    .await?;
    Ok(state)
}

pub async fn count(db: &ReadOnlyDatabase) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "count!" from customer
           where workspace_id = $1 and merged_into is null"#,
        db.workspace_id(),
    )
    .fetch_one(&db.long_reads)
    .await?)
}

/// Number of customers with an assignment. Reads one index.
pub(crate) async fn count_assigned(db: &ReadOnlyDatabase) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "count!" from customer
           where workspace_id = $1 and generation is not null"#,
        db.workspace_id(),
    )
    .fetch_one(&db.long_reads)
    .await?)
}

/// Every state in one snapshot, by customer id in byte order.
pub fn stream_states(
    db: &ReadOnlyDatabase,
) -> impl Stream<Item = Result<StoredState, StoreError>> + '_ {
    sqlx::query!(
        "select customer_id, state from customer where workspace_id = $1 and merged_into is null
         order by customer_id",
        db.workspace_id(),
    )
    .fetch(&db.long_reads)
    .map_err(StoreError::from)
    .and_then(|row| async move { stored_state(row.customer_id, row.state) })
}

/// Like [`stream_states`], with the assignments.
pub(crate) fn stream_rows(
    db: &ReadOnlyDatabase,
) -> impl Stream<Item = Result<StoredCustomer, StoreError>> + '_ {
    customer_query!(
        "select customer_id, state, "
            + columns
            + " from customer where workspace_id = $1 and merged_into is null
                order by customer_id",
        db.workspace_id(),
    )
    .fetch(&db.long_reads)
    .map_err(StoreError::from)
    .and_then(|record| async move {
        let row = customer_row!(record, record.state);
        Ok(StoredCustomer { customer: customer_key(record.customer_id)?, row })
    })
}

/// Up to `limit` ids of customers that a deployment before `generation` has assigned.
pub(crate) async fn list_stale(
    db: &ReadOnlyDatabase,
    generation: i64,
    limit: i64,
) -> Result<Vec<CustomerKey>, StoreError> {
    let ids = sqlx::query_scalar!(
        "select customer_id from customer where workspace_id = $1 and generation < $2 limit $3",
        db.workspace_id(),
        generation,
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    ids.into_iter().map(customer_key).collect()
}

/// Number of customers as in [`list_stale`]. Reads one index.
pub(crate) async fn count_stale(db: &ReadOnlyDatabase, generation: i64) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "count!" from customer where workspace_id = $1 and generation < $2"#,
        db.workspace_id(),
        generation,
    )
    .fetch_one(&db.pool)
    .await?)
}

pub(crate) fn stored_state(customer_id: String, state: Vec<u8>) -> Result<StoredState, StoreError> {
    Ok(StoredState { customer: customer_key(customer_id)?, state })
}

pub(crate) fn customer_key(id: String) -> Result<CustomerKey, StoreError> {
    CustomerKey::try_from(id)
        .map_err(|why| StoreError::Corrupt { what: "customer id", why: why.to_string() })
}
