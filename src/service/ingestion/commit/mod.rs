//! One transaction: new events, states, assignments, history.

pub(crate) mod adaptive;
pub(crate) mod batch_cache;
pub(crate) mod cache;
pub(crate) mod fold;
pub(crate) mod linking;
pub(crate) mod lock_free;
pub(crate) mod precompute;
pub(crate) mod separate;

use std::collections::HashMap;
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

/// One event after its commit.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) event: Event,
    pub(crate) ruling: Ruling,
}

/// What became of an event.
#[derive(Debug)]
pub(crate) enum Ruling {
    /// Counted now; where its customer stands after it.
    Counted(Arc<Assignment>),
    /// Counted before.
    Duplicate,
    /// Not counted: its link is not possible.
    Refused(Faults),
    /// Not counted: another session had its customer locked for too long.
    Locked,
}

/// Why events cannot be committed together; none of them is.
#[derive(Debug)]
pub(crate) enum Failure {
    Service(ServiceError),
    /// The links of the events at these places are not possible.
    Links(Vec<usize>),
    /// Their links together concern too many ids for one transaction.
    TooManyIds,
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

/// What the caller of some events is told: one verdict each.
pub(crate) type Answer = Result<Vec<Verdict>, ServiceError>;

/// What a commit did to each event, in their order.
#[derive(Debug)]
pub(crate) struct Committed {
    /// Where the customer of a new event stands; `None` for a duplicate.
    pub(crate) standings: Vec<Option<Arc<Assignment>>>,
    /// Whose event it is, where that is not the id that it came under.
    pub(crate) elsewhere: HashMap<usize, CustomerKey>,
}

impl Committed {
    /// All of `events` were duplicates.
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

    /// One verdict for each of these events, which were committed.
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

    /// The customers of the new events, one each.
    fn answered<'c>(&'c self, all: &'c [Arrived]) -> impl Iterator<Item = &'c CustomerKey> {
        let new = self.standings.iter().enumerate().filter(|(_, standing)| standing.is_some());
        new.map(|(index, _)| self.elsewhere.get(&index).unwrap_or(&all[index].event.customer))
    }
}

/// Commits events together; of two with one id the first counts. All of them
/// see one lineup. Of some customers something is `known` already.
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
            Ok(None) if way == Way::LockFree => way = Way::Locking,
            Ok(None) => way = Way::Linking,
            Err(error) => attempts.end_with(error)?,
        }
    };
    if way != Way::LockFree {
        core.cache.forget(committed.answered(events));
    }
    core.shadows.offer(committed.answered(events));
    core.metrics.intake.commits.add(way, 1);
    core.metrics.intake.commit_seconds.observe(started.elapsed().as_secs_f64());
    Ok(committed)
}

/// As [`linking::attempt`], one at a time in this process where links may be recorded.
async fn link(
    core: &Core,
    db: &DedicatedDb,
    events: &[Arrived],
    surely: bool,
) -> Result<Linked, StoreError> {
    let may_record = surely || events.iter().any(|arrived| arrived.link.is_some());
    // Never closed, so that it is only absent where it is not needed.
    let _turn = if may_record { core.linking.acquire().await.ok() } else { None };
    linking::attempt(core, db, events, surely).await
}

/// Places of the events by message id and sender, so that two transactions never wait
/// for each other; stable, so that the first of two with one id is the one that counts.
pub(crate) fn by_id(all: &[Arrived]) -> Vec<usize> {
    let mut by_id: Vec<usize> = (0..all.len()).collect();
    by_id.sort_by(|a, b| all[*a].id().cmp(&all[*b].id()));
    by_id.dedup_by(|later, first| all[*later].id() == all[*first].id());
    by_id
}

/// The place of the event of this id.
pub(crate) fn place(all: &[Arrived], by_id: &[usize], id: &EventId) -> Option<usize> {
    let id = (id.message_id.as_str(), id.sender.as_str());
    let found = by_id.binary_search_by(|index| all[*index].id().cmp(&id));
    found.ok().map(|at| by_id[at])
}

/// `None`: some of the ids belong to customers who are kept under another.
async fn attempt(
    core: &Core,
    db: &DedicatedDb,
    all: &[Arrived],
) -> Result<Option<Committed>, StoreError> {
    let lineup = core.live.snapshot();
    let by_id = by_id(all);
    let sorted: Vec<&Arrived> = by_id.iter().map(|index| &all[*index]).collect();

    // Commits together: the new events, the states they change, where their
    // customers stand, and the history of who moved.
    let mut tx = db.begin().await?;
    let addressed = events::insert_and_lock(&mut tx, &sorted).await?;
    if addressed.is_empty() {
        return Ok(Some(Committed::nothing(all.len())));
    }
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

/// Folds new events in; `tally` counts the scores. States that this feature set
/// cannot read are rebuilt.
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
        tracing::debug!(customers = unreadable.len(), "states rebuilt from events");
        let mut again = Vec::with_capacity(unreadable.len());
        for fold in unreadable {
            let state = rebuild::state(tx, &lineup.features, &fold.customer).await?;
            again.push(Fold { base: Base::Rebuilt(state), ..fold });
        }
        folded.extend(Fold::all(again, all, (lineup, tally), now).await.0);
    }
    Ok(folded)
}

/// Writes what was folded; returns what was decided how often.
async fn save(core: &Core, tx: &mut Tx, folded: &[Folded]) -> Result<Decisions, StoreError> {
    let now = core.clock.now();
    let (added, known): (Vec<&Folded>, Vec<_>) = folded.iter().partition(|one| one.is_new());
    let added: Vec<NewRow<'_>> = added.into_iter().map(Folded::row).collect();
    let known: Vec<NewRow<'_>> = known.into_iter().map(Folded::row).collect();
    customers::write(tx, &added, &known, now).await?;
    history::record(tx, folded.iter().map(Folded::change).collect()).await
}
