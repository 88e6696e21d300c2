//! Migration matrix: customers by their segment now and their segment under another model.

use serde::Serialize;

use crate::domain::model::NamedSegment;

/// Smallest reported group: flows of fewer customers are aggregated, so that no flow singles
/// a person out (k-anonymity).
pub const MINIMUM_REPORTED_CUSTOMERS: u64 = 5;

/// Counts of customers by place before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationMatrix {
    from: Vec<NamedSegment>,
    to: Vec<NamedSegment>,
    /// The matrix, row-major; the last row and column are for unassigned customers.
    customers: Vec<u64>,
}

/// Summary of a migration matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MigrationSummary {
    pub customers: u64,
    /// Customers in a segment of the same id before and after, or in none both times.
    pub stay: u64,
    pub move_away: u64,
    /// `move_away` / `customers`; 0 without customers.
    pub moved_share: f64,
    /// Flows of at least [`MINIMUM_REPORTED_CUSTOMERS`] customers, largest first; customers who
    /// stay are included.
    pub flows: Vec<SegmentFlow>,
    /// Customers in all smaller flows together.
    pub in_small_flows: u64,
    /// Number of smaller flows.
    pub small_flows: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentFlow {
    pub from: NamedSegment,
    pub to: NamedSegment,
    pub stays: bool,
    pub customers: u64,
    pub share_of_from: f64,
    pub share_of_to: f64,
}

impl MigrationMatrix {
    pub fn new(from: Vec<NamedSegment>, to: Vec<NamedSegment>) -> Self {
        let (from, to) = (with_unassigned(from), with_unassigned(to));
        let customers = vec![0; from.len() * to.len()];
        Self { from, to, customers }
    }

    /// Adds one customer, by the indices of the places; `None`: unassigned.
    pub fn add(&mut self, from: Option<usize>, to: Option<usize>) {
        self.add_all(from, to, 1);
    }

    /// Adds several customers with the same places.
    pub(in crate::domain) fn add_all(
        &mut self,
        from: Option<usize>,
        to: Option<usize>,
        customers: u64,
    ) {
        let from = from.unwrap_or(self.from.len() - 1);
        let to = to.unwrap_or(self.to.len() - 1);
        self.customers[from * self.to.len() + to] += customers;
    }

    /// Summarises the matrix for publication, with small flows aggregated.
    pub fn summarize(&self) -> MigrationSummary {
        let (mut stay, mut small_flows, mut in_small_flows) = (0, 0, 0);
        let mut flows = Vec::new();
        for from in 0..self.from.len() {
            for to in 0..self.to.len() {
                let customers = self.customers[from * self.to.len() + to];
                if self.is_stay(from, to) {
                    stay += customers;
                }
                if customers >= MINIMUM_REPORTED_CUSTOMERS {
                    flows.push(self.flow(from, to));
                } else if customers > 0 {
                    small_flows += 1;
                    in_small_flows += customers;
                }
            }
        }
        // A stable sort: flows of equal size stay in the order of the segments.
        flows.sort_by_key(|flow| std::cmp::Reverse(flow.customers));
        let customers = self.customers.iter().sum();
        let move_away = customers - stay;
        MigrationSummary {
            customers,
            stay,
            move_away,
            moved_share: share(move_away, customers),
            flows,
            in_small_flows,
            small_flows,
        }
    }

    fn flow(&self, from: usize, to: usize) -> SegmentFlow {
        let customers = self.customers[from * self.to.len() + to];
        let of_from: u64 = self.customers[from * self.to.len()..][..self.to.len()].iter().sum();
        let of_to: u64 = self.customers.iter().skip(to).step_by(self.to.len()).sum();
        SegmentFlow {
            from: self.from[from].clone(),
            to: self.to[to].clone(),
            stays: self.is_stay(from, to),
            customers,
            share_of_from: share(customers, of_from),
            share_of_to: share(customers, of_to),
        }
    }

    /// Whether customers of this flow keep their segment, or are unassigned both times.
    fn is_stay(&self, from: usize, to: usize) -> bool {
        self.from[from].id == self.to[to].id
    }
}

fn with_unassigned(mut places: Vec<NamedSegment>) -> Vec<NamedSegment> {
    places.push(NamedSegment::unassigned());
    places
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
