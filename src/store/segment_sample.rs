//! Random samples of the customers of a segment and of all customers, for figures from stored events.

use crate::store::{ReadOnlyDatabase, StoreError};

/// Size of the random sample of all customers that contains the customers of the segment. Ordered by
/// the hash of the customer id, so every call draws the same sample.
const SAMPLED: i64 = 20_000;

/// Sampled customers of a segment, and sampled customers of all segments. A customer of the segment
/// may be among both. One entry for each id under which a customer may have events.
#[derive(Debug, Default)]
pub(crate) struct SegmentSample {
    pub event_customer_ids: Vec<String>,
    /// A number for each customer: merged ids have the same one.
    pub customers: Vec<i64>,
    /// Whether the entry is of the sample of the segment.
    pub is_own: Vec<bool>,
}

/// Draws at most `customers` of the segment, and as many of all.
pub(crate) async fn draw(
    db: &ReadOnlyDatabase,
    segment_id: &str,
    customers: i64,
) -> Result<SegmentSample, StoreError> {
    let rows = sqlx::query!(
        r#"with sampled as materialized (
               select customer_id, segment_id = $2 as is_own,
                      row_number() over (order by hash) as place,
                      row_number() over (partition by segment_id = $2 order by hash) as own_place
               from (
                   select customer_id, segment_id, hashtextextended(customer_id, 0) as hash
                   from customer
                   where workspace_id = $1 and merged_into is null and segment_id is not null
                   order by hashtextextended(customer_id, 0) limit $3
               ) as first
           ),
           chosen as (
               select customer_id, place, true as is_own from sampled where is_own and own_place <= $4
               union all
               select customer_id, place, false from sampled where place <= $4
           )
           select ids.id as "event_customer_id!", chosen.place as "customer!", chosen.is_own as "is_own!"
           from chosen
           cross join lateral (
               select chosen.customer_id as id
               union all
               select merged.customer_id from customer as merged
               where merged.workspace_id = $1 and merged.merged_into = chosen.customer_id
           ) as ids"#,
        db.workspace_id(),
        segment_id,
        SAMPLED,
        customers,
    )
    .fetch_all(&db.long_reads)
    .await?;
    let mut sample = SegmentSample::default();
    for row in rows {
        sample.event_customer_ids.push(row.event_customer_id);
        sample.customers.push(row.customer);
        sample.is_own.push(row.is_own);
    }
    Ok(sample)
}
