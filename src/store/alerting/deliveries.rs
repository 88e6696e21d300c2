//! Transactional outbox of notifications: queue, claims, and results.

use crate::domain::alert::{AlertState, DeliveryTarget, Notification, NotificationRecord};
use crate::domain::time::Timestamp;
use crate::domain::workspace::WorkspaceId;
use crate::store::alerting::{from_json, parse_severity, to_json, unknown_value};
use crate::store::{
    DatabaseTransaction, ReadOnlyDatabase, StoreError, TimeRange, from_sql, to_sql,
};

/// A delivery that this process has claimed and sends now.
#[derive(Debug)]
pub(crate) struct ClaimedDelivery {
    pub delivery_id: String,
    pub channel_id: String,
    pub channel_name: String,
    pub target: DeliveryTarget,
    pub notice: Notification,
    /// Failed attempts so far.
    pub attempts: u32,
}

/// A claim on deliveries, and its expiry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryClaim<'a> {
    pub token: &'a str,
    pub now: Timestamp,
    pub expires_at: Timestamp,
}

/// The result of one attempt.
#[derive(Debug)]
pub(crate) struct DeliveryAttempt {
    pub at: Timestamp,
    pub is_accepted: bool,
    pub status: Option<u16>,
    pub response: String,
    pub duration_millis: i64,
}

/// The state of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryOutcome {
    Delivered,
    Failed,
    /// Retried at this time.
    RetryAt(Timestamp),
}

/// A notification about an alert that was sent to a channel.
#[derive(Debug)]
pub(crate) struct SentNotification {
    pub alert_id: String,
    pub channel_id: String,
    pub sent: NotificationRecord,
}

/// Adds a notification to the outbox, unless its channel no longer exists. It comes after
/// all earlier ones of its channel and key, because the caller has locked the key.
pub(crate) async fn insert(
    tx: &mut DatabaseTransaction,
    channel_id: &str,
    notice: &Notification,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into delivery (workspace_id, delivery_id, channel_id, alert_id, key, notice_state,
                               severity, notice, state, attempts, next_at, created_at)
         select workspace_id, $1, channel_id, $3, $4, $5, $6, $7, 'pending', 0, $8, $8
         from channel where workspace_id = $9 and channel_id = $2 for key share",
        notice.delivery_id,
        channel_id,
        notice.alert_id,
        notice.key,
        notice.state.name(),
        notice.severity.as_str(),
        to_json(notice)?,
        to_sql(now),
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    tx.notify_deliverers().await
}

/// Notifications of these alerts, sent or queued, in order.
pub(crate) async fn sent(
    db: &ReadOnlyDatabase,
    alerts: &[String],
) -> Result<Vec<SentNotification>, StoreError> {
    select_sent(&db.pool, db.workspace, alerts).await
}

/// Like [`sent`], within a transaction.
pub(crate) async fn list_sent_in_transaction(
    tx: &mut DatabaseTransaction,
    alert: &str,
) -> Result<Vec<SentNotification>, StoreError> {
    select_sent(&mut *tx.inner, tx.workspace, &[alert.to_owned()]).await
}

async fn select_sent(
    executor: impl sqlx::PgExecutor<'_>,
    workspace: WorkspaceId,
    alerts: &[String],
) -> Result<Vec<SentNotification>, StoreError> {
    let rows = sqlx::query!(
        "select alert_id, channel_id, notice_state, severity, state, created_at from delivery
         where workspace_id = $1 and alert_id = any($2) and state <> 'withdrawn' order by position",
        workspace.number(),
        alerts,
    )
    .fetch_all(executor)
    .await?;
    let rows = rows.into_iter().map(|row| {
        let sent = NotificationRecord {
            state: parse_notice_state(&row.notice_state)?,
            severity: parse_severity(&row.severity)?,
            created_at: from_sql(row.created_at),
            is_undeliverable: row.state == "failed",
        };
        Ok(SentNotification { alert_id: row.alert_id, channel_id: row.channel_id, sent })
    });
    rows.collect()
}

/// Claims up to `limit` due deliveries, one per channel, none of the channels in `busy`. Of
/// a channel and key only the first waiting one is claimed, so the order is preserved. No
/// delay reaches 27 hours ([`crate::domain::alert::schedule`]): a delivery due later, or
/// created in the future, stems from a wrong clock and counts as due.
pub(crate) async fn claim(
    tx: &mut DatabaseTransaction,
    claim: DeliveryClaim<'_>,
    busy: &[String],
    limit: i64,
) -> Result<Vec<ClaimedDelivery>, StoreError> {
    let rows = sqlx::query!(
        "update delivery set claim = $3, claimed_until = $2
         from (select due.delivery_id, channel.name, channel.target
               from channel cross join lateral
                    (select delivery_id, next_at from delivery
                     where delivery.workspace_id = channel.workspace_id
                       and delivery.channel_id = channel.channel_id
                       and delivery.state = 'pending'
                       and (delivery.next_at <= $1 or delivery.created_at > $1
                            or delivery.next_at > $1 + interval '27 hours')
                       and (delivery.claimed_until is null or delivery.claimed_until <= $1
                            or delivery.claimed_until > $1 + interval '27 hours')
                       and not exists
                           (select from delivery as earlier
                            where earlier.workspace_id = delivery.workspace_id
                              and earlier.channel_id = delivery.channel_id
                              and earlier.key = delivery.key and earlier.state = 'pending'
                              and earlier.position < delivery.position)
                     order by next_at, position limit 1
                     for update of delivery skip locked) as due
               where channel.workspace_id = $6 and channel.disabled_at is null
                 and channel.channel_id <> all($4)
               order by due.next_at limit $5) as due
         where delivery.workspace_id = $6 and delivery.delivery_id = due.delivery_id
         returning delivery.delivery_id, delivery.channel_id, due.name, due.target,
                   delivery.notice, delivery.attempts",
        to_sql(claim.now),
        to_sql(claim.expires_at),
        claim.token,
        busy,
        limit,
        tx.workspace_id(),
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    let rows = rows.into_iter().map(|row| {
        Ok(ClaimedDelivery {
            delivery_id: row.delivery_id,
            channel_id: row.channel_id,
            channel_name: row.name,
            target: from_json("target", row.target)?,
            notice: from_json("notice", row.notice)?,
            attempts: u32::try_from(row.attempts).unwrap_or_default(),
        })
    });
    rows.collect()
}

/// Logs an attempt, even after its claim has expired.
pub(crate) async fn record_attempt(
    tx: &mut DatabaseTransaction,
    delivery_id: &str,
    attempt: &DeliveryAttempt,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into delivery_attempt
             (workspace_id, delivery_id, at, is_accepted, status, response, duration_millis)
         select $7, $1, $2, $3, $4, $5, $6
         where exists (select from delivery where workspace_id = $7 and delivery_id = $1)",
        delivery_id,
        to_sql(attempt.at),
        attempt.is_accepted,
        attempt.status.map(i32::from),
        attempt.response,
        attempt.duration_millis,
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Releases a claimed delivery with the result of an attempt; false if another process has
/// claimed it since, or it is finished.
pub(crate) async fn finish_attempt(
    tx: &mut DatabaseTransaction,
    delivery_id: &str,
    token: &str,
    next: DeliveryOutcome,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let (state, next_at) = match next {
        DeliveryOutcome::Delivered => ("delivered", None),
        DeliveryOutcome::Failed => ("failed", None),
        DeliveryOutcome::RetryAt(at) => ("pending", Some(to_sql(at))),
    };
    let settled = sqlx::query!(
        "update delivery
         set state = $3, attempts = attempts + 1, next_at = coalesce($4, next_at),
             finished_at = case when $3 <> 'pending' then $5::timestamptz end,
             claim = null, claimed_until = null
         where workspace_id = $6 and delivery_id = $1 and claim = $2 and state = 'pending'",
        delivery_id,
        token,
        state,
        next_at,
        to_sql(now),
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(settled.rows_affected() == 1)
}

/// Withdraws the pending deliveries of a channel, except the resolution of an alert that
/// the channel was notified of: it is delivered once the channel is enabled again.
pub(crate) async fn withdraw_pending(
    tx: &mut DatabaseTransaction,
    channel_id: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let withdrawn = sqlx::query!(
        "update delivery
         set state = 'withdrawn', finished_at = $2, claim = null, claimed_until = null
         where workspace_id = $3 and channel_id = $1 and state = 'pending'
           and (notice_state = 'firing' or not exists
                (select from delivery as earlier
                 where earlier.workspace_id = $3 and earlier.channel_id = $1 and earlier.alert_id = delivery.alert_id
                   and earlier.notice_state = 'firing' and earlier.state = 'delivered'))",
        channel_id,
        to_sql(now),
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(withdrawn.rows_affected())
}

/// Requeues a delivery under the same id, or makes a waiting one due at once. Returns its
/// key.
pub(crate) async fn requeue(
    tx: &mut DatabaseTransaction,
    delivery_id: &str,
    now: Timestamp,
) -> Result<Vec<String>, StoreError> {
    let keys = sqlx::query_scalar!(
        "update delivery set state = 'pending', attempts = 0, next_at = $2, finished_at = null
         where workspace_id = $3 and delivery_id = $1 returning key",
        delivery_id,
        to_sql(now),
        tx.workspace_id(),
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    tx.notify_deliverers().await?;
    Ok(keys)
}

/// Deliveries of a channel to requeue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplaySelection {
    /// By creation time, end exclusive.
    pub period: TimeRange,
    pub with_delivered: bool,
    pub limit: i64,
}

/// Requeues at most `limit` deliveries created within a period, oldest first: failed and
/// withdrawn ones, with `with_delivered` also delivered ones. Returns the key of each.
pub(crate) async fn requeue_range(
    tx: &mut DatabaseTransaction,
    channel_id: &str,
    selection: ReplaySelection,
    now: Timestamp,
) -> Result<Vec<String>, StoreError> {
    let keys = sqlx::query_scalar!(
        "update delivery set state = 'pending', attempts = 0, next_at = $6, finished_at = null
         where workspace_id = $7 and delivery_id in
             (select delivery_id from delivery
              where workspace_id = $7 and channel_id = $1 and created_at >= $2 and created_at < $3
                and (state in ('failed', 'withdrawn') or ($4 and state = 'delivered'))
              order by position limit $5)
         returning key",
        channel_id,
        to_sql(selection.period.since),
        to_sql(selection.period.until),
        selection.with_delivered,
        selection.limit,
        to_sql(now),
        tx.workspace_id(),
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    tx.notify_deliverers().await?;
    Ok(keys)
}

/// A channel, with the latest notification of each alert that is firing.
#[derive(Debug)]
pub(crate) struct StillFiring {
    pub channel_name: String,
    pub target: DeliveryTarget,
    pub notices: Vec<Notification>,
}

/// Channels of one kind that were notified of alerts that are still firing.
pub(crate) async fn still_firing(
    db: &ReadOnlyDatabase,
    kind: &str,
) -> Result<Vec<StillFiring>, StoreError> {
    let rows = sqlx::query!(
        "select distinct on (channel_id, alert_id) channel_id, channel.name, channel.target, delivery.notice
         from channel
              join delivery using (workspace_id, channel_id)
              join alert using (workspace_id, alert_id)
         where workspace_id = $2 and channel.disabled_at is null and channel.target ->> 'kind' = $1
           and alert.resolved_at is null and delivery.notice_state = 'firing'
           and delivery.state = 'delivered' and delivery.created_at >= alert.fired_at
         order by channel_id, alert_id, delivery.position desc",
        kind,
        db.workspace_id(),
    )
    .fetch_all(&db.pool)
    .await?;
    let mut channels: Vec<(String, StillFiring)> = Vec::new();
    for row in rows {
        let notice = from_json("notice", row.notice)?;
        match channels.last_mut() {
            Some((channel, last)) if *channel == row.channel_id => last.notices.push(notice),
            _ => {
                let target = from_json("target", row.target)?;
                let first = StillFiring { channel_name: row.name, target, notices: vec![notice] };
                channels.push((row.channel_id, first));
            }
        }
    }
    Ok(channels.into_iter().map(|(_, channel)| channel).collect())
}

/// Creation time of the oldest waiting delivery; `None` if none is waiting.
pub(crate) async fn oldest_waiting_at(
    db: &ReadOnlyDatabase,
) -> Result<Option<Timestamp>, StoreError> {
    let oldest = sqlx::query_scalar!(
        "select min(delivery.created_at) from delivery join channel using (workspace_id, channel_id)
         where workspace_id = $1 and delivery.state = 'pending' and channel.disabled_at is null",
        db.workspace_id(),
    )
    .fetch_one(&db.pool)
    .await?;
    Ok(oldest.map(from_sql))
}

/// Deletes deliveries finished before `before`, except those of firing alerts.
pub(crate) async fn delete_before(
    tx: &mut DatabaseTransaction,
    before: Timestamp,
) -> Result<u64, StoreError> {
    let dropped = sqlx::query!(
        "delete from delivery where workspace_id = $1 and finished_at < $2
           and not exists (select from alert
                           where alert.workspace_id = $1 and alert.alert_id = delivery.alert_id
                             and alert.resolved_at is null)",
        tx.workspace_id(),
        to_sql(before),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(dropped.rows_affected())
}

pub(crate) fn parse_notice_state(text: &str) -> Result<AlertState, StoreError> {
    AlertState::parse(text).ok_or_else(|| unknown_value("state of a notice", text))
}
