//! Figures of the customers of one segment, added up.

use crate::domain::model::MINIMUM_REPORTED_CUSTOMERS;
use crate::domain::stats::NORMAL_975;
use crate::domain::value::{CustomerOutlook, PredictedSum};

/// Sums over the customers of a segment. A customer without an order counts with 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SegmentTotals {
    pub customers: u64,
    /// Customers with an order.
    pub with_orders: u64,
    /// Sum over the customers with an order.
    pub churn_probabilities: f64,
    /// Days with an order within [`OUTLOOK_DAYS`](super::OUTLOOK_DAYS).
    pub orders: PredictedSum,
    /// Spend within [`OUTLOOK_DAYS`](super::OUTLOOK_DAYS).
    pub spend: PredictedSum,
    /// Sum of predicted spend times churn probability.
    pub value_at_risk: f64,
    /// Spend in the 365 days before.
    pub revenue: f64,
}

/// 95 % prediction interval of a sum over many customers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TotalInterval {
    pub low: f64,
    pub high: f64,
}

impl SegmentTotals {
    /// Whether no sum is that of one to four customers: those with an order contribute to all of them.
    pub fn is_reportable(&self) -> bool {
        let small = 1..MINIMUM_REPORTED_CUSTOMERS;
        !small.contains(&self.customers) && !small.contains(&self.with_orders)
    }

    /// Adds a customer. `outlook`: `None` without an order.
    pub(super) fn add(&mut self, outlook: Option<&CustomerOutlook>, revenue: f64) {
        self.customers += 1;
        self.revenue += revenue;
        let Some(outlook) = outlook else { return };
        let spend = outlook.spend.unwrap_or_default();
        self.with_orders += 1;
        self.churn_probabilities += outlook.churn_probability;
        self.orders.add(outlook.orders);
        self.spend.add(spend);
        self.value_at_risk += spend.expected * outlook.churn_probability;
    }

    /// Adds the customers of another part.
    pub(super) fn merge(&mut self, other: &Self) {
        self.customers += other.customers;
        self.with_orders += other.with_orders;
        self.churn_probabilities += other.churn_probabilities;
        self.orders.add(other.orders);
        self.spend.add(other.spend);
        self.value_at_risk += other.value_at_risk;
        self.revenue += other.revenue;
    }

    /// Mean churn probability; `None` without a customer with an order.
    pub fn mean_churn_probability(&self) -> Option<f64> {
        (self.with_orders > 0).then(|| self.churn_probabilities / self.with_orders as f64)
    }
}

impl PredictedSum {
    fn add(&mut self, other: Self) {
        self.expected += other.expected;
        self.variance += other.variance;
    }

    /// The 95 % prediction interval by the central limit theorem, at least 0: the sum is over many
    /// independent customers. It does not include the uncertainty of the fitted parameters.
    pub fn interval(&self) -> TotalInterval {
        let half = NORMAL_975 * self.variance.max(0.0).sqrt();
        TotalInterval { low: (self.expected - half).max(0.0), high: self.expected + half }
    }
}
