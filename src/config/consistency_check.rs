//! Settings of the consistency check of stored customer states against their events.

use std::time::Duration;

use crate::config::load::reader::SettingsReader;

/// Sampling of stored states.
#[derive(Debug, Clone)]
pub struct ConsistencyCheckSettings {
    /// Interval of samples.
    pub interval: Duration,
    /// Customers per sample; 0 disables the check.
    pub customers_per_sample: usize,
}

impl ConsistencyCheckSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        Self {
            interval: reader.seconds("consistency_check.interval_seconds", 1..=86_400),
            customers_per_sample: reader
                .integer("consistency_check.customers_per_sample", 0..=10_000),
        }
    }
}
