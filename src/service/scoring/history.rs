//! Assignment history: which assignments are changes, and how long changes are retained.

use std::collections::HashMap;

use crate::domain::id::ModelId;
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::service::ServiceError;
use crate::store::customers::assignments;
use crate::store::customers::assignments::NewChange;
use crate::store::{Db, StoreError, Tx, models};
use crate::telemetry::Counters;
use crate::telemetry::labels::Decision;

/// Counts of assignment decisions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decisions {
    pub first: u64,
    pub moved: u64,
    pub kept: u64,
    /// Retained by hysteresis, although another segment is nearer.
    pub retained_by_hysteresis: u64,
}

impl Decisions {
    pub fn count(self, counters: &Counters<Decision>) {
        counters.add(Decision::First, self.first);
        counters.add(Decision::Moved, self.moved);
        counters.add(Decision::Kept, self.kept);
        counters.add(Decision::Held, self.retained_by_hysteresis);
    }
}

/// Records the assignments that are a customer's first, or that name another segment or
/// model than before. `tx` must have locked the customers.
pub async fn record(tx: &mut Tx, assigned: Vec<NewChange<'_>>) -> Result<Decisions, StoreError> {
    let models = match earlier_generations(&assigned) {
        none if none.is_empty() => ModelsByGeneration::new(),
        generations => models::live_in(tx, &generations).await?,
    };
    let (changes, decisions) = split_changes(assigned, &models);
    assignments::record_changes(tx, &changes).await?;
    Ok(decisions)
}

/// The changes that [`record`] would write; `None` where only the database has the models
/// to compare.
pub fn changes<'a>(
    assigned: impl Iterator<Item = NewChange<'a>>,
) -> Option<(Vec<NewChange<'a>>, Decisions)> {
    let assigned: Vec<NewChange<'a>> = assigned.collect();
    earlier_generations(&assigned)
        .is_empty()
        .then(|| split_changes(assigned, &ModelsByGeneration::new()))
}

/// The changes among the assignments, and the counts of decisions.
fn split_changes<'a>(
    assigned: Vec<NewChange<'a>>,
    models: &ModelsByGeneration,
) -> (Vec<NewChange<'a>>, Decisions) {
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
                decisions.retained_by_hysteresis += 1;
                continue;
            }
        }
        changes.push(assigned);
    }
    (changes, decisions)
}

/// Adds partitions for the coming months, and drops partitions that ended more than
/// `keep_days` ago (0 retains all). Returns the number of dropped partitions.
pub async fn turn_months(db: &Db, now: Timestamp, keep_days: u32) -> Result<i32, ServiceError> {
    // Commits together: nothing is dropped unless the coming partitions exist.
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

type ModelsByGeneration = HashMap<i64, Option<ModelId>>;

/// The previous generations that differ from the present one. Their models show whether
/// the model has changed.
fn earlier_generations(assigned: &[NewChange<'_>]) -> Vec<i64> {
    let mut generations = Vec::new();
    for change in assigned {
        let before = change.before.map(|previous| previous.generation);
        generations.extend(before.filter(|before| *before != change.now.generation));
    }
    generations.sort_unstable();
    generations.dedup();
    generations
}

fn decide(change: &NewChange<'_>, models: &ModelsByGeneration) -> Decision {
    let Some(previous) = change.before else { return Decision::First };
    // A new generation may serve the same model, for example after a rollback and back.
    let is_same_model = match (&change.now.model, previous.fallback) {
        (None, fallback) => fallback,
        (Some(_), true) => false,
        (Some(_), false) if previous.generation == change.now.generation => true,
        (now, false) => models.get(&previous.generation) == Some(now),
    };
    if !is_same_model || previous.segment != change.now.segment {
        Decision::Moved
    } else if change.now.is_retained_by_hysteresis {
        Decision::Held
    } else {
        Decision::Kept
    }
}
