//! Rows of the export: an assignment, and the customer's forecasts at the beginning of the export.

use std::sync::Arc;

use crate::domain::feature::CustomerState;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::domain::value::ValueSummary;
use crate::service::scoring::deployment::Deployment;
use crate::store::customers::export::ExportedAssignment;

/// One row.
#[derive(Debug)]
pub(super) struct ExportRow {
    pub(super) assignment: ExportedAssignment,
    /// `None` without an order, and without a model of customer value.
    pub(super) value: Option<ValueSummary>,
    /// Names of the customer's audiences, separated by spaces.
    pub(super) audiences: String,
}

/// Computes the forecasts of all rows for one instant.
#[derive(Debug, Clone)]
pub(super) struct Valuation {
    pub(super) deployment: Arc<Deployment>,
    pub(super) now: Timestamp,
}

impl Valuation {
    pub(super) fn row(&self, assignment: ExportedAssignment) -> ExportRow {
        let value = self.value(&assignment);
        let audiences = self.deployment.audiences.named(&assignment.audiences);
        let audiences = audiences.names().collect::<Vec<_>>().join(" ");
        ExportRow { assignment, value, audiences }
    }

    fn value(&self, assignment: &ExportedAssignment) -> Option<ValueSummary> {
        let customer: CustomerKey = assignment.customer_id.parse().ok()?;
        let deployment = self.deployment.for_customer(&customer);
        // Until the customer is rescored, the assignment is of an earlier model.
        if deployment.generation != assignment.generation {
            return None;
        }
        let model = deployment.active.as_ref()?.value()?;
        let features = &deployment.features;
        // A state of another feature set awaits its rebuild: no forecasts meanwhile.
        let state = CustomerState::from_bytes(features, &assignment.state).ok()?;
        Some(model.summarise(&state.known_orders(features, self.now)?.history()?, self.now))
    }
}
