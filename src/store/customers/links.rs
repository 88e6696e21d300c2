//! Identity links: the earliest assertion of each link between two ids, and the earliest `alias`.
//!
//! The first link of an id, and the merges that follow from it, are decided under `lock_links`:
//! one transaction of all replicas at a time changes links and identity groups. The lock
//! comes after the message ids and before the customers' rows, so no deadlock occurs. Only
//! new links need it; events of known customers never wait for it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::domain::id::{CustomerKey, MessageId};
use crate::domain::identity::{IdentityLink, LinkAssertion};
use crate::domain::time::Timestamp;
use crate::domain::workspace::WorkspaceId;
use crate::store::customers::customer_key;
use crate::store::{
    DatabaseTransaction, DedicatedDatabase, ReadOnlyDatabase, StoreError, from_sql, to_sql,
};

/// The stored links from one id to another: the one stated by an `alias`, and the other.
#[derive(Debug, Default)]
pub(crate) struct StoredLinkPair {
    pub alias: Option<StoredLink>,
    pub other: Option<StoredLink>,
}

impl StoredLinkPair {
    /// Assertions dated up to this time do not count, of either link.
    pub(crate) fn ignored_until(&self) -> Option<Timestamp> {
        [&self.alias, &self.other].into_iter().flatten().filter_map(|one| one.ignored_until).max()
    }
}

/// The stored part of a link.
#[derive(Debug, Clone)]
pub(crate) struct StoredLink {
    /// Earliest assertion: time and message; `None` after the link was revoked.
    pub asserted: Option<(Timestamp, MessageId)>,
    /// Assertions dated up to this time do not count.
    pub ignored_until: Option<Timestamp>,
    /// Asserted by a public key.
    pub is_public: bool,
}

/// One entry in the list of a customer's links.
#[derive(Debug, Clone)]
pub(crate) struct CustomerLinkRow {
    pub link: IdentityLink,
    /// Stated by an `alias`.
    pub is_alias: bool,
    pub recorded: StoredLink,
    /// The earliest link of its id: the only one that may be followed.
    pub is_first: bool,
    /// Both ids of the link belong to one customer.
    pub is_same_customer: bool,
}

/// Lock timeout for customer rows in a transaction that has acquired the lock below.
const ROW_LOCK_MILLISECONDS: &str = "100";

/// Lock timeout for the lock below. Longer than for a row: its owners are working replicas,
/// which themselves wait only briefly.
const TURN_MILLISECONDS: &str = "5000";

/// Acquires the global lock of links and identity groups until this transaction ends. Later
/// lock waits of this transaction are short, because all linking transactions wait for it.
pub(crate) async fn lock_links(tx: &mut DatabaseTransaction) -> Result<(), StoreError> {
    sqlx::query!(r#"select set_config('lock_timeout', $1, true) as "lock!""#, TURN_MILLISECONDS)
        .fetch_one(&mut *tx.inner)
        .await?;
    sqlx::query!(
        r#"select pg_advisory_xact_lock(hashtextextended('segmentd identity', 0)) as "locked!: ()",
                  set_config('lock_timeout', $1, true) as "lock_timeout!""#,
        ROW_LOCK_MILLISECONDS,
    )
    .fetch_one(&mut *tx.inner)
    .await?;
    Ok(())
}

/// The stored state of these links, within a transaction.
pub(crate) async fn find_stored<'l>(
    tx: &mut DatabaseTransaction,
    links: impl Iterator<Item = &'l IdentityLink>,
) -> Result<HashMap<IdentityLink, StoredLinkPair>, StoreError> {
    read(&mut *tx.inner, tx.workspace, links).await
}

/// The stored state of these links.
pub(crate) async fn read_stored<'l>(
    db: &DedicatedDatabase,
    links: impl Iterator<Item = &'l IdentityLink>,
) -> Result<HashMap<IdentityLink, StoredLinkPair>, StoreError> {
    let workspace = db.workspace();
    db.run_statement(async |connection| read(connection, workspace, links).await).await
}

async fn read<'c, 'l>(
    connection: impl PgExecutor<'c>,
    workspace: WorkspaceId,
    links: impl Iterator<Item = &'l IdentityLink>,
) -> Result<HashMap<IdentityLink, StoredLinkPair>, StoreError> {
    let (from, to): (Vec<&str>, Vec<&str>) =
        links.map(|link| (link.from.as_str(), link.to.as_str())).unzip();
    let rows = sqlx::query!(
        "select from_id, to_id, is_alias, happened_at, message_id, ignored_until, is_public
         from customer_link
         where workspace_id = $3
           and (from_id, to_id) in (select * from unnest($1::text[], $2::text[]))",
        &from as &[&str],
        &to as &[&str],
        workspace.number(),
    )
    .fetch_all(connection)
    .await?;
    let mut pairs = HashMap::<IdentityLink, StoredLinkPair>::new();
    for row in rows {
        let pair = pairs.entry(link(row.from_id, row.to_id)?).or_default();
        let stored = if row.is_alias { &mut pair.alias } else { &mut pair.other };
        let (at, message) = (row.happened_at, row.message_id);
        *stored = Some(recorded_as(at, message, row.ignored_until, row.is_public)?);
    }
    Ok(pairs)
}

/// The first link of each of these ids.
pub(crate) async fn first_links(
    tx: &mut DatabaseTransaction,
    from: &[&CustomerKey],
) -> Result<HashMap<CustomerKey, LinkAssertion>, StoreError> {
    let from: Vec<&str> = from.iter().map(|id| id.as_str()).collect();
    let rows = sqlx::query_as!(
        LinkRow,
        r#"select from_id, to_id, is_alias, happened_at as "happened_at!",
                  message_id as "message_id!", is_public
           from customer_link where workspace_id = $1 and is_first and from_id = any($2)"#,
        tx.workspace_id(),
        &from as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter()
        .map(|row| {
            let assertion = row.into_assertion()?;
            Ok((assertion.link.from.clone(), assertion))
        })
        .collect()
}

/// Ids of customers that already have `max_ids` ids, with the time of the latest link. A
/// later link cannot be followed.
pub(crate) async fn ids_at_limit(
    tx: &mut DatabaseTransaction,
    ids: &[&CustomerKey],
    max_ids: usize,
) -> Result<HashMap<CustomerKey, Timestamp>, StoreError> {
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    let rows = sqlx::query!(
        r#"select id as "id!", max(happened_at) as "last!"
           from unnest($1::text[]) as asked (id)
                left join customer on customer.workspace_id = $3 and customer.customer_id = id
                join customer as other
                     on other.workspace_id = $3
                        and other.merged_into = coalesce(customer.merged_into, id)
                join customer_link on customer_link.workspace_id = $3
                                      and from_id = other.customer_id and is_first
           group by id having count(*) >= $2"#,
        &ids as &[&str],
        i64::try_from(max_ids).unwrap_or(i64::MAX) - 1,
        tx.workspace_id(),
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter().map(|row| Ok((customer_key(row.id)?, from_sql(row.last)))).collect()
}

/// The connected component of these ids over first links, in one statement. `None`, after a
/// bounded search, if it has more than `max_ids` ids.
pub(crate) async fn connected_component(
    tx: &mut DatabaseTransaction,
    ids: &[&CustomerKey],
    max_ids: usize,
) -> Result<Option<Vec<LinkAssertion>>, StoreError> {
    let asked: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    // Postgres evaluates a recursive query only as far as its rows are fetched, so `limit`
    // bounds the search. Each `lateral` subquery is an index scan, whatever the planner
    // estimates for the number of ids.
    let rows = sqlx::query!(
        r#"with recursive reached (id) as (
               select unnest($1::text[]) collate "C"
               union
               select next.id from reached cross join lateral (
                   select to_id as id from customer_link
                   where workspace_id = $3 and is_first and from_id = reached.id
                   union all
                   select from_id from customer_link
                   where workspace_id = $3 and is_first and to_id = reached.id
               ) as next
           ), bounded as (select id from reached limit $2)
           select link.from_id as "from_id?", link.to_id as "to_id?",
                  link.happened_at as "happened_at?", link.message_id as "message_id?",
                  link.is_public as "is_public?", link.is_alias as "is_alias?"
           from bounded left join lateral (
               select from_id, to_id, happened_at, message_id, is_public, is_alias
               from customer_link
               where workspace_id = $3 and is_first and from_id = bounded.id limit 1
           ) as link on true"#,
        &asked as &[&str],
        i64::try_from(max_ids).unwrap_or(i64::MAX).saturating_add(1),
        tx.workspace_id(),
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    if rows.len() > max_ids {
        return Ok(None);
    }
    let links = rows.into_iter().filter_map(|row| {
        let row = LinkRow {
            from_id: row.from_id?,
            to_id: row.to_id?,
            is_alias: row.is_alias?,
            is_public: row.is_public?,
            happened_at: row.happened_at?,
            message_id: row.message_id?,
        };
        Some(row.into_assertion())
    });
    Ok(Some(links.collect::<Result<_, _>>()?))
}

/// The first links between two ids of these customers, which are given by canonical id.
pub(crate) async fn links_between(
    tx: &mut DatabaseTransaction,
    customers: &[&CustomerKey],
) -> Result<Vec<LinkAssertion>, StoreError> {
    let customers: Vec<&str> = customers.iter().map(|id| id.as_str()).collect();
    let rows = sqlx::query_as!(
        LinkRow,
        r#"with ids as materialized (
               select customer_id from customer
               where workspace_id = $1 and (customer_id = any($2) or merged_into = any($2)))
           select from_id, to_id, is_alias, happened_at as "happened_at!",
                  message_id as "message_id!", is_public
           from customer_link
           where workspace_id = $1 and is_first
                 and from_id = any(array(select customer_id from ids))
                 and to_id in (select customer_id from ids)"#,
        tx.workspace_id(),
        &customers as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter().map(LinkRow::into_assertion).collect()
}

/// Marks the first links of these ids as no longer the first.
pub(crate) async fn demote_first(
    tx: &mut DatabaseTransaction,
    from: &[&CustomerKey],
) -> Result<(), StoreError> {
    let from: Vec<&str> = from.iter().map(|id| id.as_str()).collect();
    sqlx::query!(
        "update customer_link set is_first = false
         where workspace_id = $1 and is_first and from_id = any($2)",
        tx.workspace_id(),
        &from as &[&str],
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Stores assertions that are new or earlier than the stored ones, one per link and kind, with
/// a flag for the first of its id.
pub(crate) async fn upsert(
    tx: &mut DatabaseTransaction,
    links: &[(&LinkAssertion, bool)],
) -> Result<(), StoreError> {
    let assertions = links.iter().map(|(assertion, _)| *assertion);
    let from: Vec<&str> = assertions.clone().map(|t| t.link.from.as_str()).collect();
    let to: Vec<&str> = assertions.clone().map(|t| t.link.to.as_str()).collect();
    let times: Vec<DateTime<Utc>> = assertions.clone().map(|t| to_sql(t.asserted_at)).collect();
    let messages: Vec<&str> = assertions.clone().map(|t| t.message_id.as_str()).collect();
    let public: Vec<bool> = assertions.clone().map(|t| t.is_public).collect();
    let alias: Vec<bool> = assertions.map(|t| t.is_alias).collect();
    let first: Vec<bool> = links.iter().map(|(_, is_first)| *is_first).collect();
    sqlx::query!(
        "insert into customer_link
             (workspace_id, from_id, to_id, happened_at, message_id, is_first, is_public, is_alias)
         select $8, * from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[],
                                  $5::boolean[], $6::boolean[], $7::boolean[])
         on conflict (workspace_id, from_id, to_id, is_alias) do update set
             happened_at = excluded.happened_at, message_id = excluded.message_id,
             is_first = excluded.is_first, is_public = excluded.is_public",
        &from as &[&str],
        &to as &[&str],
        &times,
        &messages as &[&str],
        &first,
        &public,
        &alias,
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

/// Revokes a link in both kinds, including assertions still to arrive that are dated up to
/// `until`. The next link in time becomes the first of its id; returns its target.
pub(crate) async fn revoke(
    tx: &mut DatabaseTransaction,
    link: &IdentityLink,
    until: Timestamp,
) -> Result<Option<CustomerKey>, StoreError> {
    sqlx::query!(
        "update customer_link
         set happened_at = null, message_id = null, is_first = false, ignored_until = $3
         where workspace_id = $4 and from_id = $1 and to_id = $2",
        link.from.as_str(),
        link.to.as_str(),
        to_sql(until),
        tx.workspace_id(),
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(promote_next(tx, &[&link.from]).await?.pop())
}

/// Marks the next link of each of these ids, which have no first link, as the first; returns
/// the targets of these links.
pub(crate) async fn promote_next(
    tx: &mut DatabaseTransaction,
    from: &[&CustomerKey],
) -> Result<Vec<CustomerKey>, StoreError> {
    let from: Vec<&str> = from.iter().map(|id| id.as_str()).collect();
    let targets = sqlx::query_scalar!(
        "update customer_link set is_first = true
         from (select distinct on (from_id) from_id, to_id, is_alias from customer_link
               where workspace_id = $1 and from_id = any($2) and happened_at is not null
               order by from_id, is_public, happened_at, message_id, to_id, is_alias) as next
         where customer_link.workspace_id = $1 and customer_link.from_id = next.from_id
           and customer_link.to_id = next.to_id and customer_link.is_alias = next.is_alias
         returning customer_link.to_id",
        tx.workspace_id(),
        &from as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    targets.into_iter().map(customer_key).collect()
}

/// Sort key of links: `from_id`, time, `to_id`, `is_alias`.
pub(crate) type LinkKey = (String, Option<Timestamp>, String, bool);

/// At most `limit` links from or to one of these ids, after the link with the key `after`.
/// Removed links of an id come last.
pub(crate) async fn list_page(
    db: &ReadOnlyDatabase,
    ids: &[CustomerKey],
    after: Option<&LinkKey>,
    limit: i64,
) -> Result<Vec<CustomerLinkRow>, StoreError> {
    let ids: Vec<&str> = ids.iter().map(CustomerKey::as_str).collect();
    let rows = sqlx::query!(
        r#"select from_id, to_id, is_alias, happened_at, message_id, ignored_until, is_public,
                  is_first,
                  is_first and whose.merged_into is not null
                      and whose.merged_into = coalesce(other.merged_into, to_id) as "is_one!"
           from customer_link
                left join customer as whose
                     on whose.workspace_id = $1 and whose.customer_id = from_id
                left join customer as other
                     on other.workspace_id = $1 and other.customer_id = to_id
           where customer_link.workspace_id = $1 and (from_id = any($2) or to_id = any($2))
             and ($3::text is null
                  or (from_id, coalesce(happened_at, 'infinity'), to_id, is_alias)
                     > ($3, coalesce($4::timestamptz, 'infinity'), $5::text, $6::boolean))
           order by from_id, coalesce(happened_at, 'infinity'), to_id, is_alias limit $7"#,
        db.workspace_id(),
        &ids as &[&str],
        after.map(|(from_id, ..)| from_id),
        after.and_then(|(_, happened_at, ..)| happened_at.map(to_sql)),
        after.map(|(_, _, to_id, _)| to_id),
        after.map(|(.., is_alias)| *is_alias),
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(CustomerLinkRow {
                link: link(row.from_id, row.to_id)?,
                is_alias: row.is_alias,
                recorded: recorded_as(
                    row.happened_at,
                    row.message_id,
                    row.ignored_until,
                    row.is_public,
                )?,
                is_first: row.is_first,
                is_same_customer: row.is_one,
            })
        })
        .collect()
}

fn link(from: String, to: String) -> Result<IdentityLink, StoreError> {
    Ok(IdentityLink { from: customer_key(from)?, to: customer_key(to)? })
}

/// The columns of a link that is not revoked.
struct LinkRow {
    from_id: String,
    to_id: String,
    is_alias: bool,
    is_public: bool,
    happened_at: DateTime<Utc>,
    message_id: String,
}

impl LinkRow {
    fn into_assertion(self) -> Result<LinkAssertion, StoreError> {
        Ok(LinkAssertion {
            is_public: self.is_public,
            asserted_at: from_sql(self.happened_at),
            message_id: message(self.message_id)?,
            link: link(self.from_id, self.to_id)?,
            is_alias: self.is_alias,
        })
    }
}

fn recorded_as(
    at: Option<DateTime<Utc>>,
    message_id: Option<String>,
    ignored_until: Option<DateTime<Utc>>,
    is_public: bool,
) -> Result<StoredLink, StoreError> {
    let message_id = message_id.map(message).transpose()?;
    let asserted = at.map(from_sql).zip(message_id);
    Ok(StoredLink { asserted, ignored_until: ignored_until.map(from_sql), is_public })
}

fn message(id: String) -> Result<MessageId, StoreError> {
    MessageId::try_from(id)
        .map_err(|why| StoreError::Corrupt { what: "message id", why: why.to_string() })
}
