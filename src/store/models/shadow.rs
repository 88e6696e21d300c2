//! Shadow deployment: customers to compare, and counts of the comparisons.

use crate::domain::id::{CustomerKey, ModelId};
use crate::domain::time::Timestamp;
use crate::store::customers::assignments::{AudienceColumns, PreviousAssignment};
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql};

/// A customer with the state and assignment of its last score.
#[derive(Debug)]
pub(crate) struct AnsweredCustomer {
    pub state: Vec<u8>,
    pub previous: PreviousAssignment,
    pub outlier: bool,
    pub assigned_at: Timestamp,
}

/// Those customers with an assignment under these canonical ids.
pub(crate) async fn list_answered(
    db: &ReadOnlyDatabase,
    customers: &[CustomerKey],
) -> Result<Vec<AnsweredCustomer>, StoreError> {
    let ids: Vec<&str> = customers.iter().map(CustomerKey::as_str).collect();
    let rows = sqlx::query!(
        r#"select state, generation, fallback, segment_id, moved_at, outlier as "outlier!",
                  assigned_at as "assigned_at!"
           from customer
           where workspace_id = $1 and customer_id = any($2) and merged_into is null
                 and generation is not null"#,
        db.workspace_id(),
        &ids as &[&str],
    )
    .fetch_all(&db.pool)
    .await?;
    let answered = rows.into_iter().filter_map(|row| {
        Some(AnsweredCustomer {
            state: row.state,
            previous: PreviousAssignment::from_columns(
                row.generation,
                row.fallback,
                row.segment_id,
                row.moved_at,
                AudienceColumns::default(),
            )?,
            outlier: row.outlier,
            assigned_at: from_sql(row.assigned_at),
        })
    });
    Ok(answered.collect())
}

/// A pair of answers for one customer: the live one and that of the shadow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AnswerPair {
    pub shadow: ModelId,
    /// `None`: the fallback answered.
    pub live: Option<ModelId>,
    pub live_segment_id: Box<str>,
    pub shadow_segment_id: Box<str>,
    /// Whether both are the same segment; `None` if the models have no common segments.
    pub is_same: Option<bool>,
}

/// Frequency of a pair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PairCount {
    pub customers: i64,
    pub live_outliers: i64,
    pub shadow_outliers: i64,
}

/// Adds to the counts of all replicas, in sorted order: one lock order, so no deadlock.
pub(crate) async fn add_counts(
    tx: &mut DatabaseTransaction,
    counts: &[(AnswerPair, PairCount)],
) -> Result<(), StoreError> {
    let mut counts: Vec<&(AnswerPair, PairCount)> = counts.iter().collect();
    counts.sort_by_cached_key(|(pair, _)| {
        (
            pair.shadow.clone(),
            stored_live(pair),
            pair.live_segment_id.clone(),
            pair.shadow_segment_id.clone(),
        )
    });
    for (pair, count) in counts {
        sqlx::query!(
            "insert into shadow_count as stored
                 (workspace_id, shadow_model_id, live_model_id, live_segment_id, shadow_segment_id,
                  is_same, customers, live_outliers, shadow_outliers)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             on conflict
                 (workspace_id, shadow_model_id, live_model_id, live_segment_id, shadow_segment_id)
             do update set customers = stored.customers + excluded.customers,
                           live_outliers = stored.live_outliers + excluded.live_outliers,
                           shadow_outliers = stored.shadow_outliers + excluded.shadow_outliers",
            tx.workspace_id(),
            pair.shadow.as_str(),
            stored_live(pair),
            &*pair.live_segment_id,
            &*pair.shadow_segment_id,
            pair.is_same,
            count.customers,
            count.live_outliers,
            count.shadow_outliers,
        )
        .execute(&mut *tx.inner)
        .await?;
    }
    Ok(())
}

/// SQL form of the live model: empty for the fallback.
fn stored_live(pair: &AnswerPair) -> String {
    pair.live.as_ref().map_or("", ModelId::as_str).to_owned()
}

/// Counts of one shadow, by live model, most frequent first.
pub(crate) async fn list_counts(
    db: &ReadOnlyDatabase,
    shadow: &ModelId,
) -> Result<Vec<(AnswerPair, PairCount)>, StoreError> {
    let rows = sqlx::query!(
        "select live_model_id, live_segment_id, shadow_segment_id, is_same, customers, live_outliers,
                shadow_outliers
         from shadow_count where workspace_id = $1 and shadow_model_id = $2
         order by live_model_id, customers desc, live_segment_id, shadow_segment_id",
        db.workspace_id(),
        shadow.as_str(),
    )
    .fetch_all(&db.pool)
    .await?;
    let counted = rows.into_iter().map(|row| {
        let live = Some(row.live_model_id).filter(|id| !id.is_empty());
        let pair = AnswerPair {
            shadow: shadow.clone(),
            live: live.map(crate::store::models::model_id).transpose()?,
            live_segment_id: row.live_segment_id.into(),
            shadow_segment_id: row.shadow_segment_id.into(),
            is_same: row.is_same,
        };
        let count = PairCount {
            customers: row.customers,
            live_outliers: row.live_outliers,
            shadow_outliers: row.shadow_outliers,
        };
        Ok((pair, count))
    });
    counted.collect()
}
