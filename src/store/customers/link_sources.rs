//! Stored facts about the sources of identity links, and the end of links whose source an
//! event has named as a known customer.

use sqlx::PgExecutor;

use crate::domain::access::MessageIdNamespace;
use crate::domain::id::CustomerKey;
use crate::domain::identity::IdentityLink;
use crate::domain::workspace::WorkspaceId;
use crate::store::customers::{customer_key, links};
use crate::store::{DatabaseTransaction, DedicatedDatabase, StoreError};

/// A link that a sender asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestedLink {
    pub link: IdentityLink,
    pub sender: MessageIdNamespace,
}

/// Stored facts about the source of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkSource {
    /// For a public key: the id has a customer that the key did not introduce. For a trusted
    /// sender: an event of a trusted sender has named the id as a known customer.
    pub is_forbidden: bool,
    /// The same link is already stored, so it changes nothing.
    pub is_recorded: bool,
}

/// Ids that new events name as known customers.
#[derive(Debug, Default)]
pub(crate) struct KnownIds<'c> {
    /// By events of any sender.
    pub by_anyone: Vec<&'c CustomerKey>,
    /// By events of trusted senders.
    pub by_trusted: Vec<&'c CustomerKey>,
}

impl KnownIds<'_> {
    fn as_sql(&self) -> [Vec<&str>; 2] {
        [&self.by_anyone, &self.by_trusted].map(|ids| ids.iter().map(|id| id.as_str()).collect())
    }
}

/// The sources of these links, in order, within a transaction.
pub(crate) async fn find(
    tx: &mut DatabaseTransaction,
    links: &[RequestedLink],
) -> Result<Vec<LinkSource>, StoreError> {
    select(&mut *tx.inner, tx.workspace, links).await
}

/// The sources of these links, in order.
pub(crate) async fn read(
    db: &DedicatedDatabase,
    links: &[RequestedLink],
) -> Result<Vec<LinkSource>, StoreError> {
    let workspace = db.workspace();
    db.run_statement(async |connection| select(connection, workspace, links).await).await
}

async fn select<'c>(
    connection: impl PgExecutor<'c>,
    workspace: WorkspaceId,
    links: &[RequestedLink],
) -> Result<Vec<LinkSource>, StoreError> {
    let from: Vec<&str> = links.iter().map(|requested| requested.link.from.as_str()).collect();
    let to: Vec<&str> = links.iter().map(|requested| requested.link.to.as_str()).collect();
    let senders: Vec<&str> = links.iter().map(|requested| requested.sender.as_str()).collect();
    let rows = sqlx::query_as!(
        LinkSource,
        r#"select case when asked.sender = '' then coalesce(customer.is_known, false)
                       else customer.customer_id is not null
                            and customer.introduced_by is distinct from asked.sender
                  end as "is_forbidden!",
                  exists (select from customer_link
                          where customer_link.workspace_id = $4
                            and customer_link.from_id = asked.from_id
                            and customer_link.to_id = asked.to_id
                            and happened_at is not null) as "is_recorded!"
           from unnest($1::text[], $2::text[], $3::text[]) with ordinality
                    as asked (from_id, to_id, sender, place)
                left join customer on customer.workspace_id = $4
                                      and customer.customer_id = asked.from_id
           order by asked.place"#,
        &from as &[&str],
        &to as &[&str],
        &senders as &[&str],
        workspace.number(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Whether any of these ids has a link that ends, because the id is known now.
pub(crate) async fn have_ending_links(
    tx: &mut DatabaseTransaction,
    known: &KnownIds<'_>,
) -> Result<bool, StoreError> {
    let [by_anyone, by_trusted] = known.as_sql();
    let found = sqlx::query_scalar!(
        r#"select exists (
               select from customer_link
               where workspace_id = $1 and happened_at is not null and from_id = any($2)
                 and (is_public or (not is_alias and from_id = any($3)))) as "exists!""#,
        tx.workspace_id(),
        &by_anyone as &[&str],
        &by_trusted as &[&str],
    )
    .fetch_one(&mut *tx.inner)
    .await?;
    Ok(found)
}

/// Deletes the links that end because their source is known now. Returns the first links among
/// them: only these may have been followed. The next link of each source becomes its first. The
/// caller holds `links::lock_links`.
pub(crate) async fn end_links(
    tx: &mut DatabaseTransaction,
    known: &KnownIds<'_>,
) -> Result<Vec<IdentityLink>, StoreError> {
    let [by_anyone, by_trusted] = known.as_sql();
    let rows = sqlx::query!(
        "delete from customer_link
         where workspace_id = $1 and happened_at is not null and from_id = any($2)
           and (is_public or (not is_alias and from_id = any($3)))
         returning from_id, to_id, is_first",
        tx.workspace_id(),
        &by_anyone as &[&str],
        &by_trusted as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    let mut ended = Vec::new();
    for row in rows.into_iter().filter(|row| row.is_first) {
        let [from, to] = [row.from_id, row.to_id].map(customer_key);
        ended.push(IdentityLink { from: from?, to: to? });
    }
    links::promote_next(tx, &ended.iter().map(|link| &link.from).collect::<Vec<_>>()).await?;
    Ok(ended)
}

/// Those ids that an event of a trusted sender has named as a known customer.
pub(crate) async fn known_among(
    tx: &mut DatabaseTransaction,
    ids: &[&CustomerKey],
) -> Result<Vec<CustomerKey>, StoreError> {
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    let known = sqlx::query_scalar!(
        "select customer_id from customer
         where workspace_id = $1 and customer_id = any($2) and is_known",
        tx.workspace_id(),
        &ids as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    known.into_iter().map(customer_key).collect()
}

/// Records that events of trusted senders have named these ids as known customers. For the rows
/// of merged ids: other rows are written with their state.
pub(crate) async fn mark_known(
    tx: &mut DatabaseTransaction,
    ids: &[&CustomerKey],
) -> Result<(), StoreError> {
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    sqlx::query!(
        "update customer set is_known = true
         where workspace_id = $1 and customer_id = any($2) and not is_known",
        tx.workspace_id(),
        &ids as &[&str],
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}
