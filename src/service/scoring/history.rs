//! The history of assignments: which are changes, and how long they are kept.

use std::collections::HashMap;

use crate::domain::id::ModelId;
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::service::ServiceError;
use crate::store::customers::assignments;
use crate::store::customers::assignments::NewChange;
use crate::store::{Db, StoreError, Tx, models};
use crate::telemetry::Counters;
use crate::telemetry::labels::Decision;

/// How often which decision was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decisions {
    pub first: u64,
    pub moved: u64,
    pub kept: u64,
    /// Kept, although another segment is nearer.
    pub held: u64,
}

impl Decisions {
    pub fn count(self, counters: &Counters<Decision>) {
        counters.add(Decision::First, self.first);
        counters.add(Decision::Moved, self.moved);
        counters.add(Decision::Kept, self.kept);
        counters.add(Decision::Held, self.held);
    }
}

/// Records those assignments that are a customer's first, or name another
/// segment or model than before. The customers must be locked by `tx`.
pub async fn record(tx: &mut Tx, assigned: Vec<NewChange<'_>>) -> Result<Decisions, StoreError> {
    let models = match earlier_generations(&assigned) {
        none if none.is_empty() => Models::new(),
        generations => models::live_in(tx, &generations).await?,
    };
    let (changes, decisions) = split(assigned, &models);
    assignments::record_changes(tx, &changes).await?;
    Ok(decisions)
}

/// What [`record`] would record; `None` where only the database knows.
pub fn changes<'a>(
    assigned: impl Iterator<Item = NewChange<'a>>,
) -> Option<(Vec<NewChange<'a>>, Decisions)> {
    let assigned: Vec<NewChange<'a>> = assigned.collect();
    earlier_generations(&assigned).is_empty().then(|| split(assigned, &Models::new()))
}

/// Those that are changes, and how often which decision was taken.
fn split<'a>(assigned: Vec<NewChange<'a>>, models: &Models) -> (Vec<NewChange<'a>>, Decisions) {
    let mut decisions = Decisions::default();
    let mut changes = Vec::new();
    for assigned in assigned {
        match decide(&assigned, models) {
            Decision::First => decisions.first += 1,
            Decision::Moved => decisions.moved += 1,
            Decision::Kept => {
                decisions.kept += 1;
                continue;
            }
            Decision::Held => {
                decisions.held += 1;
                continue;
            }
        }
        changes.push(assigned);
    }
    (changes, decisions)
}

/// Makes room for the months to come, and drops those that ended more than
/// `keep_days` ago (0 keeps all); returns how many were dropped.
pub async fn turn_months(db: &Db, now: Timestamp, keep_days: u32) -> Result<i32, ServiceError> {
    // Commits together: nothing is dropped unless there is room ahead.
    let mut tx = db.begin().await?;
    tx.wait_briefly(db).await?;
    if keep_days > 0 {
        assignments::lock_history(&mut tx).await?;
    }
    assignments::make_partitions(&mut tx, now).await?;
    let dropped = match keep_days {
        0 => 0,
        days => {
            let before = now.plus_millis(-i64::from(days) * MILLIS_PER_DAY);
            assignments::drop_partitions(&mut tx, before).await?
        }
    };
    tx.commit().await?;
    Ok(dropped)
}

type Models = HashMap<i64, Option<ModelId>>;

/// The generations before, where they are not the present one: their models tell
/// whether it is another model now.
fn earlier_generations(assigned: &[NewChange<'_>]) -> Vec<i64> {
    let earlier = |change: &NewChange<'_>| {
        change.before.map(|held| held.generation).filter(|g| *g != change.now.generation)
    };
    let mut generations: Vec<i64> = assigned.iter().filter_map(earlier).collect();
    generations.sort_unstable();
    generations.dedup();
    generations
}

fn decide(change: &NewChange<'_>, models: &Models) -> Decision {
    let Some(held) = change.before else { return Decision::First };
    let same_model = match (&change.now.model, held.fallback) {
        (None, fallback) => fallback,
        (Some(_), true) => false,
        (Some(_), false) if held.generation == change.now.generation => true,
        (now, false) => models.get(&held.generation) == Some(now),
    };
    if !same_model || held.segment != change.now.segment {
        Decision::Moved
    } else if change.now.held {
        Decision::Held
    } else {
        Decision::Kept
    }
}
