//! Drift: counted windows, findings in segments, sequential detectors, churn.

mod churn;
mod detectors;
mod windows;
mod within_segments;
