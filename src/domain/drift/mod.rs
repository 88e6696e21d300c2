//! Whether what is scored still looks like what the model was trained on.
//!
//! Everything is told from counts on bins that were fixed at training. A
//! difference is a *finding* when it is certain, it matters, and there is enough to
//! tell: its p-value holds after the correction for all that is tested at once, its
//! size reaches a limit, and it rests on a minimum of rows. What is told of a score
//! counts each score once: a customer who is scored often counts often.
//!
//! Beside these checks of one window, detectors add up the evidence of many hours, for
//! what is small or slow and lasts ([`mod@stream`]): of what they find the p-value is how
//! often chance raises such an alarm in as many hours, and it is held to no level. Within a segment, means are compared,
//! by sums that are kept beside the counts.
//!
//! The modules stand in import order.

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

pub use alarm::{Alarm, AlarmRules, MOST_CHECKS, Step};
pub use by_key::{ByKey, KeyShare, MOST_KEYS, NO_KEY, OTHER_KEYS, RESTS_ON_FACT, RestsOn};
pub use check::{Check, Test, check, check_within};
pub use detectors::finding::{lasting, lasting_facts};
pub use detectors::{Hour, Method, Stream, stream};
pub use figures::{BinChange, CategoryChange, FeatureFigures, Rows, ValueFigures};
pub use finding::{About, Finding};
pub use influence::{KeyCheck, KeyChecks, key_checks, mark_influence};
pub use limits::{Limits, Severity, Steps};
pub use output_shift::{Outliers, Rate};
pub use report::alert_facts::{facts, headline};
pub use report::number_format::percent;
pub use report::picture::{Bar, Drawn, escaped, picture};
pub use segments::churn::{Apart, Churn, SegmentChurn, Share, Start, Way, churn};
pub use segments::sums::{Inside, Yardstick};
pub use segments::{FeatureWithin, LEAST_ROWS, MovedWithin, Which, WithinFigures};
pub use source::Source;
pub use statistics::contingency_table::Cells;
pub use window::{FeatureCounts, Layout, P_VALUE_BINS, View, Window, WrongLength};
