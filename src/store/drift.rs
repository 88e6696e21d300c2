//! Drift counters: feature and output counts per model, hour, source and API key, and sums
//! within segments for sampled customers.

use std::ops::Range;

use crate::domain::drift::{DriftWindow, ScoreSource, SegmentSums};
use crate::domain::id::ModelId;
use crate::domain::time::Timestamp;
use crate::store::{
    DatabaseTransaction, ReadOnlyDatabase, StoreError, TimeRange, from_sql, to_sql,
};

/// The counts of one hour.
#[derive(Debug, Clone)]
pub struct DriftHour {
    pub started_at: Timestamp,
    /// Id of the API key; [`crate::domain::drift::NO_KEY`] if not counted by key.
    pub key_id: String,
    pub window: DriftWindow,
    /// Sums within segments for the same rows; `None` if not computed.
    pub segment_sums: Option<SegmentSums>,
}

/// Identity of the counts of one hour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DriftCounterKey<'a> {
    pub model: &'a ModelId,
    pub source: ScoreSource,
    pub key_id: &'a str,
    pub hour: Timestamp,
}

/// Selection of stored hours of one model.
#[derive(Debug, Clone, Copy)]
pub struct DriftWindowQuery<'a> {
    pub model: &'a ModelId,
    pub sources: &'a [ScoreSource],
    /// Counts per window.
    pub width: usize,
    pub period: TimeRange,
}

/// Adds to the counts of this model and hour from all replicas. A caller that adds several
/// sorts by model, source, key and hour: one lock order, so no deadlock.
pub(crate) async fn add_counts(
    tx: &mut DatabaseTransaction,
    counter: &DriftCounterKey<'_>,
    window: &DriftWindow,
) -> Result<(), StoreError> {
    let counts: Vec<i64> = window.counts.iter().map(|count| to_bigint(*count)).collect();
    sqlx::query!(
        "insert into drift_window as stored
             (workspace_id, model_id, source, hour, width, key_id, counts)
         values ($6, $1, $2, $3, cardinality($4::bigint[]), $5, $4)
         on conflict (workspace_id, model_id, width, hour, source, key_id) do update set counts =
             (select array_agg(old + added order by bin)
              from unnest(stored.counts, excluded.counts)
                   with ordinality as both_counts (old, added, bin))",
        counter.model.as_str(),
        counter.source.name(),
        to_sql(counter.hour),
        &counts,
        counter.key_id,
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Sums the counts of all keys, in the hours before `hour`.
pub(crate) async fn merge_keys_before(
    tx: &mut DatabaseTransaction,
    hour: Timestamp,
) -> Result<u64, StoreError> {
    let merged = sqlx::query!(
        "with deleted as (
             delete from drift_window
             where workspace_id = $2 and hour < $1 and key_id <> '' returning *
         ), summed as (
             select model_id, source, hour, width, bin, sum(each_count.rows)::bigint as total
             from deleted, unnest(counts) with ordinality as each_count (rows, bin)
             group by model_id, source, hour, width, bin
         )
         insert into drift_window as stored (workspace_id, model_id, source, hour, width, counts)
         select $2, model_id, source, hour, width, array_agg(total order by bin)
         from summed group by model_id, source, hour, width
         order by model_id, source, hour, width
         on conflict (workspace_id, model_id, width, hour, source, key_id) do update set counts =
             (select array_agg(old + added order by bin)
              from unnest(stored.counts, excluded.counts)
                   with ordinality as both_counts (old, added, bin))",
        to_sql(hour),
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(merged.rows_affected())
}

/// Inserts an hour that one replica counts for all; false if another replica has inserted
/// it.
pub(crate) async fn insert_counts(
    tx: &mut DatabaseTransaction,
    model: &ModelId,
    source: ScoreSource,
    hour: Timestamp,
    window: &DriftWindow,
) -> Result<bool, StoreError> {
    let counts: Vec<i64> = window.counts.iter().map(|count| to_bigint(*count)).collect();
    let inserted = sqlx::query!(
        "insert into drift_window (workspace_id, model_id, source, hour, width, counts)
         values ($5, $1, $2, $3, cardinality($4::bigint[]), $4)
         on conflict (workspace_id, model_id, width, hour, source, key_id) do nothing",
        model.as_str(),
        source.name(),
        to_sql(hour),
        &counts,
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Inserts the sums within segments of an hour, `width` sums per segment. The caller has
/// just inserted the hour's counts.
pub(crate) async fn insert_segment_sums(
    tx: &mut DatabaseTransaction,
    model: &ModelId,
    hour: Timestamp,
    width: usize,
    inside: &SegmentSums,
) -> Result<(), StoreError> {
    let rows: Vec<i64> = inside.rows.iter().map(|count| to_bigint(*count)).collect();
    sqlx::query!(
        "insert into drift_segment_sums (workspace_id, model_id, hour, width, rows, sums, squares)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (workspace_id, model_id, width, hour) do nothing",
        tx.workspace_id(),
        model.as_str(),
        to_sql(hour),
        to_integer(width),
        &rows,
        &inside.sums,
        &inside.squares,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Whether a replica has inserted this hour, with `width` counts.
pub(crate) async fn has_counts(
    db: &ReadOnlyDatabase,
    model: &ModelId,
    source: ScoreSource,
    width: usize,
    hour: Timestamp,
) -> Result<bool, StoreError> {
    let is_there = sqlx::query_scalar!(
        r#"select exists (select from drift_window
                          where workspace_id = $5 and model_id = $1 and source = $2
                                and width = $3 and hour = $4) as "is_there!""#,
        model.as_str(),
        source.name(),
        to_integer(width),
        to_sql(hour),
        db.workspace_id(),
    )
    .fetch_one(&db.pool)
    .await?;
    Ok(is_there)
}

/// Deletes the hours before `hour`.
pub(crate) async fn delete_before(
    tx: &mut DatabaseTransaction,
    hour: Timestamp,
) -> Result<u64, StoreError> {
    let dropped = sqlx::query!(
        "delete from drift_window where workspace_id = $1 and hour < $2",
        tx.workspace_id(),
        to_sql(hour),
    )
    .execute(&mut *tx.inner)
    .await?;
    sqlx::query!(
        "delete from drift_segment_sums where workspace_id = $1 and hour < $2",
        tx.workspace_id(),
        to_sql(hour),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(dropped.rows_affected())
}

/// The counts of a model from `since` to `until`, by hour and key: windows of `width`
/// counts from `sources`, and for sampled customers sums within segments, `within` per
/// segment (0: none). An hour after `until` stems from a wrong clock.
pub async fn list_hours(
    db: &ReadOnlyDatabase,
    query: &DriftWindowQuery<'_>,
    within: usize,
) -> Result<Vec<DriftHour>, StoreError> {
    let sources: Vec<&str> = query.sources.iter().map(|source| source.name()).collect();
    let rows = sqlx::query!(
        r#"select counted.hour, key_id, counts, rows as "rows?", sums as "sums?", squares as "squares?"
           from drift_window as counted left join drift_segment_sums as within
                on within.workspace_id = counted.workspace_id
                   and within.model_id = counted.model_id and within.hour = counted.hour
                   and within.width = $5 and counted.source = $6
           where counted.workspace_id = $8 and counted.model_id = $1 and counted.width = $2
                 and counted.hour >= $3 and counted.hour <= $7 and source = any($4::text[])
           order by counted.hour"#,
        query.model.as_str(),
        to_integer(query.width),
        to_sql(query.period.since),
        &sources as &[&str],
        to_integer(within),
        ScoreSource::Customers.name(),
        to_sql(query.period.until),
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    let hours = rows.into_iter().map(|row| {
        let inside = match (row.rows, row.sums, row.squares) {
            (Some(rows), Some(sums), Some(squares)) => {
                Some(SegmentSums { rows: to_counts(rows)?, sums, squares })
            }
            _ => None,
        };
        let window = DriftWindow { counts: to_counts(row.counts)? };
        Ok(DriftHour {
            started_at: from_sql(row.hour),
            key_id: row.key_id,
            window,
            segment_sums: inside,
        })
    });
    hours.collect()
}

/// A slice of the counts by hour, before `until`, over all keys except `without`
/// ([`crate::domain::drift::NO_KEY`]: no exception). Fast for many hours and few counts.
pub(crate) async fn list_count_slices(
    db: &ReadOnlyDatabase,
    query: &DriftWindowQuery<'_>,
    places: Range<usize>,
    without: &str,
) -> Result<Vec<(Timestamp, Vec<u64>)>, StoreError> {
    let sources: Vec<&str> = query.sources.iter().map(|source| source.name()).collect();
    let rows = sqlx::query!(
        r#"select hour, counts[$5:$6] as "counts!" from drift_window
           where workspace_id = $9 and model_id = $1 and width = $2 and source = any($4::text[])
                 and hour >= $3 and hour < $7 and (key_id = '' or key_id <> $8)
           order by hour"#,
        query.model.as_str(),
        to_integer(query.width),
        to_sql(query.period.since),
        &sources as &[&str],
        // Postgres arrays begin at 1, and a slice includes both ends.
        to_integer(places.start + 1),
        to_integer(places.end),
        to_sql(query.period.until),
        without,
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    let hours = rows.into_iter().map(|row| Ok((from_sql(row.hour), to_counts(row.counts)?)));
    hours.collect()
}

fn to_counts(counts: Vec<i64>) -> Result<Vec<u64>, StoreError> {
    let counts = counts.into_iter().map(|count| {
        u64::try_from(count).map_err(|_| StoreError::Corrupt {
            what: "drift window",
            why: format!("{count} is not a count"),
        })
    });
    counts.collect()
}

fn to_bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn to_integer(width: usize) -> i32 {
    i32::try_from(width).unwrap_or(i32::MAX)
}
