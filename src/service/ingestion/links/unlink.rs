//! Removal of an identity link: a shared device or a mistake.

use crate::domain::drift::ScoreSource;
use crate::domain::id::CustomerKey;
use crate::domain::identity::{
    IdentityGraph, IdentityLink, MAX_CONNECTED_IDS, MAX_IDS_PER_CUSTOMER,
};
use crate::service::ServiceError;
use crate::service::ingestion::commit::linking::{GroupChange, regroup};
use crate::service::ingestion::links::live_component;
use crate::service::ingestion::{IngestionCore, IngestionService};
use crate::service::retry::RetryAttempts;
use crate::service::scoring::observations::BatchCounts;
use crate::store::StoreError;
use crate::store::customers::{identity, links};
use crate::telemetry::labels;

/// The surviving ids of both ends after the removal; equal if another link still connects
/// them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnlinkedCustomers {
    pub link: IdentityLink,
    pub from_customer: CustomerKey,
    pub to_customer: CustomerKey,
}

impl IngestionService {
    /// Removes the first link from `from`, which leads to or from the customer of `id`.
    ///
    /// Both customers are rebuilt as if the link had never been sent. If `from` was also
    /// linked elsewhere, the next link takes effect. The same link counts again if it is
    /// sent later; late arrivals of earlier assertions do not.
    pub(crate) async fn remove_link(
        &self,
        id: &CustomerKey,
        from: &CustomerKey,
    ) -> Result<UnlinkedCustomers, ServiceError> {
        let mut attempts = RetryAttempts::default();
        let unlinked = loop {
            match attempt(&self.core, id, from).await {
                Ok(unlinked) => break unlinked,
                Err(error) => attempts.record_failure(error)?,
            }
        };
        let Some(unlinked) = unlinked else {
            let missing = format!("link from `{from}` at customer `{id}`");
            return Err(ServiceError::NotFound(missing));
        };
        self.core.metrics.ingestion.links.add(labels::LinkOutcomeLabel::Removed, 1);
        tracing::info!("identity link removed");
        Ok(unlinked)
    }
}

/// One attempt; `None` if no such link exists.
async fn attempt(
    core: &IngestionCore,
    id: &CustomerKey,
    from: &CustomerKey,
) -> Result<Option<UnlinkedCustomers>, StoreError> {
    let deployment = core.serving.snapshot();
    // Commits together: the removed link, the groups and states without it, the new
    // assignments of those customers, and the history of assignment changes.
    let mut tx = core.db.begin().await?;
    links::lock_links(&mut tx).await?;
    let Some(first) = links::first_links(&mut tx, &[from]).await?.remove(from) else {
        return Ok(None);
    };
    let to = &first.link.to;
    let canonical = identity::find_canonical_ids(&mut tx, &[id, from, to]).await?;
    let [customer, from_customer, to_customer] =
        [id, from, to].map(|id| canonical.get(id).unwrap_or(id));
    if customer != from_customer && customer != to_customer {
        return Ok(None);
    }
    // The sender's clock may be ahead of this one.
    let until = core.clock.now().max(first.asserted_at);
    let next = links::revoke(&mut tx, &first.link, until).await?;
    let ids: Vec<&CustomerKey> = [from, to].into_iter().chain(&next).collect();
    let mut ended = Vec::new();
    let connected = live_component(&mut tx, &ids, 3 * MAX_CONNECTED_IDS, &mut ended).await?;
    let remaining = if let Some(connected) = connected {
        connected
    } else {
        // More ids are connected than one decision may read: take each affected customer
        // by itself.
        let customers: Vec<&CustomerKey> =
            ids.iter().map(|id| canonical.get(*id).unwrap_or(id)).collect();
        links::links_between(&mut tx, &customers).await?
    };
    let mut groups = IdentityGraph::from_first_links(remaining, MAX_IDS_PER_CUSTOMER);
    for id in [from, to].into_iter().chain(ended.iter().flat_map(|link| [&link.from, &link.to])) {
        groups = groups.with_id(id);
    }
    // No response depends on these scores, so their counts are dropped.
    let mut dropped_tally = BatchCounts::new(ScoreSource::Events);
    let change = GroupChange { groups: &groups, all: &[], new: &[] };
    let (_, decisions) = regroup(core, &mut tx, &deployment, change, &mut dropped_tally).await?;
    tx.commit().await?;
    decisions.add_to(&core.metrics.ingestion.assignments);
    let [from, to] = [from, to].map(|id| groups.canonical(id).unwrap_or(id).clone());
    Ok(Some(UnlinkedCustomers { from_customer: from, to_customer: to, link: first.link.clone() }))
}
