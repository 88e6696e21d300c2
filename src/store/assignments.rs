//! Where each customer stands: the current assignment, and a history of changes.

use crate::domain::id::{CustomerKey, ModelId};
use crate::domain::time::Timestamp;
use crate::store::models::model_id;
use crate::store::{ReadDb, StoreError, Tx, from_sql, to_sql};

/// A stored score of one customer, by one lineup, at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// `None`: the rule-based fallback answered.
    pub model: Option<ModelId>,
    pub segment: String,
    pub distance: Option<f32>,
    pub p_value: Option<f64>,
    pub confidence: Option<f32>,
    pub outlier: bool,
    /// Of the lineup that scored.
    pub generation: i64,
    pub assigned_at: Timestamp,
}

/// What recording changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Never assigned before.
    pub first: u64,
    /// Another segment or model than before.
    pub moved: u64,
    pub kept: u64,
}

/// Writes the current assignments, and one line of history for each that is
/// new or changed. The customers' rows must be locked by this transaction.
pub async fn record(
    tx: &mut Tx,
    assignments: &[(&CustomerKey, Assignment)],
) -> Result<Recorded, StoreError> {
    let ids: Vec<&str> = assignments.iter().map(|(c, _)| c.as_str()).collect();
    let of = assignments.iter().map(|(_, a)| a);
    let models: Vec<Option<&str>> =
        of.clone().map(|a| a.model.as_ref().map(ModelId::as_str)).collect();
    let segments: Vec<&str> = of.clone().map(|a| a.segment.as_str()).collect();
    let distances: Vec<Option<f32>> = of.clone().map(|a| a.distance).collect();
    let p_values: Vec<Option<f64>> = of.clone().map(|a| a.p_value).collect();
    let confidences: Vec<Option<f32>> = of.clone().map(|a| a.confidence).collect();
    let outliers: Vec<bool> = of.clone().map(|a| a.outlier).collect();
    let generations: Vec<i64> = of.clone().map(|a| a.generation).collect();
    let times: Vec<_> = of.map(|a| to_sql(a.assigned_at)).collect();
    let counts = sqlx::query!(
        r#"with new as (
               select * from unnest($1::text[], $2::text[], $3::text[], $4::real[],
                   $5::double precision[], $6::real[], $7::boolean[], $8::bigint[], $9::timestamptz[])
                 as t (customer_id, model_id, segment, distance, p_value, confidence, outlier,
                       generation, assigned_at)
           ), compared as (
               select new.*, old.customer_id is null as first,
                      old.segment is distinct from new.segment
                        or old.model_id is distinct from new.model_id as changed
               from new left join assignment as old using (customer_id)
           ), history as (
               insert into assignment_history
                   (customer_id, assigned_at, model_id, segment, distance, outlier, generation)
               select customer_id, assigned_at, model_id, segment, distance, outlier, generation
               from compared where changed
           ), saved as (
               insert into assignment (customer_id, model_id, segment, distance, p_value,
                                       confidence, outlier, generation, assigned_at)
               select customer_id, model_id, segment, distance, p_value,
                      confidence, outlier, generation, assigned_at from compared
               on conflict (customer_id) do update set
                   model_id = excluded.model_id, segment = excluded.segment,
                   distance = excluded.distance, p_value = excluded.p_value,
                   confidence = excluded.confidence, outlier = excluded.outlier,
                   generation = excluded.generation, assigned_at = excluded.assigned_at
           )
           select count(*) filter (where first) as "first!",
                  count(*) filter (where changed and not first) as "moved!",
                  count(*) filter (where not changed) as "kept!"
           from compared"#,
        &ids as &[&str],
        &models as &[Option<&str>],
        &segments as &[&str],
        &distances as &[Option<f32>],
        &p_values as &[Option<f64>],
        &confidences as &[Option<f32>],
        &outliers,
        &generations,
        &times,
    )
    .fetch_one(&mut *tx.inner)
    .await?;
    Ok(Recorded {
        first: counts.first.unsigned_abs(),
        moved: counts.moved.unsigned_abs(),
        kept: counts.kept.unsigned_abs(),
    })
}

pub async fn current(
    db: &ReadDb,
    customer: &CustomerKey,
) -> Result<Option<Assignment>, StoreError> {
    let row = sqlx::query!(
        "select model_id, segment, distance, p_value, confidence, outlier, generation, assigned_at
         from assignment where customer_id = $1",
        customer.as_str(),
    )
    .fetch_optional(&db.pool)
    .await?;
    row.map(|row| {
        Ok(Assignment {
            model: row.model_id.map(model_id).transpose()?,
            segment: row.segment,
            distance: row.distance,
            p_value: row.p_value,
            confidence: row.confidence,
            outlier: row.outlier,
            generation: row.generation,
            assigned_at: from_sql(row.assigned_at),
        })
    })
    .transpose()
}

/// One line of a customer's history.
#[derive(Debug, Clone)]
pub struct Change {
    pub model: Option<ModelId>,
    pub segment: String,
    pub distance: Option<f32>,
    pub outlier: bool,
    pub generation: i64,
    pub assigned_at: Timestamp,
}

/// Changes of one customer, newest first, older than `before`.
pub async fn history(
    db: &ReadDb,
    customer: &CustomerKey,
    before: Option<Timestamp>,
    limit: i64,
) -> Result<Vec<Change>, StoreError> {
    let rows = sqlx::query!(
        "select model_id, segment, distance, outlier, generation, assigned_at
         from assignment_history
         where customer_id = $1 and ($2::timestamptz is null or assigned_at < $2)
         order by assigned_at desc, generation desc limit $3",
        customer.as_str(),
        before.map(to_sql),
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Change {
                model: row.model_id.map(model_id).transpose()?,
                segment: row.segment,
                distance: row.distance,
                outlier: row.outlier,
                generation: row.generation,
                assigned_at: from_sql(row.assigned_at),
            })
        })
        .collect()
}

/// How many customers stand in each segment now, by one model or the fallback.
pub async fn sizes(
    db: &ReadDb,
    model: Option<&ModelId>,
) -> Result<Vec<(String, i64, i64)>, StoreError> {
    let rows = sqlx::query!(
        r#"select segment, count(*) as "customers!", count(*) filter (where outlier) as "outliers!"
           from assignment where model_id is not distinct from $1
           group by segment order by 2 desc, 1"#,
        model.map(ModelId::as_str),
    )
    .fetch_all(&db.pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.segment, row.customers, row.outliers)).collect())
}
