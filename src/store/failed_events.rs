//! Rejected events (dead letter queue): stored, listed, counted, replayed, deleted by
//! retention.

use crate::domain::access::MessageIdNamespace;
use crate::domain::time::Timestamp;
use crate::domain::wire::IngestionEndpoint;
use crate::store::sources::stored_endpoint;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// A rejected event to store.
#[derive(Debug)]
pub struct NewFailedEvent {
    pub reason: String,
    pub faults: String,
    pub raw: String,
    pub is_complete: bool,
}

/// Filter of rejected events; `None` matches all.
#[derive(Debug, Clone, Default)]
pub struct FailedEventFilter {
    pub endpoint: Option<String>,
    pub key_id: Option<String>,
    pub reason: Option<String>,
}

#[derive(Debug)]
pub(crate) struct FailedEventRow {
    pub failed_event_id: i64,
    pub received_at: Timestamp,
    pub endpoint: String,
    pub key_id: String,
    pub reason: String,
    pub faults: String,
    /// `None` if not requested.
    pub raw: Option<String>,
    pub is_complete: bool,
    pub replayed_at: Option<Timestamp>,
    pub outcome: Option<String>,
}

/// Number of rejected events by key, endpoint and reason.
#[derive(Debug)]
pub(crate) struct FailedEventGroup {
    pub key_id: String,
    pub endpoint: String,
    pub reason: String,
    pub events: i64,
    pub replayed: i64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
}

/// A rejected event to replay.
#[derive(Debug)]
pub(crate) struct ReplayableEvent {
    pub failed_event_id: i64,
    pub received_at: Timestamp,
    pub endpoint: IngestionEndpoint,
    /// Namespace of its message id.
    pub sender: MessageIdNamespace,
    pub raw: String,
}

/// Origin of rejected events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FailedEventSource<'a> {
    pub endpoint: IngestionEndpoint,
    pub key_id: &'a str,
    /// The key is a public write key.
    pub is_public: bool,
}

/// Outcome of one event in a replay.
#[derive(Debug)]
pub(crate) struct ReplayedEvent {
    pub failed_event_id: i64,
    pub outcome: &'static str,
}

/// An event that was rejected again, with the new reason.
#[derive(Debug)]
pub(crate) struct RejectedReplay {
    pub failed_event_id: i64,
    pub reason: String,
    pub faults: String,
}

pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    received_at: Timestamp,
    source: FailedEventSource<'_>,
    failed: &[NewFailedEvent],
) -> Result<(), StoreError> {
    let reasons: Vec<&str> = failed.iter().map(|f| f.reason.as_str()).collect();
    let faults: Vec<&str> = failed.iter().map(|f| f.faults.as_str()).collect();
    let raws: Vec<&str> = failed.iter().map(|f| f.raw.as_str()).collect();
    let is_complete: Vec<bool> = failed.iter().map(|f| f.is_complete).collect();
    sqlx::query!(
        "insert into failed_event
             (workspace_id, received_at, endpoint, key_id, is_public, reason, faults, raw,
              is_complete)
         select $9, $1, $2, $3, $8, * from unnest($4::text[], $5::text[], $6::text[], $7::boolean[])",
        to_sql(received_at),
        source.endpoint.as_str(),
        source.key_id,
        &reasons as &[&str],
        &faults as &[&str],
        &raws as &[&str],
        &is_complete,
        source.is_public,
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Newest first, with ids below `before`.
pub(crate) async fn list(
    db: &ReadOnlyDatabase,
    filter: &FailedEventFilter,
    before: Option<i64>,
    with_raw: bool,
    limit: i64,
) -> Result<Vec<FailedEventRow>, StoreError> {
    let rows = sqlx::query!(
        "select failed_event_id, received_at, endpoint, key_id, reason, faults, is_complete, replayed_at,
                outcome, case when $5 then raw end as raw
         from failed_event
         where workspace_id = $7 and ($1::bigint is null or failed_event_id < $1)
           and ($2::text is null or endpoint = $2)
           and ($3::text is null or key_id = $3)
           and ($4::text is null or reason = $4)
         order by failed_event_id desc limit $6",
        before,
        filter.endpoint.as_deref(),
        filter.key_id.as_deref(),
        filter.reason.as_deref(),
        with_raw,
        limit,
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    let row = rows.into_iter().map(|row| FailedEventRow {
        failed_event_id: row.failed_event_id,
        received_at: from_sql(row.received_at),
        endpoint: row.endpoint,
        key_id: row.key_id,
        reason: row.reason,
        faults: row.faults,
        raw: row.raw,
        is_complete: row.is_complete,
        replayed_at: row.replayed_at.map(from_sql),
        outcome: row.outcome,
    });
    Ok(row.collect())
}

/// The ids among these that no failed event has.
pub(crate) async fn list_unknown(
    db: &ReadOnlyDatabase,
    ids: &[i64],
) -> Result<Vec<i64>, StoreError> {
    let unknown = sqlx::query_scalar!(
        r#"select id as "id!" from unnest($1::bigint[]) as id
           where not exists (
               select from failed_event where workspace_id = $2 and failed_event_id = id)"#,
        ids,
        db.workspace_id(),
    );
    Ok(unknown.fetch_all(&db.pool).await?)
}

/// The largest groups received since `since`, largest first.
pub(crate) async fn summarize(
    db: &ReadOnlyDatabase,
    since: Option<Timestamp>,
    limit: i64,
) -> Result<Vec<FailedEventGroup>, StoreError> {
    let rows = sqlx::query!(
        r#"select key_id, endpoint, reason, count(*) as "events!", count(replayed_at) as "replayed!",
                  min(received_at) as "first_at!", max(received_at) as "last_at!"
           from failed_event
           where workspace_id = $3 and ($1::timestamptz is null or received_at >= $1)
           group by key_id, endpoint, reason
           order by count(*) desc, key_id, endpoint, reason limit $2"#,
        since.map(to_sql),
        limit,
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    let group = rows.into_iter().map(|row| FailedEventGroup {
        key_id: row.key_id,
        endpoint: row.endpoint,
        reason: row.reason,
        events: row.events,
        replayed: row.replayed,
        first_at: from_sql(row.first_at),
        last_at: from_sql(row.last_at),
    });
    Ok(group.collect())
}

/// Oldest first, with ids above `after`; restricted to `ids` if given. Excludes replayed
/// events and truncated ones.
pub(crate) async fn list_replayable(
    db: &ReadOnlyDatabase,
    ids: Option<&[i64]>,
    filter: &FailedEventFilter,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<ReplayableEvent>, StoreError> {
    let rows = sqlx::query!(
        "select failed_event_id, received_at, endpoint, key_id, is_public, raw from failed_event
         where workspace_id = $7 and replayed_at is null and is_complete
           and ($1::bigint[] is null or failed_event_id = any($1))
           and ($2::bigint is null or failed_event_id > $2)
           and ($3::text is null or endpoint = $3)
           and ($4::text is null or key_id = $4)
           and ($5::text is null or reason = $5)
         order by failed_event_id limit $6",
        ids,
        after,
        filter.endpoint.as_deref(),
        filter.key_id.as_deref(),
        filter.reason.as_deref(),
        limit,
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    let replayable = rows.into_iter().map(|row| {
        Ok(ReplayableEvent {
            failed_event_id: row.failed_event_id,
            received_at: from_sql(row.received_at),
            endpoint: stored_endpoint("failed event", &row.endpoint)?,
            sender: if row.is_public {
                MessageIdNamespace::of_public_key(&row.key_id)
            } else {
                MessageIdNamespace::TRUSTED
            },
            raw: row.raw,
        })
    });
    replayable.collect()
}

/// Marks replayed events with their outcome. Events marked by another replay stay
/// unchanged.
pub(crate) async fn mark_replayed(
    tx: &mut DatabaseTransaction,
    replayed: &[ReplayedEvent],
    now: Timestamp,
) -> Result<(), StoreError> {
    let ids: Vec<i64> = replayed.iter().map(|r| r.failed_event_id).collect();
    let outcomes: Vec<&str> = replayed.iter().map(|r| r.outcome).collect();
    sqlx::query!(
        "update failed_event f set replayed_at = $3, outcome = r.outcome
         from unnest($1::bigint[], $2::text[]) as r (failed_event_id, outcome)
         where f.workspace_id = $4 and f.failed_event_id = r.failed_event_id and f.replayed_at is null",
        &ids,
        &outcomes as &[&str],
        to_sql(now),
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Replaces the stored reason with that of the latest replay.
pub(crate) async fn update_reasons(
    tx: &mut DatabaseTransaction,
    failed: &[RejectedReplay],
) -> Result<(), StoreError> {
    let ids: Vec<i64> = failed.iter().map(|f| f.failed_event_id).collect();
    let reasons: Vec<&str> = failed.iter().map(|f| &*f.reason).collect();
    let faults: Vec<&str> = failed.iter().map(|f| &*f.faults).collect();
    sqlx::query!(
        "update failed_event f set reason = r.reason, faults = r.faults
         from unnest($1::bigint[], $2::text[], $3::text[]) as r (failed_event_id, reason, faults)
         where f.workspace_id = $4 and f.failed_event_id = r.failed_event_id and f.replayed_at is null",
        &ids,
        &reasons as &[&str],
        &faults as &[&str],
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Deletes at most `limit` events received before `before`; returns their number.
pub(crate) async fn delete_older(
    tx: &mut DatabaseTransaction,
    before: Timestamp,
    limit: i64,
) -> Result<u64, StoreError> {
    let dropped = sqlx::query!(
        "delete from failed_event where workspace_id = $1 and failed_event_id in (
             select failed_event_id from failed_event
             where workspace_id = $1 and received_at < $2 order by received_at limit $3)",
        tx.workspace_id(),
        to_sql(before),
        limit,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(dropped.rows_affected())
}

/// Deletes at most `limit` events older than the newest `keep`; returns their number.
pub(crate) async fn delete_beyond_newest(
    tx: &mut DatabaseTransaction,
    keep: i64,
    limit: i64,
) -> Result<u64, StoreError> {
    let dropped = sqlx::query!(
        "delete from failed_event where workspace_id = $1 and failed_event_id in (
             select failed_event_id from failed_event
             where workspace_id = $1
               and failed_event_id <= (select failed_event_id from failed_event
                                       where workspace_id = $1
                                       order by failed_event_id desc offset $2 limit 1)
             order by failed_event_id limit $3)",
        tx.workspace_id(),
        keep,
        limit,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(dropped.rows_affected())
}
