//! Repair of timestamps later than the database's clock, written by a process with a wrong
//! clock.

use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::customers::customer_key;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// Thresholds beyond which a timestamp is too late.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LatenessLimits {
    /// By the database's clock.
    pub now: Timestamp,
    /// Allowed difference between clocks.
    pub tolerance_seconds: f64,
    /// Latest allowed event time after its arrival.
    pub max_future_seconds: f64,
}

/// A column, such as `alert_job.ran_at`, and the number of its rows that are too late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LateColumn {
    pub column: String,
    pub rows: i64,
}

/// The database's clock at the start of the transaction.
pub(crate) async fn now(tx: &mut DatabaseTransaction) -> Result<Timestamp, StoreError> {
    let now = sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(&mut *tx.inner).await?;
    Ok(from_sql(now))
}

/// Late timestamps outside of events and customer states. With `mend` they are set to now,
/// and counts of future hours are deleted.
pub(crate) async fn find_or_mend_timestamps(
    tx: &mut DatabaseTransaction,
    limits: LatenessLimits,
    mend: bool,
) -> Result<Vec<LateColumn>, StoreError> {
    let rows = sqlx::query!(
        r#"select instant as "instant!", late as "late!"
           from future_instants($4, $1, make_interval(secs => $2), $3)"#,
        to_sql(limits.now),
        limits.tolerance_seconds,
        mend,
        tx.workspace_id(),
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    Ok(rows.into_iter().map(|row| LateColumn { column: row.instant, rows: row.late }).collect())
}

/// Counts events with a late arrival or event time.
pub(crate) async fn count_late_events(
    tx: &mut DatabaseTransaction,
    limits: LatenessLimits,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "count!" from event
           where workspace_id = $4
             and (received_at > $1::timestamptz + make_interval(secs => $2)
                  or occurred_at > $1::timestamptz + make_interval(secs => $2 + $3))"#,
        to_sql(limits.now),
        limits.tolerance_seconds,
        limits.max_future_seconds,
        tx.workspace_id(),
    )
    .fetch_one(&mut *tx.inner)
    .await?)
}

/// Moves late events back by `ahead_seconds`, and to now if they are still later.
pub(crate) async fn move_events_back(
    tx: &mut DatabaseTransaction,
    limits: LatenessLimits,
    ahead_seconds: f64,
) -> Result<u64, StoreError> {
    let changed = sqlx::query!(
        "update event
         set received_at = case when received_at > $1
                 then least(received_at - make_interval(secs => $4), $1) else received_at end,
             occurred_at = case when occurred_at > $1
                 then least(occurred_at - make_interval(secs => $4), $1) else occurred_at end
         where workspace_id = $5
           and (received_at > $1::timestamptz + make_interval(secs => $2)
                or occurred_at > $1::timestamptz + make_interval(secs => $2 + $3))",
        to_sql(limits.now),
        limits.tolerance_seconds,
        limits.max_future_seconds,
        ahead_seconds,
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(changed.rows_affected())
}

/// Canonical ids of customers with late events, or with a late timestamp in their state.
pub(crate) async fn list_late_customers(
    db: &ReadOnlyDatabase,
    limits: LatenessLimits,
) -> Result<Vec<CustomerKey>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"select coalesce(merged_into, id) as "customer_id!"
           from (select customer_id as id from event
                 where workspace_id = $4
                   and (received_at > $1::timestamptz + make_interval(secs => $2)
                        or occurred_at > $1::timestamptz + make_interval(secs => $2 + $3))
                 union
                 select customer_id from customer
                 where workspace_id = $4
                   and last_event_at > $1::timestamptz + make_interval(secs => $2 + $3)) as late
                left join customer on customer.workspace_id = $4 and customer.customer_id = id"#,
        to_sql(limits.now),
        limits.tolerance_seconds,
        limits.max_future_seconds,
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    let mut keys = ids.into_iter().map(customer_key).collect::<Result<Vec<_>, _>>()?;
    keys.sort();
    keys.dedup();
    Ok(keys)
}
