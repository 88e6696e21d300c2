//! When and where customers are active, from their stored events.

use crate::domain::persona::habits::ActivityCell;
use crate::domain::time::Timestamp;
use crate::store::{ReadOnlyDatabase, StoreError, to_sql};

/// Whose events are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HabitSample<'a> {
    /// Customers in this segment now; `None`: all customers with an assignment.
    pub segment_id: Option<&'a str>,
    /// Customers in the order of the hash of their id: a random sample, the same at every call.
    pub customers: i64,
    /// Events of one customer.
    pub events: i64,
    pub from: Timestamp,
    /// Name of an IANA time zone.
    pub time_zone: &'a str,
    /// Property whose text names the channel. Without it, a page view is `web` and a screen view `app`.
    pub channel_property: &'a str,
}

/// The activity of a sample of customers, each with the same weight, by hour, weekday and channel.
pub(crate) async fn count_activity(
    db: &ReadOnlyDatabase,
    sample: HabitSample<'_>,
) -> Result<Vec<ActivityCell>, StoreError> {
    let rows = sqlx::query!(
        r#"with sampled as (
               select customer_id from customer
               where workspace_id = $1 and merged_into is null and segment_id is not null
                     and ($2::text is null or segment_id = $2)
               order by hashtextextended(customer_id, 0) limit $3
           ),
           active as (
               select sampled.customer_id, local.instant, local.channel,
                      count(*) over (partition by sampled.customer_id) as events
               from sampled
               cross join lateral (
                   select event.occurred_at at time zone $6 as instant,
                          case when jsonb_typeof(event.properties -> $7) = 'string'
                               then event.properties ->> $7
                               when event.kind = 'page' then 'web'
                               when event.kind = 'screen' then 'app'
                          end as channel
                   from event
                   where event.workspace_id = $1
                         and event.customer_id in (
                             select sampled.customer_id
                             union all
                             select merged.customer_id from customer as merged
                             where merged.workspace_id = $1
                                   and merged.merged_into = sampled.customer_id)
                         and event.occurred_at >= $5
                         and event.kind in ('track', 'page', 'screen')
                   limit $4
               ) as local
           )
           select extract(hour from instant)::integer as "hour!",
                  extract(isodow from instant)::integer as "weekday!", channel,
                  sum(1.0::double precision / events) as "weight!"
           from active group by 1, 2, 3 order by 1, 2, 3"#,
        db.workspace_id(),
        sample.segment_id,
        sample.customers,
        sample.events,
        to_sql(sample.from),
        sample.time_zone,
        sample.channel_property,
    )
    .fetch_all(&db.long_reads)
    .await?;
    let cells = rows.into_iter().map(|row| ActivityCell {
        hour: usize::try_from(row.hour).unwrap_or_default(),
        weekday: usize::try_from(row.weekday - 1).unwrap_or_default(),
        channel: row.channel.map(Into::into),
        weight: row.weight,
    });
    Ok(cells.collect())
}
