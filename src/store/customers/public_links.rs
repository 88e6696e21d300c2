//! Identity links of public keys: permission, and revocation.
//!
//! A public key may link from an anonymous id that it introduced, and from an id without a
//! customer. It never links from a known customer: once an event names the id as one, its
//! links end (`end_links`) and no new one is accepted (`link_sources`).

use sqlx::PgExecutor;

use crate::domain::access::MessageIdNamespace;
use crate::domain::id::CustomerKey;
use crate::domain::identity::IdentityLink;
use crate::domain::workspace::WorkspaceId;
use crate::store::customers::customer_key;
use crate::store::{DatabaseTransaction, DedicatedDatabase, StoreError};

/// A link asserted by a public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicLink {
    pub link: IdentityLink,
    pub sender: MessageIdNamespace,
}

/// Stored facts about the source of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkSource {
    /// The id has a customer that the key did not introduce.
    pub is_foreign: bool,
    /// The same link is already stored, so it changes nothing.
    pub is_recorded: bool,
}

/// The sources of these links, in order, within a transaction.
pub(crate) async fn link_sources(
    tx: &mut DatabaseTransaction,
    links: &[PublicLink],
) -> Result<Vec<LinkSource>, StoreError> {
    read(&mut *tx.inner, tx.workspace, links).await
}

/// The sources of these links, in order.
pub(crate) async fn read_link_sources(
    db: &DedicatedDatabase,
    links: &[PublicLink],
) -> Result<Vec<LinkSource>, StoreError> {
    let workspace = db.workspace();
    db.run_statement(async |connection| read(connection, workspace, links).await).await
}

async fn read<'c>(
    connection: impl PgExecutor<'c>,
    workspace: WorkspaceId,
    links: &[PublicLink],
) -> Result<Vec<LinkSource>, StoreError> {
    let from: Vec<&str> = links.iter().map(|public| public.link.from.as_str()).collect();
    let to: Vec<&str> = links.iter().map(|public| public.link.to.as_str()).collect();
    let senders: Vec<&str> = links.iter().map(|public| public.sender.as_str()).collect();
    let rows = sqlx::query_as!(
        LinkSource,
        r#"select customer.customer_id is not null
                      and customer.introduced_by is distinct from asked.sender as "is_foreign!",
                  customer_link.happened_at is not null as "is_recorded!"
           from unnest($1::text[], $2::text[], $3::text[]) with ordinality
                    as asked (from_id, to_id, sender, place)
                left join customer on customer.workspace_id = $4
                                      and customer.customer_id = asked.from_id
                left join customer_link on customer_link.workspace_id = $4
                                           and customer_link.from_id = asked.from_id
                                           and customer_link.to_id = asked.to_id
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

/// Those ids that have a link asserted by a public key.
pub(crate) async fn ids_with_links(
    tx: &mut DatabaseTransaction,
    ids: &[&CustomerKey],
) -> Result<Vec<CustomerKey>, StoreError> {
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    let rows = sqlx::query_scalar!(
        "select distinct from_id from customer_link
         where workspace_id = $1 and is_public and happened_at is not null and from_id = any($2)",
        tx.workspace_id(),
        &ids as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    rows.into_iter().map(customer_key).collect()
}

/// Deletes the links of public keys from these ids. Returns the first links among them:
/// only these may have been followed. The caller holds `links::lock_links`. No other link is
/// promoted: one of a trusted sender takes precedence anyway.
pub(crate) async fn end_links(
    tx: &mut DatabaseTransaction,
    ids: &[CustomerKey],
) -> Result<Vec<IdentityLink>, StoreError> {
    let ids: Vec<&str> = ids.iter().map(CustomerKey::as_str).collect();
    let rows = sqlx::query!(
        "delete from customer_link
         where workspace_id = $1 and is_public and happened_at is not null and from_id = any($2)
         returning from_id, to_id, is_first",
        tx.workspace_id(),
        &ids as &[&str],
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    let ended = rows.into_iter().filter(|row| row.is_first).map(|row| {
        Ok(IdentityLink { from: customer_key(row.from_id)?, to: customer_key(row.to_id)? })
    });
    ended.collect()
}
