//! Back-test: do the segments predict what customers do next?
//!
//! For each horizon, the stored assignments at the beginning of the horizon are compared with the
//! orders within it (out-of-time validation). The earlier models did not know these orders, so the
//! figures state the predictive value of their segments. They describe the earlier models, not the
//! model of the training run.
//!
//! - `past_assignment`: the segment of a customer at an instant.
//! - `tally`: the outcomes of customers by segment, one customer at a time.
//! - `report`: the figures.

pub mod past_assignment;
pub mod report;
pub mod tally;

pub use past_assignment::{AssignedSegment, AssignmentChange, CustomerAssignments};
pub use report::{BacktestOutcome, BacktestReport, HorizonBacktest};
pub use tally::{BacktestTally, PastDeployments};

/// Largest number of horizons of a training run.
const MOST_HORIZONS: usize = 6;
/// Longest horizon in days.
const LONGEST_HORIZON_DAYS: u32 = 730;

/// Checks the horizons of a training run, in days; the error says what would be right.
pub(crate) fn check_horizons(horizons_days: &[u32]) -> Result<(), String> {
    let is_in_range = |days: &u32| (1..=LONGEST_HORIZON_DAYS).contains(days);
    let mut distinct = horizons_days.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let is_valid = distinct.len() == horizons_days.len()
        && distinct.len() <= MOST_HORIZONS
        && distinct.iter().all(is_in_range);
    if is_valid {
        return Ok(());
    }
    Err(format!(
        "must be at most {MOST_HORIZONS} different numbers from 1 to {LONGEST_HORIZON_DAYS}"
    ))
}
