//! Notification channels: target, and the topics, owners and severities that they receive.

use chrono::{DateTime, Utc};

use crate::domain::alert::{AlertRoute, ChannelTopic, DeliveryTarget};
use crate::domain::time::Timestamp;
use crate::domain::workspace::WorkspaceId;
use crate::store::alerting::{from_json, parse_severity, to_json, unknown_value};
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

#[derive(Debug, Clone)]
pub(crate) struct ChannelRow {
    pub channel_id: String,
    pub name: String,
    pub target: DeliveryTarget,
    pub route: AlertRoute,
    pub created_at: Timestamp,
    pub disabled: Option<ChannelDisablement>,
}

/// Why a channel receives no notifications.
#[derive(Debug, Clone)]
pub(crate) struct ChannelDisablement {
    pub at: Timestamp,
    pub reason: String,
}

pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    row: &ChannelRow,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into channel (workspace_id, channel_id, name, target, owners, topics,
                              min_severity, escalation_delay_seconds, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        tx.workspace_id(),
        row.channel_id,
        row.name,
        to_json(&row.target)?,
        &row.route.owners,
        &names(&row.route.topics) as &[&str],
        row.route.min_severity.as_str(),
        i32::try_from(row.route.escalation_delay_seconds).unwrap_or(i32::MAX),
        to_sql(row.created_at),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Replaces name, target and route; false if no such channel exists.
pub(crate) async fn update(
    tx: &mut DatabaseTransaction,
    row: &ChannelRow,
) -> Result<bool, StoreError> {
    let updated = sqlx::query!(
        "update channel set name = $3, target = $4, owners = $5, topics = $6,
                            min_severity = $7, escalation_delay_seconds = $8
         where workspace_id = $1 and channel_id = $2",
        tx.workspace_id(),
        row.channel_id,
        row.name,
        to_json(&row.target)?,
        &row.route.owners,
        &names(&row.route.topics) as &[&str],
        row.route.min_severity.as_str(),
        i32::try_from(row.route.escalation_delay_seconds).unwrap_or(i32::MAX),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Deletes a channel with all its deliveries; false if no such channel exists.
pub(crate) async fn delete(
    tx: &mut DatabaseTransaction,
    channel_id: &str,
) -> Result<bool, StoreError> {
    let deleted = sqlx::query!(
        "delete from channel where workspace_id = $1 and channel_id = $2",
        tx.workspace_id(),
        channel_id,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(deleted.rows_affected() == 1)
}

/// Disables a channel; false if it is already disabled or does not exist.
pub(crate) async fn disable(
    tx: &mut DatabaseTransaction,
    channel_id: &str,
    why: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let disabled = sqlx::query!(
        "update channel set disabled_at = $3, disabled_reason = $4
         where workspace_id = $1 and channel_id = $2 and disabled_at is null",
        tx.workspace_id(),
        channel_id,
        to_sql(now),
        why,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(disabled.rows_affected() == 1)
}

/// Enables a channel; false if it is not disabled or does not exist.
pub(crate) async fn enable(
    tx: &mut DatabaseTransaction,
    channel_id: &str,
) -> Result<bool, StoreError> {
    let enabled = sqlx::query!(
        "update channel set disabled_at = null, disabled_reason = null
         where workspace_id = $1 and channel_id = $2 and disabled_at is not null",
        tx.workspace_id(),
        channel_id,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(enabled.rows_affected() == 1)
}

pub(crate) async fn find(
    db: &ReadOnlyDatabase,
    channel_id: &str,
) -> Result<Option<ChannelRow>, StoreError> {
    Ok(list(db).await?.into_iter().find(|row| row.channel_id == channel_id))
}

/// Every channel, by name. There are few.
pub(crate) async fn list(db: &ReadOnlyDatabase) -> Result<Vec<ChannelRow>, StoreError> {
    select_all(&db.pool, db.workspace).await
}

/// Like [`list`], within a transaction.
pub(crate) async fn list_in_transaction(
    tx: &mut DatabaseTransaction,
) -> Result<Vec<ChannelRow>, StoreError> {
    select_all(&mut *tx.inner, tx.workspace).await
}

async fn select_all(
    executor: impl sqlx::PgExecutor<'_>,
    workspace: WorkspaceId,
) -> Result<Vec<ChannelRow>, StoreError> {
    let rows = sqlx::query_as!(
        StoredChannel,
        "select channel_id, name, target, owners, topics, min_severity, escalation_delay_seconds,
                created_at, disabled_at, disabled_reason
         from channel where workspace_id = $1 order by name",
        workspace.number(),
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// A page of the list of channels.
#[derive(Debug)]
pub(crate) struct ChannelPage {
    /// Name of the last channel of the previous page.
    pub after: Option<String>,
    pub limit: i64,
}

/// The channels of a page, by name.
pub(crate) async fn list_page(
    db: &ReadOnlyDatabase,
    page: &ChannelPage,
) -> Result<Vec<ChannelRow>, StoreError> {
    let rows = sqlx::query_as!(
        StoredChannel,
        "select channel_id, name, target, owners, topics, min_severity, escalation_delay_seconds,
                created_at, disabled_at, disabled_reason
         from channel where workspace_id = $1 and ($2::text is null or name > $2)
         order by name limit $3",
        db.workspace_id(),
        page.after,
        page.limit,
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// A row as Postgres has it.
struct StoredChannel {
    channel_id: String,
    name: String,
    target: serde_json::Value,
    owners: Vec<String>,
    topics: Vec<String>,
    min_severity: String,
    escalation_delay_seconds: i32,
    created_at: DateTime<Utc>,
    disabled_at: Option<DateTime<Utc>>,
    disabled_reason: Option<String>,
}

impl TryFrom<StoredChannel> for ChannelRow {
    type Error = StoreError;

    fn try_from(row: StoredChannel) -> Result<Self, StoreError> {
        let topics =
            row.topics.iter().map(|text| parse_channel_topic(text)).collect::<Result<_, _>>()?;
        let disabled = row.disabled_at.zip(row.disabled_reason);
        Ok(Self {
            channel_id: row.channel_id,
            name: row.name,
            target: from_json("target", row.target)?,
            route: AlertRoute {
                owners: row.owners,
                topics,
                min_severity: parse_severity(&row.min_severity)?,
                escalation_delay_seconds: u32::try_from(row.escalation_delay_seconds)
                    .unwrap_or_default(),
            },
            created_at: from_sql(row.created_at),
            disabled: disabled
                .map(|(at, why)| ChannelDisablement { at: from_sql(at), reason: why }),
        })
    }
}

fn parse_channel_topic(text: &str) -> Result<ChannelTopic, StoreError> {
    ChannelTopic::parse(text).ok_or_else(|| unknown_value("topic", text))
}

fn names(topics: &[ChannelTopic]) -> Vec<&'static str> {
    topics.iter().map(|topic| topic.as_str()).collect()
}
