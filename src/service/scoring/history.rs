//! Assignment history: which assignments are changes, and how long changes are retained.

use std::collections::HashMap;

use crate::domain::id::ModelId;
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::service::ServiceError;
use crate::store::customers::assignments;
use crate::store::customers::assignments::NewAssignmentChange;
use crate::store::{DatabaseHandle, DatabaseTransaction, StoreError, models};
use crate::telemetry::LabelledCounters;
use crate::telemetry::labels::AssignmentEffect;

/// Counts of assignment decisions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DecisionCounts {
    pub first_assignments: u64,
    pub moved: u64,
    pub unchanged: u64,
    /// Retained by hysteresis, although another segment is nearer.
    pub retained_by_hysteresis: u64,
    /// Entries of the history.
    pub recorded: u64,
}

impl DecisionCounts {
    pub(crate) fn add_to(self, counters: &LabelledCounters<AssignmentEffect>) {
        counters.add(AssignmentEffect::First, self.first_assignments);
        counters.add(AssignmentEffect::Moved, self.moved);
        counters.add(AssignmentEffect::Unchanged, self.unchanged);
        counters.add(AssignmentEffect::RetainedByHysteresis, self.retained_by_hysteresis);
    }
}

/// Records the assignments that are a customer's first, or that name another segment, model or
/// audience than before. `tx` must have locked the customers.
pub(crate) async fn record_changes(
    tx: &mut DatabaseTransaction,
    assigned: Vec<NewAssignmentChange<'_>>,
) -> Result<DecisionCounts, StoreError> {
    let models = match earlier_generations(&assigned) {
        none if none.is_empty() => ModelsByGeneration::new(),
        generations => models::models_of_generations(tx, &generations).await?,
    };
    let (changes, decisions) = split_changes(assigned, &models);
    assignments::record_changes(tx, &changes).await?;
    Ok(decisions)
}

/// The changes that [`record_changes`] would write; `None` where only the database has the models
/// to compare.
pub(crate) fn find_changes<'a>(
    assigned: impl Iterator<Item = NewAssignmentChange<'a>>,
) -> Option<(Vec<NewAssignmentChange<'a>>, DecisionCounts)> {
    let assigned: Vec<NewAssignmentChange<'a>> = assigned.collect();
    earlier_generations(&assigned)
        .is_empty()
        .then(|| split_changes(assigned, &ModelsByGeneration::new()))
}

/// The changes among the assignments, and the counts of decisions.
fn split_changes<'a>(
    assigned: Vec<NewAssignmentChange<'a>>,
    models: &ModelsByGeneration,
) -> (Vec<NewAssignmentChange<'a>>, DecisionCounts) {
    let mut decisions = DecisionCounts::default();
    let mut changes = Vec::new();
    for mut assigned in assigned {
        let is_other_assignment = match decide(&assigned, models) {
            AssignmentEffect::First => {
                decisions.first_assignments += 1;
                true
            }
            AssignmentEffect::Moved => {
                decisions.moved += 1;
                true
            }
            AssignmentEffect::Unchanged => {
                decisions.unchanged += 1;
                false
            }
            AssignmentEffect::RetainedByHysteresis => {
                decisions.retained_by_hysteresis += 1;
                false
            }
        };
        if is_other_assignment || assigned.changes_audiences() {
            assigned.is_of_audiences_only = !is_other_assignment;
            changes.push(assigned);
        }
    }
    decisions.recorded = changes.len() as u64;
    (changes, decisions)
}

/// Adds partitions for the coming months, and drops partitions that ended more than
/// `keep_days` ago (0 retains all). Returns the number of dropped partitions.
pub(crate) async fn rotate_partitions(
    db: &DatabaseHandle,
    now: Timestamp,
    keep_days: u32,
) -> Result<i32, ServiceError> {
    // Commits together: nothing is dropped unless the coming partitions exist.
    let mut tx = db.begin().await?;
    tx.lower_lock_timeout(db).await?;
    if keep_days > 0 {
        assignments::lock_history(&mut tx).await?;
    }
    assignments::create_partitions(&mut tx, now).await?;
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
fn earlier_generations(assigned: &[NewAssignmentChange<'_>]) -> Vec<i64> {
    let mut generations = Vec::new();
    for change in assigned {
        let before = change.before.map(|previous| previous.generation);
        generations.extend(before.filter(|before| *before != change.now.generation));
    }
    generations.sort_unstable();
    generations.dedup();
    generations
}

fn decide(change: &NewAssignmentChange<'_>, models: &ModelsByGeneration) -> AssignmentEffect {
    let Some(previous) = change.before else { return AssignmentEffect::First };
    // A new generation may serve the same model, for example after a rollback and back.
    let is_same_model = match (&change.now.model, previous.is_fallback) {
        (None, fallback) => fallback,
        (Some(_), true) => false,
        (Some(_), false) if previous.generation == change.now.generation => true,
        (now, false) => models.get(&previous.generation) == Some(now),
    };
    if !is_same_model || *previous.segment_id != *change.now.segment.id {
        AssignmentEffect::Moved
    } else if change.now.is_retained_by_hysteresis {
        AssignmentEffect::RetainedByHysteresis
    } else {
        AssignmentEffect::Unchanged
    }
}
