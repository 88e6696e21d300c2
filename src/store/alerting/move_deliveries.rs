//! Delivery of moves between segments: the feed position of each channel, claims, and results.

use crate::domain::alert::DeliveryTarget;
use crate::domain::time::Timestamp;
use crate::store::alerting::deliveries::DeliveryClaim;
use crate::store::alerting::from_json;
use crate::store::customers::changes::{FeedPosition, parse_transaction};
use crate::store::{DatabaseTransaction, ReadOnlyDatabase, StoreError, from_sql, to_sql};

/// A channel that this process has claimed, to send its next moves.
#[derive(Debug)]
pub(crate) struct ClaimedMoves {
    pub channel_id: String,
    pub channel_name: String,
    pub target: DeliveryTarget,
    /// The last change that needs no delivery any more.
    pub position: FeedPosition,
    /// Whether changes before the position were lost, and the receiver does not know it yet.
    pub has_gap: bool,
    /// Whether the feed was restored since the position was set.
    pub is_restored: bool,
    /// Failed attempts since the last accepted message.
    pub attempts: u32,
}

/// Starts the delivery of moves to a channel, with changes from now on. A channel with a
/// position retains it, and is tried at once.
pub(crate) async fn start(
    tx: &mut DatabaseTransaction,
    channel_id: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into move_delivery
             (workspace_id, channel_id, transaction, change, epoch, has_gap, attempts, next_at)
         select $1, $2, coalesce(newest.transaction, '0'::xid8), coalesce(newest.change, 0),
                coalesce((select max(epoch) from change_epoch), 0), false, 0, $3
         from (select) as always left join lateral (
             select transaction, change from (
                 (select transaction, change from assignment_history
                  where workspace_id = $1
                    and transaction < (pg_snapshot_xmin(pg_current_snapshot())::text::bigint
                                       + change_offset())::text::xid8
                  order by transaction desc, change desc limit 1)
                 union all
                 (select transaction, change from history_dropped
                  where workspace_id = $1 order by transaction desc, change desc limit 1)) as ends
             order by transaction desc, change desc limit 1) as newest on true
         on conflict (workspace_id, channel_id) do update set next_at = excluded.next_at",
        tx.workspace_id(),
        channel_id,
        to_sql(now),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Ends the delivery of moves to a channel, and forgets its position.
pub(crate) async fn end(tx: &mut DatabaseTransaction, channel_id: &str) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from move_delivery where workspace_id = $1 and channel_id = $2",
        tx.workspace_id(),
        channel_id,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Forgets the failed attempts of a channel, and tries it at once.
pub(crate) async fn restart(
    tx: &mut DatabaseTransaction,
    channel_id: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update move_delivery set attempts = 0, next_at = $3
         where workspace_id = $1 and channel_id = $2",
        tx.workspace_id(),
        channel_id,
        to_sql(now),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Instant of the oldest change that an enabled channel has not received yet; `None` if all
/// channels are up to date. Costs two index lookups, however many channels there are.
pub(crate) async fn oldest_undelivered_at(
    db: &ReadOnlyDatabase,
) -> Result<Option<Timestamp>, StoreError> {
    let oldest = sqlx::query_scalar!(
        "select waiting.assigned_at
         from (select transaction, change
               from move_delivery join channel using (workspace_id, channel_id)
               where workspace_id = $1 and channel.disabled_at is null
               order by transaction, change limit 1) as last
              cross join lateral
              (select assigned_at from assignment_history as history
               where history.workspace_id = $1
                 and (history.transaction, history.change) > (last.transaction, last.change)
                 and history.transaction < (pg_snapshot_xmin(pg_current_snapshot())::text::bigint
                                            + change_offset())::text::xid8
               order by history.transaction, history.change limit 1) as waiting",
        db.workspace_id(),
    )
    .fetch_optional(&db.pool)
    .await?;
    Ok(oldest.map(from_sql))
}

/// Claims up to `limit` due channels with undelivered changes, none of those in `busy`. No delay
/// reaches 27 hours ([`crate::domain::alert::schedule`]): a later time stems from a wrong clock
/// and counts as due.
pub(crate) async fn claim(
    tx: &mut DatabaseTransaction,
    claim: DeliveryClaim<'_>,
    busy: &[String],
    limit: i64,
) -> Result<Vec<ClaimedMoves>, StoreError> {
    let rows = sqlx::query!(
        r#"update move_delivery set claim = $3, claimed_until = $2
           from (select move_delivery.channel_id, channel.name, channel.target
                 from move_delivery join channel using (workspace_id, channel_id)
                 where workspace_id = $6 and channel.disabled_at is null
                   and channel_id <> all($4)
                   and (next_at <= $1 or next_at > $1 + interval '27 hours')
                   and (claimed_until is null or claimed_until <= $1
                        or claimed_until > $1 + interval '27 hours')
                   and (transaction, change) <
                       (select history.transaction, history.change
                        from assignment_history as history
                        where history.workspace_id = $6
                          and history.transaction <
                              (pg_snapshot_xmin(pg_current_snapshot())::text::bigint
                               + change_offset())::text::xid8
                        order by history.transaction desc, history.change desc limit 1)
                 order by next_at limit $5
                 for update of move_delivery skip locked) as due
           where move_delivery.workspace_id = $6 and move_delivery.channel_id = due.channel_id
           returning move_delivery.channel_id, due.name, due.target,
                     transaction::text as "transaction!", change, has_gap, attempts,
                     epoch < (select max(present.epoch) from change_epoch as present)
                         as "is_restored!""#,
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
        Ok(ClaimedMoves {
            channel_id: row.channel_id,
            channel_name: row.name,
            target: from_json("target", row.target)?,
            position: FeedPosition {
                transaction: parse_transaction(&row.transaction)?,
                change: row.change,
            },
            has_gap: row.has_gap,
            is_restored: row.is_restored,
            attempts: u32::try_from(row.attempts).unwrap_or_default(),
        })
    });
    rows.collect()
}

/// A new position of a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdvancedPosition {
    pub position: FeedPosition,
    /// Whether the receiver does not know of a gap yet.
    pub has_gap: bool,
    /// Whether the receiver accepted a message. Otherwise there was nothing to send.
    pub is_accepted: bool,
}

/// Advances the position of a channel and releases its claim; false if another process has
/// claimed the channel since, or it receives no moves any more.
pub(crate) async fn advance(
    tx: &mut DatabaseTransaction,
    channel_id: &str,
    token: &str,
    advanced: AdvancedPosition,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let updated = sqlx::query!(
        "update move_delivery
         set transaction = $4::text::xid8, change = $5, has_gap = $6,
             epoch = coalesce((select max(present.epoch) from change_epoch as present), epoch),
             attempts = case when $8 then 0 else attempts end, next_at = $7, claim = null, claimed_until = null
         where workspace_id = $1 and channel_id = $2 and claim = $3",
        tx.workspace_id(),
        channel_id,
        token,
        advanced.position.transaction.to_string(),
        advanced.position.change,
        advanced.has_gap,
        to_sql(now),
        advanced.is_accepted,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Releases the claim of a channel after a failed attempt; the next one is at `next_at`. False
/// if another process has claimed the channel since, or it receives no moves any more.
pub(crate) async fn reschedule(
    tx: &mut DatabaseTransaction,
    channel_id: &str,
    token: &str,
    next_at: Timestamp,
) -> Result<bool, StoreError> {
    let updated = sqlx::query!(
        "update move_delivery
         set attempts = attempts + 1, next_at = $4, claim = null, claimed_until = null
         where workspace_id = $1 and channel_id = $2 and claim = $3",
        tx.workspace_id(),
        channel_id,
        token,
        to_sql(next_at),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(updated.rows_affected() == 1)
}
