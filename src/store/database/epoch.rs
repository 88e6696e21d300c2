//! Epochs of the change feed: feed positions stay in order across a database restore.
//!
//! A position is a transaction number plus the offset of the current epoch (migration
//! 0004). A new epoch begins on the first connection to a cluster or timeline that differs
//! from that of the last epoch.

use sqlx::postgres::PgConnection;

use crate::store::customers::changes::FeedPosition;
use crate::store::{ReadOnlyDatabase, StoreError};

/// Begins an epoch if this database has been restored since the last one.
pub(crate) async fn begin_if_restored(connection: &mut PgConnection) -> sqlx::Result<()> {
    let begun =
        sqlx::query_scalar!("select ensure_change_epoch()").fetch_one(&mut *connection).await?;
    if let Some(reason) = begun {
        tracing::info!(reason, "an epoch of the change feed began");
    }
    Ok(())
}

/// Fails while a restored database has no epoch of its own: a reader would mistake
/// positions of the new cluster for positions of the old one. The next writing connection
/// begins the epoch.
pub(crate) async fn refuse_ended(connection: &mut PgConnection) -> sqlx::Result<()> {
    match end_reason(connection).await? {
        None => Ok(()),
        Some(reason) => Err(sqlx::Error::Protocol(format!(
            "the change feed has no epoch for this database yet ({reason})"
        ))),
    }
}

/// The reason why a new epoch must begin; `None` while the current one is valid.
pub(crate) async fn end_reason(connection: &mut PgConnection) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("select change_epoch_ended()").fetch_one(connection).await
}

/// The last change that survived the restore in which the change at `position` was lost;
/// `None` if no restore lost it.
pub(crate) async fn last_surviving_position(
    db: &ReadOnlyDatabase,
    position: FeedPosition,
) -> Result<Option<FeedPosition>, StoreError> {
    let transaction = i64::try_from(position.transaction).unwrap_or(i64::MAX);
    let row = sqlx::query!(
        "select last_transaction, last_change from change_epoch
         where (last_transaction, last_change) < ($1, $2) and first_position > $1
         order by epoch limit 1",
        transaction,
        position.change,
    )
    .fetch_optional(&db.pool)
    .await?;
    Ok(row.map(|row| FeedPosition {
        transaction: row.last_transaction.unsigned_abs(),
        change: row.last_change,
    }))
}
