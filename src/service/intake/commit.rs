//! One transaction: new events, states, assignments, history.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::domain::event::Event;
use crate::domain::fault::Faults;
use crate::domain::feature::{CustomerState, FeatureSet};
use crate::domain::id::CustomerKey;
use crate::domain::model::Scratch;
use crate::domain::time::Timestamp;
use crate::service::intake::{Intake, Outcome};
use crate::service::live::Lineup;
use crate::service::{ServiceError, scoring};
use crate::store::assignments::{self, Assignment, Recorded};
use crate::store::customers::{self, NewState, StoredState};
use crate::store::{Tx, events};

/// Commits one batch. The whole of it sees one lineup.
pub(super) async fn commit(
    intake: &Intake,
    batch: Vec<Result<Event, Faults>>,
    received_at: Timestamp,
) -> Result<(Vec<Outcome>, Recorded), ServiceError> {
    let lineup = intake.live.snapshot();
    let mut by_id: Vec<&Event> = batch.iter().filter_map(|event| event.as_ref().ok()).collect();
    if by_id.is_empty() {
        return Ok((rejected_only(batch), Recorded::default()));
    }
    // Stable, so that the first of two with one id is the one that counts.
    by_id.sort_by(|a, b| a.message_id.cmp(&b.message_id));
    by_id.dedup_by(|later, first| later.message_id == first.message_id);

    // Commits together: the new events, the states they change, where their
    // customers stand, and the history of who moved.
    let mut tx = intake.db.begin().await?;
    let mut new = events::insert_new(&mut tx, &by_id, received_at).await?;
    let fresh: Vec<&Event> =
        by_id.into_iter().filter(|event| new.contains(event.message_id.as_str())).collect();
    let (standings, recorded) = fold_and_score(&mut tx, &lineup, &fresh, received_at).await?;
    tx.commit().await?;
    Ok((outcomes(batch, &mut new, &standings), recorded))
}

type Standings = HashMap<CustomerKey, Assignment>;

async fn fold_and_score(
    tx: &mut Tx,
    lineup: &Lineup,
    fresh: &[&Event],
    now: Timestamp,
) -> Result<(Standings, Recorded), ServiceError> {
    let mut of_customer: BTreeMap<&CustomerKey, Vec<&Event>> = BTreeMap::new();
    for event in fresh {
        of_customer.entry(&event.customer).or_default().push(event);
    }
    if of_customer.is_empty() {
        return Ok((Standings::new(), Recorded::default()));
    }
    let customers: Vec<&CustomerKey> = of_customer.keys().copied().collect();
    let stored = customers::lock_states(tx, &customers, now).await?;
    let mut states = Vec::with_capacity(stored.len());
    let mut assigned = Vec::with_capacity(stored.len());
    let mut scratch = Scratch::default();
    for row in &stored {
        let Some((customer, events)) = of_customer.get_key_value(&row.customer) else { continue };
        let state = folded(tx, &lineup.features, row, events).await?;
        let features = state.row(&lineup.features, now);
        assigned.push((*customer, scoring::assign(lineup, &features, &mut scratch, now)));
        states.push(NewState {
            customer,
            state: state.to_bytes(&lineup.features),
            last_event_at: state.last_event_at(),
        });
    }
    customers::save_states(tx, &states, now).await?;
    let recorded = assignments::record(tx, &assigned).await?;
    Ok((assigned.into_iter().map(|(c, a)| (c.clone(), a)).collect(), recorded))
}

/// The stored state with these events folded in; rebuilt from all its events
/// (these are stored already) when it belongs to another feature set.
async fn folded(
    tx: &mut Tx,
    features: &FeatureSet,
    stored: &StoredState,
    events: &[&Event],
) -> Result<CustomerState, ServiceError> {
    if stored.state.is_empty() {
        return Ok(replayed(features, events.iter().copied()));
    }
    match CustomerState::from_bytes(features, &stored.state) {
        Ok(mut state) => {
            for event in events {
                state.apply(features, event);
            }
            Ok(state)
        }
        Err(why) => {
            tracing::debug!(%why, "state rebuilt from events");
            let all = events::of_customer(tx, &stored.customer).await?;
            Ok(replayed(features, all.iter()))
        }
    }
}

fn replayed<'e>(features: &FeatureSet, events: impl Iterator<Item = &'e Event>) -> CustomerState {
    let mut state = CustomerState::new(features);
    for event in events {
        state.apply(features, event);
    }
    state
}

fn outcomes(
    batch: Vec<Result<Event, Faults>>,
    new: &mut HashSet<String>,
    standings: &Standings,
) -> Vec<Outcome> {
    batch
        .into_iter()
        .map(|event| match event {
            Err(faults) => Outcome::Rejected { faults },
            Ok(event) => {
                match (new.remove(event.message_id.as_str()), standings.get(&event.customer)) {
                    (true, Some(standing)) => Outcome::Accepted {
                        message_id: event.message_id.into(),
                        customer: event.customer,
                        standing: standing.clone(),
                    },
                    _ => Outcome::Duplicate { message_id: event.message_id.into() },
                }
            }
        })
        .collect()
}

fn rejected_only(batch: Vec<Result<Event, Faults>>) -> Vec<Outcome> {
    batch.into_iter().filter_map(Result::err).map(|faults| Outcome::Rejected { faults }).collect()
}
