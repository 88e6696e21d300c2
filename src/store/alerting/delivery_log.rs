//! Delivery log: notifications with their attempts.

use crate::domain::alert::AlertState;
use crate::domain::drift::Severity;
use crate::domain::time::Timestamp;
use crate::store::alerting::deliveries::{DeliveryAttempt, parse_notice_state};
use crate::store::alerting::parse_severity;
use crate::store::{ReadOnlyDatabase, StoreError, from_sql};

/// One delivery in the log.
#[derive(Debug)]
pub(crate) struct DeliveryRow {
    pub delivery_id: String,
    pub position: i64,
    pub channel_id: String,
    pub channel_name: String,
    pub alert_id: String,
    pub key: String,
    pub notice_state: AlertState,
    pub severity: Severity,
    pub state: String,
    /// `None`: no further attempt is scheduled.
    pub next_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// Oldest first.
    pub attempts: Vec<DeliveryAttempt>,
}

/// Filter of the log.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DeliveryLogFilter<'a> {
    Alert(&'a str),
    Channel(&'a str),
    Delivery(&'a str),
}

/// Newest first, with places below `before`.
pub(crate) async fn list(
    db: &ReadOnlyDatabase,
    of: DeliveryLogFilter<'_>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<DeliveryRow>, StoreError> {
    let (alert, channel, delivery) = match of {
        DeliveryLogFilter::Alert(id) => (Some(id), None, None),
        DeliveryLogFilter::Channel(id) => (None, Some(id), None),
        DeliveryLogFilter::Delivery(id) => (None, None, Some(id)),
    };
    let rows = sqlx::query!(
        "select delivery_id, position, channel_id, channel.name, alert_id, key, notice_state,
                severity, state, next_at, delivery.created_at, finished_at
         from delivery join channel using (workspace_id, channel_id)
         where workspace_id = $6 and ($1::text is null or alert_id = $1) and ($2::text is null or channel_id = $2)
           and ($3::text is null or delivery_id = $3) and ($4::bigint is null or position < $4)
         order by position desc limit $5",
        alert,
        channel,
        delivery,
        before,
        limit,
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    let ids: Vec<String> = rows.iter().map(|row| row.delivery_id.clone()).collect();
    let mut log = attempts(db, &ids).await?;
    let rows = rows.into_iter().map(|row| {
        let attempts = log.extract_if(.., |(of, _)| *of == row.delivery_id);
        let attempts = attempts.map(|(_, attempt)| attempt).collect();
        Ok(DeliveryRow {
            delivery_id: row.delivery_id,
            position: row.position,
            channel_id: row.channel_id,
            channel_name: row.name,
            alert_id: row.alert_id,
            key: row.key,
            notice_state: parse_notice_state(&row.notice_state)?,
            severity: parse_severity(&row.severity)?,
            next_at: (row.state == "pending").then(|| from_sql(row.next_at)),
            state: row.state,
            created_at: from_sql(row.created_at),
            finished_at: row.finished_at.map(from_sql),
            attempts,
        })
    });
    rows.collect()
}

async fn attempts(
    db: &ReadOnlyDatabase,
    ids: &[String],
) -> Result<Vec<(String, DeliveryAttempt)>, StoreError> {
    let rows = sqlx::query!(
        "select delivery_id, at, is_accepted, status, response, duration_millis from delivery_attempt
         where workspace_id = $1 and delivery_id = any($2) order by attempt",
        db.workspace_id(),
        ids,
    )
    .fetch_all(&db.pool)
    .await?;
    let attempts = rows.into_iter().map(|row| {
        let attempt = DeliveryAttempt {
            at: from_sql(row.at),
            is_accepted: row.is_accepted,
            status: row.status.and_then(|status| u16::try_from(status).ok()),
            response: row.response,
            duration_millis: row.duration_millis,
        };
        (row.delivery_id, attempt)
    });
    Ok(attempts.collect())
}
