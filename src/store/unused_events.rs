//! Accepted events that no feature uses: counts by type and name.

use crate::domain::event::unused::{
    MAX_UNUSED_NAMES, UnusedEventCount, UnusedEventCounts, UnusedEventName, UnusedReason,
};
use crate::domain::time::Timestamp;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// The counts of one type and name.
#[derive(Debug)]
pub struct UnusedEventRow {
    pub position: UnusedEventPosition,
    pub events: u64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub warning: String,
}

/// Sort key of the rows. The default is before all rows.
#[derive(Debug, Clone, Default)]
pub struct UnusedEventPosition {
    pub reason: String,
    pub event_type: String,
    /// Empty: without a name, or a name that is not stored.
    pub name: String,
    /// The declared name that was probably meant; empty: none is similar.
    pub nearest_name: String,
    /// Empty for events that no feature reads.
    pub property: String,
}

/// Adds counts for one reason. Names beyond the maximum are counted in one row.
pub(crate) async fn add_counts(
    tx: &mut DatabaseTransaction,
    reason: UnusedReason,
    counts: &UnusedEventCounts,
) -> Result<(), StoreError> {
    // This row is locked first, so that two replicas cannot exceed the maximum together.
    let further = counts.further.as_ref().or_else(|| counts.by_name.values().next());
    let Some(further) = further else { return Ok(()) };
    let events = counts.further.as_ref().map_or(0, |count| count.events);
    add_further(tx, reason, events, further).await?;
    for (name, count) in &counts.by_name {
        if !add_name(tx, reason, name, count).await? {
            add_further(tx, reason, count.events, count).await?;
        }
    }
    Ok(())
}

/// Adds to the row of further names, and locks it.
async fn add_further(
    tx: &mut DatabaseTransaction,
    reason: UnusedReason,
    events: u64,
    count: &UnusedEventCount,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into unused_event as stored
             (workspace_id, reason, event_type, name, nearest_name, property,
              events, first_at, last_at, warning)
         values ($1, $2, '', '', '', '', $3, $4, $5, '')
         on conflict (workspace_id, reason, event_type, name, nearest_name, property) do update
         set events = stored.events + excluded.events,
             last_at = case when excluded.events = 0 then stored.last_at
                            else greatest(stored.last_at, excluded.last_at) end",
        tx.workspace_id(),
        reason.as_str(),
        i64::try_from(events).unwrap_or(i64::MAX),
        to_sql(count.first_at),
        to_sql(count.last_at),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Adds to a name; `false` if it is new and the maximum number of names is stored.
async fn add_name(
    tx: &mut DatabaseTransaction,
    reason: UnusedReason,
    name: &UnusedEventName,
    count: &UnusedEventCount,
) -> Result<bool, StoreError> {
    let events = i64::try_from(count.events).unwrap_or(i64::MAX);
    let counted = sqlx::query!(
        "insert into unused_event as stored
             (workspace_id, reason, event_type, name, nearest_name, property,
              events, first_at, last_at, warning)
         select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10
         where exists (select from unused_event
                       where workspace_id = $1 and reason = $2 and event_type = $3 and name = $4
                         and nearest_name = $5 and property = $6)
            or (select count(*) from unused_event
                where workspace_id = $1 and reason = $2 and event_type <> '') < $11
         on conflict (workspace_id, reason, event_type, name, nearest_name, property) do update
         set events = stored.events + excluded.events,
             first_at = least(stored.first_at, excluded.first_at),
             last_at = greatest(stored.last_at, excluded.last_at),
             warning = case when stored.last_at > excluded.last_at then stored.warning
                            else excluded.warning end",
        tx.workspace_id(),
        reason.as_str(),
        name.kind.as_str(),
        &name.name,
        &name.nearest_name,
        &name.property,
        events,
        to_sql(count.first_at),
        to_sql(count.last_at),
        &count.warning,
        i64::try_from(MAX_UNUSED_NAMES).unwrap_or(i64::MAX),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(counted.rows_affected() > 0)
}

/// Rows behind a position, at most `limit`.
pub(crate) async fn list(
    db: &ReadOnlyDatabase,
    after: &UnusedEventPosition,
    limit: i64,
) -> Result<Vec<UnusedEventRow>, StoreError> {
    let rows = sqlx::query!(
        "select reason, event_type, name, nearest_name, property, events, first_at, last_at, warning
         from unused_event
         where workspace_id = $1 and event_type <> ''
             and (reason, event_type, name, nearest_name, property) > ($2, $3, $4, $5, $6)
         order by reason, event_type, name, nearest_name, property limit $7",
        db.workspace_id(),
        after.reason,
        after.event_type,
        after.name,
        after.nearest_name,
        after.property,
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    let rows = rows.into_iter().map(|row| {
        Ok(UnusedEventRow {
            position: UnusedEventPosition {
                reason: row.reason,
                event_type: row.event_type,
                name: row.name,
                nearest_name: row.nearest_name,
                property: row.property,
            },
            events: stored_count(row.events)?,
            first_at: from_sql(row.first_at),
            last_at: from_sql(row.last_at),
            warning: row.warning,
        })
    });
    rows.collect()
}

/// Number of events of names beyond the maximum.
pub(crate) async fn count_further(db: &ReadOnlyDatabase) -> Result<u64, StoreError> {
    let events = sqlx::query_scalar!(
        r#"select coalesce(sum(events), 0)::bigint as "events!" from unused_event
           where workspace_id = $1 and event_type = ''"#,
        db.workspace_id(),
    )
    .fetch_one(&db.pool)
    .await?;
    stored_count(events)
}

fn stored_count(events: i64) -> Result<u64, StoreError> {
    u64::try_from(events).map_err(|_| StoreError::Corrupt {
        what: "number of unused events",
        why: format!("{events} is not a count"),
    })
}

/// Deletes names without an event since `at`.
pub(crate) async fn delete_before(
    tx: &mut DatabaseTransaction,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from unused_event where workspace_id = $1 and last_at < $2",
        tx.workspace_id(),
        to_sql(at),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}
