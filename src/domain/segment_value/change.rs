//! Decomposition of a change of predicted spend by the customers who moved.
//!
//! With `v` the predicted spend of a customer, at the earlier snapshot (0) and now (1):
//!
//! ```text
//! V1 − V0 = Σ entered v1 − Σ left v0 + Σ stayed (v1 − v0) + recalculated
//! ```
//!
//! A customer who left counts with the spend predicted then, which the segment has lost. A customer who
//! entered counts with the spend predicted now. `v0` is computed again from the orders up to the earlier
//! snapshot; `recalculated` is the difference of its sum from the stored `V0`: orders that arrived
//! late, returns of earlier orders, customers merged or erased, and another value model.

use crate::domain::model::MINIMUM_REPORTED_CUSTOMERS;
use crate::domain::segment_value::tally::ValueFlow;

/// Parts of the change of a segment's predicted spend, which add up to `now − before`.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentValueChange {
    /// Predicted spend as stored with the earlier snapshot.
    pub before: f64,
    pub now: f64,
    /// At least [`MINIMUM_REPORTED_CUSTOMERS`] each, most customers first.
    pub entered: Vec<FlowPart>,
    /// At least [`MINIMUM_REPORTED_CUSTOMERS`] each, most customers first.
    pub left: Vec<FlowPart>,
    pub small_flows: SmallFlows,
    pub stayed: StayedCustomers,
    pub recalculated: f64,
}

/// Customers who entered from one other segment, or left for it.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowPart {
    /// The other segment; `None`: no segment of a model, as for new customers.
    pub segment_id: Option<Box<str>>,
    pub customers: u64,
    /// Predicted spend at the earlier snapshot.
    pub spend_before: f64,
    pub spend_now: f64,
    /// Contribution to the change: `spend_now` of customers who entered, minus `spend_before` of
    /// customers who left.
    pub amount: f64,
}

/// Flows of fewer than [`MINIMUM_REPORTED_CUSTOMERS`] customers, aggregated so that no amount is that
/// of a single customer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SmallFlows {
    pub flows: u64,
    pub customers: u64,
    /// 0 if all small flows together are smaller than a reported group: then `stayed` has the amount.
    pub amount: f64,
}

/// Customers of the segment at both snapshots.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StayedCustomers {
    pub customers: u64,
    pub spend_before: f64,
    pub spend_now: f64,
    /// Contribution to the change.
    pub amount: f64,
}

/// Explains the change of a segment from `before`, its predicted spend as stored with the earlier
/// snapshot, by the flows of all segments since then. `None` if the figures of the segment, or of the
/// customers who stayed, are those of fewer than [`MINIMUM_REPORTED_CUSTOMERS`] customers.
pub fn explain_change(
    segment_id: &str,
    before: f64,
    flows: &[ValueFlow],
) -> Option<SegmentValueChange> {
    let mut stayed = StayedCustomers::default();
    let (mut entered, mut left) = (Vec::new(), Vec::new());
    let mut small_flows = SmallFlows::default();
    let (mut now, mut before_again) = (0.0, 0.0);
    let (mut customers_before, mut customers_now) = (0, 0);
    for flow in flows {
        let ValueFlow { customers, spend_before, spend_now, .. } = *flow;
        let [was_here, is_here] =
            [&flow.from, &flow.to].map(|id| id.as_deref() == Some(segment_id));
        if was_here {
            before_again += spend_before;
            customers_before += customers;
        }
        if is_here {
            now += spend_now;
            customers_now += customers;
        }
        let (parts, other, amount) = match (was_here, is_here) {
            (false, false) => continue,
            (true, true) => {
                let amount = spend_now - spend_before;
                stayed = StayedCustomers { customers, spend_before, spend_now, amount };
                continue;
            }
            (false, true) => (&mut entered, &flow.from, spend_now),
            (true, false) => (&mut left, &flow.to, -spend_before),
        };
        if customers < MINIMUM_REPORTED_CUSTOMERS {
            small_flows.flows += 1;
            small_flows.customers += customers;
            small_flows.amount += amount;
        } else {
            let segment_id = other.clone();
            parts.push(FlowPart { segment_id, customers, spend_before, spend_now, amount });
        }
    }
    let mut in_rest = stayed.customers;
    if is_small(small_flows.customers) {
        stayed.amount += small_flows.amount;
        small_flows.amount = 0.0;
        in_rest += small_flows.customers;
    }
    if [customers_before, customers_now, in_rest].into_iter().any(is_small) {
        return None;
    }
    // A stable sort: parts of equal size stay in the order of the flows.
    entered.sort_by_key(|part: &FlowPart| std::cmp::Reverse(part.customers));
    left.sort_by_key(|part: &FlowPart| std::cmp::Reverse(part.customers));
    let recalculated = before_again - before;
    Some(SegmentValueChange { before, now, entered, left, small_flows, stayed, recalculated })
}

/// Whether a figure of a group would single a customer out.
fn is_small(customers: u64) -> bool {
    (1..MINIMUM_REPORTED_CUSTOMERS).contains(&customers)
}

impl SegmentValueChange {
    /// Sum of all parts: `now − before` up to rounding.
    pub fn sum_of_parts(&self) -> f64 {
        let flows = self.entered.iter().chain(&self.left).map(|part| part.amount).sum::<f64>();
        flows + self.small_flows.amount + self.stayed.amount + self.recalculated
    }

    /// `now / before − 1`; `None` without predicted spend before.
    pub fn relative(&self) -> Option<f64> {
        (self.before > 0.0).then(|| self.now / self.before - 1.0)
    }
}
