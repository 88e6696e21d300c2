//! When and where customers are active, from their stored events.

use crate::domain::persona::habits::{ActivityCounts, QuarterHour};
use crate::domain::time::Timestamp;
use crate::store::{ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// Size of the random sample of all customers that contains the customers of the segment. Ordered by
/// the hash of the customer id, so every call reads the same sample.
const SAMPLED: i64 = 20_000;

/// Whose events are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HabitSample<'a> {
    pub segment_id: &'a str,
    /// Most customers of the segment, and of all customers.
    pub customers: i64,
    pub from: Timestamp,
    /// Names of the events that count beside views of pages and screens.
    pub event_names: &'a [String],
}

/// Activity of a segment and of all customers.
#[derive(Debug, Default)]
pub(crate) struct SegmentActivity {
    pub own: ActivityCounts,
    pub all: ActivityCounts,
}

/// Counts the events of a sample, each customer with the same weight.
pub(crate) async fn count_activity(
    db: &ReadOnlyDatabase,
    sample: HabitSample<'_>,
) -> Result<SegmentActivity, StoreError> {
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
               select customer_id, true as is_own from sampled where is_own and own_place <= $4
               union all
               select customer_id, false from sampled where place <= $4
           ),
           active as materialized (
               select chosen.is_own, event.occurred_at, event.kind,
                      1.0::double precision
                      / count(*) over (partition by chosen.is_own, chosen.customer_id) as weight
               from chosen
               cross join lateral (
                   select chosen.customer_id as id
                   union all
                   select merged.customer_id from customer as merged
                   where merged.workspace_id = $1 and merged.merged_into = chosen.customer_id
               ) as ids
               join event on event.workspace_id = $1 and event.customer_id = ids.id
               where event.occurred_at >= $5
                     and (event.kind in ('page', 'screen')
                          or event.kind = 'track' and event.name = any($6))
           )
           select is_own as "is_own!",
                  date_bin('15 minutes', occurred_at, 'epoch'::timestamptz) as "quarter!",
                  sum(weight) as "weight!",
                  coalesce(sum(weight) filter (where kind = 'page'), 0) as "web!",
                  coalesce(sum(weight) filter (where kind = 'screen'), 0) as "app!"
           from active group by 1, 2 order by 1, 2"#,
        db.workspace_id(),
        sample.segment_id,
        SAMPLED,
        sample.customers,
        to_sql(sample.from),
        sample.event_names,
    )
    .fetch_all(&db.long_reads)
    .await?;
    let mut activity = SegmentActivity::default();
    for row in rows {
        let counts = if row.is_own { &mut activity.own } else { &mut activity.all };
        counts.quarters.push(QuarterHour { begins: from_sql(row.quarter), weight: row.weight });
        counts.web += row.web;
        counts.app += row.app;
    }
    Ok(activity)
}
