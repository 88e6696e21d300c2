//! Taking a link back: a device that was somebody else's, a mistake, an erasure.

use crate::domain::drift::Source;
use crate::domain::id::CustomerKey;
use crate::domain::identity::{Groups, Link, MAX_CONNECTED_IDS, MAX_IDS};
use crate::service::ServiceError;
use crate::service::ingestion::commit::linking::regroup;
use crate::service::ingestion::{Core, Intake};
use crate::service::retry::Attempts;
use crate::service::scoring::observations::Tally;
use crate::store::StoreError;
use crate::store::customers::{identity, links};
use crate::telemetry::labels;

/// Under which ids the customers of its two ends are kept now; the same where
/// another link still makes them one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlinked {
    pub link: Link,
    pub from: CustomerKey,
    pub to: CustomerKey,
}

impl Intake {
    /// Takes back the first link from `from`, which leads to or from the customer
    /// of `id`. Both are rebuilt as if it had never been said. If it was said
    /// that `from` is somebody else too, that is what counts now. What is said of
    /// the same link from now on counts again; what comes late does not.
    pub async fn unlink(
        &self,
        id: &CustomerKey,
        from: &CustomerKey,
    ) -> Result<Unlinked, ServiceError> {
        let mut attempts = Attempts::default();
        let unlinked = loop {
            match attempt(&self.core, id, from).await {
                Ok(unlinked) => break unlinked,
                Err(error) => attempts.end_with(error)?,
            }
        };
        let what = || ServiceError::NotFound(format!("link from `{from}` at customer `{id}`"));
        let unlinked = unlinked.ok_or_else(what)?;
        self.core.metrics.intake.links.add(labels::Link::TakenBack, 1);
        tracing::info!("a link between two ids was taken back");
        Ok(unlinked)
    }
}

/// `None`: there is no such link.
async fn attempt(
    core: &Core,
    id: &CustomerKey,
    from: &CustomerKey,
) -> Result<Option<Unlinked>, StoreError> {
    let lineup = core.live.snapshot();
    // Commits together: the link taken back, the groups and states as they are
    // without it, where those customers stand, and the history of who moved.
    let mut tx = core.db.begin().await?;
    links::lock(&mut tx).await?;
    let Some(first) = links::firsts(&mut tx, &[from]).await?.remove(from) else {
        return Ok(None);
    };
    let to = &first.link.to;
    let canonical = identity::canonical(&mut tx, &[id, from, to]).await?;
    let kept = |id| canonical.get(id).unwrap_or(id);
    if kept(id) != kept(from) && kept(id) != kept(to) {
        return Ok(None);
    }
    // A sender's clock may run ahead of ours.
    let until = core.clock.now().max(first.at);
    let next = links::take_back(&mut tx, &first.link, until).await?;
    let ids: Vec<&CustomerKey> = [from, to].into_iter().chain(&next).collect();
    let connected = links::connected(&mut tx, &ids, 3 * MAX_CONNECTED_IDS).await?;
    let remaining = if let Some(connected) = connected {
        connected
    } else {
        // More hang together than are looked at: the customers concerned, each by itself.
        let kept: Vec<&CustomerKey> = ids.iter().map(|id| kept(id)).collect();
        links::within(&mut tx, &kept).await?
    };
    let groups = Groups::of(remaining, MAX_IDS);
    let groups = groups.with(from).with(to);
    // Nobody is answered: what it counts is dropped.
    let (_, decisions) =
        regroup(core, &mut tx, (&lineup, &mut Tally::of(Source::Events)), &groups, &[], &[])
            .await?;
    tx.commit().await?;
    decisions.count(&core.metrics.intake.assignments);
    let after = |id| groups.canonical(id).unwrap_or(id).clone();
    Ok(Some(Unlinked { from: after(from), to: after(to), link: first.link.clone() }))
}
