//! Tally of a snapshot: sums by segment, and by flow between segments since earlier snapshots. Its size
//! depends on the number of segments, not on that of customers.

use std::collections::BTreeMap;

use crate::domain::segment_value::totals::SegmentTotals;
use crate::domain::value::CustomerOutlook;

/// One customer at a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotCustomer<'a> {
    /// `None`: not assigned by a model.
    pub segment_id: Option<&'a str>,
    /// `None` without an order.
    pub outlook: Option<CustomerOutlook>,
    /// Spend in the 365 days before.
    pub revenue: f64,
}

/// The same customer at an earlier snapshot.
#[derive(Debug, Clone, Copy)]
pub struct PastCustomer<'a> {
    /// `None`: not assigned by a model, or no customer yet.
    pub segment_id: Option<&'a str>,
    /// Predicted spend by the orders known then.
    pub spend: f64,
}

/// Customers in one segment at an earlier snapshot and in one now, with the sums of their predicted
/// spend.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueFlow {
    /// `None`: no segment of a model.
    pub from: Option<Box<str>>,
    /// `None`: no segment of a model.
    pub to: Option<Box<str>>,
    pub customers: u64,
    /// At the earlier snapshot.
    pub spend_before: f64,
    pub spend_now: f64,
}

/// Sums over the added customers.
#[derive(Debug, Clone, Default)]
pub struct SegmentValueTally {
    /// Ids of segments in the order of their first customer.
    segment_ids: Vec<Box<str>>,
    /// By index into `segment_ids`.
    totals: Vec<SegmentTotals>,
    /// By earlier snapshot.
    flows: Vec<BTreeMap<FlowKey, FlowSums>>,
}

/// Indices of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct FlowKey {
    from: Option<usize>,
    to: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct FlowSums {
    customers: u64,
    spend_before: f64,
    spend_now: f64,
}

impl SegmentValueTally {
    /// Compares each customer with this many earlier snapshots.
    pub fn new(earlier_snapshots: usize) -> Self {
        let flows = vec![BTreeMap::new(); earlier_snapshots];
        Self { segment_ids: Vec::new(), totals: Vec::new(), flows }
    }

    /// Adds a customer, with its segment at each earlier snapshot.
    pub fn add(&mut self, customer: &SnapshotCustomer<'_>, past: &[PastCustomer<'_>]) {
        let to = customer.segment_id.map(|id| self.index_of(id));
        if let Some(index) = to {
            self.totals[index].add(customer.outlook.as_ref(), customer.revenue);
        }
        let spend = customer.outlook.and_then(|outlook| outlook.spend);
        let spend_now = spend.map_or(0.0, |spend| spend.expected);
        for (snapshot, then) in past.iter().enumerate().take(self.flows.len()) {
            let from = then.segment_id.map(|id| self.index_of(id));
            if from.is_none() && to.is_none() {
                continue;
            }
            let sums = self.flows[snapshot].entry(FlowKey { from, to }).or_default();
            sums.add(&FlowSums { customers: 1, spend_before: then.spend, spend_now });
        }
    }

    /// Adds the customers of another tally.
    pub fn merge(&mut self, other: &Self) {
        let indices: Vec<usize> = other.segment_ids.iter().map(|id| self.index_of(id)).collect();
        for (index, totals) in indices.iter().zip(&other.totals) {
            self.totals[*index].merge(totals);
        }
        for (flows, added) in self.flows.iter_mut().zip(&other.flows) {
            for (key, sums) in added {
                let [from, to] =
                    [key.from, key.to].map(|segment| segment.map(|index| indices[index]));
                flows.entry(FlowKey { from, to }).or_default().add(sums);
            }
        }
    }

    /// The figures of each segment that has customers, or had at an earlier snapshot.
    pub fn totals(&self) -> impl Iterator<Item = (&str, &SegmentTotals)> {
        self.segment_ids.iter().map(|id| &**id).zip(&self.totals)
    }

    /// The flows since an earlier snapshot.
    pub fn flows_since(&self, snapshot: usize) -> Vec<ValueFlow> {
        let name = |segment: Option<usize>| segment.map(|index| self.segment_ids[index].clone());
        let mut flows = Vec::new();
        for (key, sums) in self.flows.get(snapshot).into_iter().flatten() {
            let FlowSums { customers, spend_before, spend_now } = *sums;
            let (from, to) = (name(key.from), name(key.to));
            flows.push(ValueFlow { from, to, customers, spend_before, spend_now });
        }
        flows
    }

    /// Segments are few: a search costs less than a copy of the id for each customer.
    fn index_of(&mut self, id: &str) -> usize {
        if let Some(index) = self.segment_ids.iter().position(|known| **known == *id) {
            return index;
        }
        self.segment_ids.push(id.into());
        self.totals.push(SegmentTotals::default());
        self.segment_ids.len() - 1
    }
}

impl FlowSums {
    fn add(&mut self, other: &Self) {
        self.customers += other.customers;
        self.spend_before += other.spend_before;
        self.spend_now += other.spend_now;
    }
}
