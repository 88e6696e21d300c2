//! Commit with row locks: inserts the events and locks the rows of their customers in one
//! statement, then folds and writes.

use crate::domain::drift::ScoreSource;
use crate::service::ingestion::IngestionCore;
use crate::service::ingestion::commit::fold::{
    FoldContext, FoldTask, FoldedCustomer, fold_customers,
};
use crate::service::ingestion::commit::{
    AttemptOutcome, CommittedBatch, IncomingBatch, contents, find_by_id, sorted_by_id,
};
use crate::service::scoring::history;
use crate::service::scoring::history::DecisionCounts;
use crate::service::scoring::observations::BatchCounts;
use crate::store::customers::events::{LockedCustomerEvents, ReceivedEvent};
use crate::store::customers::{self, NewCustomerRow, events};
use crate::store::{DatabaseTransaction, DedicatedDatabase, StoreError};

/// One attempt. It needs the linking strategy if some ids were merged into another customer.
pub(crate) async fn attempt(
    core: &IngestionCore,
    db: &DedicatedDatabase,
    batch: IncomingBatch<'_>,
) -> Result<AttemptOutcome, StoreError> {
    let all = batch.events;
    let deployment = core.serving.snapshot();
    let by_id = sorted_by_id(all);
    let sorted: Vec<&ReceivedEvent> = by_id.iter().map(|index| &all[*index]).collect();

    // Commits together: the new events, the states that they change, the new assignments
    // of their customers, and the history of assignment changes.
    let mut tx = db.begin().await?;
    let addressed = events::insert_and_lock(&mut tx, &sorted).await?;
    let inserted = addressed.iter().flat_map(|one| &one.events);
    let new: Vec<usize> = inserted.filter_map(|id| find_by_id(all, &by_id, id)).collect();
    let conflicts = contents::conflicts_with_stored(&mut tx, all, &by_id, &new).await?;
    if let Some(failure) = contents::abort_on(&conflicts, batch.on_conflict) {
        return Ok(AttemptOutcome::Impossible(failure));
    }
    if addressed.is_empty() {
        return Ok(AttemptOutcome::Committed(CommittedBatch::nothing_new(all.len(), conflicts)));
    }
    // The row lock shows the merge. The hint sends the next events of this id straight to
    // the linking strategy.
    if addressed.iter().any(LockedCustomerEvents::is_merged) {
        let merged = addressed.iter().filter(|one| one.is_merged());
        core.merged_ids.insert_all(merged.map(|one| &one.customer));
        return Ok(AttemptOutcome::NeedsNextStrategy);
    }
    let mut tasks = Vec::with_capacity(addressed.len());
    for one in addressed {
        let events = one.events.iter().filter_map(|id| find_by_id(all, &by_id, id));
        let events = events.collect();
        tasks.push(FoldTask::new(one.customer, events, one.row));
    }
    let mut tally = BatchCounts::new(ScoreSource::Events);
    let context = FoldContext { deployment: &deployment, events: all, now: core.clock.now() };
    let folded = fold_customers(&mut tx, context, tasks, &mut tally).await?;
    let decisions = save(core, &mut tx, &folded).await?;
    tx.commit().await?;
    // Published after the commit: a retried attempt must not count twice.
    tally.publish();
    decisions.add_to(&core.metrics.ingestion.assignments);
    Ok(AttemptOutcome::Committed(CommittedBatch::new(all, &folded, conflicts)))
}

/// Writes the folded customers and their history. Returns counts of the assignment
/// decisions.
async fn save(
    core: &IngestionCore,
    tx: &mut DatabaseTransaction,
    folded: &[FoldedCustomer],
) -> Result<DecisionCounts, StoreError> {
    let now = core.clock.now();
    let (added, known): (Vec<&FoldedCustomer>, Vec<_>) =
        folded.iter().partition(|customer| customer.is_new());
    let added: Vec<NewCustomerRow<'_>> = added.into_iter().map(FoldedCustomer::row).collect();
    let known: Vec<NewCustomerRow<'_>> = known.into_iter().map(FoldedCustomer::row).collect();
    customers::write(tx, &added, &known, now).await?;
    history::record_changes(tx, folded.iter().map(FoldedCustomer::change).collect()).await
}
