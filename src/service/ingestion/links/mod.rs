//! What events say about who is who: what of it is new, and what follows.

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

/// Ids remembered at most: some megabytes.
const MAX_MARKERS: usize = 100_000;

/// Ids that the links of one transaction may concern: some 0.1 s, for which all others who
/// link wait. Links that concern more are recorded in smaller transactions.
const MAX_IDS_AT_ONCE: usize = 20_000;

/// Ids seen to belong to a customer who is kept elsewhere. Only a hint, so that
/// their next events need not find it out again: a commit that did not know it
/// starts anew, one that thought so for nothing takes a statement more.
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

/// Whether a commit of these events must know which ids are one customer. Said
/// again is nothing new: libraries tell the same link with every page.
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

/// Whether what is recorded changes by it.
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

/// What was new, and the groups that may have changed by it.
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

/// What came of the links of some events.
#[derive(Debug)]
pub(crate) enum Hearing {
    Heard(Heard),
    /// Nothing was recorded: these links would connect too many ids.
    Refused(Vec<Told>),
    /// Nothing was recorded: the links together concern too many ids to be decided at once.
    TooManyIds,
}

/// Records what new events tell. Waits for its turn if any of it is new; the
/// message ids must be taken by then, the customers' rows must not. The `ended` links are
/// recorded no more: the groups of their ids are made anew.
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

/// The connected component of these `new` first links, of those of the `firsts` that they
/// displace, and of the ends of `ended` ones: every first link in it, as they will be. Its
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
    // A new link has three ends, its own and that of the link it displaces; an ended one
    // has two. Each may be in a component of its own.
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

/// The earliest saying of each link that is new; under the lock, unless there is none.
async fn news(tx: &mut Tx, told: Vec<Told>) -> Result<Vec<Told>, StoreError> {
    if told.is_empty() {
        return Ok(told);
    }
    let recorded = links::recorded(tx, told.iter().map(|told| &told.link)).await?;
    if !told.iter().any(|told| is_news(told, &recorded)) {
        return Ok(Vec::new());
    }
    links::lock(tx).await?;
    // Again: until now, others may have changed it.
    let recorded = links::recorded(tx, told.iter().map(|told| &told.link)).await?;
    let mut news: Vec<Told> = told.into_iter().filter(|told| is_news(told, &recorded)).collect();
    news.sort_unstable();
    let mut seen = HashSet::new();
    news.retain(|told| seen.insert(told.link.clone()));
    Ok(news)
}

/// Those whose first link ever leads to a customer that had all the ids it may
/// have before: such a link changes nothing, so that a shop window's thousandth
/// device costs no more than its hundredth.
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
