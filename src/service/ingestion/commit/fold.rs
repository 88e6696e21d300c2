//! The part of a commit that needs no database: fold events into state, score, encode.

use std::sync::Arc;

use crate::domain::access::MessageIdNamespace;
use crate::domain::feature::CustomerState;
use crate::domain::id::CustomerKey;
use crate::domain::model::ScoringScratch;
use crate::domain::time::Timestamp;
use crate::service::rebuild;
use crate::service::scoring::assignment::{
    self, AssignmentInput, CustomerAnswer, MAX_INLINE_CUSTOMERS,
};
use crate::service::scoring::deployment::Deployment;
use crate::service::scoring::observations::BatchCounts;
use crate::store::customers::assignments::{NewAssignmentChange, PreviousAssignment};
use crate::store::customers::events::{PastEvent, ReceivedEvent};
use crate::store::customers::lock_free::{CustomerSnapshot, RowVersion};
use crate::store::customers::{CustomerRow, IdIntroduction, NewCustomerRow};
use crate::store::{DatabaseTransaction, StoreError};

/// Number of events read from storage that cost as much time as scoring one customer.
const EVENTS_PER_CUSTOMER: usize = 2;

/// What all customers of a batch are folded with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoldContext<'b> {
    pub(crate) deployment: &'b Deployment,
    /// All events of the batch.
    pub(crate) events: &'b [ReceivedEvent],
    pub(crate) now: Timestamp,
}

/// Work item of a commit: the new events of one customer and the state to fold them into.
#[derive(Debug)]
pub(crate) struct FoldTask {
    pub(crate) customer: CustomerKey,
    /// Indices of its new events in the batch.
    pub(crate) events: Vec<usize>,
    /// Earlier events of ids that this commit merges into the customer.
    pub(crate) merged_events: Vec<PastEvent>,
    /// The row before these events; `None` for a new customer.
    pub(crate) row: Option<CustomerRow>,
    /// The state rebuilt from all events of the customer, including the new ones. It replaces
    /// that of the row.
    pub(crate) rebuilt: Option<CustomerState>,
    /// Version of the row for optimistic concurrency control, where the row is not
    /// locked.
    pub(crate) version: Option<RowVersion>,
}

/// A customer after its new events: state, answer and next scheduled rescore.
#[derive(Debug)]
pub(crate) struct FoldedCustomer {
    /// The work item.
    pub(crate) task: FoldTask,
    pub(crate) answer: Arc<CustomerAnswer>,
    state: Vec<u8>,
    last_event_at: Option<Timestamp>,
    next_rescore_at: Option<Timestamp>,
    introduction: IdIntroduction,
}

impl FoldTask {
    /// Work for a customer with this locked row; `row` is `None` for a new customer.
    pub(crate) fn new(customer: CustomerKey, events: Vec<usize>, row: Option<CustomerRow>) -> Self {
        Self { customer, events, merged_events: Vec::new(), row, rebuilt: None, version: None }
    }

    /// Work for a customer with a known row that is not locked.
    pub(crate) fn with_version(
        customer: CustomerKey,
        events: Vec<usize>,
        seen: CustomerSnapshot,
    ) -> Self {
        let version = Some(seen.version);
        Self { version, ..Self::new(customer, events, Some(seen.row)) }
    }

    /// Folds and scores `tasks` in order; `tally` counts the scores. Returns the results, and
    /// the tasks with a state that this feature set cannot read.
    pub(crate) async fn run_all(
        tasks: Vec<Self>,
        context: FoldContext<'_>,
        tally: &mut BatchCounts,
    ) -> (Vec<FoldedCustomer>, Vec<Self>) {
        let mut scratch = ScoringScratch::default();
        let (mut folded, mut unreadable) = (Vec::with_capacity(tasks.len()), Vec::new());
        // Yields after every `MAX_INLINE_CUSTOMERS` customers, so that a large batch does not
        // block the other tasks of this thread.
        let mut cost_since_yield = 0;
        for task in tasks {
            let cost = 1 + task.merged_events.len() / EVENTS_PER_CUSTOMER;
            cost_since_yield += cost;
            if cost_since_yield > MAX_INLINE_CUSTOMERS {
                cost_since_yield = cost;
                tokio::task::yield_now().await;
            }
            let result = if cost <= MAX_INLINE_CUSTOMERS {
                task.run(context, tally, &mut scratch)
            } else {
                // A merge of a long history: no yield would help within one customer.
                tokio::task::block_in_place(|| task.run(context, tally, &mut scratch))
            };
            match result {
                Ok(customer) => folded.push(customer),
                Err(task) => unreadable.push(*task),
            }
        }
        (folded, unreadable)
    }

    /// Folds and scores one customer. Fails with the task if its state cannot be read.
    pub(crate) fn run(
        self,
        context: FoldContext<'_>,
        tally: &mut BatchCounts,
        scratch: &mut ScoringScratch,
    ) -> Result<FoldedCustomer, Box<Self>> {
        let Some(state) = self.state(context) else { return Err(Box::new(self)) };
        let introduction = self.introduction(context.events);
        // A canary deployment answers for its share of the customers.
        let deployment = context.deployment.for_customer(&self.customer);
        let input = AssignmentInput {
            customer: &self.customer,
            state: &state,
            previous: self.previous(),
            now: context.now,
            rescore_by: self.row.as_ref().and_then(|row| row.next_rescore_at),
        };
        let (answer, next_rescore_at) =
            assignment::answer_customer(deployment, input, tally, scratch);
        Ok(FoldedCustomer {
            task: self,
            answer: Arc::new(answer),
            state: state.to_bytes(&context.deployment.features),
            last_event_at: state.last_event_at(),
            next_rescore_at,
            introduction,
        })
    }

    /// The state after the new events; `None` if the stored state cannot be read.
    fn state(&self, context: FoldContext<'_>) -> Option<CustomerState> {
        let features = &context.deployment.features;
        if let Some(rebuilt) = &self.rebuilt {
            // Already contains the new events: `rebuild` read them inside this transaction.
            return Some(rebuilt.clone());
        }
        let mut state = match &self.row {
            Some(row) => CustomerState::from_bytes(features, &row.state).ok()?,
            None => CustomerState::new(features),
        };
        for past in &self.merged_events {
            state.apply_stored(features, &past.event, past.received_at);
        }
        for index in &self.events {
            // Like a replay: an event that was rejected at first arrived before the feature set.
            let arrived = &context.events[*index];
            state.apply_stored(features, &arrived.event, arrived.received_at);
        }
        Some(state)
    }

    fn previous(&self) -> Option<&PreviousAssignment> {
        self.row.as_ref().and_then(|row| row.previous.as_ref())
    }

    /// Whether the new events introduce the customer's id as known or as anonymous.
    fn introduction(&self, all: &[ReceivedEvent]) -> IdIntroduction {
        let mut by: Option<&MessageIdNamespace> = None;
        let mut is_of_one_public_key = true;
        let mut is_known_to_public_key = false;
        for arrived in self.events.iter().map(|index| &all[*index]) {
            // An event of a merged id does not introduce the surviving id.
            if arrived.event.customer != self.customer {
                continue;
            }
            if arrived.names_known_customer() {
                return IdIntroduction::Known;
            }
            is_known_to_public_key |= !arrived.is_anonymous;
            let sender = &arrived.sender;
            is_of_one_public_key &= sender.is_public() && by.is_none_or(|first| first == sender);
            by = Some(sender);
        }
        match by {
            _ if is_known_to_public_key => IdIntroduction::KnownToPublicKey,
            Some(sender) if is_of_one_public_key => IdIntroduction::Anonymous(sender.clone()),
            _ => IdIntroduction::Unchanged,
        }
    }
}

impl FoldedCustomer {
    /// Whether the customer has no row yet.
    pub(crate) fn is_new(&self) -> bool {
        self.task.row.is_none()
    }

    /// Whether the customer has any event.
    pub(crate) fn has_events(&self) -> bool {
        self.last_event_at.is_some()
    }

    pub(crate) fn row(&self) -> NewCustomerRow<'_> {
        NewCustomerRow {
            customer: &self.task.customer,
            state: Some(&self.state),
            last_event_at: self.last_event_at,
            assignment: &self.answer.assignment,
            next_rescore_at: self.next_rescore_at,
            introduction: &self.introduction,
            audiences: &self.answer.audiences,
            audiences_before: self.task.previous().map_or(&[], |previous| &previous.audiences),
        }
    }

    /// The cache entry after the write, with the written version of the row.
    pub(crate) fn into_cached(self, version: RowVersion) -> (CustomerKey, CustomerSnapshot) {
        let seen = CustomerSnapshot {
            version,
            row: CustomerRow {
                state: self.state,
                previous: Some(self.answer.assignment.to_previous(&self.answer.audiences)),
                next_rescore_at: self.next_rescore_at,
                merged_into: None,
            },
        };
        (self.task.customer, seen)
    }

    pub(crate) fn change(&self) -> NewAssignmentChange<'_> {
        let before = self.task.previous();
        NewAssignmentChange {
            customer: &self.task.customer,
            now: &self.answer.assignment,
            audiences: &self.answer.audiences,
            before,
            is_of_audiences_only: false,
        }
    }
}

/// Folds new events into states and scores them; `tally` counts the scores. States that the
/// current feature set cannot read are rebuilt from events.
pub(crate) async fn fold_customers(
    tx: &mut DatabaseTransaction,
    context: FoldContext<'_>,
    tasks: Vec<FoldTask>,
    tally: &mut BatchCounts,
) -> Result<Vec<FoldedCustomer>, StoreError> {
    let (mut folded, unreadable) = FoldTask::run_all(tasks, context, tally).await;
    if unreadable.is_empty() {
        return Ok(folded);
    }
    tracing::debug!(
        customers = unreadable.len(),
        "unreadable customer states are rebuilt from events"
    );
    let mut rebuilt = Vec::with_capacity(unreadable.len());
    for task in unreadable {
        let state =
            rebuild::rebuild_state(tx, &context.deployment.features, &task.customer).await?;
        rebuilt.push(FoldTask { rebuilt: Some(state), ..task });
    }
    // A rebuilt state is always readable, so this run leaves no task behind.
    folded.extend(FoldTask::run_all(rebuilt, context, tally).await.0);
    Ok(folded)
}
