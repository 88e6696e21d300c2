//! Identity links in events: detects new links, records them, and derives the groups of
//! ids.

pub(crate) mod public_keys;
pub(crate) mod unlink;

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

use crate::domain::id::CustomerKey;
use crate::domain::identity::{
    Fate, Groups, Link, MAX_CONNECTED_IDS, MAX_IDS, Told, too_connected,
};
use crate::store::customers::events::Arrived;
use crate::store::customers::links;
use crate::store::customers::links::Recorded;
use crate::store::{DedicatedDb, StoreError, Tx};
use crate::telemetry::{Counters, labels};

/// Maximum of remembered ids: some megabytes.
const MAX_MARKERS: usize = 100_000;

/// Maximum of ids that the links of one transaction may involve: about 0.1 s, during
/// which all other link-recording transactions wait. More links are split over
/// transactions.
const MAX_IDS_AT_ONCE: usize = 20_000;

/// Ids known to be merged into another customer: a hint for choosing the commit strategy.
/// A commit without the hint restarts; one with an outdated hint runs one statement more.
#[derive(Debug, Default)]
pub(crate) struct Markers(RwLock<HashSet<CustomerKey>>);

impl Markers {
    pub(crate) fn note<'c>(&self, ids: impl Iterator<Item = &'c CustomerKey>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_MARKERS {
            known.clear();
        }
        known.extend(ids.cloned());
    }

    fn hold_one_of(&self, events: &[Arrived]) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        !known.is_empty() && events.iter().any(|arrived| known.contains(&arrived.event.customer))
    }
}

/// Whether a commit of these events needs identity resolution. A repeated link is not
/// new: client libraries send the same link with every page.
pub(crate) async fn concerns(
    db: &DedicatedDb,
    markers: &Markers,
    events: &[Arrived],
) -> Result<bool, StoreError> {
    if markers.hold_one_of(events) {
        return Ok(true);
    }
    let told: Vec<Told> = events.iter().filter_map(Arrived::told).collect();
    if told.is_empty() {
        return Ok(false);
    }
    let recorded = links::read_recorded(db, told.iter().map(|told| &told.link)).await?;
    Ok(told.iter().any(|told| is_news(told, &recorded)))
}

/// Whether this link assertion changes the recorded links.
fn is_news(told: &Told, recorded: &HashMap<Link, Recorded>) -> bool {
    let Some(Recorded { told: before, void_until, is_public }) = recorded.get(&told.link) else {
        return true;
    };
    let is_void = void_until.is_some_and(|until| told.at <= until);
    let is_later = before.as_ref().is_some_and(|(at, id)| {
        (*is_public, *at, id) <= (told.is_public, told.at, &told.message_id)
    });
    !is_void && !is_later
}

/// Recorded links, and the groups of ids that they may have changed.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) groups: Groups,
    outcomes: Vec<labels::Link>,
}

impl Heard {
    pub(crate) fn count(&self, counters: &Counters<labels::Link>) {
        for outcome in &self.outcomes {
            counters.add(*outcome, 1);
        }
    }
}

/// Result of recording the links of a batch.
#[derive(Debug)]
pub(crate) enum Hearing {
    Heard(Heard),
    /// Nothing was recorded: these links would connect too many ids.
    Refused(Vec<Told>),
    /// Nothing was recorded: the links together involve too many ids for one decision.
    TooManyIds,
}

/// Records the links of new events. Takes the lock of all links if any link is new. The
/// message ids must be inserted before, and the customers' rows locked after. The `ended`
/// links are no longer recorded: the groups of their ids are computed again.
pub(crate) async fn hear(
    tx: &mut Tx,
    told: Vec<Told>,
    ended: &[Link],
) -> Result<Hearing, StoreError> {
    let news = news(tx, told).await?;
    if news.is_empty() && ended.is_empty() {
        return Ok(Hearing::Heard(Heard::default()));
    }

    let from: Vec<&CustomerKey> = news.iter().map(|told| &told.link.from).collect();
    let firsts = links::firsts(tx, &from).await?;
    let mut winners = HashMap::new();
    for told in &news {
        // Trusted senders win over public keys, then the earliest wins, in any arrival order.
        if firsts.get(&told.link.from).is_none_or(|first| told < first) {
            winners.entry(&told.link.from).or_insert(told);
        }
    }
    let full = full(tx, &winners, &firsts).await?;
    let followable: Vec<&Told> =
        winners.values().filter(|told| !full.contains(&told.link.from)).copied().collect();
    let connected = match connected(tx, &followable, &firsts, ended).await? {
        Ok(connected) => connected,
        Err(hearing) => return Ok(hearing),
    };
    let displaced = winners.keys().filter_map(|from| firsts.get(*from)).map(|first| &first.link);
    // Before the insert: at most one recorded link of an id may be the first.
    links::demote(tx, &displaced.collect::<Vec<_>>()).await?;
    let is_first = |told: &Told| winners.get(&told.link.from).is_some_and(|first| *first == told);
    let rows: Vec<(&Told, bool)> = news.iter().map(|told| (told, is_first(told))).collect();
    links::put(tx, &rows).await?;
    let mut groups = Groups::of(connected, MAX_IDS);
    for id in ended.iter().flat_map(|link| [&link.from, &link.to]) {
        groups = groups.with(id);
    }
    let outcome = |told: &Told| match groups.fate(&told.link.from) {
        _ if !is_first(told) => labels::Link::NotFirst,
        Some(Fate::Followed) => labels::Link::Followed,
        Some(Fate::Circle) => labels::Link::Circle,
        Some(Fate::Full) | None => labels::Link::Full,
    };
    let ends = ended.iter().map(|_| labels::Link::Ended);
    let outcomes = news.iter().map(outcome).chain(ends).collect();
    Ok(Hearing::Heard(Heard { groups, outcomes }))
}

/// The connected component of the `new` first links, of the `firsts` that they displace,
/// and of both ends of the `ended` links: every first link in it, after the change. The
/// cost is bounded, whatever is stored.
async fn connected(
    tx: &mut Tx,
    new: &[&Told],
    firsts: &HashMap<CustomerKey, Told>,
    ended: &[Link],
) -> Result<Result<Vec<Told>, Hearing>, StoreError> {
    let displaced: Vec<&Told> = new.iter().filter_map(|told| firsts.get(&told.link.from)).collect();
    let new_ends = new.iter().flat_map(|told| [&told.link.from, &told.link.to]);
    let ended_ends = ended.iter().flat_map(|link| [&link.from, &link.to]);
    let ids: Vec<&CustomerKey> =
        new_ends.chain(displaced.iter().map(|first| &first.link.to)).chain(ended_ends).collect();
    // A new link has three ends: its own two and the target of the link that it
    // displaces. An ended link has two. Each end may be in a component of its own.
    let components = 3 * new.len() + 2 * ended.len();
    let max_ids = (MAX_CONNECTED_IDS * components).min(MAX_IDS_AT_ONCE);
    let Some(mut known) = links::connected(tx, &ids, max_ids).await? else {
        return Ok(Err(match new {
            [one] => Hearing::Refused(vec![(*one).clone()]),
            _ => Hearing::TooManyIds,
        }));
    };
    known.retain(|told| !displaced.contains(&told));
    let refused = too_connected(&known, new, MAX_CONNECTED_IDS);
    if !refused.is_empty() {
        return Ok(Err(Hearing::Refused(refused.into_iter().cloned().collect())));
    }
    known.extend(new.iter().map(|told| (*told).clone()));
    Ok(Ok(known))
}

/// The earliest assertion of each new link. Takes the lock of all links, unless none is
/// new.
async fn news(tx: &mut Tx, told: Vec<Told>) -> Result<Vec<Told>, StoreError> {
    if told.is_empty() {
        return Ok(told);
    }
    let recorded = links::recorded(tx, told.iter().map(|told| &told.link)).await?;
    if !told.iter().any(|told| is_news(told, &recorded)) {
        return Ok(Vec::new());
    }
    links::lock(tx).await?;
    // Read again: before the lock, other transactions may have changed it.
    let recorded = links::recorded(tx, told.iter().map(|told| &told.link)).await?;
    let mut news: Vec<Told> = told.into_iter().filter(|told| is_news(told, &recorded)).collect();
    news.sort_unstable();
    let mut seen = HashSet::new();
    news.retain(|told| seen.insert(told.link.clone()));
    Ok(news)
}

/// Ids with a first link to a customer that already had the maximum number of ids. Such a
/// link changes nothing, so the thousandth device of a shop window costs no more than the
/// hundredth.
async fn full(
    tx: &mut Tx,
    winners: &HashMap<&CustomerKey, &Told>,
    firsts: &HashMap<CustomerKey, Told>,
) -> Result<HashSet<CustomerKey>, StoreError> {
    let new = winners.values().filter(|told| !firsts.contains_key(&told.link.from));
    let to: Vec<&CustomerKey> = new.clone().map(|told| &told.link.to).collect();
    let full = links::full(tx, &to, MAX_IDS).await?;
    let refused = new.filter(|told| full.get(&told.link.to).is_some_and(|last| *last < told.at));
    Ok(refused.map(|told| told.link.from.clone()).collect())
}
