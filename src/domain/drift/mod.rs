//! Drift detection: compares scored rows with the training rows of the model.
//!
//! All tests use counts on bins that were fixed at training. A difference is a *finding*
//! if it is significant, relevant and supported: its p-value stays below the level after
//! the correction for multiple tests, its size reaches a limit, and the window has a
//! minimum of rows. Rows of one customer or hour are correlated, so the tests use the effective sample size
//! ([`dependence`]).
//!
//! Beside these checks of one window, sequential detectors accumulate the evidence of many
//! hours, for small or slow changes that last ([`detectors`]). The p-value of such a
//! finding is the probability of a false alarm in that number of hours; no level applies
//! to it. Within a segment, means are compared, from sums stored beside the counts.
//!
//! The modules are listed in import order.

mod alerts;
mod by_key;
mod check;
mod customer_bucket;
pub mod dependence;
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
mod unseen;
pub mod window;

pub use alerts::alarm::{
    AlarmTransition, DriftAlarm, DriftAlarmRules, MAX_ALARM_CHECKS, WorstFinding,
};
pub use alerts::grouping::{
    AlertMembership, DriftAlertKey, DriftAlertTopic, FeatureInputs, FiringAlert, FiringAlerts,
    order_of_findings,
};
pub use alerts::step::{
    AlarmRecord, AlertAnnouncement, CheckedAlarm, alert_severity, announcement_of, assign_alerts,
    step_alarms, step_alarms_without_findings,
};
pub use by_key::{
    ApiKeyShare, DECISIVE_KEY_FACT, DecisiveKey, MAX_COUNTED_KEYS, NO_KEY, OTHER_KEYS, WindowsByKey,
};
pub use check::{
    DriftCheck, DriftTest, SegmentShareFigures, check_window, check_window_within_segments,
};
pub use customer_bucket::CustomerBucket;
pub use dependence::{
    DEPENDENCE_HOURS, DesignEffects, FeatureDependence, HourCounts, ObservedWindow,
    OutputDependence, OverTime, TimeDependence,
};
pub use detectors::finding::{lasting_change_facts, lasting_change_finding};
pub use detectors::{DetectionMethod, DetectorReport, HourlyPValues, run_detectors};
pub use figures::{BinChange, CategoryChange, FeatureFigures, KnownMissingCounts, ValueFigures};
pub use finding::{ComparedQuantity, DriftChange, DriftFinding};
pub use influence::{ApiKeyCheck, ApiKeyChecks, check_by_key, mark_decisive_keys};
pub use limits::{DriftLimits, Severity, SeverityThresholds};
pub use output_shift::{OutlierRateTest, RateComparison, RowCount};
pub use report::alert_facts::finding_facts;
pub use report::alert_text::DriftAlertText;
pub use report::picture::{ChartBar, FeatureChart, draw_feature_chart};
pub use segments::churn::{
    AssignmentOrigin, ChurnRate, ChurnReport, CustomerPath, SegmentChurn, SeparateChanges,
    compute_churn,
};
pub use segments::sums::{DeviationUnits, SegmentSums};
pub use segments::{
    MINIMUM_SEGMENT_ROWS, SegmentDriftFigures, SegmentFeatureChange, SegmentFeatureShift,
};
pub use source::ScoreSource;
pub use statistics::contingency_table::ContingencyTable;
pub use unseen::UnseenShare;
pub use window::{
    CountedRow, DriftWindow, FeatureCounts, WindowLayout, WindowLengthError, WindowView,
};
