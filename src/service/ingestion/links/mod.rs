//! Identity links in events: detects new links, records them, and derives the groups of
//! ids.

pub(crate) mod permissions;
pub(crate) mod shared_ids;
pub(crate) mod unlink;

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

use crate::domain::id::CustomerKey;
use crate::domain::identity::{
    IdentityGraph, IdentityLink, LinkAssertion, LinkOutcome, MAX_CONNECTED_IDS,
    MAX_IDS_PER_CUSTOMER, links_over_limit,
};
use crate::store::customers::events::ReceivedEvent;
use crate::store::customers::link_sources::KnownIds;
use crate::store::customers::links::StoredLinkPair;
use crate::store::customers::{link_sources, links};
use crate::store::{DatabaseTransaction, DedicatedDatabase, StoreError};
use crate::telemetry::{LabelledCounters, labels};

/// Maximum of remembered ids: some megabytes.
const MAX_HINTS: usize = 100_000;

/// Maximum of ids that the links of one transaction may involve: about 0.1 s, during
/// which all other link-recording transactions wait. More links are split over
/// transactions.
const MAX_IDS_AT_ONCE: usize = 20_000;

/// Ids known to be merged into another customer: a hint for choosing the commit strategy.
/// A commit without the hint restarts; one with an outdated hint runs one statement more.
#[derive(Debug, Default)]
pub(crate) struct MergedIdHints(RwLock<HashSet<CustomerKey>>);

impl MergedIdHints {
    pub(crate) fn insert_all<'c>(&self, ids: impl Iterator<Item = &'c CustomerKey>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_HINTS {
            known.clear();
        }
        known.extend(ids.cloned());
    }

    fn contains_any(&self, events: &[ReceivedEvent]) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        !known.is_empty() && events.iter().any(|arrived| known.contains(&arrived.event.customer))
    }
}

/// Whether a commit of these events needs identity resolution. A repeated link is not
/// new: client libraries send the same link with every page.
pub(crate) async fn touches_links(
    db: &DedicatedDatabase,
    merged_ids: &MergedIdHints,
    events: &[ReceivedEvent],
) -> Result<bool, StoreError> {
    if merged_ids.contains_any(events) {
        return Ok(true);
    }
    let assertions: Vec<LinkAssertion> =
        events.iter().filter_map(ReceivedEvent::asserted_link).collect();
    if assertions.is_empty() {
        return Ok(false);
    }
    let recorded = links::read_stored(db, assertions.iter().map(|one| &one.link)).await?;
    Ok(assertions.iter().any(|assertion| is_new(assertion, &recorded)))
}

/// Whether this link assertion changes the recorded links.
fn is_new(assertion: &LinkAssertion, recorded: &HashMap<IdentityLink, StoredLinkPair>) -> bool {
    let Some(pair) = recorded.get(&assertion.link) else { return true };
    // A removed link stays removed for assertions of before the removal.
    let is_ignored = pair.ignored_until().is_some_and(|until| assertion.asserted_at <= until);
    let stored = if assertion.is_alias { &pair.alias } else { &pair.other };
    let is_later = stored.as_ref().is_some_and(|stored| {
        stored.asserted.as_ref().is_some_and(|(at, id)| {
            (stored.is_public, *at, id)
                <= (assertion.is_public, assertion.asserted_at, &assertion.message_id)
        })
    });
    !is_ignored && !is_later
}

/// Recorded links, and the groups of ids that they may have changed.
#[derive(Debug, Default)]
pub(crate) struct RecordedLinks {
    pub(crate) groups: IdentityGraph,
    outcomes: Vec<labels::LinkOutcomeLabel>,
}

impl RecordedLinks {
    pub(crate) fn count(&self, counters: &LabelledCounters<labels::LinkOutcomeLabel>) {
        for outcome in &self.outcomes {
            counters.add(*outcome, 1);
        }
    }
}

/// Result of recording the links of a batch.
#[derive(Debug)]
pub(crate) enum LinkDecision {
    Recorded(RecordedLinks),
    /// Nothing was recorded: these links would connect too many ids.
    Refused(Vec<LinkAssertion>),
    /// Nothing was recorded: the links together involve too many ids for one decision.
    TooManyIds,
}

/// Records the links of new events. Takes the lock of all links if any link is new. The
/// message ids must be inserted before, and the customers' rows locked after. The `ended`
/// links are no longer recorded: the groups of their ids are computed again.
pub(crate) async fn record_links(
    tx: &mut DatabaseTransaction,
    assertions: Vec<LinkAssertion>,
    ended: &[IdentityLink],
) -> Result<LinkDecision, StoreError> {
    let assertions = new_assertions(tx, assertions).await?;
    if assertions.is_empty() && ended.is_empty() {
        return Ok(LinkDecision::Recorded(RecordedLinks::default()));
    }

    let from: Vec<&CustomerKey> = assertions.iter().map(|one| &one.link.from).collect();
    let mut ended = ended.to_vec();
    end_stale_links(tx, &from, &mut ended).await?;
    let firsts = links::first_links(tx, &from).await?;
    let mut winners = HashMap::new();
    for assertion in &assertions {
        // Trusted senders win over public keys, then the earliest wins, in any arrival
        // order.
        if firsts.get(&assertion.link.from).is_none_or(|first| assertion < first) {
            winners.entry(&assertion.link.from).or_insert(assertion);
        }
    }
    let full = sources_of_full_targets(tx, &winners, &firsts).await?;
    let followable: Vec<&LinkAssertion> =
        winners.values().filter(|winner| !full.contains(&winner.link.from)).copied().collect();
    let connected = match connected_links(tx, &followable, &firsts, &mut ended).await? {
        Ok(connected) => connected,
        Err(refusal) => return Ok(refusal),
    };
    // Before the insert: at most one recorded link of an id may be the first.
    links::demote_first(tx, &winners.keys().copied().collect::<Vec<_>>()).await?;
    let mut rows: Vec<(&LinkAssertion, bool)> = Vec::with_capacity(assertions.len());
    for assertion in &assertions {
        let is_first = winners.get(&assertion.link.from) == Some(&assertion);
        rows.push((assertion, is_first));
    }
    links::upsert(tx, &rows).await?;
    let mut groups = IdentityGraph::from_first_links(connected, MAX_IDS_PER_CUSTOMER);
    for id in ended.iter().flat_map(|link| [&link.from, &link.to]) {
        groups = groups.with_id(id);
    }
    let mut outcomes = vec![labels::LinkOutcomeLabel::Ended; ended.len()];
    for (assertion, is_first) in rows {
        outcomes.push(match groups.link_outcome(&assertion.link.from) {
            _ if !is_first => labels::LinkOutcomeLabel::Superseded,
            Some(LinkOutcome::Followed) => labels::LinkOutcomeLabel::Applied,
            Some(LinkOutcome::Cycle) => labels::LinkOutcomeLabel::Cycle,
            Some(LinkOutcome::LimitReached) | None => labels::LinkOutcomeLabel::LimitReached,
        });
    }
    Ok(LinkDecision::Recorded(RecordedLinks { groups, outcomes }))
}

/// Ends the links from those of the `ids` that are known customers, except aliases, and adds
/// them to `ended`. A link ends with the event that names its source as a known customer, but
/// only if it is followed then: the others end here, before they are.
async fn end_stale_links(
    tx: &mut DatabaseTransaction,
    ids: &[&CustomerKey],
    ended: &mut Vec<IdentityLink>,
) -> Result<bool, StoreError> {
    let known = link_sources::known_among(tx, ids).await?;
    if known.is_empty() {
        return Ok(false);
    }
    let ids: Vec<&CustomerKey> = known.iter().collect();
    let known = KnownIds { by_anyone: ids.clone(), by_trusted: ids };
    let before = ended.len();
    ended.extend(link_sources::end_links(tx, &known).await?);
    Ok(ended.len() > before)
}

/// Every first link in the connected component of these ids, after the links from known
/// customers have ended, which are added to `ended`; `None` if it has more than `max_ids` ids.
pub(crate) async fn live_component(
    tx: &mut DatabaseTransaction,
    ids: &[&CustomerKey],
    max_ids: usize,
    ended: &mut Vec<IdentityLink>,
) -> Result<Option<Vec<LinkAssertion>>, StoreError> {
    loop {
        let Some(found) = links::connected_component(tx, ids, max_ids).await? else {
            return Ok(None);
        };
        let others = found.iter().filter(|one| !one.is_alias);
        let sources: Vec<&CustomerKey> = others.map(|one| &one.link.from).collect();
        if sources.is_empty() || !end_stale_links(tx, &sources, ended).await? {
            return Ok(Some(found));
        }
    }
}

/// The connected component of the `new` first links, of the `firsts` that they displace,
/// and of both ends of the `ended` links: every first link in it, after the change. The
/// cost is bounded, whatever is stored.
async fn connected_links(
    tx: &mut DatabaseTransaction,
    new: &[&LinkAssertion],
    firsts: &HashMap<CustomerKey, LinkAssertion>,
    ended: &mut Vec<IdentityLink>,
) -> Result<Result<Vec<LinkAssertion>, LinkDecision>, StoreError> {
    let displaced: Vec<&LinkAssertion> =
        new.iter().filter_map(|one| firsts.get(&one.link.from)).collect();
    let before = ended.clone();
    let new_ends = new.iter().flat_map(|one| [&one.link.from, &one.link.to]);
    let ended_ends = before.iter().flat_map(|link| [&link.from, &link.to]);
    let ids: Vec<&CustomerKey> =
        new_ends.chain(displaced.iter().map(|first| &first.link.to)).chain(ended_ends).collect();
    // A new link has three ends: its own two and the target of the link that it
    // displaces. An ended link has two. Each end may be in a component of its own.
    let components = 3 * new.len() + 2 * before.len();
    let max_ids = (MAX_CONNECTED_IDS * components).min(MAX_IDS_AT_ONCE);
    let Some(mut known) = live_component(tx, &ids, max_ids, ended).await? else {
        return Ok(Err(match new {
            [one] => LinkDecision::Refused(vec![(*one).clone()]),
            _ => LinkDecision::TooManyIds,
        }));
    };
    known.retain(|one| !displaced.contains(&one));
    let refused = links_over_limit(&known, new, MAX_CONNECTED_IDS);
    if !refused.is_empty() {
        return Ok(Err(LinkDecision::Refused(refused.into_iter().cloned().collect())));
    }
    known.extend(new.iter().map(|one| (*one).clone()));
    Ok(Ok(known))
}

/// The earliest assertion of each new link. Takes the lock of all links, unless none is
/// new.
async fn new_assertions(
    tx: &mut DatabaseTransaction,
    mut assertions: Vec<LinkAssertion>,
) -> Result<Vec<LinkAssertion>, StoreError> {
    if assertions.is_empty() {
        return Ok(assertions);
    }
    let recorded = links::find_stored(tx, assertions.iter().map(|one| &one.link)).await?;
    if !assertions.iter().any(|assertion| is_new(assertion, &recorded)) {
        return Ok(Vec::new());
    }
    links::lock_links(tx).await?;
    // Read again: before the lock, other transactions may have changed it.
    let recorded = links::find_stored(tx, assertions.iter().map(|one| &one.link)).await?;
    assertions.retain(|assertion| is_new(assertion, &recorded));
    // Sorted, so that the first assertion of each link is its earliest.
    assertions.sort_unstable();
    let mut seen = HashSet::new();
    assertions.retain(|assertion| seen.insert(assertion.link.clone()));
    Ok(assertions)
}

/// Ids with a first link to a customer that already had the maximum number of ids. Such a
/// link changes nothing, so the thousandth device of a shop window costs no more than the
/// hundredth.
async fn sources_of_full_targets(
    tx: &mut DatabaseTransaction,
    winners: &HashMap<&CustomerKey, &LinkAssertion>,
    firsts: &HashMap<CustomerKey, LinkAssertion>,
) -> Result<HashSet<CustomerKey>, StoreError> {
    let new = winners.values().filter(|winner| !firsts.contains_key(&winner.link.from));
    let to: Vec<&CustomerKey> = new.clone().map(|winner| &winner.link.to).collect();
    let full = links::ids_at_limit(tx, &to, MAX_IDS_PER_CUSTOMER).await?;
    let mut sources = HashSet::new();
    for LinkAssertion { link: IdentityLink { from, to }, asserted_at: at, .. } in new.copied() {
        // Only a link later than the last one of the full customer: an earlier one may still
        // be followed in its place.
        if full.get(to).is_some_and(|last| last < at) {
            sources.insert(from.clone());
        }
    }
    Ok(sources)
}
