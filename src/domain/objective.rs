//! Service-level objectives of the service and of its segmentation: for each, the share of
//! requests or minutes in which it must be met. The rest is the error budget.

/// Targets of the service-level objectives: shares from 0 to below 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ObjectiveTargets {
    /// Share of API requests answered without a server error (5xx).
    pub availability: f64,
    /// Share of scoring requests answered within `latency_seconds`.
    pub latency: f64,
    pub latency_seconds: f64,
    /// Share of minutes in which no scheduled rescore was late by more than
    /// `freshness_seconds`.
    pub freshness: f64,
    pub freshness_seconds: f64,
    /// Share of minutes in which the outlier rate matched its calibrated level.
    pub calibration: f64,
    /// Share of minutes in which segment sizes and distances matched those at training.
    pub stability: f64,
}

impl Default for ObjectiveTargets {
    fn default() -> Self {
        Self {
            availability: 0.999,
            latency: 0.99,
            latency_seconds: 0.01,
            freshness: 0.99,
            freshness_seconds: 60.0,
            calibration: 0.95,
            stability: 0.95,
        }
    }
}
