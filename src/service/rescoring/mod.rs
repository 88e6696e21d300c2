//! Rescoring of stored customers without an event: after a deployment change, or when
//! time alone may change the assignment.

pub mod on_deployment_change;
pub mod on_time;

use crate::domain::feature::CustomerState;
use crate::domain::model::ScoringScratch;
use crate::domain::time::Timestamp;
use crate::service::rebuild;
use crate::service::scoring::assignment::{AssignmentInput, MAX_INLINE_CUSTOMERS};
use crate::service::scoring::deployment::Deployment;
use crate::service::scoring::history::DecisionCounts;
use crate::service::scoring::{assignment, history};
use crate::store::customers::assignments::{NewAssignmentChange, StoredAssignment};
use crate::store::customers::{self, IdIntroduction, LockedCustomerRow, NewCustomerRow};
use crate::store::{DatabaseTransaction, StoreError};

/// Scores customers that `tx` has locked, and writes their assignments and history.
/// States that this feature set cannot read are rebuilt from events.
pub(crate) async fn rescore_customers(
    tx: &mut DatabaseTransaction,
    deployment: &Deployment,
    locked: &[LockedCustomerRow],
    now: Timestamp,
) -> Result<DecisionCounts, StoreError> {
    let (mut scored, unreadable) = if locked.len() <= MAX_INLINE_CUSTOMERS {
        score_all(deployment, locked, now)
    } else {
        // A larger batch would block its async thread for longer than half a millisecond.
        tokio::task::block_in_place(|| score_all(deployment, locked, now))
    };
    for row in unreadable {
        let state = rebuild::rebuild_state(tx, &deployment.features, &row.stored.customer).await?;
        let rebuilt = Some(state.to_bytes(&deployment.features));
        let again =
            RescoredCustomer::new(row, &state, deployment, &mut ScoringScratch::default(), now);
        scored.push(RescoredCustomer { rebuilt, ..again });
    }
    let rows: Vec<NewCustomerRow<'_>> = scored.iter().map(RescoredCustomer::row).collect();
    customers::update(tx, &rows, now).await?;
    history::record_changes(tx, scored.iter().map(RescoredCustomer::change).collect()).await
}

/// Scores the customers with a readable state; returns the others too.
fn score_all<'l>(
    deployment: &Deployment,
    locked: &'l [LockedCustomerRow],
    now: Timestamp,
) -> (Vec<RescoredCustomer<'l>>, Vec<&'l LockedCustomerRow>) {
    let mut scratch = ScoringScratch::default();
    let (mut scored, mut unreadable) = (Vec::with_capacity(locked.len()), Vec::new());
    for row in locked {
        match CustomerState::from_bytes(&deployment.features, &row.stored.state) {
            Ok(state) => {
                scored.push(RescoredCustomer::new(row, &state, deployment, &mut scratch, now));
            }
            Err(_) => unreadable.push(row),
        }
    }
    (scored, unreadable)
}

struct RescoredCustomer<'l> {
    row: &'l LockedCustomerRow,
    rebuilt: Option<Vec<u8>>,
    last_event_at: Option<Timestamp>,
    assignment: StoredAssignment,
    recheck_at: Option<Timestamp>,
}

impl<'l> RescoredCustomer<'l> {
    fn new(
        row: &'l LockedCustomerRow,
        state: &CustomerState,
        deployment: &Deployment,
        scratch: &mut ScoringScratch,
        now: Timestamp,
    ) -> Self {
        let deployment = deployment.for_customer(&row.stored.customer);
        let previous = row.previous.as_ref();
        let input = AssignmentInput { state, previous, now, rescore_by: None };
        // No tally: no response depends on these scores, so drift does not count them.
        let (assignment, recheck_at) =
            assignment::assign_customer(deployment, input, None, scratch);
        let last_event_at = state.last_event_at();
        Self { row, rebuilt: None, last_event_at, assignment, recheck_at }
    }

    fn row(&self) -> NewCustomerRow<'_> {
        NewCustomerRow {
            customer: &self.row.stored.customer,
            state: self.rebuilt.as_deref(),
            last_event_at: self.last_event_at,
            assignment: &self.assignment,
            rescore_at: self.recheck_at,
            introduction: &IdIntroduction::Unchanged,
        }
    }

    fn change(&self) -> NewAssignmentChange<'_> {
        let customer = &self.row.stored.customer;
        NewAssignmentChange { customer, now: &self.assignment, before: self.row.previous.as_ref() }
    }
}
