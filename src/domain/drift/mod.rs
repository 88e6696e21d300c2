//! Drift detection: compares scored rows with the training rows of the model.
//!
//! All tests use counts on bins that were fixed at training. A difference is a *finding*
//! if it is significant, relevant and supported: its p-value stays below the level after
//! the correction for multiple tests, its size reaches a limit, and the window has a
//! minimum of rows. Every score counts, so frequently scored customers count repeatedly.
//!
//! Beside these checks of one window, sequential detectors accumulate the evidence of many
//! hours, for small or slow changes that last ([`detectors`]). The p-value of such a
//! finding is the probability of a false alarm in that number of hours; no level applies
//! to it. Within a segment, means are compared, from sums stored beside the counts.
//!
//! The modules are listed in import order.

mod alarm;
mod by_key;
mod check;
pub mod detectors;
mod figures;
mod finding;
pub mod influence;
mod limits;
pub mod output_shift;
pub(crate) mod report;
mod segments;
mod source;
pub mod statistics;
pub mod window;

pub use alarm::{Alarm, AlarmRules, AlarmTransition, MOST_CHECKS};
pub use by_key::{ByKey, KeyShare, MOST_KEYS, NO_KEY, OTHER_KEYS, RESTS_ON_FACT, RestsOn};
pub use check::{Check, Test, check, check_within};
pub use detectors::finding::{lasting, lasting_facts};
pub use detectors::{HourlyPValues, Method, Stream, stream};
pub use figures::{BinChange, CategoryChange, FeatureFigures, Rows, ValueFigures};
pub use finding::{About, DriftFinding};
pub use influence::{KeyCheck, KeyChecks, key_checks, mark_influence};
pub use limits::{DriftLimits, Severity, Steps};
pub use output_shift::{Outliers, Rate, RowCount};
pub use report::alert_facts::{facts, headline};
pub use report::number_format::percent;
pub use report::picture::{Bar, Drawn, escaped, picture};
pub use segments::churn::{
    AssignmentOrigin, Churn, ChurnRate, SegmentChurn, SeparateChanges, Way, churn,
};
pub use segments::sums::{Inside, Yardstick};
pub use segments::{FeatureWithin, LEAST_ROWS, MovedWithin, SegmentDescriptor, WithinFigures};
pub use source::ScoreSource;
pub use statistics::contingency_table::Cells;
pub use window::{FeatureCounts, Layout, P_VALUE_BINS, View, Window, WrongLength};
