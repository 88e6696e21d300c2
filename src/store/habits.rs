//! When and where customers are active, from their stored events.

use crate::domain::persona::habits::{ActivityCounts, QuarterHour};
use crate::domain::time::Timestamp;
use crate::store::segment_sample::SegmentSample;
use crate::store::{ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// Activity of a segment and of all customers.
#[derive(Debug, Default)]
pub(crate) struct SegmentActivity {
    pub own: ActivityCounts,
    pub all: ActivityCounts,
}

/// Counts the events of a sample since `from`, each customer with the same weight. `event_names`: events
/// that count beside views of pages and screens.
pub(crate) async fn count_activity(
    db: &ReadOnlyDatabase,
    sample: &SegmentSample,
    from: Timestamp,
    event_names: &[String],
) -> Result<SegmentActivity, StoreError> {
    let rows = sqlx::query!(
        r#"with active as materialized (
               select chosen.is_own, event.occurred_at, event.kind,
                      1.0::double precision
                      / count(*) over (partition by chosen.is_own, chosen.customer) as weight
               from unnest($2::text[], $3::bigint[], $4::boolean[]) as chosen (id, customer, is_own)
               join event on event.workspace_id = $1 and event.customer_id = chosen.id
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
        &sample.event_customer_ids,
        &sample.customers,
        &sample.is_own,
        to_sql(from),
        event_names,
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
