//! One transaction: new events, states, assignments, history.

use std::sync::Arc;
use std::time::Instant;

use crate::service::ServiceError;
use crate::service::history::{self, Decisions};
use crate::service::intake::Core;
use crate::service::intake::fold::{Base, Fold, Folded};
use crate::service::live::Lineup;
use crate::store::assignments::Assignment;
use crate::store::customers::{self, NewRow};
use crate::store::events::Arrived;
use crate::store::{StoreError, Tx, events};

/// A transaction that lost a race against another is tried again so often.
const ATTEMPTS: usize = 5;

/// What a commit did to each event, in their order.
#[derive(Debug)]
pub(super) struct Committed {
    /// Where the customer of a new event stands; `None` for a duplicate.
    pub(super) standings: Vec<Option<Arc<Assignment>>>,
}

/// Commits events together; of two with one id the first counts. All of them
/// see one lineup. The commit is not on disk yet when this returns.
pub(super) async fn commit(core: &Core, events: &[Arrived]) -> Result<Committed, ServiceError> {
    let started = Instant::now();
    let size = u32::try_from(events.len()).unwrap_or(u32::MAX);
    core.metrics.intake.batch_events.observe(f64::from(size));
    let mut attempt = 1;
    let committed = loop {
        match attempt_commit(core, events).await {
            Err(StoreError::Lost(why)) if attempt < ATTEMPTS => {
                tracing::debug!(%why, attempt, "intake transaction tried again");
                attempt += 1;
            }
            outcome => break outcome?,
        }
    };
    core.metrics.intake.commit_seconds.observe(started.elapsed().as_secs_f64());
    Ok(committed)
}

async fn attempt_commit(core: &Core, all: &[Arrived]) -> Result<Committed, StoreError> {
    let lineup = core.live.snapshot();
    // By id, so that two transactions never wait for each other; stable, so that
    // the first of two with one id is the one that counts.
    let mut by_id: Vec<usize> = (0..all.len()).collect();
    let id = |index: usize| all[index].event.message_id.as_str();
    by_id.sort_by(|a, b| id(*a).cmp(id(*b)));
    by_id.dedup_by(|later, first| id(*later) == id(*first));
    let sorted: Vec<&Arrived> = by_id.iter().map(|index| &all[*index]).collect();

    // Commits together: the new events, the states they change, where their
    // customers stand, and the history of who moved.
    let mut tx = core.db.begin_deferred().await?;
    let addressed = events::insert_and_lock(&mut tx, &sorted).await?;
    let mut standings = vec![None; all.len()];
    if addressed.is_empty() {
        return Ok(Committed { standings });
    }
    let place = |message_id: String| {
        let found = by_id.binary_search_by(|index| id(*index).cmp(&message_id));
        found.ok().map(|at| by_id[at])
    };
    let work = addressed.into_iter().map(|one| Fold {
        customer: one.customer,
        events: one.message_ids.into_iter().filter_map(place).collect(),
        base: one.state.map_or(Base::New, Base::Stored),
        held: one.held,
        recheck_at: one.recheck_at,
    });
    let folded = fold(core, &mut tx, &lineup, all, work.collect()).await?;
    let decisions = save(core, &mut tx, &folded).await?;
    tx.commit().await?;
    decisions.count(&core.metrics.intake.assignments);
    for customer in folded {
        for index in customer.events {
            standings[index] = Some(Arc::clone(&customer.assignment));
        }
    }
    Ok(Committed { standings })
}

/// Folds new events in. States that this feature set cannot read are rebuilt.
async fn fold(
    core: &Core,
    tx: &mut Tx,
    lineup: &Lineup,
    all: &[Arrived],
    work: Vec<Fold>,
) -> Result<Vec<Folded>, StoreError> {
    let now = core.clock.now();
    let (mut folded, unreadable) = Fold::all(work, all, lineup, now);
    if !unreadable.is_empty() {
        tracing::debug!(customers = unreadable.len(), "states rebuilt from events");
        let mut again = Vec::with_capacity(unreadable.len());
        for fold in unreadable {
            let base = Base::Replay(events::of_customer(tx, &fold.customer).await?);
            again.push(Fold { base, ..fold });
        }
        folded.extend(Fold::all(again, all, lineup, now).0);
    }
    Ok(folded)
}

/// Writes what was folded; returns what was decided how often.
async fn save(core: &Core, tx: &mut Tx, folded: &[Folded]) -> Result<Decisions, StoreError> {
    let now = core.clock.now();
    let (added, known): (Vec<&Folded>, Vec<_>) = folded.iter().partition(|f| f.is_new);
    if !added.is_empty() {
        let rows: Vec<NewRow<'_>> = added.into_iter().map(Folded::row).collect();
        if customers::insert(tx, &rows, now).await? < rows.len() as u64 {
            return Err(StoreError::Lost("a customer was added by another transaction".into()));
        }
    }
    if !known.is_empty() {
        let rows: Vec<NewRow<'_>> = known.into_iter().map(Folded::row).collect();
        customers::update(tx, &rows, now).await?;
    }
    history::record(tx, folded.iter().map(Folded::change).collect()).await
}
