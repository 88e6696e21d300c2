//! Alerts: at most one firing per key, and all resolved ones.

pub mod alarms;
mod alert_columns;
pub mod channels;
pub mod decisions;
pub mod deliveries;
pub mod delivery_log;
pub mod move_deliveries;
pub mod silences;

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::alert::{AlertChart, AlertFact, AlertPart, AlertTopic, RoutedAlert};
use crate::domain::drift::Severity;
use crate::domain::time::Timestamp;
use crate::store::alerting::alert_columns::RawAlert;
use crate::store::database::connect::ChangeTopic;
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, to_sql};

/// A stored alert, without its picture.
#[derive(Debug, Clone)]
pub(crate) struct AlertRow {
    pub alert_id: String,
    /// Sort key of lists.
    pub position: i64,
    pub state: RoutedAlert,
    pub subject: BTreeMap<String, String>,
    pub title: String,
    pub description: String,
    pub advice: String,
    pub facts: Vec<AlertFact>,
    pub parts: Vec<AlertPart>,
    pub has_picture: bool,
    pub started_at: Timestamp,
    pub last_seen_at: Timestamp,
    pub resolved: Option<AlertResolution>,
    pub acknowledged: Option<AlertAcknowledgement>,
}

impl AlertRow {
    /// The severity that automatic actions go by: of the parts that do not depend on the traffic
    /// of one API key. `None`: no action follows from the alert.
    pub(crate) fn severity_for_actions(&self) -> Option<Severity> {
        if self.parts.is_empty() {
            return Some(self.state.severity);
        }
        let firing = self.parts.iter().filter(|part| part.ended_at.is_none());
        firing.filter(|part| !part.depends_on_one_key).map(|part| part.severity).max()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct AlertResolution {
    pub at: Timestamp,
    pub reason: String,
}

#[derive(Debug, Clone)]
pub(crate) struct AlertAcknowledgement {
    pub at: Timestamp,
    pub by: String,
    pub note: String,
}

/// Content of an alert that every new observation overwrites.
#[derive(Debug)]
pub(crate) struct AlertContent<'a> {
    pub title: &'a str,
    pub description: &'a str,
    pub advice: &'a str,
    pub facts: &'a [AlertFact],
    pub parts: &'a [AlertPart],
    pub picture: Option<&'a AlertChart>,
}

/// Filter of alerts; `None` matches all.
#[derive(Debug, Clone, Default)]
pub(crate) struct AlertFilter {
    pub is_firing: Option<bool>,
    pub owner: Option<String>,
    pub topic: Option<AlertTopic>,
}

/// Locks a key until the transaction ends, so that notifications about a key are queued in
/// commit order.
pub(crate) async fn lock_key(tx: &mut DatabaseTransaction, key: &str) -> Result<(), StoreError> {
    sqlx::query!(
        r#"select pg_advisory_xact_lock(hashtextextended('segmentd alert ' || $1, 0)) as "got!: ()""#,
        key,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// The latest alert of a key: the firing one if any is firing. The caller has locked the
/// key.
pub(crate) async fn find_latest(
    tx: &mut DatabaseTransaction,
    key: &str,
) -> Result<Option<AlertRow>, StoreError> {
    let row = sqlx::query_as!(
        RawAlert,
        r#"select alert_id, position, key, topic, severity, owner, subject, title, description, advice,
                  facts, parts, picture is not null as "has_picture!", started_at, fired_at,
                  announced_at, last_seen_at, is_notification_suppressed, resolved_at, resolved_reason, acknowledged_at,
                  acknowledged_by, acknowledged_note
           from alert where workspace_id = $1 and key = $2 order by position desc limit 1"#,
        tx.workspace_id(),
        key,
    )
    .fetch_optional(&mut *tx.inner)
    .await?;
    row.map(TryInto::try_into).transpose()
}

pub(crate) async fn find(
    db: &ReadOnlyDatabase,
    alert_id: &str,
) -> Result<Option<AlertRow>, StoreError> {
    let row = sqlx::query_as!(
        RawAlert,
        r#"select alert_id, position, key, topic, severity, owner, subject, title, description, advice,
                  facts, parts, picture is not null as "has_picture!", started_at, fired_at,
                  announced_at, last_seen_at, is_notification_suppressed, resolved_at, resolved_reason, acknowledged_at,
                  acknowledged_by, acknowledged_note
           from alert where workspace_id = $1 and alert_id = $2"#,
        db.workspace_id(),
        alert_id,
    )
    .fetch_optional(&db.pool)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// Newest first, with places below `before`.
pub(crate) async fn list(
    db: &ReadOnlyDatabase,
    filter: &AlertFilter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<AlertRow>, StoreError> {
    let rows = sqlx::query_as!(
        RawAlert,
        r#"select alert_id, position, key, topic, severity, owner, subject, title, description, advice,
                  facts, parts, picture is not null as "has_picture!", started_at, fired_at,
                  announced_at, last_seen_at, is_notification_suppressed, resolved_at, resolved_reason, acknowledged_at,
                  acknowledged_by, acknowledged_note
           from alert
           where workspace_id = $6 and ($1::bigint is null or position < $1)
             and ($2::boolean is null or (resolved_at is null) = $2)
             and ($3::text is null or owner = $3)
             and ($4::text is null or topic = $4)
           order by position desc limit $5"#,
        before,
        filter.is_firing,
        filter.owner.as_deref(),
        filter.topic.map(AlertTopic::as_str),
        limit,
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Whether any stored alert has this owner.
pub(crate) async fn has_owner(db: &ReadOnlyDatabase, owner: &str) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select exists (select from alert where workspace_id = $1 and owner = $2) as "found!""#,
        db.workspace_id(),
        owner,
    )
    .fetch_one(&db.pool)
    .await?)
}

/// All firing alerts.
pub(crate) async fn firing(db: &ReadOnlyDatabase) -> Result<Vec<AlertRow>, StoreError> {
    let filter = AlertFilter { is_firing: Some(true), ..AlertFilter::default() };
    list(db, &filter, None, i64::MAX).await
}

/// All firing alerts of a topic, within a transaction, by key.
pub(crate) async fn list_firing_in_transaction(
    tx: &mut DatabaseTransaction,
    topic: AlertTopic,
) -> Result<Vec<AlertRow>, StoreError> {
    let rows = sqlx::query_as!(
        RawAlert,
        r#"select alert_id, position, key, topic, severity, owner, subject, title, description, advice,
                  facts, parts, picture is not null as "has_picture!", started_at, fired_at,
                  announced_at, last_seen_at, is_notification_suppressed, resolved_at, resolved_reason, acknowledged_at,
                  acknowledged_by, acknowledged_note
           from alert where workspace_id = $1 and topic = $2 and resolved_at is null
           order by key"#,
        tx.workspace_id(),
        topic.as_str(),
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Inserts a new, firing alert. The caller has locked the key, and no alert of it is
/// firing.
pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    alert_id: &str,
    routed: &RoutedAlert,
    subject: &BTreeMap<String, String>,
    sight: &AlertContent<'_>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into alert (workspace_id, alert_id, key, topic, severity, owner, subject, title,
                            description, advice, facts, picture, started_at, fired_at,
                            announced_at, last_seen_at, is_notification_suppressed, parts)
         values ($14, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $12, $12, $13, $15)",
        alert_id,
        routed.key,
        routed.topic.as_str(),
        routed.severity.as_str(),
        routed.owner,
        to_json(subject)?,
        sight.title,
        sight.description,
        sight.advice,
        to_json(&sight.facts)?,
        sight.picture.map(to_json).transpose()?,
        to_sql(routed.fired_at),
        routed.is_notification_suppressed,
        tx.workspace_id(),
        to_json(sight.parts)?,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Records a new observation of an alert, which is firing (again): its content and state.
pub(crate) async fn record_observation(
    tx: &mut DatabaseTransaction,
    alert_id: &str,
    routed: &RoutedAlert,
    sight: &AlertContent<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update alert
         set severity = $2, fired_at = $3, is_notification_suppressed = $4, title = $5, description = $6, advice = $7,
             facts = $8, picture = coalesce($9, picture), last_seen_at = $10,
             announced_at = $13, parts = $14,
             resolved_at = null, resolved_reason = null,
             acknowledged_at = case when $11 then acknowledged_at end,
             acknowledged_by = case when $11 then acknowledged_by end,
             acknowledged_note = case when $11 then acknowledged_note end
         where workspace_id = $12 and alert_id = $1",
        alert_id,
        routed.severity.as_str(),
        to_sql(routed.fired_at),
        routed.is_notification_suppressed,
        sight.title,
        sight.description,
        sight.advice,
        to_json(&sight.facts)?,
        sight.picture.map(to_json).transpose()?,
        to_sql(now),
        routed.is_acknowledged,
        tx.workspace_id(),
        to_sql(routed.announced_at),
        to_json(sight.parts)?,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

pub(crate) async fn resolve(
    tx: &mut DatabaseTransaction,
    alert_id: &str,
    why: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update alert set resolved_at = $3, resolved_reason = $4
         where workspace_id = $1 and alert_id = $2",
        tx.workspace_id(),
        alert_id,
        to_sql(now),
        why,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

pub(crate) async fn acknowledge(
    tx: &mut DatabaseTransaction,
    alert_id: &str,
    acknowledged: &AlertAcknowledgement,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update alert set acknowledged_at = $3, acknowledged_by = $4, acknowledged_note = $5
         where workspace_id = $1 and alert_id = $2",
        tx.workspace_id(),
        alert_id,
        to_sql(acknowledged.at),
        acknowledged.by,
        acknowledged.note,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

pub(crate) async fn find_picture(
    db: &ReadOnlyDatabase,
    alert_id: &str,
) -> Result<Option<AlertChart>, StoreError> {
    let found = sqlx::query_scalar!(
        "select picture from alert where workspace_id = $1 and alert_id = $2",
        db.workspace_id(),
        alert_id,
    )
    .fetch_optional(&db.pool)
    .await?;
    found.flatten().map(|json| from_json("picture", json)).transpose()
}

/// Like [`find_picture`], within a transaction that may have changed it.
pub(crate) async fn find_picture_in_transaction(
    tx: &mut DatabaseTransaction,
    alert_id: &str,
) -> Result<Option<AlertChart>, StoreError> {
    let found = sqlx::query_scalar!(
        "select picture from alert where workspace_id = $1 and alert_id = $2",
        tx.workspace_id(),
        alert_id,
    )
    .fetch_optional(&mut *tx.inner)
    .await?;
    found.flatten().map(|json| from_json("picture", json)).transpose()
}

/// Deletes alerts resolved before `before`; returns their number.
pub(crate) async fn delete_before(
    tx: &mut DatabaseTransaction,
    before: Timestamp,
) -> Result<u64, StoreError> {
    let dropped = sqlx::query!(
        "delete from alert where workspace_id = $1 and resolved_at < $2",
        tx.workspace_id(),
        to_sql(before),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(dropped.rows_affected())
}

impl DatabaseTransaction {
    /// Notifies every replica on commit that the outbox has new deliveries.
    pub(crate) async fn notify_deliverers(&mut self) -> Result<(), StoreError> {
        self.notify_replicas(ChangeTopic::Deliveries).await
    }
}

pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<serde_json::Value, StoreError> {
    serde_json::to_value(value)
        .map_err(|error| StoreError::Corrupt { what: "value", why: error.to_string() })
}

pub(crate) fn from_json<T: DeserializeOwned>(
    what: &'static str,
    json: serde_json::Value,
) -> Result<T, StoreError> {
    serde_json::from_value(json)
        .map_err(|error| StoreError::Corrupt { what, why: error.to_string() })
}

pub(crate) fn parse_topic(text: &str) -> Result<AlertTopic, StoreError> {
    AlertTopic::parse(text).ok_or_else(|| unknown_value("topic", text))
}

pub(crate) fn parse_severity(text: &str) -> Result<Severity, StoreError> {
    Severity::parse(text).ok_or_else(|| unknown_value("severity", text))
}

pub(crate) fn unknown_value(what: &'static str, text: &str) -> StoreError {
    StoreError::Corrupt { what, why: format!("unknown value `{text}`") }
}
