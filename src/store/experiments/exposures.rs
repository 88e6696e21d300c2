//! First exposures of customers to experiments.

use std::collections::HashMap;

use crate::domain::experiment::spec::SeenVariation;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::customers::customer_key;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, to_sql};

/// The customer of an exposure.
#[derive(Debug)]
pub(crate) struct ExposedCustomerRow {
    /// Surviving id.
    pub customer: CustomerKey,
    /// At the exposure. The present one if no change is known from before the exposure.
    pub segment_id: Option<String>,
    /// Ids of the present audiences.
    pub audiences: Option<Vec<i32>>,
}

/// The customers of exposures, each given by an id as sent and the instant of the exposure, in order.
/// `None` for an unknown id.
pub(crate) async fn find_customers(
    tx: &mut DatabaseTransaction,
    customers: &[&str],
    exposed_at: &[Timestamp],
) -> Result<Vec<Option<ExposedCustomerRow>>, StoreError> {
    let times: Vec<_> = exposed_at.iter().map(|at| to_sql(*at)).collect();
    let rows = sqlx::query!(
        r#"select coalesce(named.merged_into, named.customer_id) as customer_id,
                  coalesce(before.segment_id, survivor.segment_id) as segment_id,
                  survivor.audiences as "audiences?"
           from unnest($2::text[], $3::timestamptz[]) with ordinality
                    as sent (customer_id, exposed_at, number)
           left join customer as named on named.workspace_id = $1
                                      and named.customer_id = sent.customer_id
           left join customer as survivor
                  on survivor.workspace_id = $1
                 and survivor.customer_id = coalesce(named.merged_into, named.customer_id)
           left join lateral (
               select history.segment_id from assignment_history as history
               where history.workspace_id = $1 and history.customer_id = survivor.customer_id
                     and history.merged_into is null and history.assigned_at <= sent.exposed_at
               order by history.transaction desc, history.change desc limit 1
           ) as before on true
           order by sent.number"#,
        tx.workspace_id(),
        customers as &[&str],
        &times,
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        found.push(match row.customer_id {
            None => None,
            Some(customer) => Some(ExposedCustomerRow {
                customer: customer_key(customer)?,
                segment_id: row.segment_id,
                audiences: row.audiences,
            }),
        });
    }
    Ok(found)
}

/// An exposure to record.
#[derive(Debug)]
pub(crate) struct NewExposure<'a> {
    pub experiment_id: i32,
    /// As sent.
    pub customer_id: &'a str,
    /// Key of the variation.
    pub variation: &'a str,
    pub exposed_at: Timestamp,
    pub segment_id: Option<&'a str>,
    pub is_targeted: bool,
    pub is_as_assigned: bool,
    pub saw_several_variations: bool,
}

/// Records exposures, at most one for each customer id and experiment, sorted by both. Of several
/// exposures of a customer, the earliest counts, whatever the order of arrival. Returns the number of
/// customers that had none before.
pub(crate) async fn record(
    tx: &mut DatabaseTransaction,
    exposures: &[NewExposure<'_>],
) -> Result<u64, StoreError> {
    let ids: Vec<i32> = exposures.iter().map(|one| one.experiment_id).collect();
    let customers: Vec<&str> = exposures.iter().map(|one| one.customer_id).collect();
    let variations: Vec<&str> = exposures.iter().map(|one| one.variation).collect();
    let times: Vec<_> = exposures.iter().map(|one| to_sql(one.exposed_at)).collect();
    let segments: Vec<Option<&str>> = exposures.iter().map(|one| one.segment_id).collect();
    let targeted: Vec<bool> = exposures.iter().map(|one| one.is_targeted).collect();
    let assigned: Vec<bool> = exposures.iter().map(|one| one.is_as_assigned).collect();
    let several: Vec<bool> = exposures.iter().map(|one| one.saw_several_variations).collect();
    let new = sqlx::query_scalar!(
        r#"with written as (
               insert into exposure as known
                   (workspace_id, experiment_id, customer_id, variation, exposed_at, segment_id,
                    is_targeted, is_as_assigned, saw_several_variations)
               select $1, unnest($2::integer[]), unnest($3::text[]), unnest($4::text[]),
                      unnest($5::timestamptz[]), unnest($6::text[]), unnest($7::boolean[]),
                      unnest($8::boolean[]), unnest($9::boolean[])
               on conflict (workspace_id, experiment_id, customer_id) do update
               set exposed_at = least(known.exposed_at, excluded.exposed_at),
                   variation = case when excluded.exposed_at < known.exposed_at
                                    then excluded.variation else known.variation end,
                   segment_id = case when excluded.exposed_at < known.exposed_at
                                     then excluded.segment_id else known.segment_id end,
                   is_as_assigned = case when excluded.exposed_at < known.exposed_at
                                         then excluded.is_as_assigned
                                         else known.is_as_assigned end,
                   saw_several_variations = known.saw_several_variations
                                            or excluded.saw_several_variations
                                            or known.variation <> excluded.variation
               where excluded.exposed_at < known.exposed_at
                  or not known.saw_several_variations
                     and (excluded.saw_several_variations
                          or known.variation <> excluded.variation)
               returning xmax = 0 as is_new
           )
           select count(*) filter (where is_new) as "new!" from written"#,
        tx.workspace_id(),
        &ids,
        &customers as &[&str],
        &variations as &[&str],
        &times,
        &segments as &[Option<&str>],
        &targeted,
        &assigned,
        &several,
    )
    .fetch_one(&mut *tx.inner)
    .await?;
    Ok(new.unsigned_abs())
}

/// The first exposure of each of these surviving customers to each of these experiments.
pub(crate) async fn find_seen(
    db: &ReadOnlyDatabase,
    customers: &[&str],
    experiments: &[i32],
) -> Result<HashMap<String, Vec<SeenVariation>>, StoreError> {
    let rows = sqlx::query!(
        r#"select distinct on (owner.customer_id, known.experiment_id)
                  owner.customer_id as "customer_id!", known.experiment_id as "experiment_id!",
                  known.variation as "variation!"
           from unnest($2::text[]) as owner (customer_id)
           cross join lateral (
               select exposure.experiment_id, exposure.variation, exposure.exposed_at,
                      exposure.customer_id
               from exposure
               where exposure.workspace_id = $1 and exposure.customer_id = owner.customer_id
                     and exposure.experiment_id = any($3)
               union all
               select exposure.experiment_id, exposure.variation, exposure.exposed_at,
                      exposure.customer_id
               from customer as merged
               join exposure on exposure.workspace_id = $1
                            and exposure.customer_id = merged.customer_id
               where merged.workspace_id = $1 and merged.merged_into = owner.customer_id
                     and exposure.experiment_id = any($3)
           ) as known
           order by owner.customer_id, known.experiment_id, known.exposed_at, known.customer_id"#,
        db.workspace_id(),
        customers as &[&str],
        experiments,
    )
    .fetch_all(&db.pool)
    .await?;
    let mut seen: HashMap<String, Vec<SeenVariation>> = HashMap::new();
    for row in rows {
        let variation =
            SeenVariation { experiment_id: row.experiment_id, variation: row.variation };
        seen.entry(row.customer_id).or_default().push(variation);
    }
    Ok(seen)
}
