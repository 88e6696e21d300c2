//! Identity resolution: the canonical id of each customer.
//!
//! The row of a merged id is an empty marker that points to the row of the surviving
//! customer. Markers are created and removed under `store::customers::links::lock_links` and the lock of
//! their own row. A transaction with the lock of a row therefore knows until its end
//! whether the row is a marker.

use std::collections::HashMap;

use crate::domain::access::MessageIdNamespace;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::customers::columns::{self, CustomerRow, customer_query, customer_row};
use crate::store::customers::customer_key;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, to_sql};

/// An id that needs a row.
#[derive(Debug)]
pub(crate) struct NewCustomerId<'a> {
    pub id: &'a CustomerKey,
    /// The public key that introduced the anonymous id.
    pub introduced_by: Option<&'a MessageIdNamespace>,
}

/// Current canonical ids of these ids, without ids that have no row. They may change until
/// the rows are locked.
pub(crate) async fn find_canonical_ids(
    tx: &mut DatabaseTransaction,
    ids: &[&CustomerKey],
) -> Result<HashMap<CustomerKey, CustomerKey>, StoreError> {
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    let rows = sqlx::query!(
        r#"select customer_id, coalesce(merged_into, customer_id) as "canonical!"
           from customer where workspace_id = $1 and customer_id = any($2)"#,
        tx.workspace_id(),
        &ids as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter()
        .map(|row| Ok((customer_key(row.customer_id)?, customer_key(row.canonical)?)))
        .collect()
}

/// Locks the existing rows of these ids, markers included. `ids` must be sorted and
/// unique: one lock order, so no deadlock.
pub(crate) async fn lock_rows(
    tx: &mut DatabaseTransaction,
    ids: &[&CustomerKey],
) -> Result<HashMap<CustomerKey, CustomerRow>, StoreError> {
    debug_assert!(ids.is_sorted_by(|a, b| a < b));
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    let rows = customer_query!(
        "select customer_id, state, "
            + columns
            + " from customer where workspace_id = $1 and customer_id = any($2)
                order by customer_id for update",
        tx.workspace_id(),
        &ids as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter()
        .map(|record| {
            let row = customer_row!(record, record.state);
            Ok((customer_key(record.customer_id)?, row))
        })
        .collect()
}

/// Inserts empty rows, which this transaction must write before its end. Returns their
/// number: fewer than given if a concurrent transaction has added some. `ids` must be
/// sorted.
pub(crate) async fn insert_rows(
    tx: &mut DatabaseTransaction,
    ids: &[NewCustomerId<'_>],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let introducers: Vec<Option<&str>> =
        ids.iter().map(|new| new.introduced_by.map(MessageIdNamespace::as_str)).collect();
    let ids: Vec<&str> = ids.iter().map(|new| new.id.as_str()).collect();
    let added = sqlx::query!(
        "insert into customer (workspace_id, customer_id, state, updated_at, introduced_by)
         select $4, id, '', $2, introduced_by
         from unnest($1::text[], $3::text[]) as new (id, introduced_by)
         on conflict (workspace_id, customer_id) do nothing",
        &ids as &[&str],
        to_sql(now),
        &introducers as &[Option<&str>],
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(added.rows_affected())
}

/// Empties rows that this transaction has locked and sets the canonical id of each. `None`
/// marks a surviving row, which the caller must then write.
pub(crate) async fn set_canonical(
    tx: &mut DatabaseTransaction,
    ids: &[(&CustomerKey, Option<&CustomerKey>)],
    now: Timestamp,
) -> Result<(), StoreError> {
    let (ids, into): (Vec<&str>, Vec<Option<&str>>) =
        ids.iter().map(|(id, into)| (id.as_str(), into.map(CustomerKey::as_str))).unzip();
    columns::empty_rows(tx, &ids, &into, now).await
}

/// Deletes rows of ids without events.
pub(crate) async fn delete_rows(
    tx: &mut DatabaseTransaction,
    ids: &[&CustomerKey],
) -> Result<(), StoreError> {
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    sqlx::query!(
        "delete from customer where workspace_id = $1 and customer_id = any($2)",
        tx.workspace_id(),
        &ids as &[&str],
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// The canonical id of a customer; `None` for an id without a row.
pub(crate) async fn find_canonical(
    db: &ReadOnlyDatabase,
    id: &CustomerKey,
) -> Result<Option<CustomerKey>, StoreError> {
    let found = sqlx::query_scalar!(
        r#"select coalesce(merged_into, customer_id) as "canonical!"
           from customer where workspace_id = $1 and customer_id = $2"#,
        db.workspace_id(),
        id.as_str(),
    )
    .fetch_optional(&db.pool)
    .await?;
    found.map(customer_key).transpose()
}

/// The merged ids of the customer with this canonical id, in order.
pub(crate) async fn list_merged_ids(
    db: &ReadOnlyDatabase,
    canonical: &CustomerKey,
) -> Result<Vec<CustomerKey>, StoreError> {
    let ids = sqlx::query_scalar!(
        "select customer_id from customer where workspace_id = $1 and merged_into = $2
         order by customer_id",
        db.workspace_id(),
        canonical.as_str(),
    )
    .fetch_all(&db.pool)
    .await?;
    ids.into_iter().map(customer_key).collect()
}
