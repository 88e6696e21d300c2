//! Whether stored states are what their events say.

use std::time::Duration;

use crate::config::load::reader::Reader;

/// Sampling of stored states.
#[derive(Debug, Clone)]
pub struct Skew {
    /// Time between two samples.
    pub every: Duration,
    /// Customers a sample; 0 takes none.
    pub customers: usize,
}

impl Skew {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            every: reader.seconds("skew.every_seconds", 1..=86_400),
            customers: reader.integer("skew.customers", 0..=10_000),
        }
    }
}
