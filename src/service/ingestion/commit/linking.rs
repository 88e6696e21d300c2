//! Commit with identity resolution: follows links between ids and merges or splits
//! customers.
//!
//! The other strategies treat each id as a customer; the lock reveals a merged id, and
//! the commit restarts here. The grouping of ids is first read without locks, as a guess.
//! Then all affected rows are locked in order. If the guess is wrong by then, the commit
//! restarts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::domain::access::MessageIdNamespace;
use crate::domain::drift::ScoreSource;
use crate::domain::feature::FeatureSet;
use crate::domain::id::CustomerKey;
use crate::domain::identity::IdentityGraph;
use crate::service::ingestion::IngestionCore;
use crate::service::ingestion::commit::contents::{EventRefusal, find_by_id, sorted_by_id};
use crate::service::ingestion::commit::fold::{
    FoldContext, FoldTask, FoldedCustomer, fold_customers,
};
use crate::service::ingestion::commit::{
    AttemptOutcome, BatchFailure, CommittedBatch, IncomingBatch, contents,
};
use crate::service::ingestion::links::permissions::LinkPermissions;
use crate::service::ingestion::links::{LinkDecision, permissions, record_links};
use crate::service::rebuild;
use crate::service::scoring::deployment::Deployment;
use crate::service::scoring::history;
use crate::service::scoring::history::DecisionCounts;
use crate::service::scoring::observations::BatchCounts;
use crate::store::customers::assignments::{NewCustomerMerge, StoredAssignment};
use crate::store::customers::events::{PastEvent, ReceivedEvent};
use crate::store::customers::identity::NewCustomerId;
use crate::store::customers::{
    self, CustomerRow, NewCustomerRow, assignments, events, identity, link_sources, links,
};
use crate::store::{DatabaseTransaction, DedicatedDatabase, StoreError};
use crate::telemetry::labels;

/// One attempt. `is_exclusive` takes the lock of all links first, so that no other
/// transaction can invalidate the guess.
pub(crate) async fn attempt(
    core: &IngestionCore,
    db: &DedicatedDatabase,
    batch: IncomingBatch<'_>,
    is_exclusive: bool,
) -> Result<AttemptOutcome, StoreError> {
    let all = batch.events;
    let deployment = core.serving.snapshot();
    let by_id = sorted_by_id(all);
    let sorted: Vec<&ReceivedEvent> = by_id.iter().map(|index| &all[*index]).collect();

    // Commits together: the new events, their identity links, the states that both
    // change, the new assignments of those customers, and the history of assignment
    // changes.
    let mut tx = db.begin().await?;
    let inserted = events::insert(&mut tx, &sorted).await?;
    let new = inserted.iter().filter_map(|id| find_by_id(all, &by_id, id));
    let new: Vec<usize> = new.collect();
    let conflicts = contents::conflicts_with_stored(&mut tx, all, &by_id, &new).await?;
    if let Some(refused) = contents::abort_on(&conflicts, batch.on_conflict) {
        return Ok(AttemptOutcome::Impossible(BatchFailure::Refused(refused)));
    }
    if new.is_empty() {
        return Ok(AttemptOutcome::Committed(CommittedBatch::nothing_new(all.len(), conflicts)));
    }
    // After one lost race: under the lock the guess cannot be wrong again.
    if is_exclusive {
        links::lock_links(&mut tx).await?;
    }
    let permitted = LinkPermissions::decide(&mut tx, all, &new).await?;
    let mut assertions = Vec::new();
    for arrived in new.iter().map(|index| &all[*index]) {
        // A refused link does not refuse its event: the event counts for its own id.
        if !permitted.is_refused(arrived) {
            assertions.extend(arrived.asserted_link());
        }
    }
    let recorded = match record_links(&mut tx, assertions, permitted.ended()).await? {
        LinkDecision::Recorded(recorded) => recorded,
        LinkDecision::Refused(refused) => {
            let mut events = BTreeMap::new();
            for index in new {
                if all[index].asserted_link().is_some_and(|link| refused.contains(&link)) {
                    events.insert(index, EventRefusal::Link);
                }
            }
            return Ok(AttemptOutcome::Impossible(BatchFailure::Refused(events)));
        }
        LinkDecision::TooManyIds => {
            return Ok(AttemptOutcome::Impossible(BatchFailure::TooManyIds));
        }
    };
    let mut tally = BatchCounts::new(ScoreSource::Events);
    let change = GroupChange { groups: &recorded.groups, all, new: &new };
    let (folded, decisions) = regroup(core, &mut tx, &deployment, change, &mut tally).await?;
    // The customer rows are locked only now, so this is the first safe moment to check
    // again.
    permitted.confirm(&mut tx).await?;
    tx.commit().await?;
    tally.publish();
    decisions.add_to(&core.metrics.ingestion.assignments);
    recorded.count(&core.metrics.ingestion.links);
    core.metrics.ingestion.links.add(labels::LinkOutcomeLabel::Refused, permitted.refusals());
    let mut committed = CommittedBatch::new(all, &folded, conflicts);
    committed.ignored_links =
        new.into_iter().filter(|at| permitted.is_refused(&all[*at])).collect();
    Ok(AttemptOutcome::Committed(committed))
}

/// New groups of ids, and the new events to fold into them.
#[derive(Clone, Copy)]
pub(crate) struct GroupChange<'c> {
    pub(crate) groups: &'c IdentityGraph,
    /// All events of the batch.
    pub(crate) all: &'c [ReceivedEvent],
    /// Indices of the new events.
    pub(crate) new: &'c [usize],
}

impl<'c> GroupChange<'c> {
    fn new_events(self) -> impl Iterator<Item = &'c ReceivedEvent> + Clone {
        self.new.iter().map(move |index| &self.all[*index])
    }
}

/// Folds the new events into the customers of `change.groups`, and scores these customers. A
/// customer that gained ids also folds in their events; a customer that lost an id is rebuilt
/// from its events. The caller holds `links::lock_links` if the groups change.
pub(crate) async fn regroup(
    core: &IngestionCore,
    tx: &mut DatabaseTransaction,
    deployment: &Deployment,
    change: GroupChange<'_>,
    tally: &mut BatchCounts,
) -> Result<(Vec<FoldedCustomer>, DecisionCounts), StoreError> {
    let plan = RegroupPlan::make(tx, change).await?;
    let mut rows = plan.lock_rows(core, tx).await?;
    let tasks = plan.fold_tasks(tx, &deployment.features, &mut rows).await?;
    let context = FoldContext { deployment, events: change.all, now: core.clock.now() };
    let folded = fold_customers(tx, context, tasks, tally).await?;
    // A customer without any event leaves no row behind.
    let (folded, empty): (Vec<FoldedCustomer>, Vec<_>) =
        folded.into_iter().partition(FoldedCustomer::has_events);
    let empty: Vec<&CustomerKey> = empty.iter().map(|customer| &customer.task.customer).collect();
    identity::delete_rows(tx, &empty).await?;
    let written: Vec<NewCustomerRow<'_>> = folded.iter().map(FoldedCustomer::row).collect();
    customers::update(tx, &written, core.clock.now()).await?;
    let changes = folded.iter().map(FoldedCustomer::change).collect();
    let decisions = history::record_changes(tx, changes).await?;
    assignments::record_merges(tx, &plan.merge_records(&rows, &folded)).await?;
    Ok((folded, decisions))
}

/// Plan of a regrouping: the customer of each id before and after, and the affected rows.
struct RegroupPlan<'c> {
    before: HashMap<CustomerKey, CustomerKey>,
    change: GroupChange<'c>,
    /// Ids that change their customer.
    moved: Vec<CustomerKey>,
    /// The surviving ids of all customers to write.
    survivors: BTreeSet<CustomerKey>,
    /// All rows to lock.
    ids: BTreeSet<CustomerKey>,
    /// The public keys that introduce ids as anonymous.
    introducers: HashMap<CustomerKey, Option<MessageIdNamespace>>,
}

impl<'c> RegroupPlan<'c> {
    async fn make(
        tx: &mut DatabaseTransaction,
        change: GroupChange<'c>,
    ) -> Result<Self, StoreError> {
        let named = change.new_events().map(|arrived| &arrived.event.customer);
        let asked: HashSet<&CustomerKey> = named.clone().chain(change.groups.ids()).collect();
        let before =
            identity::find_canonical_ids(tx, &asked.into_iter().collect::<Vec<_>>()).await?;
        let mut plan = Self {
            before,
            change,
            moved: Vec::new(),
            survivors: BTreeSet::new(),
            ids: BTreeSet::new(),
            introducers: permissions::introducers(change.new_events()),
        };
        let moved = change.groups.ids().filter(|id| plan.before(id) != plan.after(id));
        let moved: Vec<CustomerKey> = moved.cloned().collect();
        let mut survivors: BTreeSet<CustomerKey> =
            named.clone().map(|id| plan.after(id).clone()).collect();
        for end in moved.iter().flat_map(|id| [plan.before(id), plan.after(id)]) {
            // A customer that lost an id may have lost its own; that id has no customer to
            // write.
            if plan.after(end) == end {
                survivors.insert(end.clone());
            }
        }
        plan.ids = named.chain(&moved).chain(&survivors).cloned().collect();
        (plan.moved, plan.survivors) = (moved, survivors);
        Ok(plan)
    }

    fn before<'a>(&'a self, id: &'a CustomerKey) -> &'a CustomerKey {
        self.before.get(id).unwrap_or(id)
    }

    fn after<'a>(&'a self, id: &'a CustomerKey) -> &'a CustomerKey {
        self.change.groups.canonical(id).unwrap_or_else(|| self.before(id))
    }

    /// Locks all affected rows, adds missing ones, and points merged ids at their
    /// surviving customer. Returns the rows as they were before.
    async fn lock_rows(
        &self,
        core: &IngestionCore,
        tx: &mut DatabaseTransaction,
    ) -> Result<HashMap<CustomerKey, CustomerRow>, StoreError> {
        let ids: Vec<&CustomerKey> = self.ids.iter().collect();
        // `ids` is ordered (`BTreeSet`), so that two transactions lock rows in the same
        // order.
        let rows = identity::lock_rows(tx, &ids).await?;
        for id in &ids {
            let row = rows.get(*id);
            if row.and_then(|row| row.merged_into.as_ref()).unwrap_or(id) != self.before(id) {
                return Err(StoreError::Lost(
                    "another transaction moved an id to another customer".into(),
                ));
            }
        }
        let mut missing = Vec::new();
        for id in ids.into_iter().filter(|id| !rows.contains_key(*id)) {
            let introduced_by = self.introducers.get(id).and_then(Option::as_ref);
            missing.push(NewCustomerId { id, introduced_by });
        }
        let now = core.clock.now();
        if identity::insert_rows(tx, &missing, now).await? < missing.len() as u64 {
            return Err(StoreError::Lost("a customer was added by another transaction".into()));
        }
        let moved = self.moved.iter().map(|id| (id, Some(self.after(id)).filter(|to| *to != id)));
        let moved: Vec<_> = moved.collect();
        identity::set_canonical(tx, &moved, now).await?;
        let merged = self.change.new_events().filter(|arrived| {
            let id = &arrived.event.customer;
            arrived.names_known_customer() && self.after(id) != id
        });
        let merged: Vec<&CustomerKey> = merged.map(|arrived| &arrived.event.customer).collect();
        if !merged.is_empty() {
            link_sources::mark_known(tx, &merged).await?;
        }
        core.merged_ids
            .insert_all(moved.iter().filter(|(_, into)| into.is_some()).map(|(id, _)| *id));
        Ok(rows)
    }

    /// The work items, one per customer to write. A customer that only gained ids folds
    /// their events in. A customer that lost an id, or was merged elsewhere, is rebuilt.
    async fn fold_tasks(
        &self,
        tx: &mut DatabaseTransaction,
        features: &FeatureSet,
        rows: &mut HashMap<CustomerKey, CustomerRow>,
    ) -> Result<Vec<FoldTask>, StoreError> {
        let mut events_of = HashMap::<&CustomerKey, Vec<usize>>::new();
        for index in self.change.new {
            let customer = self.after(&self.change.all[*index].event.customer);
            events_of.entry(customer).or_default().push(*index);
        }
        let new: Vec<&ReceivedEvent> = self.change.new_events().collect();
        let mut tasks = Vec::with_capacity(self.survivors.len());
        for customer in &self.survivors {
            let mut row = rows.remove(customer);
            let was_elsewhere = row.as_ref().is_some_and(|row| row.merged_into.is_some());
            let has_lost = self
                .moved
                .iter()
                .any(|id| self.before(id) == customer && self.after(id) != customer);
            let mut merged_events: Vec<PastEvent> = Vec::new();
            let mut rebuilt = None;
            // State is a fold and cannot forget events: a customer that lost an id is
            // replayed.
            if was_elsewhere || has_lost {
                rebuilt = Some(rebuild::rebuild_state(tx, features, customer).await?);
                if let Some(row) = &mut row {
                    row.next_rescore_at = None;
                }
            } else {
                let ids = self.moved.iter().filter(|id| self.after(id) == customer);
                merged_events = events::list_under_ids(tx, &ids.collect::<Vec<_>>(), &new).await?;
            }
            tasks.push(FoldTask {
                customer: customer.clone(),
                events: events_of.remove(customer).unwrap_or_default(),
                merged_events,
                row,
                rebuilt,
                // The row is locked, so no version needs to be checked.
                version: None,
            });
        }
        Ok(tasks)
    }

    /// Merge records: customers that were assigned before and are part of another
    /// customer now.
    fn merge_records<'a>(
        &'a self,
        rows: &'a HashMap<CustomerKey, CustomerRow>,
        folded: &'a [FoldedCustomer],
    ) -> Vec<NewCustomerMerge<'a>> {
        let assignments: HashMap<&CustomerKey, &StoredAssignment> = folded
            .iter()
            .map(|customer| (&customer.task.customer, &customer.answer.assignment))
            .collect();
        let mut merges = Vec::new();
        for customer in &self.moved {
            let into = self.after(customer);
            let before = rows.get(customer).and_then(|row| row.previous.as_ref());
            // An id without an assignment of its own was no customer: nothing was merged.
            if let (Some(before), Some(now)) = (before, assignments.get(into).copied()) {
                merges.push(NewCustomerMerge { customer, into, now, before });
            }
        }
        merges
    }
}
