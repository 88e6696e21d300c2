//! Exposed customers of one experiment, and their outcomes from stored events.

use std::collections::HashMap;

use crate::domain::feature::STORED_RATE;
use crate::domain::time::Timestamp;
use crate::store::{ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// An exposed customer.
#[derive(Debug)]
pub(crate) struct CustomerExposure {
    /// Surviving id.
    pub customer_id: String,
    /// Key of the variation seen first.
    pub variation: String,
    pub exposed_at: Timestamp,
    /// As of the exposure.
    pub segment_id: Option<String>,
    /// The customer saw another variation too.
    pub saw_several_variations: bool,
    pub is_targeted: bool,
    pub is_as_assigned: bool,
}

/// The exposed customers of an experiment.
pub(crate) async fn list_exposed(
    db: &ReadOnlyDatabase,
    experiment_id: i32,
) -> Result<Vec<CustomerExposure>, StoreError> {
    let rows = sqlx::query!(
        r#"select customer_id as "customer_id!", variation as "variation!",
                  exposed_at as "exposed_at!", segment_id, saw_several_variations as "saw_several_variations!",
                  is_targeted as "is_targeted!", is_as_assigned as "is_as_assigned!"
           from customer_exposure where workspace_id = $1 and experiment_id = $2"#,
        db.workspace_id(),
        experiment_id,
    )
    .fetch_all(&db.long_reads)
    .await?;
    let exposed = rows.into_iter().map(|row| CustomerExposure {
        customer_id: row.customer_id,
        variation: row.variation,
        exposed_at: from_sql(row.exposed_at),
        segment_id: row.segment_id,
        saw_several_variations: row.saw_several_variations,
        is_targeted: row.is_targeted,
        is_as_assigned: row.is_as_assigned,
    });
    Ok(exposed.collect())
}

/// Events of the exposed customers to add up, around each exposure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventSum<'a> {
    /// Name of `track` events.
    pub event: &'a str,
    /// Numeric property; `None` counts the events.
    pub property: Option<&'a str>,
    /// The property is money, to convert by the rate that is stored with the event.
    pub is_money: bool,
    pub days_before: u32,
    pub days_after: u32,
}

/// Sums of one customer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CustomerSums {
    /// Before the exposure.
    pub before: f64,
    /// From the exposure on.
    pub after: f64,
}

/// The sums of each exposed customer with such an event.
pub(crate) async fn sum_events(
    db: &ReadOnlyDatabase,
    experiment_id: i32,
    sum: EventSum<'_>,
) -> Result<HashMap<String, CustomerSums>, StoreError> {
    let rows = sqlx::query!(
        r#"with counted as (
               select exposed.customer_id, event.occurred_at >= exposed.exposed_at as is_after,
                      case when $4::text is null then 1
                           when jsonb_typeof(event.properties -> $4) = 'number'
                           then (event.properties ->> $4)::double precision
                                * case when $5 then coalesce((event.properties ->> $8::text)
                                                                 ::double precision, 1)
                                       else 1 end
                      end as value
               from customer_exposure as exposed
               cross join lateral (
                   select exposed.customer_id as id
                   union all
                   select merged.customer_id from customer as merged
                   where merged.workspace_id = $1 and merged.merged_into = exposed.customer_id
               ) as ids
               join event on event.workspace_id = $1 and event.customer_id = ids.id
               where exposed.workspace_id = $1 and exposed.experiment_id = $2
                     and event.kind = 'track' and event.name = $3
                     and event.occurred_at >= exposed.exposed_at - make_interval(days => $6)
                     and event.occurred_at < exposed.exposed_at + make_interval(days => $7)
           )
           select customer_id as "customer_id!",
                  coalesce(sum(value) filter (where not is_after), 0) as "before!",
                  coalesce(sum(value) filter (where is_after), 0) as "after!"
           from counted group by customer_id"#,
        db.workspace_id(),
        experiment_id,
        sum.event,
        sum.property,
        sum.is_money,
        i32::try_from(sum.days_before).unwrap_or(i32::MAX),
        i32::try_from(sum.days_after).unwrap_or(i32::MAX),
        STORED_RATE,
    )
    .fetch_all(&db.long_reads)
    .await?;
    let mut sums = HashMap::with_capacity(rows.len());
    for row in rows {
        sums.insert(row.customer_id, CustomerSums { before: row.before, after: row.after });
    }
    Ok(sums)
}

/// Another experiment with customers of this one.
#[derive(Debug)]
pub(crate) struct SharedExperiment {
    pub key: String,
    /// Customers exposed to both, at most the days of the outcomes apart.
    pub customers: i64,
}

/// Experiments that share exposed customers with this one, by number of customers. `outcome_days`: most
/// days between the two exposures of a customer.
pub(crate) async fn list_shared(
    db: &ReadOnlyDatabase,
    experiment_id: i32,
    outcome_days: u32,
) -> Result<Vec<SharedExperiment>, StoreError> {
    Ok(sqlx::query_as!(
        SharedExperiment,
        r#"select other.key as "key!", count(*) as "customers!"
           from customer_exposure as own
           join customer_exposure as shared
             on shared.workspace_id = own.workspace_id
            and shared.customer_id = own.customer_id
            and shared.experiment_id <> own.experiment_id
            and shared.exposed_at between own.exposed_at - make_interval(days => $3)
                                      and own.exposed_at + make_interval(days => $3)
           join latest_experiment as other on other.workspace_id = shared.workspace_id
                                          and other.experiment_id = shared.experiment_id
           where own.workspace_id = $1 and own.experiment_id = $2
           group by other.key order by count(*) desc, other.key"#,
        db.workspace_id(),
        experiment_id,
        i32::try_from(outcome_days).unwrap_or(i32::MAX),
    )
    .fetch_all(&db.long_reads)
    .await?)
}

/// When another model became active in a period, ascending. Both ends are included.
pub(crate) async fn list_model_changes(
    db: &ReadOnlyDatabase,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<Timestamp>, StoreError> {
    let rows = sqlx::query_scalar!(
        r#"select changed_at as "changed_at!"
           from (select changed_at, active_model_id,
                        lag(active_model_id) over (order by generation) as before
                 from deployment where workspace_id = $1) as deployments
           where active_model_id is distinct from before and changed_at between $2 and $3
           order by changed_at"#,
        db.workspace_id(),
        to_sql(from),
        to_sql(until),
    )
    .fetch_all(&db.pool)
    .await?;
    Ok(rows.into_iter().map(from_sql).collect())
}
