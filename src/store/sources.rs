//! Event sources: first and last event, and volume by hour.

use std::collections::BTreeMap;

use crate::domain::event::source_volume::{HourlyEvents, SourceHistory};
use crate::domain::time::{MILLIS_PER_HOUR, Timestamp};
use crate::domain::wire::IngestionEndpoint;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// A source: an API key and the endpoint that it sends to.
#[derive(Debug, Clone)]
pub struct EventSourceRow {
    pub endpoint: IngestionEndpoint,
    pub key_id: String,
    /// Name of the key; `None` if the key no longer exists.
    pub name: Option<String>,
    pub volume: SourceHistory,
}

/// New events of one source in one hour, since the last write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SourceActivity {
    pub events: u64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
}

/// Adds to the counts of this source and hour from all replicas. A caller that adds several
/// sorts by endpoint, key and hour. A stored last event more than a day later than the new
/// one stems from a wrong clock and is replaced: new counts are at most minutes old.
pub(crate) async fn add_counts(
    tx: &mut DatabaseTransaction,
    endpoint: IngestionEndpoint,
    key_id: &str,
    hour: i64,
    arrived: SourceActivity,
) -> Result<(), StoreError> {
    let before = sqlx::query_scalar!(
        "select last_at from event_source
         where workspace_id = $1 and endpoint = $2 and key_id = $3 for update",
        tx.workspace_id(),
        endpoint.as_str(),
        key_id,
    )
    .fetch_optional(&mut *tx.inner)
    .await?;
    let gap = before.map_or(0, |at| arrived.first_at.millis() - from_sql(at).millis());
    sqlx::query!(
        "insert into event_source as stored (workspace_id, endpoint, key_id, first_at, last_at)
         values ($1, $2, $3, $4, $5)
         on conflict (workspace_id, endpoint, key_id) do update
         set last_at = case when stored.last_at > excluded.last_at + interval '1 day'
                            then excluded.last_at
                            else greatest(stored.last_at, excluded.last_at) end",
        tx.workspace_id(),
        endpoint.as_str(),
        key_id,
        to_sql(arrived.first_at),
        to_sql(arrived.last_at),
    )
    .execute(&mut *tx.inner)
    .await?;
    sqlx::query!(
        "insert into event_source_hour as stored
             (workspace_id, endpoint, key_id, hour, events, longest_gap_millis)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (workspace_id, endpoint, key_id, hour) do update
         set events = stored.events + excluded.events,
             longest_gap_millis = greatest(stored.longest_gap_millis, excluded.longest_gap_millis)",
        tx.workspace_id(),
        endpoint.as_str(),
        key_id,
        to_sql(Timestamp::from_millis(hour * MILLIS_PER_HOUR)),
        i64::try_from(arrived.events).unwrap_or(i64::MAX),
        gap.max(0),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Every source with a valid key, with its volume; by endpoint and key.
pub(crate) async fn list(db: &ReadOnlyDatabase) -> Result<Vec<EventSourceRow>, StoreError> {
    let sources = sqlx::query!(
        r#"select endpoint, event_source.key_id, name as "name?", first_at, last_at
           from event_source left join api_key using (workspace_id, key_id)
           where workspace_id = $1 and revoked_at is null order by endpoint, event_source.key_id"#,
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    let hours = sqlx::query!(
        "select endpoint, key_id, hour, events, longest_gap_millis from event_source_hour
         where workspace_id = $1",
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    let mut by_source: BTreeMap<(String, String), BTreeMap<i64, HourlyEvents>> = BTreeMap::new();
    for row in hours {
        let events = u64::try_from(row.events).map_err(|_| StoreError::Corrupt {
            what: "hour of a source",
            why: format!("{} is not a count", row.events),
        })?;
        let sent = HourlyEvents { events, longest_gap_millis: row.longest_gap_millis };
        let hours = by_source.entry((row.endpoint, row.key_id)).or_default();
        hours.insert(from_sql(row.hour).hour(), sent);
    }
    let rows = sources.into_iter().map(|row| {
        let endpoint = stored_endpoint("source", &row.endpoint)?;
        let hours = by_source.remove(&(row.endpoint, row.key_id.clone())).unwrap_or_default();
        let (first_at, last_at) = (from_sql(row.first_at), from_sql(row.last_at));
        let past = SourceHistory { first_at, last_at, hours };
        Ok(EventSourceRow { endpoint, key_id: row.key_id, name: row.name, volume: past })
    });
    rows.collect()
}

/// Decodes a stored endpoint of the row `what`.
pub(crate) fn stored_endpoint(
    what: &'static str,
    text: &str,
) -> Result<IngestionEndpoint, StoreError> {
    IngestionEndpoint::parse(text)
        .ok_or_else(|| StoreError::Corrupt { what, why: format!("unknown endpoint {text}") })
}

/// Deletes hours before `at`, and sources without an event since then.
pub(crate) async fn delete_before(
    tx: &mut DatabaseTransaction,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from event_source_hour where workspace_id = $1 and hour < $2",
        tx.workspace_id(),
        to_sql(at),
    )
    .execute(&mut *tx.inner)
    .await?;
    sqlx::query!(
        "delete from event_source where workspace_id = $1 and last_at < $2",
        tx.workspace_id(),
        to_sql(at),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}
