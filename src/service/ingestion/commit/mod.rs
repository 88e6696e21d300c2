//! Commit of a batch: new events, customer states, assignments and history in one
//! transaction.
//!
//! [`commit`] chooses the strategy: lock-free ([`lock_free`]), with row locks, or
//! following identity links ([`linking`]).

pub(crate) mod adaptive;
pub(crate) mod batch_cache;
pub(crate) mod cache;
pub(crate) mod fold;
pub(crate) mod linking;
pub(crate) mod lock_free;
pub(crate) mod precompute;
pub(crate) mod separate;

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use crate::domain::drift::Source;
use crate::domain::event::Event;
use crate::domain::fault::Faults;
use crate::domain::id::CustomerKey;
use crate::service::ingestion::commit::batch_cache::Known;
use crate::service::ingestion::commit::fold::{Base, Fold, Folded};
use crate::service::ingestion::commit::linking::Linked;
use crate::service::ingestion::{Core, links};
use crate::service::retry::Attempts;
use crate::service::scoring::deployment::Lineup;
use crate::service::scoring::history;
use crate::service::scoring::history::Decisions;
use crate::service::scoring::observations::Tally;
use crate::service::{ServiceError, rebuild};
use crate::store::customers::assignments::Assignment;
use crate::store::customers::events::{Arrived, EventId};
use crate::store::customers::{self, NewRow, events};
use crate::store::{DedicatedDb, StoreError, Tx};
use crate::telemetry::labels::Way;

/// An event and its result after the commit.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) event: Event,
    pub(crate) ruling: Ruling,
}

/// Result of one event.
#[derive(Debug)]
pub(crate) enum Ruling {
    /// Counted now, with the customer's new assignment.
    Counted(Arc<Assignment>),
    /// The message id was already counted.
    Duplicate,
    /// Not counted: its identity link is impossible.
    Refused(Faults),
    /// Not counted: another database session had its customer locked for too long.
    Locked,
}

/// Reason why a batch cannot be committed as one. None of its events is committed.
#[derive(Debug)]
pub(crate) enum Failure {
    Service(ServiceError),
    /// The events at these indices have impossible links.
    Links(Vec<usize>),
    /// The links of the batch together involve too many ids for one transaction.
    TooManyIds,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(error) => error.fmt(f),
            Self::Links(indices) => write!(f, "{} events have impossible links", indices.len()),
            Self::TooManyIds => f.write_str("the links involve too many ids"),
        }
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Service(error.into())
    }
}

/// The answer to one caller: one verdict per event.
pub(crate) type Answer = Result<Vec<Verdict>, ServiceError>;

/// What a commit did with each event, in batch order.
#[derive(Debug)]
pub(crate) struct Committed {
    /// The assignment after a new event; `None` for a duplicate.
    pub(crate) standings: Vec<Option<Arc<Assignment>>>,
    /// The surviving customer of an event, where that is not the id on the event.
    pub(crate) elsewhere: HashMap<usize, CustomerKey>,
}

impl Committed {
    /// The result if all of `events` are duplicates.
    pub(crate) fn nothing(events: usize) -> Self {
        Self { standings: vec![None; events], elsewhere: HashMap::new() }
    }

    pub(crate) fn of(all: &[Arrived], folded: &[Folded]) -> Self {
        let mut committed = Self::nothing(all.len());
        for Folded { fold: Fold { customer, events, .. }, assignment, .. } in folded {
            for index in events {
                committed.standings[*index] = Some(Arc::clone(assignment));
                if all[*index].event.customer != *customer {
                    committed.elsewhere.insert(*index, customer.clone());
                }
            }
        }
        committed
    }

    /// One verdict per event of the committed batch.
    pub(crate) fn verdicts(self, events: Vec<Arrived>) -> impl Iterator<Item = Verdict> {
        let Self { standings, mut elsewhere } = self;
        events.into_iter().zip(standings).enumerate().map(
            move |(place, (Arrived { mut event, .. }, standing))| {
                if let Some(customer) = elsewhere.remove(&place) {
                    event.customer = customer;
                }
                let ruling = standing.map_or(Ruling::Duplicate, Ruling::Counted);
                Verdict { event, ruling }
            },
        )
    }

    /// The customer of each new event.
    fn answered<'c>(&'c self, all: &'c [Arrived]) -> impl Iterator<Item = &'c CustomerKey> {
        let new = self.standings.iter().enumerate().filter(|(_, standing)| standing.is_some());
        new.map(|(index, _)| self.elsewhere.get(&index).unwrap_or(&all[index].event.customer))
    }
}

/// Commits a batch in one transaction. Of two events with one message id the first
/// counts. All events see the same deployment. Customers in `known` are not read from the
/// database.
pub(crate) async fn commit(
    core: &Core,
    db: &DedicatedDb,
    events: &[Arrived],
    mut known: Known,
) -> Result<Committed, Failure> {
    let started = Instant::now();
    let size = u32::try_from(events.len()).unwrap_or(u32::MAX);
    core.metrics.intake.batch_events.observe(f64::from(size));
    known.take(&core.cache, events);
    let mut attempts = Attempts::default();
    // One statement per batch decides the strategy. Most batches have no new link.
    let linking = links::concerns(db, &core.markers, events).await?;
    let mut way = if linking { Way::Linking } else { Way::LockFree };
    let committed = loop {
        let outcome = match way {
            Way::LockFree => lock_free::attempt(core, db, events, mem::take(&mut known)).await,
            Way::Locking => attempt(core, db, events).await,
            Way::Linking => match link(core, db, events, attempts.has_lost()).await {
                Ok(Linked::Committed(committed)) => Ok(Some(committed)),
                Ok(Linked::Refused(places)) => return Err(Failure::Links(places)),
                Ok(Linked::TooManyIds) => return Err(Failure::TooManyIds),
                Err(error) => Err(error),
            },
        };
        match outcome {
            Ok(Some(committed)) => break committed,
            // Each strategy hands over to the next, more expensive one; none returns to a
            // cheaper one.
            Ok(None) if way == Way::LockFree => way = Way::Locking,
            Ok(None) => way = Way::Linking,
            Err(error) => attempts.end_with(error)?,
        }
    };
    if way != Way::LockFree {
        // Only the lock-free strategy puts what it wrote into the cache. The others leave
        // cached versions behind that their writes have made stale.
        core.cache.forget(committed.answered(events));
    }
    core.shadows.offer(committed.answered(events));
    core.metrics.intake.commits.add(way, 1);
    core.metrics.intake.commit_seconds.observe(started.elapsed().as_secs_f64());
    Ok(committed)
}

/// [`linking::attempt`], serialised within this process where links may be recorded.
async fn link(
    core: &Core,
    db: &DedicatedDb,
    events: &[Arrived],
    surely: bool,
) -> Result<Linked, StoreError> {
    let may_record = surely || events.iter().any(|arrived| arrived.link.is_some());
    // The semaphore is never closed, so the permit is absent only where none is needed.
    let _turn = if may_record { core.linking.acquire().await.ok() } else { None };
    linking::attempt(core, db, events, surely).await
}

/// Indices of the events, sorted by message id and sender and without duplicates. The
/// order keeps two transactions from waiting for each other (deadlock). The sort is
/// stable, so the first of two events with one id is the one that counts.
pub(crate) fn by_id(all: &[Arrived]) -> Vec<usize> {
    let mut by_id: Vec<usize> = (0..all.len()).collect();
    by_id.sort_by(|a, b| all[*a].id().cmp(&all[*b].id()));
    by_id.dedup_by(|later, first| all[*later].id() == all[*first].id());
    by_id
}

/// Index of the event with this id (binary search in `by_id`).
pub(crate) fn place(all: &[Arrived], by_id: &[usize], id: &EventId) -> Option<usize> {
    let id = (id.message_id.as_str(), id.sender.as_str());
    let found = by_id.binary_search_by(|index| all[*index].id().cmp(&id));
    found.ok().map(|at| by_id[at])
}

/// The commit with row locks. Returns `None` if some ids were merged into another
/// customer.
async fn attempt(
    core: &Core,
    db: &DedicatedDb,
    all: &[Arrived],
) -> Result<Option<Committed>, StoreError> {
    let lineup = core.live.snapshot();
    let by_id = by_id(all);
    let sorted: Vec<&Arrived> = by_id.iter().map(|index| &all[*index]).collect();

    // Commits together: the new events, the states that they change, the new assignments
    // of their customers, and the history of assignment changes.
    let mut tx = db.begin().await?;
    let addressed = events::insert_and_lock(&mut tx, &sorted).await?;
    if addressed.is_empty() {
        return Ok(Some(Committed::nothing(all.len())));
    }
    // The row lock shows the merge. The marker sends the next events of this id straight
    // to the linking strategy.
    if addressed.iter().any(|one| one.is_merged) {
        let merged = addressed.iter().filter(|one| one.is_merged);
        core.markers.note(merged.map(|one| &one.customer));
        return Ok(None);
    }
    let place = |id: EventId| place(all, &by_id, &id);
    let work = addressed.into_iter().map(|one| Fold {
        customer: one.customer,
        events: one.events.into_iter().filter_map(place).collect(),
        gained: Vec::new(),
        base: one.state.map_or(Base::New, Base::Stored),
        held: one.held,
        recheck_at: one.recheck_at,
        version: None,
    });
    let mut tally = Tally::of(Source::Events);
    let folded = fold(core, &mut tx, (&lineup, &mut tally), all, work.collect()).await?;
    let decisions = save(core, &mut tx, &folded).await?;
    tx.commit().await?;
    tally.hand_over();
    decisions.count(&core.metrics.intake.assignments);
    Ok(Some(Committed::of(all, &folded)))
}

/// Folds new events into states and scores them; `tally` counts the scores. States that
/// the current feature set cannot read are rebuilt from events.
pub(crate) async fn fold(
    core: &Core,
    tx: &mut Tx,
    (lineup, tally): (&Lineup, &mut Tally),
    all: &[Arrived],
    work: Vec<Fold>,
) -> Result<Vec<Folded>, StoreError> {
    let now = core.clock.now();
    let (mut folded, unreadable) = Fold::all(work, all, (lineup, &mut *tally), now).await;
    if !unreadable.is_empty() {
        tracing::debug!(
            customers = unreadable.len(),
            "unreadable customer states are rebuilt from events"
        );
        let mut again = Vec::with_capacity(unreadable.len());
        for fold in unreadable {
            let state = rebuild::state(tx, &lineup.features, &fold.customer).await?;
            again.push(Fold { base: Base::Rebuilt(state), ..fold });
        }
        folded.extend(Fold::all(again, all, (lineup, tally), now).await.0);
    }
    Ok(folded)
}

/// Writes the folded customers and their history. Returns counts of the assignment
/// decisions.
async fn save(core: &Core, tx: &mut Tx, folded: &[Folded]) -> Result<Decisions, StoreError> {
    let now = core.clock.now();
    let (added, known): (Vec<&Folded>, Vec<_>) = folded.iter().partition(|one| one.is_new());
    let added: Vec<NewRow<'_>> = added.into_iter().map(Folded::row).collect();
    let known: Vec<NewRow<'_>> = known.into_iter().map(Folded::row).collect();
    customers::write(tx, &added, &known, now).await?;
    history::record(tx, folded.iter().map(Folded::change).collect()).await
}
