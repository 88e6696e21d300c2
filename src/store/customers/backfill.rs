//! Iteration over all customers: pages of states, and id ranges shared by several workers.

use crate::domain::feature::FeatureSet;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::customers::{self, StoredState};
use crate::store::{
    DatabaseHandle, DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql,
};

/// Customers per page of states and per range.
const PAGE: i64 = 1000;

/// The next states after `after`, by customer id.
pub(crate) async fn read_page(
    db: &ReadOnlyDatabase,
    after: &str,
) -> Result<Vec<StoredState>, StoreError> {
    let rows = sqlx::query!(
        "select customer_id, state from customer
         where workspace_id = $1 and customer_id > $2 and merged_into is null
         order by customer_id limit $3",
        db.workspace_id(),
        after,
        PAGE,
    )
    .fetch_all(&db.long_reads)
    .await?;
    rows.into_iter().map(|row| customers::stored_state(row.customer_id, row.state)).collect()
}

/// The open ranges of a backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackfillRanges {
    pub begun_at: Timestamp,
    pub open_ranges: i64,
    /// Created now, not left by an earlier run.
    pub is_new: bool,
}

/// The open ranges of this feature set; creates them if there are none.
pub async fn open_ranges(
    tx: &mut DatabaseTransaction,
    features: &FeatureSet,
    now: Timestamp,
) -> Result<BackfillRanges, StoreError> {
    // One transaction at a time, so that workers that start together share one set of
    // ranges.
    sqlx::query!(
        r#"select pg_advisory_xact_lock(hashtextextended('segmentd backfill', 0)) as "locked!: ()""#
    )
    .execute(&mut *tx.inner)
    .await?;
    let id = features.id().as_str();
    let left = sqlx::query!(
        r#"select count(*) as "left!", min(begun_at) as begun_at
           from backfill_range where workspace_id = $1 and feature_set_id = $2"#,
        tx.workspace_id(),
        id,
    )
    .fetch_one(&mut *tx.inner)
    .await?;
    if let Some(begun_at) = left.begun_at {
        return Ok(BackfillRanges {
            begun_at: from_sql(begun_at),
            open_ranges: left.left,
            is_new: false,
        });
    }
    let laid_out = sqlx::query!(
        "insert into backfill_range (workspace_id, feature_set_id, after_id, upto_id, begun_at)
         select $4, $1, cut, lead(cut) over (order by cut), $2
         from (select '' as cut union all
               select customer_id
               from (select customer_id, row_number() over (order by customer_id) as place
                     from customer where workspace_id = $4) as placed
               where place % $3 = 0) as cuts",
        id,
        to_sql(now),
        PAGE,
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    let left = i64::try_from(laid_out.rows_affected()).unwrap_or(i64::MAX);
    Ok(BackfillRanges { begun_at: now, open_ranges: left, is_new: true })
}

pub(crate) async fn count_open_ranges(
    db: &ReadOnlyDatabase,
    features: &FeatureSet,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "left!" from backfill_range
           where workspace_id = $1 and feature_set_id = $2"#,
        db.workspace_id(),
        features.id().as_str(),
    )
    .fetch_one(&db.pool)
    .await?)
}

/// A claimed range: other workers skip it until it is finished or dropped.
#[derive(Debug)]
pub struct ClaimedRange {
    tx: DatabaseTransaction,
    feature_set_id: String,
    after: String,
    upto: Option<String>,
}

impl ClaimedRange {
    /// Claims the first free range.
    pub async fn claim(
        db: &DatabaseHandle,
        features: &FeatureSet,
    ) -> Result<Option<Self>, StoreError> {
        let mut tx = db.begin().await?;
        // The transaction stays open while the customers of the range are processed.
        tx.raise_time_limits(db).await?;
        let row = sqlx::query!(
            "select after_id, upto_id from backfill_range
             where workspace_id = $1 and feature_set_id = $2
             order by after_id limit 1 for update skip locked",
            tx.workspace_id(),
            features.id().as_str(),
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        Ok(row.map(|row| Self {
            tx,
            feature_set_id: features.id().to_string(),
            after: row.after_id,
            upto: row.upto_id,
        }))
    }

    /// Customers of the range with a state or with events only, in byte order.
    pub(crate) async fn list_customers(
        &self,
        db: &ReadOnlyDatabase,
    ) -> Result<Vec<CustomerKey>, StoreError> {
        let ids = sqlx::query_scalar!(
            r#"select customer_id as "customer_id!"
               from (select customer_id from customer
                     where workspace_id = $3 and customer_id > $1
                           and ($2::text is null or customer_id <= $2)
                     union
                     select customer_id from event
                     where workspace_id = $3 and customer_id > $1
                           and ($2::text is null or customer_id <= $2)) as either
               order by customer_id"#,
            self.after,
            self.upto,
            db.workspace_id(),
        )
        .fetch_all(&db.long_reads)
        .await?;
        ids.into_iter().map(customers::customer_key).collect()
    }

    /// Deletes the range from the list of open ones.
    pub(crate) async fn finish(mut self) -> Result<(), StoreError> {
        sqlx::query!(
            "delete from backfill_range
             where workspace_id = $1 and feature_set_id = $2 and after_id = $3",
            self.tx.workspace_id(),
            self.feature_set_id,
            self.after,
        )
        .execute(&mut *self.tx.inner)
        .await?;
        self.tx.commit().await
    }
}
