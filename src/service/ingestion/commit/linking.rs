//! Commit with identity resolution: follows links between ids and merges or splits
//! customers.
//!
//! The other strategies treat each id as a customer; the lock reveals a merged id, and
//! the commit restarts here. The grouping of ids is first read without locks, as a guess.
//! Then all affected rows are locked in order. If the guess is wrong by then, the commit
//! restarts.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::domain::access::Sender;
use crate::domain::drift::Source;
use crate::domain::event::Event;
use crate::domain::feature::FeatureSet;
use crate::domain::id::CustomerKey;
use crate::domain::identity::Groups;
use crate::service::ingestion::commit::Committed;
use crate::service::ingestion::commit::fold::{Base, Fold, Folded};
use crate::service::ingestion::links::public_keys::PublicLinks;
use crate::service::ingestion::links::{Hearing, hear, public_keys};
use crate::service::ingestion::{Core, commit};
use crate::service::rebuild;
use crate::service::scoring::deployment::Lineup;
use crate::service::scoring::history;
use crate::service::scoring::history::Decisions;
use crate::service::scoring::observations::Tally;
use crate::store::customers::assignments::{Assignment, NewMerge};
use crate::store::customers::events::{Arrived, EventId};
use crate::store::customers::identity::{NewId, Row};
use crate::store::customers::{self, NewRow, assignments, events, identity, links};
use crate::store::{DedicatedDb, StoreError, Tx};
use crate::telemetry::labels;

/// One attempt. `surely` takes the lock of all links first, so that no other transaction
/// can invalidate the guess.
pub(crate) async fn attempt(
    core: &Core,
    db: &DedicatedDb,
    all: &[Arrived],
    surely: bool,
) -> Result<Linked, StoreError> {
    let lineup = core.live.snapshot();
    let by_id = commit::by_id(all);
    let sorted: Vec<&Arrived> = by_id.iter().map(|index| &all[*index]).collect();

    // Commits together: the new events, their identity links, the states that both
    // change, the new assignments of those customers, and the history of assignment
    // changes.
    let mut tx = db.begin().await?;
    let inserted = events::insert(&mut tx, &sorted).await?;
    let place = |id: EventId| commit::place(all, &by_id, &id);
    let new: Vec<usize> = inserted.into_iter().filter_map(place).collect();
    if new.is_empty() {
        return Ok(Linked::Committed(Committed::nothing(all.len())));
    }
    // After one lost race: under the lock the guess cannot be wrong again.
    if surely {
        links::lock(&mut tx).await?;
    }
    let public = PublicLinks::judge(&mut tx, all, &new).await?;
    let is_let_in = |arrived: &&Arrived| !public.is_refused(arrived);
    let told = new.iter().map(|index| &all[*index]).filter(is_let_in);
    let told = told.filter_map(Arrived::told).collect();
    let heard = match hear(&mut tx, told, public.ended()).await? {
        Hearing::Heard(heard) => heard,
        Hearing::Refused(refused) => {
            let is_refused = |index: &usize| {
                let told = all[*index].told();
                told.is_some_and(|told| refused.contains(&told))
            };
            return Ok(Linked::Refused(new.into_iter().filter(is_refused).collect()));
        }
        Hearing::TooManyIds => return Ok(Linked::TooManyIds),
    };
    let mut tally = Tally::of(Source::Events);
    let counted = (&*lineup, &mut tally);
    let (folded, decisions) = regroup(core, &mut tx, counted, &heard.groups, all, &new).await?;
    // The customer rows are locked only now, so this is the first safe moment to check
    // again.
    public.confirm(&mut tx).await?;
    tx.commit().await?;
    tally.hand_over();
    decisions.count(&core.metrics.intake.assignments);
    heard.count(&core.metrics.intake.links);
    core.metrics.intake.links.add(labels::Link::Refused, public.refusals());
    Ok(Linked::Committed(Committed::of(all, &folded)))
}

/// Result of a commit with identity resolution.
#[derive(Debug)]
pub(crate) enum Linked {
    Committed(Committed),
    /// Nothing was written: the events at these indices have impossible links.
    Refused(Vec<usize>),
    /// Nothing was written: the links together involve too many ids.
    TooManyIds,
}

/// Folds the `new` events into the customers that `groups` names, and rebuilds and scores
/// every customer that gained or lost an id. A change of groups requires `links::lock`.
pub(crate) async fn regroup(
    core: &Core,
    tx: &mut Tx,
    (lineup, tally): (&Lineup, &mut Tally),
    groups: &Groups,
    all: &[Arrived],
    new: &[usize],
) -> Result<(Vec<Folded>, Decisions), StoreError> {
    let plan = Plan::make(tx, groups, all, new).await?;
    let mut rows = plan.take(core, tx).await?;
    let work = plan.work(tx, &lineup.features, &mut rows, all, new).await?;
    let folded = commit::fold(core, tx, (lineup, tally), all, work).await?;
    // A customer without any event leaves no row behind.
    let (folded, empty): (Vec<_>, Vec<_>) = folded.into_iter().partition(Folded::has_events);
    identity::remove(tx, &empty.iter().map(|folded| &folded.fold.customer).collect::<Vec<_>>())
        .await?;
    let written: Vec<NewRow<'_>> = folded.iter().map(Folded::row).collect();
    customers::update(tx, &written, core.clock.now()).await?;
    let decisions = history::record(tx, folded.iter().map(Folded::change).collect()).await?;
    assignments::record_merges(tx, &plan.merges(&rows, &folded)).await?;
    Ok((folded, decisions))
}

/// Plan of a regrouping: the customer of each id before and after, and the affected rows.
struct Plan<'g> {
    before: HashMap<CustomerKey, CustomerKey>,
    groups: &'g Groups,
    /// Ids that change their customer.
    moved: Vec<CustomerKey>,
    /// The surviving ids of all customers to write.
    kept: BTreeSet<CustomerKey>,
    /// All rows to lock.
    ids: BTreeSet<CustomerKey>,
    /// The public keys that introduce ids as anonymous.
    introducers: HashMap<CustomerKey, Option<Sender>>,
}

impl<'g> Plan<'g> {
    async fn make(
        tx: &mut Tx,
        groups: &'g Groups,
        all: &[Arrived],
        new: &[usize],
    ) -> Result<Self, StoreError> {
        let named = new.iter().map(|index| &all[*index].event.customer);
        let asked: HashSet<&CustomerKey> = named.clone().chain(groups.ids()).collect();
        let before = identity::canonical(tx, &asked.into_iter().collect::<Vec<_>>()).await?;
        let mut plan = Self {
            before,
            groups,
            moved: Vec::new(),
            kept: BTreeSet::new(),
            ids: BTreeSet::new(),
            introducers: public_keys::introducers(new.iter().map(|index| &all[*index])),
        };
        let moved = groups.ids().filter(|id| plan.before(id) != plan.after(id));
        let moved: Vec<CustomerKey> = moved.cloned().collect();
        let ends = moved.iter().flat_map(|id| [plan.before(id), plan.after(id)]);
        // A customer that lost an id may have lost its own; that id has no customer to
        // write.
        let ends = ends.filter(|end| plan.after(end) == *end);
        let kept = named.clone().map(|id| plan.after(id)).chain(ends).cloned().collect();
        (plan.moved, plan.kept) = (moved, kept);
        plan.ids = named.chain(&plan.moved).chain(&plan.kept).cloned().collect();
        Ok(plan)
    }

    fn before<'a>(&'a self, id: &'a CustomerKey) -> &'a CustomerKey {
        self.before.get(id).unwrap_or(id)
    }

    fn after<'a>(&'a self, id: &'a CustomerKey) -> &'a CustomerKey {
        self.groups.canonical(id).unwrap_or_else(|| self.before(id))
    }

    /// Locks all affected rows, adds missing ones, and points merged ids at their
    /// surviving customer. Returns the rows as they were before.
    async fn take(
        &self,
        core: &Core,
        tx: &mut Tx,
    ) -> Result<HashMap<CustomerKey, Row>, StoreError> {
        let ids: Vec<&CustomerKey> = self.ids.iter().collect();
        // `ids` is ordered (`BTreeSet`), so that two transactions lock rows in the same
        // order.
        let rows = identity::lock(tx, &ids).await?;
        for id in &ids {
            let row = rows.get(*id);
            if row.and_then(|row| row.merged_into.as_ref()).unwrap_or(id) != self.before(id) {
                return Err(StoreError::Lost(
                    "another transaction moved an id to another customer".into(),
                ));
            }
        }
        let introduced_by = |id| self.introducers.get(id).and_then(Option::as_ref);
        let missing = ids.into_iter().filter(|id| !rows.contains_key(*id));
        let missing: Vec<NewId<'_>> =
            missing.map(|id| NewId { id, introduced_by: introduced_by(id) }).collect();
        let now = core.clock.now();
        if identity::add(tx, &missing, now).await? < missing.len() as u64 {
            return Err(StoreError::Lost("a customer was added by another transaction".into()));
        }
        let moved = self.moved.iter().map(|id| (id, Some(self.after(id)).filter(|to| *to != id)));
        let moved: Vec<_> = moved.collect();
        identity::point(tx, &moved, now).await?;
        core.markers.note(moved.iter().filter(|(_, into)| into.is_some()).map(|(id, _)| *id));
        Ok(rows)
    }

    /// The work items, one per customer to write. A customer that only gained ids folds
    /// their events in. A customer that lost an id, or was merged elsewhere, is rebuilt.
    async fn work(
        &self,
        tx: &mut Tx,
        features: &FeatureSet,
        rows: &mut HashMap<CustomerKey, Row>,
        all: &[Arrived],
        new: &[usize],
    ) -> Result<Vec<Fold>, StoreError> {
        let mut events_of = HashMap::<&CustomerKey, Vec<usize>>::new();
        for index in new {
            events_of.entry(self.after(&all[*index].event.customer)).or_default().push(*index);
        }
        let new: Vec<&Arrived> = new.iter().map(|index| &all[*index]).collect();
        let mut work = Vec::with_capacity(self.kept.len());
        for customer in &self.kept {
            let row = rows.remove(customer);
            let was_elsewhere = row.as_ref().is_some_and(|row| row.merged_into.is_some());
            let has_lost = self
                .moved
                .iter()
                .any(|id| self.before(id) == customer && self.after(id) != customer);
            let held = row.as_ref().and_then(|row| row.held.clone());
            let mut recheck_at = row.as_ref().and_then(|row| row.recheck_at);
            let mut gained: Vec<Event> = Vec::new();
            // State is a fold and cannot forget events: a customer that lost an id is
            // replayed.
            let base = if was_elsewhere || has_lost {
                recheck_at = None;
                Base::Rebuilt(rebuild::state(tx, features, customer).await?)
            } else {
                let ids = self.moved.iter().filter(|id| self.after(id) == customer);
                gained = events::of_ids(tx, &ids.collect::<Vec<_>>(), &new).await?;
                row.map_or(Base::New, |row| Base::Stored(row.state))
            };
            let events = events_of.remove(customer).unwrap_or_default();
            let customer = customer.clone();
            let version = None;
            work.push(Fold { customer, events, gained, base, held, recheck_at, version });
        }
        Ok(work)
    }

    /// Merge records: customers that were assigned before and are part of another
    /// customer now.
    fn merges<'a>(
        &'a self,
        rows: &'a HashMap<CustomerKey, Row>,
        folded: &'a [Folded],
    ) -> Vec<NewMerge<'a>> {
        let standing: HashMap<&CustomerKey, &Assignment> =
            folded.iter().map(|folded| (&folded.fold.customer, &*folded.assignment)).collect();
        let merge = |customer| {
            let into = self.after(customer);
            let before = rows.get(customer)?.held.as_ref()?;
            Some(NewMerge { customer, into, now: standing.get(into)?, before })
        };
        self.moved.iter().filter_map(merge).collect()
    }
}
