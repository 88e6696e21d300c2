//! First exposures of customers to experiments.

use std::collections::HashMap;

use crate::domain::experiment::spec::SeenVariation;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::customers::customer_key;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, to_sql};

/// The customer of an exposure, as of now.
#[derive(Debug)]
pub(crate) struct ExposedCustomerRow {
    /// Surviving id.
    pub customer: CustomerKey,
    pub segment_id: Option<String>,
    /// Ids of audiences.
    pub audiences: Option<Vec<i32>>,
}

/// The customers with these ids, by the id given. Unknown ids are left out.
pub(crate) async fn find_customers(
    tx: &mut DatabaseTransaction,
    customers: &[&str],
) -> Result<HashMap<String, ExposedCustomerRow>, StoreError> {
    let rows = sqlx::query!(
        r#"select named.customer_id as named_id,
                  coalesce(survivor.customer_id, named.customer_id) as "customer_id!",
                  coalesce(survivor.segment_id, named.segment_id) as segment_id,
                  coalesce(survivor.audiences, named.audiences) as audiences
           from customer as named
           left join customer as survivor on survivor.workspace_id = named.workspace_id
                                         and survivor.customer_id = named.merged_into
           where named.workspace_id = $1 and named.customer_id = any($2)"#,
        tx.workspace_id(),
        customers as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        let (segment_id, audiences) = (row.segment_id, row.audiences);
        let customer = customer_key(row.customer_id)?;
        found.insert(row.named_id, ExposedCustomerRow { customer, segment_id, audiences });
    }
    Ok(found)
}

/// An exposure to record.
#[derive(Debug)]
pub(crate) struct NewExposure<'a> {
    pub experiment_id: i32,
    pub customer: &'a ExposedCustomerRow,
    /// Key of the variation.
    pub variation: &'a str,
    pub exposed_at: Timestamp,
    pub is_targeted: bool,
    pub is_as_assigned: bool,
    pub saw_others: bool,
}

/// Records exposures, at most one for each customer and experiment, sorted by both. Of several
/// exposures of a customer, the earliest counts, whatever the order of arrival. The segment and the
/// audiences of the first report remain. Returns the number of customers that had none before.
pub(crate) async fn record(
    tx: &mut DatabaseTransaction,
    exposures: &[NewExposure<'_>],
) -> Result<u64, StoreError> {
    let ids: Vec<i32> = exposures.iter().map(|one| one.experiment_id).collect();
    let customers: Vec<&str> = exposures.iter().map(|one| one.customer.customer.as_str()).collect();
    let variations: Vec<&str> = exposures.iter().map(|one| one.variation).collect();
    let times: Vec<_> = exposures.iter().map(|one| to_sql(one.exposed_at)).collect();
    let segments: Vec<Option<&str>> =
        exposures.iter().map(|one| one.customer.segment_id.as_deref()).collect();
    // Arrays of arrays must be rectangular in Postgres, so each array is sent as its text.
    let audiences: Vec<Option<String>> =
        exposures.iter().map(|one| one.customer.audiences.as_deref().map(array_text)).collect();
    let targeted: Vec<bool> = exposures.iter().map(|one| one.is_targeted).collect();
    let assigned: Vec<bool> = exposures.iter().map(|one| one.is_as_assigned).collect();
    let others: Vec<bool> = exposures.iter().map(|one| one.saw_others).collect();
    let new = sqlx::query_scalar!(
        r#"with written as (
               insert into exposure as known
                   (workspace_id, experiment_id, customer_id, variation, exposed_at, segment_id,
                    audiences, is_targeted, is_as_assigned, saw_others)
               select $1, experiment_id, customer_id, variation, exposed_at, segment_id,
                      audiences::integer[], is_targeted, is_as_assigned, saw_others
               from unnest($2::integer[], $3::text[], $4::text[], $5::timestamptz[], $6::text[],
                           $7::text[], $8::boolean[], $9::boolean[], $10::boolean[])
                    as sent (experiment_id, customer_id, variation, exposed_at, segment_id,
                             audiences, is_targeted, is_as_assigned, saw_others)
               on conflict (workspace_id, experiment_id, customer_id) do update
               set exposed_at = least(known.exposed_at, excluded.exposed_at),
                   variation = case when excluded.exposed_at < known.exposed_at
                                    then excluded.variation else known.variation end,
                   is_as_assigned = case when excluded.exposed_at < known.exposed_at
                                         then excluded.is_as_assigned
                                         else known.is_as_assigned end,
                   saw_others = known.saw_others or excluded.saw_others
                                or known.variation <> excluded.variation
               where excluded.exposed_at < known.exposed_at
                  or not known.saw_others
                     and (excluded.saw_others or known.variation <> excluded.variation)
               returning xmax = 0 as is_new
           )
           select count(*) filter (where is_new) as "new!" from written"#,
        tx.workspace_id(),
        &ids,
        &customers as &[&str],
        &variations as &[&str],
        &times,
        &segments as &[Option<&str>],
        &audiences as &[Option<String>],
        &targeted,
        &assigned,
        &others,
    )
    .fetch_one(&mut *tx.inner)
    .await?;
    Ok(new.unsigned_abs())
}

/// An array in Postgres's text form.
fn array_text(ids: &[i32]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    format!("{{{}}}", ids.join(","))
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
               select exposure.experiment_id, exposure.variation, exposure.exposed_at
               from exposure
               where exposure.workspace_id = $1 and exposure.customer_id = owner.customer_id
                     and exposure.experiment_id = any($3)
               union all
               select exposure.experiment_id, exposure.variation, exposure.exposed_at
               from customer as merged
               join exposure on exposure.workspace_id = $1
                            and exposure.customer_id = merged.customer_id
               where merged.workspace_id = $1 and merged.merged_into = owner.customer_id
                     and exposure.experiment_id = any($3)
           ) as known
           order by owner.customer_id, known.experiment_id, known.exposed_at"#,
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
