//! What is promised of the service and of its segmentation: for each objective the
//! share of requests, or of minutes, in which it is to hold. What is left to one is
//! its error budget.

/// Targets are shares, from 0 to below 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objectives {
    /// Of the API's requests: answered, and not by a failure of ours (5xx).
    pub availability: f64,
    /// Of the requests to score: answered within `latency_seconds`.
    pub latency: f64,
    pub latency_seconds: f64,
    /// Of the minutes: nobody was longer than `freshness_seconds` in a segment that
    /// time alone had made doubtful.
    pub freshness: f64,
    pub freshness_seconds: f64,
    /// Of the minutes: outliers were as frequent as promised.
    pub calibration: f64,
    /// Of the minutes: segments were as large, and customers as near to them, as at
    /// training.
    pub stability: f64,
}

impl Default for Objectives {
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
