//! Snapshots of the value of segments, and the flows of customers between them.

use crate::domain::id::ModelId;
use crate::domain::model::NamedSegment;
use crate::domain::segment_value::{SegmentTotals, ValueFlow};
use crate::domain::time::Timestamp;
use crate::domain::value::PredictedSum;
use crate::store::{
    DatabaseTransaction, ReadOnlyDatabase, StoreError, TimeRange, from_sql, model_id, to_sql,
};

/// What the rows of one snapshot have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SnapshotKey<'a> {
    pub taken_at: Timestamp,
    pub model: &'a ModelId,
    pub unit: &'a str,
}

/// The figures of one segment at one snapshot.
#[derive(Debug, Clone)]
pub struct SegmentValueRow {
    pub taken_at: Timestamp,
    pub name: String,
    pub model: ModelId,
    pub unit: String,
    pub totals: SegmentTotals,
}

/// The flows between two snapshots that one segment takes part in.
#[derive(Debug, Clone)]
pub struct StoredFlow {
    pub taken_at: Timestamp,
    pub since: Timestamp,
    pub flow: ValueFlow,
}

/// Stores the figures of a segment.
pub(crate) async fn insert_segment(
    tx: &mut DatabaseTransaction,
    snapshot: SnapshotKey<'_>,
    segment: &NamedSegment,
    totals: &SegmentTotals,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into segment_value
             (workspace_id, taken_at, segment_id, name, model_id, unit, customers, with_orders,
              churn_probabilities, orders, orders_variance, spend, spend_variance, value_at_risk,
              revenue)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        tx.workspace_id(),
        to_sql(snapshot.taken_at),
        &*segment.id,
        &*segment.name,
        snapshot.model.as_str(),
        snapshot.unit,
        to_bigint(totals.customers),
        to_bigint(totals.with_orders),
        totals.churn_probabilities,
        totals.orders.expected,
        totals.orders.variance,
        totals.spend.expected,
        totals.spend.variance,
        totals.value_at_risk,
        totals.revenue,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Stores a flow since an earlier snapshot.
pub(crate) async fn insert_flow(
    tx: &mut DatabaseTransaction,
    taken_at: Timestamp,
    since: Timestamp,
    flow: &ValueFlow,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into segment_value_flow
             (workspace_id, taken_at, since, from_segment_id, to_segment_id, customers,
              spend_before, spend_now)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        tx.workspace_id(),
        to_sql(taken_at),
        to_sql(since),
        flow.from.as_deref().unwrap_or_default(),
        flow.to.as_deref().unwrap_or_default(),
        to_bigint(flow.customers),
        flow.spend_before,
        flow.spend_now,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Deletes the snapshots before an instant, and the flows to them.
pub(crate) async fn delete_before(
    tx: &mut DatabaseTransaction,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "with flows as (
             delete from segment_value_flow where workspace_id = $1 and taken_at < $2
         )
         delete from segment_value where workspace_id = $1 and taken_at < $2",
        tx.workspace_id(),
        to_sql(at),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// The newest snapshot up to an instant, which is included.
pub(crate) async fn newest_snapshot(
    db: &ReadOnlyDatabase,
    until: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let newest = sqlx::query_scalar!(
        "select max(taken_at) from segment_value where workspace_id = $1 and taken_at <= $2",
        db.workspace_id(),
        to_sql(until),
    );
    Ok(newest.fetch_one(&db.pool).await?.map(from_sql))
}

/// The figures of a segment in a period (both ends included), and those of the earlier snapshots that
/// these are compared with, newest first.
pub(crate) async fn list_of_segment(
    db: &ReadOnlyDatabase,
    segment_id: &str,
    period: TimeRange,
) -> Result<Vec<SegmentValueRow>, StoreError> {
    let rows = sqlx::query!(
        "select taken_at, name, model_id, unit, customers, with_orders, churn_probabilities, orders,
                orders_variance, spend, spend_variance, value_at_risk, revenue
         from segment_value
         where workspace_id = $1 and segment_id = $2 and taken_at <= $4
               and (taken_at >= $3 or taken_at in (
                   select since from segment_value_flow
                   where workspace_id = $1 and taken_at between $3 and $4))
         order by taken_at desc",
        db.workspace_id(),
        segment_id,
        to_sql(period.since),
        to_sql(period.until),
    )
    .fetch_all(&db.pool)
    .await?;
    let mut listed = Vec::with_capacity(rows.len());
    for row in rows {
        listed.push(SegmentValueRow {
            taken_at: from_sql(row.taken_at),
            name: row.name,
            model: model_id(row.model_id)?,
            unit: row.unit,
            totals: SegmentTotals {
                customers: row.customers.unsigned_abs(),
                with_orders: row.with_orders.unsigned_abs(),
                churn_probabilities: row.churn_probabilities,
                orders: PredictedSum { expected: row.orders, variance: row.orders_variance },
                spend: PredictedSum { expected: row.spend, variance: row.spend_variance },
                value_at_risk: row.value_at_risk,
                revenue: row.revenue,
            },
        });
    }
    Ok(listed)
}

/// The flows from and to a segment at the snapshots of a period (both ends included).
pub(crate) async fn list_flows(
    db: &ReadOnlyDatabase,
    segment_id: &str,
    period: TimeRange,
) -> Result<Vec<StoredFlow>, StoreError> {
    let rows = sqlx::query!(
        "select taken_at, since, from_segment_id, to_segment_id, customers, spend_before, spend_now
         from segment_value_flow
         where workspace_id = $1 and taken_at between $3 and $4
               and (from_segment_id = $2 or to_segment_id = $2)
         order by taken_at desc, since desc, from_segment_id, to_segment_id",
        db.workspace_id(),
        segment_id,
        to_sql(period.since),
        to_sql(period.until),
    )
    .fetch_all(&db.pool)
    .await?;
    let flows = rows.into_iter().map(|row| StoredFlow {
        taken_at: from_sql(row.taken_at),
        since: from_sql(row.since),
        flow: ValueFlow {
            from: optional_segment(row.from_segment_id),
            to: optional_segment(row.to_segment_id),
            customers: row.customers.unsigned_abs(),
            spend_before: row.spend_before,
            spend_now: row.spend_now,
        },
    });
    Ok(flows.collect())
}

/// All segments with snapshots, with their newest names.
pub(crate) async fn list_names(db: &ReadOnlyDatabase) -> Result<Vec<NamedSegment>, StoreError> {
    let rows = sqlx::query!(
        "select distinct on (segment_id) segment_id, name from segment_value
         where workspace_id = $1 order by segment_id, taken_at desc",
        db.workspace_id(),
    );
    let rows = rows.fetch_all(&db.pool).await?;
    let named = rows.into_iter();
    Ok(named.map(|row| NamedSegment { id: row.segment_id.into(), name: row.name.into() }).collect())
}

/// The stored id of a segment; empty for no segment.
fn optional_segment(segment_id: String) -> Option<Box<str>> {
    (!segment_id.is_empty()).then(|| segment_id.into())
}

fn to_bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
