//! Value of segments over time: predicted orders and spend of the customers of each segment, and the
//! change between two snapshots, explained by the customers who moved.
//!
//! - `tally`: adds up customers, by segment and by flow between segments.
//! - `totals`: the figures of one segment.
//! - `change`: decomposition of a change of predicted spend into flows.
//! - `sentence`: the decomposition in words; `picture`: the figures over time.

mod change;
pub mod picture;
mod sentence;
mod tally;
mod totals;

pub use change::{FlowPart, SegmentValueChange, SmallFlows, StayedCustomers, explain_change};
pub use sentence::{ChangeWords, describe_change};
pub use tally::{PastCustomer, SegmentValueTally, SnapshotCustomer, ValueFlow};
pub use totals::{SegmentTotals, TotalInterval};

/// Days from a snapshot that its forecasts cover.
pub const OUTLOOK_DAYS: f64 = 90.0;
