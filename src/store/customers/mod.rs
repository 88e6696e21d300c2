//! Customers: one row with state and current assignment each, written under its lock.

pub mod assignments;
pub mod backfill;
pub mod changes;
pub mod events;
pub mod export;
pub mod identity;
pub mod links;
pub mod lock_free;
pub mod public_links;
pub mod rebuild;
pub mod sampling;

use chrono::{DateTime, Utc};
use futures_util::{Stream, TryStreamExt};

use crate::domain::access::MessageIdNamespace;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::store::customers::assignments::{PreviousAssignment, StoredAssignment};
use crate::store::{
    DatabaseTransaction, DedicatedDatabase, ReadOnlyDatabase, StoreError, from_sql, to_sql,
};

/// A stored state as bytes; only the feature set can decode it.
#[derive(Debug, Clone)]
pub struct StoredState {
    pub customer: CustomerKey,
    pub state: Vec<u8>,
}

/// A customer's locked row.
#[derive(Debug, Clone)]
pub struct LockedCustomerRow {
    pub stored: StoredState,
    /// `None` until first assigned.
    pub previous: Option<PreviousAssignment>,
}

/// Locks the existing rows of these canonical ids. `customers` must be sorted and unique:
/// one lock order, so no deadlock.
pub async fn lock_rows(
    tx: &mut DatabaseTransaction,
    customers: &[&CustomerKey],
) -> Result<Vec<LockedCustomerRow>, StoreError> {
    debug_assert!(customers.is_sorted_by(|a, b| a < b));
    let ids: Vec<&str> = customers.iter().map(|c| c.as_str()).collect();
    // Byte order, as Rust sorts: the database's own collation may differ.
    let rows = sqlx::query!(
        r#"select customer_id, state, generation, fallback, segment, moved_at
           from customer where customer_id = any($1) and merged_into is null
           order by customer_id collate "C" for update"#,
        &ids as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter()
        .map(|row| {
            let held = PreviousAssignment::from_columns(
                row.generation,
                row.fallback,
                row.segment,
                row.moved_at,
            );
            Ok(LockedCustomerRow {
                stored: stored_state(row.customer_id, row.state)?,
                previous: held,
            })
        })
        .collect()
}

/// Those ids for which another session has locked the id's row or its canonical row. Never
/// waits for a lock.
pub async fn locked_elsewhere(
    db: &DedicatedDatabase,
    ids: &[&CustomerKey],
) -> Result<Vec<CustomerKey>, StoreError> {
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    let locked = sqlx::query_scalar!(
        r#"with asked as materialized (
               select customer_id, coalesce(merged_into, customer_id) as kept
               from customer where customer_id = any($1)
           ), free as materialized (
               select customer_id from customer
               where customer_id = any(array(select customer_id from asked
                                             union select kept from asked))
               for update skip locked
           )
           select customer_id as "customer_id!" from asked
           where not exists (select from free where free.customer_id = asked.customer_id)
              or not exists (select from free where free.customer_id = asked.kept)"#,
        &ids as &[&str],
    );
    let locked = db.run_statement(async |connection| {
        locked.fetch_all(connection).await.map_err(StoreError::from)
    });
    locked.await?.into_iter().map(customer_key).collect()
}

/// Locks the existing rows of these canonical ids that are not locked by another session;
/// returns them by customer, in byte order. Never waits for a lock, so the lock order is
/// free.
pub async fn lock_available(
    tx: &mut DatabaseTransaction,
    customers: &[&CustomerKey],
) -> Result<Vec<LockedCustomerRow>, StoreError> {
    let ids: Vec<&str> = customers.iter().map(|c| c.as_str()).collect();
    let rows = sqlx::query!(
        r#"select customer_id, state, generation, fallback, segment, moved_at
           from customer where customer_id = any($1) and merged_into is null
           for update skip locked"#,
        &ids as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    let mut locked = Vec::with_capacity(rows.len());
    for row in rows {
        let held = PreviousAssignment::from_columns(
            row.generation,
            row.fallback,
            row.segment,
            row.moved_at,
        );
        locked.push(LockedCustomerRow {
            stored: stored_state(row.customer_id, row.state)?,
            previous: held,
        });
    }
    locked.sort_unstable_by(|a, b| a.stored.customer.cmp(&b.stored.customer));
    Ok(locked)
}

/// Locks customers due for scheduled rescoring at `now`, the longest overdue first, and
/// returns the due time of the first. Skips rows locked by another transaction, which
/// rescores them itself. Never waits for a lock, so the lock order is free.
pub async fn lock_due(
    tx: &mut DatabaseTransaction,
    now: Timestamp,
    limit: i64,
) -> Result<(Vec<LockedCustomerRow>, Option<Timestamp>), StoreError> {
    let rows = sqlx::query!(
        r#"select customer_id, state, generation, fallback, segment, moved_at,
                  recheck_at as "recheck_at!"
           from customer where recheck_at <= $1
           order by recheck_at limit $2 for update skip locked"#,
        to_sql(now),
        limit,
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    let since = rows.iter().map(|row| row.recheck_at).min().map(from_sql);
    let locked = rows.into_iter().map(|row| {
        let held = PreviousAssignment::from_columns(
            row.generation,
            row.fallback,
            row.segment,
            row.moved_at,
        );
        Ok(LockedCustomerRow { stored: stored_state(row.customer_id, row.state)?, previous: held })
    });
    Ok((locked.collect::<Result<_, StoreError>>()?, since))
}

/// The new content of a customer's row.
#[derive(Debug)]
pub struct NewCustomerRow<'a> {
    pub customer: &'a CustomerKey,
    /// `None`: unchanged.
    pub state: Option<&'a [u8]>,
    pub last_event_at: Option<Timestamp>,
    pub assignment: &'a StoredAssignment,
    /// Time until which the assignment cannot change without events; `None`: never. An
    /// update that leaves this value unchanged touches no index.
    pub rescore_at: Option<Timestamp>,
    pub introduction: &'a IdIntroduction,
}

/// How the id of a customer became known, according to new events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum IdIntroduction {
    /// No statement: from a trusted sender if the id is new, else as recorded before.
    #[default]
    Unchanged,
    /// An event names the id as a known customer: from now on no public key may link from
    /// it.
    Known,
    /// All events name the id as anonymous and come from this public key, which has
    /// introduced the id if it is new.
    Anonymous(MessageIdNamespace),
}

impl IdIntroduction {
    /// SQL form: null changes nothing, the empty text is [`Self::EventCutoff`].
    fn as_sql(&self) -> Option<&str> {
        match self {
            Self::Unchanged => None,
            Self::Known => Some(""),
            Self::Anonymous(sender) => Some(sender.as_str()),
        }
    }
}

/// Writes new customers and customers locked by this transaction. `added` must be sorted.
/// Fails with `Lost` if a concurrent transaction has added one.
pub async fn write(
    tx: &mut DatabaseTransaction,
    added: &[NewCustomerRow<'_>],
    known: &[NewCustomerRow<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    if !added.is_empty() && insert(tx, added, now).await? < added.len() as u64 {
        return Err(StoreError::Lost("a customer was added by another transaction".into()));
    }
    if !known.is_empty() {
        update(tx, known, now).await?;
    }
    Ok(())
}

async fn insert(
    tx: &mut DatabaseTransaction,
    rows: &[NewCustomerRow<'_>],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let columns = CustomerColumns::from_rows(rows);
    let introducers = columns.introductions.iter().map(|key| key.filter(|key| !key.is_empty()));
    let introducers: Vec<Option<&str>> = introducers.collect();
    let inserted = sqlx::query!(
        "insert into customer (customer_id, state, last_event_at, generation, fallback, segment,
                               distance, p_value, confidence, outlier, held, assigned_at,
                               moved_at, recheck_at, updated_at, introduced_by)
         select unnest($1::text[]), unnest($2::bytea[]), unnest($3::timestamptz[]),
                unnest($4::bigint[]), unnest($5::boolean[]), unnest($6::text[]),
                unnest($7::real[]), unnest($8::double precision[]), unnest($9::real[]),
                unnest($10::boolean[]), unnest($11::boolean[]), unnest($12::timestamptz[]),
                unnest($13::timestamptz[]), unnest($14::timestamptz[]), $15,
                unnest($16::text[])
         on conflict (customer_id) do nothing",
        &columns.customers as &[&str],
        &columns.states as &[Option<&[u8]>],
        &columns.last_event_at as &[Option<DateTime<Utc>>],
        &columns.generations,
        &columns.fallbacks,
        &columns.segments as &[&str],
        &columns.distances as &[Option<f32>],
        &columns.p_values as &[Option<f64>],
        &columns.confidences as &[Option<f32>],
        &columns.outliers,
        &columns.held,
        &columns.assigned_at,
        &columns.moved_at as &[Option<DateTime<Utc>>],
        &columns.recheck_at as &[Option<DateTime<Utc>>],
        to_sql(now),
        &introducers as &[Option<&str>],
    )
    .execute(&mut *tx.inner)
    .await?
    .rows_affected();
    Ok(inserted)
}

/// Writes customers that this transaction has locked.
pub async fn update(
    tx: &mut DatabaseTransaction,
    rows: &[NewCustomerRow<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    let columns = CustomerColumns::from_rows(rows);
    sqlx::query!(
        "update customer set
             state = coalesce(new.state, customer.state),
             last_event_at = case when new.state is null then customer.last_event_at
                                  else new.last_event_at end,
             generation = new.generation, fallback = new.fallback, segment = new.segment,
             distance = new.distance, p_value = new.p_value, confidence = new.confidence,
             outlier = new.outlier, held = new.held, assigned_at = new.assigned_at,
             moved_at = new.moved_at, recheck_at = new.recheck_at, updated_at = $15,
             introduced_by = case when new.introduction = '' then null
                                  else customer.introduced_by end
         from (select unnest($1::text[]) as customer_id, unnest($2::bytea[]) as state,
                      unnest($3::timestamptz[]) as last_event_at,
                      unnest($4::bigint[]) as generation, unnest($5::boolean[]) as fallback,
                      unnest($6::text[]) as segment, unnest($7::real[]) as distance,
                      unnest($8::double precision[]) as p_value,
                      unnest($9::real[]) as confidence, unnest($10::boolean[]) as outlier,
                      unnest($11::boolean[]) as held, unnest($12::timestamptz[]) as assigned_at,
                      unnest($13::timestamptz[]) as moved_at,
                      unnest($14::timestamptz[]) as recheck_at,
                      unnest($16::text[]) as introduction) new
         where customer.customer_id = new.customer_id",
        &columns.customers as &[&str],
        &columns.states as &[Option<&[u8]>],
        &columns.last_event_at as &[Option<DateTime<Utc>>],
        &columns.generations,
        &columns.fallbacks,
        &columns.segments as &[&str],
        &columns.distances as &[Option<f32>],
        &columns.p_values as &[Option<f64>],
        &columns.confidences as &[Option<f32>],
        &columns.outliers,
        &columns.held,
        &columns.assigned_at,
        &columns.moved_at as &[Option<DateTime<Utc>>],
        &columns.recheck_at as &[Option<DateTime<Utc>>],
        to_sql(now),
        &columns.introductions as &[Option<&str>],
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Rows transposed to columns: each query parameter is one array. The statements unnest
/// them side by side in `select`; in `from` Postgres would materialize each first.
pub(crate) struct CustomerColumns<'a> {
    pub(crate) customers: Vec<&'a str>,
    pub(crate) states: Vec<Option<&'a [u8]>>,
    pub(crate) last_event_at: Vec<Option<DateTime<Utc>>>,
    pub(crate) generations: Vec<i64>,
    pub(crate) fallbacks: Vec<bool>,
    pub(crate) segments: Vec<&'a str>,
    pub(crate) distances: Vec<Option<f32>>,
    pub(crate) p_values: Vec<Option<f64>>,
    pub(crate) confidences: Vec<Option<f32>>,
    pub(crate) outliers: Vec<bool>,
    pub(crate) held: Vec<bool>,
    pub(crate) assigned_at: Vec<DateTime<Utc>>,
    pub(crate) moved_at: Vec<Option<DateTime<Utc>>>,
    pub(crate) recheck_at: Vec<Option<DateTime<Utc>>>,
    pub(crate) introductions: Vec<Option<&'a str>>,
}

impl<'a> CustomerColumns<'a> {
    pub(crate) fn from_rows(rows: &[NewCustomerRow<'a>]) -> Self {
        let assigned = rows.iter().map(|row| row.assignment);
        Self {
            customers: rows.iter().map(|row| row.customer.as_str()).collect(),
            states: rows.iter().map(|row| row.state).collect(),
            last_event_at: rows.iter().map(|row| row.last_event_at.map(to_sql)).collect(),
            generations: assigned.clone().map(|a| a.generation).collect(),
            fallbacks: assigned.clone().map(|a| a.model.is_none()).collect(),
            segments: assigned.clone().map(|a| a.segment.as_str()).collect(),
            distances: assigned.clone().map(|a| a.distance).collect(),
            p_values: assigned.clone().map(|a| a.p_value).collect(),
            confidences: assigned.clone().map(|a| a.confidence).collect(),
            outliers: assigned.clone().map(|a| a.is_outlier).collect(),
            held: assigned.clone().map(|a| a.is_retained_by_hysteresis).collect(),
            assigned_at: assigned.clone().map(|a| to_sql(a.assigned_at)).collect(),
            moved_at: assigned.map(|a| a.moved_at.map(to_sql)).collect(),
            recheck_at: rows.iter().map(|row| row.rescore_at.map(to_sql)).collect(),
            introductions: rows.iter().map(|row| row.introduction.as_sql()).collect(),
        }
    }
}

pub async fn find_state(
    db: &ReadOnlyDatabase,
    customer: &CustomerKey,
) -> Result<Option<Vec<u8>>, StoreError> {
    let state =
        sqlx::query_scalar!("select state from customer where customer_id = $1", customer.as_str())
            .fetch_optional(&db.pool)
            .await?;
    Ok(state)
}

pub async fn count(db: &ReadOnlyDatabase) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "count!" from customer where merged_into is null"#
    )
    .fetch_one(&db.long_reads)
    .await?)
}

/// Every state in one snapshot, by customer id in byte order.
pub fn stream_states(
    db: &ReadOnlyDatabase,
) -> impl Stream<Item = Result<StoredState, StoreError>> + '_ {
    sqlx::query!(
        r#"select customer_id, state from customer where merged_into is null
           order by customer_id collate "C""#
    )
    .fetch(&db.long_reads)
    .map_err(StoreError::from)
    .and_then(|row| async move { stored_state(row.customer_id, row.state) })
}

/// Like [`stream`], with the assignments; `None` until first assigned.
pub fn stream_assigned_states(
    db: &ReadOnlyDatabase,
) -> impl Stream<Item = Result<(StoredState, Option<PreviousAssignment>), StoreError>> + '_ {
    sqlx::query!(
        r#"select customer_id, state, generation, fallback, segment, moved_at
           from customer where merged_into is null order by customer_id collate "C""#
    )
    .fetch(&db.long_reads)
    .map_err(StoreError::from)
    .and_then(|row| async move {
        let held = PreviousAssignment::from_columns(
            row.generation,
            row.fallback,
            row.segment,
            row.moved_at,
        );
        Ok((stored_state(row.customer_id, row.state)?, held))
    })
}

/// Up to `limit` ids of customers last assigned before `generation`, in byte order.
pub async fn list_assigned_before(
    db: &ReadOnlyDatabase,
    generation: i64,
    limit: i64,
) -> Result<Vec<CustomerKey>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"select customer_id from (
               select customer_id from customer where generation < $1 limit $2
           ) as stale order by customer_id collate "C""#,
        generation,
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    ids.into_iter().map(customer_key).collect()
}

pub async fn count_assigned_before(
    db: &ReadOnlyDatabase,
    generation: i64,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "count!" from customer where generation < $1"#,
        generation
    )
    .fetch_one(&db.pool)
    .await?)
}

pub(crate) fn stored_state(customer_id: String, state: Vec<u8>) -> Result<StoredState, StoreError> {
    Ok(StoredState { customer: customer_key(customer_id)?, state })
}

pub(crate) fn customer_key(id: String) -> Result<CustomerKey, StoreError> {
    CustomerKey::try_from(id)
        .map_err(|why| StoreError::Corrupt { what: "customer id", why: why.to_string() })
}
