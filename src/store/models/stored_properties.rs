//! The properties that the serving feature set stores, and since when.

use chrono::{DateTime, Utc};

use crate::domain::event::EventKind;
use crate::domain::feature::StoredProperty;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// A row of `stored_property`. An empty kind or name means every one.
struct PropertyRow {
    event_kind: String,
    event_name: String,
    property: String,
    since: Option<DateTime<Utc>>,
}

/// The stored properties, without a transaction.
pub(crate) async fn list(db: &ReadOnlyDatabase) -> Result<Vec<StoredProperty>, StoreError> {
    let rows = sqlx::query_as!(
        PropertyRow,
        "select event_kind, event_name, property, since from stored_property
         where workspace_id = $1",
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter().map(PropertyRow::read).collect()
}

/// The stored properties, to be replaced: locks the table against other replicas.
pub(crate) async fn lock_and_list(
    tx: &mut DatabaseTransaction,
) -> Result<Vec<StoredProperty>, StoreError> {
    sqlx::query!("lock table stored_property in exclusive mode").execute(&mut *tx.inner).await?;
    let rows = sqlx::query_as!(
        PropertyRow,
        "select event_kind, event_name, property, since from stored_property
         where workspace_id = $1",
        tx.workspace_id(),
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter().map(PropertyRow::read).collect()
}

/// Replaces the stored properties.
pub(crate) async fn replace(
    tx: &mut DatabaseTransaction,
    stored: &[StoredProperty],
) -> Result<(), StoreError> {
    let kinds: Vec<&str> =
        stored.iter().map(|own| own.kind.map_or("", EventKind::as_str)).collect();
    let names: Vec<&str> =
        stored.iter().map(|own| own.event_name.as_deref().unwrap_or_default()).collect();
    let properties: Vec<&str> = stored.iter().map(|own| &*own.property).collect();
    let since: Vec<Option<DateTime<Utc>>> =
        stored.iter().map(|own| own.since.map(to_sql)).collect();
    sqlx::query!("delete from stored_property where workspace_id = $1", tx.workspace_id())
        .execute(&mut *tx.inner)
        .await?;
    sqlx::query!(
        "insert into stored_property (workspace_id, event_kind, event_name, property, since)
         select $1, * from unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[])",
        tx.workspace_id(),
        &kinds as &[&str],
        &names as &[&str],
        &properties as &[&str],
        &since as &[Option<DateTime<Utc>>],
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

impl PropertyRow {
    fn read(self) -> Result<StoredProperty, StoreError> {
        let kind = match &*self.event_kind {
            "" => None,
            kind => Some(EventKind::parse(kind).ok_or_else(|| StoreError::Corrupt {
                what: "stored property",
                why: format!("unknown kind `{kind}`"),
            })?),
        };
        Ok(StoredProperty {
            kind,
            event_name: Some(self.event_name).filter(|name| !name.is_empty()).map(Into::into),
            property: self.property.into(),
            since: self.since.map(from_sql),
        })
    }
}
