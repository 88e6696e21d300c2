//! Deterministic sampling of customers by the hash of their id.

use crate::store::customers::{StoredState, stored_state};
use crate::store::{ReadOnlyDatabase, StoreError};

/// Sampled states from one of `classes` equal parts of all customers, by hash of the id:
/// the first `limit` in hash order, so the same ones at every call.
pub(crate) async fn sample_class(
    db: &ReadOnlyDatabase,
    class: u32,
    classes: u32,
    limit: i64,
) -> Result<Vec<StoredState>, StoreError> {
    let width = u64::MAX / u64::from(classes.max(1));
    let first = first_hash(class, width);
    let last = if class + 1 >= classes { i64::MAX } else { first_hash(class + 1, width) - 1 };
    let rows = sqlx::query!(
        "select customer_id, state from customer
         where workspace_id = $4 and hashtextextended(customer_id, 0) between $1 and $2
               and merged_into is null
         order by hashtextextended(customer_id, 0) limit $3",
        first,
        last,
        limit,
        db.workspace_id(),
    )
    .fetch_all(&db.long_reads)
    .await?;
    rows.into_iter().map(|row| stored_state(row.customer_id, row.state)).collect()
}

/// The smallest hash of a class of `width` hashes.
fn first_hash(class: u32, width: u64) -> i64 {
    // Hashes are signed: the minimum is −2^63.
    i64::MIN.saturating_add_unsigned(width.saturating_mul(u64::from(class)))
}
